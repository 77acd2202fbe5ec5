// The part of a label that differs from its value elsewhere, on the CPU: for simcc_encode, which stores it, and simcc_loss.
#pragma once

#include "core/simd.h"
#include "simcc_encode/simcc_encode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// Floats of scratch for the window of a label in a vector of so many bins.
FASTPOSE_INLINE int64_t simcc_window(int32_t size) { return size + Vec::lanes; }

// Writes end - begin values; up to Vec::lanes more are overwritten.
FASTPOSE_INLINE void simcc_draw(const SimccLabel& label, const SimccPlace& place, float sigma, float* window) {
  const float peak = simcc_peak(label, sigma);
  if (!label.gaussian) {
    if (place.begin < place.end) window[0] = peak;
    return;
  }
  const Vec centre = set(place.bin), divisor = set(2.f * sigma * sigma), factor = set(peak);
  for (int i = place.begin; i < place.end; i += Vec::lanes) {
    const Vec d = set(static_cast<float>(i)) + iota() - centre;
    store(window + (i - place.begin), exp(-(d * d) / divisor) * factor);
  }
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
