// SSE2, which every x86-64 has: 4 lanes. What SSE2 lacks (floor, blend, gather, 32-bit multiply) is put together here. Included by simd.h.
#pragma once

#include <emmintrin.h>

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

struct Vec { static constexpr int lanes = 4; __m128 v; };
struct IVec { __m128i v; };
struct Mask { __m128 v; };  // all bits of a lane set or clear

FASTPOSE_INLINE Vec set(float x) { return {_mm_set1_ps(x)}; }
FASTPOSE_INLINE Vec zero() { return {_mm_setzero_ps()}; }
FASTPOSE_INLINE Vec iota() { return {_mm_setr_ps(0, 1, 2, 3)}; }
FASTPOSE_INLINE IVec iset(int32_t x) { return {_mm_set1_epi32(x)}; }
FASTPOSE_INLINE IVec iiota() { return {_mm_setr_epi32(0, 1, 2, 3)}; }

FASTPOSE_INLINE Vec load(const float* p) { return {_mm_loadu_ps(p)}; }
FASTPOSE_INLINE void store(float* p, Vec a) { _mm_storeu_ps(p, a.v); }
FASTPOSE_INLINE IVec iload(const int32_t* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
FASTPOSE_INLINE void istore(int32_t* p, IVec a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a.v); }

FASTPOSE_INLINE Vec load_u8(const uint8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  const __m128i none = _mm_setzero_si128();
  return {_mm_cvtepi32_ps(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), none), none))};
}
FASTPOSE_INLINE Vec load_f16(const uint16_t* p) {
  return {_mm_setr_ps(float16_value(p[0]), float16_value(p[1]), float16_value(p[2]), float16_value(p[3]))};
}
FASTPOSE_INLINE Vec load_bf16(const uint16_t* p) {
  const __m128i u = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return {_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), u))};
}
FASTPOSE_INLINE void store_f16(uint16_t* p, Vec a) {
  float t[4];
  store(t, a);
  for (int i = 0; i < 4; ++i) p[i] = float16_bits(t[i]);
}
FASTPOSE_INLINE void store_bf16(uint16_t* p, Vec a) {
  float t[4];
  store(t, a);
  for (int i = 0; i < 4; ++i) p[i] = bfloat16_bits(t[i]);
}
FASTPOSE_INLINE void store_u8(uint8_t* p, Vec a) {  // rounds to even, saturates; NaN gives 0
  const __m128 c = _mm_min_ps(_mm_max_ps(a.v, _mm_setzero_ps()), _mm_set1_ps(255.f));
  __m128i i = _mm_cvtps_epi32(c);
  i = _mm_packs_epi32(i, i);
  const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(i, i));
  memcpy(p, &four, 4);
}

