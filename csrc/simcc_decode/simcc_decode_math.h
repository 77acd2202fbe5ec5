// How a keypoint is read from two vectors: the arithmetic that the CPU and the CUDA sources of simcc_decode share.
//
// Decided here
//   arg-max      the first largest value; NaN never wins; a vector with nothing above -infinity has the value -infinity in bin 0
//   score        the smaller of the two maxima, 0 where that is -infinity; where it is not above 0, (-1, -1) in bins is reported
//   flip         (value + mirrored value) * 0.5, along x from right to left
//   refinement   a Newton step on the logarithm of the blurred vector, scaled to the old maximum and clipped, on a scale of two bins, as MMPose
//                takes it; none where nothing was found, or the keypoint would not be finite with it
#pragma once

#include "core/host_device.h"
#include "heatmap_decode/heatmap_decode_math.h"
#include "simcc_decode/simcc_decode.h"

namespace fastpose {

FASTPOSE_HD float simcc_merged(float value, float mirrored) { return (value + mirrored) * 0.5f; }

// On the CPU the caller has refused indices beyond the keypoints; on CUDA the nearest keypoint is taken.
FASTPOSE_HD int64_t simcc_mirrored_keypoint(const SimccDecodeArgs& args, int64_t k) {
  return args.flip_index == nullptr ? k : clamp<int64_t>(args.flip_index[k], 0, args.keypoints_k - 1);
}

FASTPOSE_HD float simcc_log(float value) { return log_as_numpy(clamp(value, 1e-3f, 50.f)); }

// The place after a Newton step; `logs` are the logarithms of the scaled, blurred values of the bins from two before to two after it.
FASTPOSE_HD float simcc_refined(float place, const float* logs) {
  const float slope = 0.5f * (logs[3] - logs[1]), curve = 1e-9f + 0.25f * (logs[4] - 2.f * logs[2] + logs[0]);
  const float moved = place - slope / curve;
  return is_finite(moved) ? moved : place;
}

// Stores one keypoint, of a person of the batch: places in bins.
FASTPOSE_HD void simcc_store(const SimccDecodeArgs& args, int64_t index, int64_t person, float place_x, float place_y, float score) {
  float x = place_x * args.pixels, y = place_y * args.pixels;
  if (args.inverse != nullptr) {
    const double* m = args.inverse + person * 6;
    const double px = x, py = y;
    x = static_cast<float>(m[0] * px + m[1] * py + m[2]);
    y = static_cast<float>(m[3] * px + m[4] * py + m[5]);
  }
  args.keypoints[2 * index] = x;
  args.keypoints[2 * index + 1] = y;
  args.scores[index] = score;
}

}  // namespace fastpose
