// How labels and what is predicted become a loss: the arithmetic that the CPU and the CUDA sources of simcc_loss share.
//
//   loss      sum over keypoints and their two vectors of  w / (K n) sum over the n bins of  t (log t - log p),   p = softmax(beta x)
//   t         the label, or with `softmax` e / Z,  e = exp(label_beta (label - the largest that a label has)), Z the sum of e over the vector
//   gradient  w beta / (K n) (S p - t),   S the sum of t
//
// With v = x - max x, d = exp(beta v) and D the sum of d, everything is sums over one reading of a vector:
//   sum t log t - beta sum t v + S log D
//
// Decided here: a weight that is not above 0 is 0; a keypoint of weight 0, or whose label does not reach its vectors, is not looked at.
#pragma once

#include "core/host_device.h"
#include "simcc_encode/simcc_encode_math.h"
#include "simcc_loss/simcc_loss.h"

namespace fastpose {

FASTPOSE_HD float simcc_loss_weight(const SimccLossArgs& a, int64_t i) {
  float weight = a.weights == nullptr ? 1.f : a.weights[i];
  if (!(weight > 0.f)) return 0.f;
  if (a.keypoint_weights != nullptr) weight *= a.keypoint_weights[i % a.keypoints_k];
  return weight > 0.f ? weight : 0.f;
}

// With softmax: of a label, the exponent of e.
FASTPOSE_HD float simcc_exponent(const SimccLossArgs& a, int axis, float label) {
  return a.label_beta * (label - max_of(a.target.peak[axis], a.target.rest[axis]));
}

// The sums of one vector.
struct SimccSums {
  double labels;      // of labels, with softmax of e
  double entropies;   // of label log label, with softmax of e log e
  double products;    // of (label or e) v
  double exponents;   // of d
};

// Factors of d and of the label (or e) in the gradient.
struct SimccSlopes { float predicted, label; };

// In double precision, because what remains of large terms may be small.
FASTPOSE_HD double simcc_divergence(const SimccLossArgs& a, const SimccSums& s) {
  const double over = a.softmax ? 1.0 / s.labels : 1.0, total = a.softmax ? 1.0 : s.labels;
  const double entropy = s.entropies * over - (a.softmax ? log(s.labels) : 0.0);
  return entropy - static_cast<double>(a.beta) * s.products * over + total * log(s.exponents);
}

FASTPOSE_HD float simcc_factor(const SimccLossArgs& a, int axis, float weight) {
  return weight / (static_cast<float>(a.keypoints_k) * static_cast<float>(a.target.bins[axis]));
}

FASTPOSE_HD SimccSlopes simcc_slopes(const SimccLossArgs& a, const SimccSums& s, float factor) {
  const float slope = factor * a.beta, labels = static_cast<float>(s.labels), exponents = static_cast<float>(s.exponents);
  return {a.softmax ? slope / exponents : slope * labels / exponents, a.softmax ? slope / labels : slope};
}

}  // namespace fastpose