FASTPOSE_INLINE Vec operator+(Vec a, Vec b) { return {_mm_add_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator-(Vec a, Vec b) { return {_mm_sub_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator*(Vec a, Vec b) { return {_mm_mul_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator/(Vec a, Vec b) { return {_mm_div_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec madd(Vec a, Vec b, Vec c) { return a * b + c; }
// The first two lanes as fastpose::fused has them.
FASTPOSE_INLINE __m128 fused_two(__m128 a, __m128 b, __m128 c) {
  const __m128d product = _mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), addend = _mm_cvtps_pd(c), none = _mm_setzero_pd();
  const __m128d sum = _mm_add_pd(product, addend), part = _mm_sub_pd(sum, product);
  const __m128d lost = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, part)), _mm_sub_pd(addend, part));
  const __m128d negative = _mm_cmplt_pd(lost, none), inexact = _mm_or_pd(negative, _mm_cmpgt_pd(lost, none));
  const __m128d too_large = _mm_and_pd(inexact, _mm_xor_pd(negative, _mm_cmplt_pd(sum, none)));
  const __m128i below = _mm_add_epi64(_mm_castpd_si128(sum), _mm_castpd_si128(too_large));  // a mask is -1
  const __m128i odd = _mm_or_si128(below, _mm_srli_epi64(_mm_castpd_si128(inexact), 63));
  return _mm_cvtpd_ps(_mm_castsi128_pd(odd));
}
FASTPOSE_INLINE Vec fused(Vec a, Vec b, Vec c) {
  const __m128 low = fused_two(a.v, b.v, c.v);
  const __m128 high = fused_two(_mm_movehl_ps(a.v, a.v), _mm_movehl_ps(b.v, b.v), _mm_movehl_ps(c.v, c.v));
  return {_mm_movelh_ps(low, high)};
}
FASTPOSE_INLINE Vec min(Vec a, Vec b) { return {_mm_min_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec max(Vec a, Vec b) { return {_mm_max_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec abs(Vec a) { return {_mm_andnot_ps(_mm_set1_ps(-0.f), a.v)}; }
FASTPOSE_INLINE Vec sqrt(Vec a) { return {_mm_sqrt_ps(a.v)}; }

FASTPOSE_INLINE Mask operator<(Vec a, Vec b) { return {_mm_cmplt_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator<=(Vec a, Vec b) { return {_mm_cmple_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator>(Vec a, Vec b) { return {_mm_cmpgt_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator>=(Vec a, Vec b) { return {_mm_cmpge_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator==(Vec a, Vec b) { return {_mm_cmpeq_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator<(IVec a, IVec b) { return {_mm_castsi128_ps(_mm_cmplt_epi32(a.v, b.v))}; }
FASTPOSE_INLINE Mask operator>(IVec a, IVec b) { return {_mm_castsi128_ps(_mm_cmpgt_epi32(a.v, b.v))}; }
FASTPOSE_INLINE Mask operator==(IVec a, IVec b) { return {_mm_castsi128_ps(_mm_cmpeq_epi32(a.v, b.v))}; }
FASTPOSE_INLINE Mask operator&(Mask a, Mask b) { return {_mm_and_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator|(Mask a, Mask b) { return {_mm_or_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator~(Mask a) { return {_mm_xor_ps(a.v, _mm_castsi128_ps(_mm_set1_epi32(-1)))}; }
FASTPOSE_INLINE uint32_t bits(Mask a) { return static_cast<uint32_t>(_mm_movemask_ps(a.v)); }
FASTPOSE_INLINE bool any(Mask a) { return bits(a) != 0; }
FASTPOSE_INLINE bool all(Mask a) { return bits(a) == 0xf; }
FASTPOSE_INLINE Vec select(Mask m, Vec a, Vec b) { return {_mm_or_ps(_mm_and_ps(m.v, a.v), _mm_andnot_ps(m.v, b.v))}; }
FASTPOSE_INLINE IVec select(Mask m, IVec a, IVec b) {
  const __m128i k = _mm_castps_si128(m.v);
  return {_mm_or_si128(_mm_and_si128(k, a.v), _mm_andnot_si128(k, b.v))};
}

FASTPOSE_INLINE float reduce_add(Vec a) {
  const __m128 x = _mm_add_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
FASTPOSE_INLINE float reduce_max(Vec a) {
  const __m128 x = _mm_max_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
FASTPOSE_INLINE float reduce_min(Vec a) {
  const __m128 x = _mm_min_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_min_ss(x, _mm_shuffle_ps(x, x, 1)));
}

FASTPOSE_INLINE IVec operator+(IVec a, IVec b) { return {_mm_add_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator-(IVec a, IVec b) { return {_mm_sub_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator*(IVec a, IVec b) {
  const __m128i even = _mm_mul_epu32(a.v, b.v);
  const __m128i odd = _mm_mul_epu32(_mm_srli_epi64(a.v, 32), _mm_srli_epi64(b.v, 32));
  return {_mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08))};
}
FASTPOSE_INLINE IVec operator&(IVec a, IVec b) { return {_mm_and_si128(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator|(IVec a, IVec b) { return {_mm_or_si128(a.v, b.v)}; }
template <int n> FASTPOSE_INLINE IVec shift_left(IVec a) { return {_mm_slli_epi32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right(IVec a) { return {_mm_srli_epi32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right_arithmetic(IVec a) { return {_mm_srai_epi32(a.v, n)}; }
FASTPOSE_INLINE IVec to_int(Vec a) { return {_mm_cvttps_epi32(a.v)}; }
FASTPOSE_INLINE IVec to_int_round(Vec a) { return {_mm_cvtps_epi32(a.v)}; }
FASTPOSE_INLINE Vec to_float(IVec a) { return {_mm_cvtepi32_ps(a.v)}; }
FASTPOSE_INLINE IVec as_int(Vec a) { return {_mm_castps_si128(a.v)}; }
FASTPOSE_INLINE Vec as_float(IVec a) { return {_mm_castsi128_ps(a.v)}; }

// Beyond 2^23 (and for NaN) a float is its own floor; below, the conversion to int is exact.
FASTPOSE_INLINE Vec floor(Vec a) {
  const Vec t = to_float(to_int(a));
  const Vec f = t - Vec{_mm_and_ps((t > a).v, _mm_set1_ps(1.f))};
  return select(abs(a) < set(8388608.f), f, a);
}
FASTPOSE_INLINE Vec round(Vec a) { return select(abs(a) < set(8388608.f), to_float(to_int_round(a)), a); }

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose

#include "core/simd_through_memory.h"
