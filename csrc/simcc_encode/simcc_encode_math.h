// What a coordinate vector's label looks like: the arithmetic that the CPU and the CUDA sources of simcc_encode and simcc_loss share.
//
// Decided here
//   bin       the coordinate times the split ratio, rounded in float32; halves to the even one
//   reach     a label that begins right of its vector, or ends left of bin 0, 3 sigma from its bin, does not reach it; then the keypoint has
//             neither label, and weight 0. One that ends at bin 0, exclusively, reaches it, as in MMPose
//   gaussian  the whole vector, but nothing below 1e-36 of the peak, so that no value is a denormal number (100 times slower)
//   visible   as of heatmaps: below 0.5 no label; at most 1; NaN is 0. A keypoint that is not finite has no label and weight 0
#pragma once

#include "core/host_device.h"
#include "heatmap_encode/heatmap_encode_math.h"
#include "simcc_encode/simcc_encode.h"

namespace fastpose {

constexpr float kSmallestLabel = 1e-36f;

// The bins of one keypoint, which may lie beyond its vectors by the labels' reach.
struct SimccPlace {
  bool reaches;
  int32_t bin[2];
};

FASTPOSE_HD SimccPlace simcc_place(const SimccTarget& t, float x, float y) {
  SimccPlace place = {false, {0, 0}};
  const float at[2] = {x, y};
  for (int axis = 0; axis < 2; ++axis) {
    if (!is_finite(at[axis])) return place;
    const float bin = rintf(at[axis] * t.split_ratio), beyond = t.gaussian ? 1.f : 0.f;
    const bool left = bin - t.reach[axis] < static_cast<float>(t.bins[axis]);
    if (!left || !(bin + t.reach[axis] + beyond >= 0.f)) return place;
    place.bin[axis] = static_cast<int32_t>(bin);
  }
  place.reaches = true;
  return place;
}

FASTPOSE_HD float simcc_weight(float level, const SimccPlace& place, float x, float y) {
  if (!is_finite(x) || !is_finite(y)) return 0.f;
  return is_drawn(level) && !place.reaches ? 0.f : level;
}

// What stands `distance` bins beside the keypoint's.
FASTPOSE_HD float simcc_label(const SimccTarget& t, int axis, int distance) {
  if (!t.gaussian) return distance == 0 ? t.peak[axis] : t.rest[axis];
  const float factor = expf(gaussian_exponent(static_cast<float>(distance), 0.f, t.sigma[axis]));
  return factor < kSmallestLabel ? 0.f : factor * t.peak[axis];
}

}  // namespace fastpose
