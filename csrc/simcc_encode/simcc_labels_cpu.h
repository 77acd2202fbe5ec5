// Labels on the CPU, for simcc_encode, which stores them, and simcc_loss, which compares with them.
#pragma once

#include "core/simd.h"
#include "simcc_encode/simcc_encode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// Keypoints stand on whole bins: the label of each is a stretch of one long line, made once a thread.
struct SimccLabels {
  const SimccTarget& t;
  float* lines[2];  // of label_scratch(t) floats

  FASTPOSE_INLINE SimccLabels(const SimccTarget& target, float* scratch)
      : t(target), lines{scratch, scratch + length(target, 0)} {
    for (int axis = 0; axis < 2; ++axis) {
      float* line = lines[axis];
      const int64_t n = length(t, axis);
      const float first = static_cast<float>(-middle(t, axis));
      const float sigma = t.sigma[axis];
      for (int64_t i = 0; i < n; i += Vec::lanes) {
        if (t.gaussian) {
          const Vec d = set(first + static_cast<float>(i)) + iota();
          const Vec factor = exp(-(d * d) / set(2.f * sigma * sigma));
          store(line + i, select(factor < set(kSmallestLabel), zero(), factor * set(t.peak[axis])));
        } else {
          store(line + i, set(t.rest[axis]));
        }
      }
      if (!t.gaussian) line[middle(t, axis)] = t.peak[axis];
    }
  }

  // Where the label of a keypoint in that bin begins in its line.
  static FASTPOSE_INLINE int64_t start(const SimccTarget& target, int axis, int32_t bin) { return middle(target, axis) - bin; }

  // Floats of a line: every distance that a bin can have, and a vector's rest.
  static FASTPOSE_INLINE int64_t length(const SimccTarget& target, int axis) {
    const int64_t n = 2 * middle(target, axis) + Vec::lanes;
    return (n + Vec::lanes - 1) / Vec::lanes * Vec::lanes;
  }

 private:
  static FASTPOSE_INLINE int64_t middle(const SimccTarget& target, int axis) {
    return target.bins[axis] + static_cast<int64_t>(target.reach[axis]) + 2;
  }
};

FASTPOSE_INLINE int64_t label_scratch(const SimccTarget& t) { return SimccLabels::length(t, 0) + SimccLabels::length(t, 1); }

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
