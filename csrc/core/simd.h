// A thin wrapper over the vector registers of the level that this unit is compiled for.
//
// In namespace fastpose::FASTPOSE_SIMD_NS:
//   Vec   Vec::lanes floats (SSE2 and NEON 4, AVX2 8, AVX-512 16, elsewhere 4)      IVec  as many int32      Mask  as many booleans
//   set(x) zero() iota()                   iset(n) iiota()
//   load(p) load_n(p, n) store(p, v) store_n(p, v, n)      p unaligned; _n touches only the first n lanes, load_n gives 0 in the others
//   load_u8(p) load_f16(p) load_bf16(p)    store_f16(p, v) store_bf16(p, v) store_u8(p, v)    Vec::lanes elements as float; u8 saturates
//   + - * /   < <= > >= == (false on NaN)   min max (the second operand if one is NaN)   abs sqrt floor round   madd(a, b, c) = a*b + c
//   fused(a, b, c) = a*b + c rounded once at every level (slow at SSE2)
//   select(mask, a, b) = mask ? a : b      & | ~ on masks    any all bits
//   reduce_add reduce_max reduce_min
//   to_int (truncates) to_int_round to_float   as_int as_float (bit patterns)   IVec: + - * & |  shift_left<n> shift_right<n> (logical)
//   gather_i32(base, byte_offsets) 32-bit loads at base + offset      gather_f32(base, indices)
//   exp(v) within 2 ulp, 0 below -87.3; log(v) within 2 ulp for normal positive v
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

#ifndef FASTPOSE_SIMD_NS
#error "FASTPOSE_SIMD_NS is set by CMake for OP_cpu.cpp; simd.h has no business elsewhere"
#endif

#if defined(FASTPOSE_SIMD_avx512)
#include "core/simd_avx512.h"
#elif defined(FASTPOSE_SIMD_avx2)
#include "core/simd_avx2.h"
#elif defined(FASTPOSE_SIMD_sse2)
#include "core/simd_sse2.h"
#elif defined(FASTPOSE_SIMD_neon)
#include "core/simd_neon.h"
#else
#include "core/simd_baseline.h"
#endif

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

using fastpose::fused;  // the scalar ones stay visible beside those for Vec
using fastpose::madd;

#if defined(FASTPOSE_HAS_FMA)
FASTPOSE_INLINE Vec fused(Vec a, Vec b, Vec c) { return madd(a, b, c); }
#endif
FASTPOSE_INLINE Vec operator-(Vec a) { return set(0.f) - a; }
FASTPOSE_INLINE Vec& operator+=(Vec& a, Vec b) { return a = a + b; }
FASTPOSE_INLINE Vec& operator-=(Vec& a, Vec b) { return a = a - b; }
FASTPOSE_INLINE Vec& operator*=(Vec& a, Vec b) { return a = a * b; }

// Cephes' expf: x = n ln 2 + r with |r| <= ln 2 / 2, polynomial in r, exponent put back by integer addition.
FASTPOSE_INLINE Vec exp(Vec x) {
  const Mask tiny = x < set(-87.33654f);
  const Vec c = max(min(set(88.37626f), x), set(-87.33654f));  // NaN passes through the inner min, as the second operand
  const Vec n = round(c * set(1.44269504f));
  Vec r = madd(n, set(-0.693359375f), c);
  r = madd(n, set(2.12194440e-4f), r);
  Vec p = set(1.9875691500e-4f);
  p = madd(p, r, set(1.3981999507e-3f));
  p = madd(p, r, set(8.3334519073e-3f));
  p = madd(p, r, set(4.1665795894e-2f));
  p = madd(p, r, set(1.6666665459e-1f));
  p = madd(p, r, set(5.0000001201e-1f));
  p = madd(p, r * r, r) + set(1.f);
  // 2^n in two halves: n itself may be 128.
  const IVec i = to_int(n);
  const IVec half = shift_right_arithmetic<1>(i);
  const Vec s0 = as_float(shift_left<23>(half + iset(127)));
  const Vec s1 = as_float(shift_left<23>(i - half + iset(127)));
  const Vec y = select(x == x, p * s0 * s1, x);
  return select(tiny, zero(), y);
}

// Cephes' logf; defined for normal positive x.
FASTPOSE_INLINE Vec log(Vec x) {
  const IVec bits_of_x = as_int(x);
  IVec e = shift_right<23>(bits_of_x) - iset(126);
  Vec m = as_float((bits_of_x & iset(0x007fffff)) | iset(0x3f000000));  // in [0.5, 1)
  const Mask low = m < set(0.707106781f);
  const Vec ef = to_float(e) - select(low, set(1.f), zero());
  m = m + select(low, m, zero()) - set(1.f);
  const Vec z = m * m;
  Vec p = set(7.0376836292e-2f);
  p = madd(p, m, set(-1.1514610310e-1f));
  p = madd(p, m, set(1.1676998740e-1f));
  p = madd(p, m, set(-1.2420140846e-1f));
  p = madd(p, m, set(1.4249322787e-1f));
  p = madd(p, m, set(-1.6668057665e-1f));
  p = madd(p, m, set(2.0000714765e-1f));
  p = madd(p, m, set(-2.4999993993e-1f));
  p = madd(p, m, set(3.3333331174e-1f));
  Vec y = m * z * p;
  y = madd(ef, set(-2.12194440e-4f), y);
  y = madd(z, set(-0.5f), y);
  return madd(ef, set(0.693359375f), m + y);
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
