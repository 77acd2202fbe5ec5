// OKS of one pose with as many others as a vector has lanes, in float: within 1e-6 of oks_of_pair for poses that fit (see oks_fits_lanes).
// For OP_cpu.cpp of oks and oks_nms only.
#pragma once

#include "core/simd.h"
#include "oks/oks_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// Poses turned on their side. `pitch` is their number rounded up to whole vectors; the places after the last pose are 0.
struct OksColumns {
  float* x;     // [K, pitch]: x of keypoint k of pose m stands at k * pitch + m
  float* y;     // [K, pitch]
  float* area;  // [pitch]
  int64_t pitch;
};

FASTPOSE_INLINE int64_t oks_pitch(int64_t poses) { return (poses + Vec::lanes - 1) / Vec::lanes * Vec::lanes; }

// Floats that OksColumns of so many poses need.
FASTPOSE_INLINE int64_t oks_columns_size(int64_t poses, int64_t keypoints) { return (2 * keypoints + 1) * oks_pitch(poses); }

FASTPOSE_INLINE OksColumns oks_columns_in(float* memory, int64_t poses, int64_t keypoints) {
  const int64_t pitch = oks_pitch(poses);
  return {memory, memory + keypoints * pitch, memory + 2 * keypoints * pitch, pitch};
}

// Whether float has the range for the exponent. What is not finite is no matter: it agrees with nothing in float as in double.
FASTPOSE_INLINE bool oks_fits_lanes(float coordinate) { return !(fabsf(coordinate) > 1e15f) || !is_finite(coordinate); }
FASTPOSE_INLINE bool oks_area_fits_lanes(double area) { return area <= 1e30; }
FASTPOSE_INLINE bool oks_sigma_fits_lanes(double sigma) { return sigma >= 1e-4 && sigma <= 1e4; }

// Copies pose `from` into place m; false if it does not fit.
FASTPOSE_INLINE bool oks_put(const OksColumns& columns, int64_t m, const float* from, int64_t keypoints, int64_t channels,
                             double area) {
  bool fits = oks_area_fits_lanes(area);
  for (int64_t k = 0; k < keypoints; ++k) {
    const float x = from[k * channels], y = from[k * channels + 1];
    fits = fits && oks_fits_lanes(x) && oks_fits_lanes(y);
    columns.x[k * columns.pitch + m] = x;
    columns.y[k * columns.pitch + m] = y;
  }
  columns.area[m] = static_cast<float>(oks_area(area));
  return fits;
}

FASTPOSE_INLINE void oks_clear_rest(const OksColumns& columns, int64_t poses, int64_t keypoints) {
  for (int64_t m = poses; m < columns.pitch; ++m) {
    columns.area[m] = 0.f;
    for (int64_t k = 0; k < keypoints; ++k) columns.x[k * columns.pitch + m] = columns.y[k * columns.pitch + m] = 0.f;
  }
}

FASTPOSE_INLINE Vec oks_agreement(Vec dx, Vec dy, Vec inverse_spread, Vec inverse_area) {
  const Vec exponent = madd(dx, dx, dy * dy) * inverse_spread * inverse_area;
  return select(exponent >= zero(), exp(-exponent), zero());
}

FASTPOSE_INLINE Vec oks_inverse_area(Vec area) { return set(1.f) / (area + set(static_cast<float>(kOksSmallestArea))); }

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
