// How vectors become a loss: the arithmetic that the CPU and the CUDA sources of simcc_loss share.
//
//   mean over the bins of  t (log t - log p),   p = softmax(beta v),   t = the label, or softmax(label_beta * label)
//   times the weight, summed over keypoints and both axes, over K
//
// Decided here: a weight that is not above 0 is 0; a keypoint whose label does not reach its vectors has weight 0; what has weight 0 is not
// looked at, whatever its vectors hold. Outside of its window a label has one value, so that two sums over the vector are enough there.
#pragma once

#include "core/host_device.h"
#include "simcc_encode/simcc_encode_math.h"
#include "simcc_loss/simcc_loss.h"

namespace fastpose {

FASTPOSE_HD float simcc_loss_weight(const SimccLossArgs& a, int64_t i, const SimccPlaces& places) {
  const float weight = a.weights[i] > 0.f && places.reaches ? a.weights[i] : 0.f;
  return a.keypoint_weights == nullptr ? weight : weight * a.keypoint_weights[i % a.keypoints_k];
}

// What is known of a vector after one pass over it and its window.
struct SimccSums {
  double exps;         // of exp(beta (v - largest))
  double values;       // of beta (v - largest)
  double window_exps;  // in the window: of the targets, not normalised
  double window_logs;  // of t log t, not normalised
  double window_dots;  // of t beta (v - largest), not normalised
  double window_values;  // of beta (v - largest)
};

// One vector's divergence, the mean over its bins; and what its gradient is made of.
struct SimccTerms {
  double loss;
  float total;  // sum of the normalised targets
  float scale;  // what makes targets normalised
};

FASTPOSE_HD SimccTerms simcc_terms(const SimccLossArgs& a, const SimccSums& s, int32_t size, int32_t window, float elsewhere) {
  const double others = static_cast<double>(size - window), rest = elsewhere;
  const double sum = s.window_exps + others * rest;
  const double scale = a.label_softmax ? 1.0 / sum : 1.0;
  const double total = sum * scale;
  // t log t with t = scale * raw: scale * (raw log raw) + log(scale) * t
  const double logs = scale * (s.window_logs + others * (rest > 0.0 ? rest * log(rest) : 0.0)) + (a.label_softmax ? log(scale) * total : 0.0);
  const double dots = scale * (s.window_dots + rest * (s.values - s.window_values));
  return {(logs - dots + total * log(s.exps)) / size, static_cast<float>(total), static_cast<float>(scale)};
}

}  // namespace fastpose
