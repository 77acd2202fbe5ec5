// How squared differences become a loss: the arithmetic that the CPU and the CUDA sources of heatmap_loss share.
//
//   plain     mean over B, K, h, w of  w (p - t)^2
//   top k     mean over B and the k largest keypoints of each sample of  mean over h, w of  w^2 (p - t)^2
//   combined  mean over B, K, h, w of  w^2 / 2 [(p0 - t0)^2 + t0^2 (p1 - t1)^2 + t0^2 (p2 - t2)^2]      (disc, x and y offset)
//
// Decided here: a weight that is not above 0 is 0; a keypoint of weight 0 is not looked at, whatever its heatmap holds; one that does not
// reach its map has weight 0, unless there are no weights (then its target is all zero); of equal losses the first keypoint counts.
#pragma once

#include "core/host_device.h"
#include "heatmap_encode/heatmap_encode_math.h"
#include "heatmap_loss/heatmap_loss.h"

namespace fastpose {

FASTPOSE_HD bool is_combined(const HeatmapLossArgs& a) { return a.codec.kind == CodecKind::UdpCombined; }

FASTPOSE_HD float loss_weight(const HeatmapLossArgs& a, int64_t i) {
  if (a.weights == nullptr) return 1.f;
  return a.weights[i] > 0.f ? a.weights[i] : 0.f;
}

// Factor of the sum of squares of one keypoint's map(s).
FASTPOSE_HD double square_factor(const HeatmapLossArgs& a, float weight) {
  const double w = static_cast<double>(weight);
  return is_combined(a) ? 0.5 * w * w : (a.topk > 0 ? w * w : w);
}

// One over the number of squares whose mean is taken.
FASTPOSE_HD double mean_factor(const HeatmapLossArgs& a) {
  const double each = a.topk > 0 ? static_cast<double>(a.topk) : static_cast<double>(a.keypoints_k);
  return 1.0 / (static_cast<double>(a.batch) * each * static_cast<double>(a.codec.height) * static_cast<double>(a.codec.width));
}

// Factor of (p - t) in the gradient.
FASTPOSE_HD float gradient_factor(const HeatmapLossArgs& a, float weight) {
  return static_cast<float>(2.0 * square_factor(a, weight) * mean_factor(a));
}

FASTPOSE_HD bool larger_loss(double a, double b) { return a > b || (a != a && b == b); }  // NaN is the largest

// Whether keypoint k is among the `topk` largest of `losses` [K].
FASTPOSE_HD bool is_hard(const double* losses, int64_t keypoints, int64_t k, int64_t topk) {
  int64_t before = 0;
  for (int64_t j = 0; j < keypoints; ++j)
    before += larger_loss(losses[j], losses[k]) || (j < k && !larger_loss(losses[k], losses[j]));
  return before < topk;
}

}  // namespace fastpose
