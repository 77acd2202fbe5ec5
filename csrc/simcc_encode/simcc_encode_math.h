// How a keypoint becomes a label: the arithmetic that the CPU and the CUDA sources of simcc_encode and simcc_loss share.
//
// Decided here: a coordinate times the ratio is rounded to a bin, halves to the even one; a Gaussian label reaches a vector if three sigmas
// around its bin do (the last of them widened by one bin, as MMPose does), another one if its bin lies in it; what does not reach both
// vectors, or is not finite, is not drawn and has weight 0; what is not visible is not drawn and keeps its weight; a Gaussian ends where it
// is below 1.2e-19 of its peak.
#pragma once

#include "core/host_device.h"
#include "simcc_encode/simcc_encode.h"

namespace fastpose {

constexpr float kSimccSeen = 9.34f;  // sigmas

// Where a keypoint lies in one vector.
struct SimccPlace {
  float bin;
  int32_t begin, end;  // bins begin <= i < end may differ from the label's value elsewhere
};

struct SimccPlaces {
  bool reaches;
  SimccPlace x, y;
};

FASTPOSE_HD bool simcc_reaches(const SimccLabel& label, float bin, float sigma, int32_t size) {
  if (!label.gaussian) return bin >= 0.f && bin < static_cast<float>(size);
  const double reach = 3.0 * static_cast<double>(sigma), at = bin;
  return at - reach < size && at + reach + 1.0 >= 0.0;
}

FASTPOSE_HD SimccPlace simcc_place(const SimccLabel& label, float bin, float sigma, int32_t size) {
  const float seen = label.gaussian ? kSimccSeen * sigma : 0.f, most = static_cast<float>(size);
  return {bin, static_cast<int32_t>(clamp(bin - seen, 0.f, most)), static_cast<int32_t>(clamp(bin + seen + 1.f, 0.f, most))};
}

FASTPOSE_HD SimccPlaces simcc_places(const SimccLabel& label, float keypoint_x, float keypoint_y) {
  SimccPlaces p = {false, {0.f, 0, 0}, {0.f, 0, 0}};
  const float x = rintf(keypoint_x * label.ratio), y = rintf(keypoint_y * label.ratio);
  if (!is_finite(x) || !is_finite(y)) return p;
  p.reaches = simcc_reaches(label, x, label.sigma_x, label.width) && simcc_reaches(label, y, label.sigma_y, label.height);
  if (!p.reaches) return p;
  p.x = simcc_place(label, x, label.sigma_x, label.width);
  p.y = simcc_place(label, y, label.sigma_y, label.height);
  return p;
}

FASTPOSE_HD bool simcc_drawn(float level) { return level >= 0.5f; }

FASTPOSE_HD float simcc_weight(float level, const SimccPlaces& places, float keypoint_x, float keypoint_y) {
  if (!is_finite(keypoint_x) || !is_finite(keypoint_y)) return 0.f;
  return simcc_drawn(level) && !places.reaches ? 0.f : level;
}

// The peak of a Gaussian label; the value of another one at its bin.
FASTPOSE_HD float simcc_peak(const SimccLabel& label, float sigma) {
  if (!label.gaussian) return 1.f - label.smoothing;
  return label.normalized ? 1.f / (sigma * 2.5066282746310002f) : 1.f;
}

// The value in all bins outside of begin..end.
FASTPOSE_HD float simcc_rest(const SimccLabel& label, int32_t size) {
  return label.gaussian || size < 2 ? 0.f : label.smoothing / static_cast<float>(size - 1);
}

FASTPOSE_HD float simcc_exponent(float bin, float centre, float sigma) {
  const float d = bin - centre;
  return -(d * d) / (2.f * sigma * sigma);
}

}  // namespace fastpose
