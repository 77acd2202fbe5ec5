// How a keypoint is read from two coordinate vectors: the arithmetic that the CPU and the CUDA sources of simcc_decode share.
//
// Decided here
//   arg-max     the first largest value; NaN never wins
//   score       the smaller of the two largest values; 0 where a vector has nothing above -infinity. Where it is not above 0, the keypoint is
//               at bin -1 of both vectors
//   flip        (vector + mirrored) * 0.5, x from right to left
//   refinement  a Newton step on the logarithm of the blurred vector, on a scale of two bins; none where it would not be finite, nor where
//               the score is not above 0. Beyond the ends the logarithm is that of the outermost bin, for the blur there are zeros
//   visibility  the smaller of the two softmaxes' peaks; 0 where a largest value is not finite. NaN and what is too far below the peak for a
//               float are passed over
//
// MMPose scales the blurred vector to the old maximum first and clips it. A constant factor drops out of both derivatives, so that five
// blurred values are enough, unless one of them may be clipped, or the curve is so straight that the rounding of the logarithms decides.
// simcc_step() tells when it is so; simcc_exact_step() then repeats MMPose's float32 operations, for which the whole vector is blurred.
#pragma once

#include "core/host_device.h"
#include "heatmap_decode/heatmap_decode_math.h"
#include "simcc_decode/simcc_decode.h"

namespace fastpose {

constexpr int kSimccReach = 2;  // bins on either side of the peak that a step reads

// (1 + |step|) / |second derivative| beyond which the rounding of MMPose's logarithms moves the step by more than about 1e-3 bins.
constexpr float kStraightest = 1000.f;

// Blurred values from two bins left of the peak to two right of it.
struct SimccAround { float v[2 * kSimccReach + 1]; };

FASTPOSE_HD int64_t simcc_mirrored(const SimccDecodeArgs& args, int64_t i) {
  const int64_t k = i % args.keypoints_k;
  return i - k + mirrored_keypoint(args, k);
}

// The step if it does not depend on the scale of the vector; false if simcc_exact_step() is needed. `peak` is the largest value before the
// blur, which makes nothing larger: the factor is at least 1, and at most peak / the largest of these five.
FASTPOSE_HD bool simcc_step(const SimccAround& a, float peak, float* step) {
  const float far_left = a.v[0], left = a.v[1], middle = a.v[2], right = a.v[3], far_right = a.v[4];
  const float smallest = min_of(min_of(min_of(far_left, left), min_of(middle, right)), far_right);
  const float sum = far_left + left + middle + right + far_right;  // NaN if one of them is
  if (!(peak <= kUdpHigh) || !(smallest >= kUdpLow) || !is_finite(sum)) return false;
  const float slope = 0.5f * logf(right / left), curve = 0.25f * logf((far_right / middle) * (far_left / middle));
  *step = -slope / curve;
  return is_finite(*step) && 1.f + fabsf(*step) <= kStraightest * fabsf(curve);
}

// The step with MMPose's float32 operations; `factor` is the maximum before the blur over the maximum after it.
FASTPOSE_HD float simcc_exact_step(const SimccAround& a, float factor) {
  if (!(factor > 0.f) || !is_finite(factor)) return 0.f;
  const float far_left = scaled_log(CodecKind::Udp, a.v[0], factor), left = scaled_log(CodecKind::Udp, a.v[1], factor);
  const float middle = scaled_log(CodecKind::Udp, a.v[2], factor), right = scaled_log(CodecKind::Udp, a.v[3], factor);
  const float far_right = scaled_log(CodecKind::Udp, a.v[4], factor);
  const float step = -(0.5f * (right - left)) / (1e-9f + 0.25f * (far_right - 2.f * middle + far_left));
  return is_finite(step) ? step : 0.f;
}

FASTPOSE_HD float simcc_score(float x, float y) {
  const float score = min_of(x, y);
  return score > -INFINITY ? score : 0.f;
}

// Stores one keypoint: where it is in either vector, in bins.
FASTPOSE_HD void store_simcc(const SimccDecodeArgs& args, int64_t i, float bin_x, float bin_y, float score) {
  const bool found = score > 0.f;
  const float x = (found ? bin_x : -1.f) / args.reading.split_ratio, y = (found ? bin_y : -1.f) / args.reading.split_ratio;
  store_point(args, i, x, y, score);
}

}  // namespace fastpose
