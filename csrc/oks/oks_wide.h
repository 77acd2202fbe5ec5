// OKS of one pose with several others in double: what oks_of_pair computes, but for the last bits of exp. For oks_cpu.cpp only.
#pragma once

#include "core/simd.h"
#include "oks/oks_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// As many doubles as fill one of Vec's registers. The compilers' own vectors: simd.h has none of double, and this is all that needs them.
constexpr int kWide = Vec::lanes / 2;
typedef double Wide __attribute__((vector_size(sizeof(double) * kWide)));
typedef int64_t WideBits __attribute__((vector_size(sizeof(double) * kWide)));

FASTPOSE_INLINE Wide wide(double x) { return x - Wide{}; }  // in every lane; -0 stays -0

FASTPOSE_INLINE Wide load_wide(const double* p) {
  Wide v;
  memcpy(&v, p, sizeof(v));
  return v;
}

// exp(-e), and 0 where that is below 1e-307 or e is not a number of 0 or above. Cephes' exp: -e = n ln 2 + r, a rational function of r, and n
// put into the exponent. No fused operations, so that every SIMD level gives the same bits.
FASTPOSE_INLINE Wide exp_of_negative(Wide e) {
  const WideBits good = (e >= wide(0.0)) & (e < wide(706.0));
  const Wide x = -reinterpret_cast<Wide>(reinterpret_cast<WideBits>(e) & good);
  const Wide shift = wide(6755399441055744.0);  // 1.5 * 2^52: adding it rounds to a whole number, which then stands in the lowest bits
  const Wide shifted = x * wide(1.4426950408889634) + shift;
  const Wide n = shifted - shift;
  const Wide r = x - n * wide(6.93145751953125e-1) - n * wide(1.42860682030941723212e-6), rr = r * r;
  const Wide over = r * ((wide(1.26177193074810590878e-4) * rr + wide(3.02994407707441961300e-2)) * rr + wide(9.99999999999999999910e-1));
  const Wide under = ((wide(3.00198505138664455042e-6) * rr + wide(2.52448340349684104192e-3)) * rr + wide(2.27265548208155028766e-1)) * rr +
                     wide(2.0);
  const Wide y = wide(1.0) + wide(2.0) * (over / (under - over));
  const WideBits scale = (reinterpret_cast<WideBits>(shifted) << 52) + (reinterpret_cast<WideBits>(wide(1.0)));
  return reinterpret_cast<Wide>(reinterpret_cast<WideBits>(y * reinterpret_cast<Wide>(scale)) & good);
}

// Poses turned on their side, in double; `pitch` is their number rounded up to whole vectors, and the places after the last pose are 0.
struct WideColumns {
  double* x;     // [K, pitch]
  double* y;     // [K, pitch]
  double* area;  // [pitch], never negative
  int64_t pitch;

  static FASTPOSE_INLINE int64_t pitch_of(int64_t poses) { return (poses + kWide - 1) / kWide * kWide; }
  static FASTPOSE_INLINE int64_t doubles(int64_t poses, int64_t keypoints) { return (2 * keypoints + 1) * pitch_of(poses); }

  FASTPOSE_INLINE WideColumns(double* memory, const double* poses, int64_t count, int64_t keypoints, int64_t channels, const double* areas)
      : x(memory), y(memory + keypoints * pitch_of(count)), area(memory + 2 * keypoints * pitch_of(count)), pitch(pitch_of(count)) {
    for (int64_t m = 0; m < pitch; ++m) {
      const bool real = m < count;
      const double* pose = poses + m * keypoints * channels;
      for (int64_t k = 0; k < keypoints; ++k) {
        x[k * pitch + m] = real ? pose[k * channels] : 0.0;
        y[k * pitch + m] = real ? pose[k * channels + 1] : 0.0;
      }
      area[m] = real && areas != nullptr ? oks_area(areas[m]) : 0.0;
    }
  }
};

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
