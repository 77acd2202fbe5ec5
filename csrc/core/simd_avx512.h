// AVX-512 F/BW/DQ/VL: 16 lanes. Included by simd.h only.
#pragma once

#include <immintrin.h>

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

struct Vec { static constexpr int lanes = 16; __m512 v; };
struct IVec { __m512i v; };
struct Mask { __mmask16 v; };

FASTPOSE_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

FASTPOSE_INLINE Vec set(float x) { return {_mm512_set1_ps(x)}; }
FASTPOSE_INLINE Vec zero() { return {_mm512_setzero_ps()}; }
FASTPOSE_INLINE Vec iota() { return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }
FASTPOSE_INLINE IVec iset(int32_t x) { return {_mm512_set1_epi32(x)}; }
FASTPOSE_INLINE IVec iiota() { return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }

FASTPOSE_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
FASTPOSE_INLINE Vec load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
FASTPOSE_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
FASTPOSE_INLINE void store_n(float* p, Vec a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
FASTPOSE_INLINE IVec iload(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
FASTPOSE_INLINE void istore(int32_t* p, IVec a) { _mm512_storeu_si512(p, a.v); }

FASTPOSE_INLINE Vec load_u8(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
FASTPOSE_INLINE Vec load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
FASTPOSE_INLINE Vec load_bf16(const uint16_t* p) {
  const __m512i u = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(u, 16))};
}
FASTPOSE_INLINE void store_f16(uint16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
FASTPOSE_INLINE void store_bf16(uint16_t* p, Vec a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
}
FASTPOSE_INLINE void store_u8(uint8_t* p, Vec a) {  // rounds to even, saturates; NaN gives 0
  const __m512 c = _mm512_min_ps(_mm512_max_ps(a.v, _mm512_setzero_ps()), _mm512_set1_ps(255.f));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(c)));
}

FASTPOSE_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec madd(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FASTPOSE_INLINE Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
FASTPOSE_INLINE Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
FASTPOSE_INLINE Vec floor(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
FASTPOSE_INLINE Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

FASTPOSE_INLINE Mask operator<(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
FASTPOSE_INLINE Mask operator<=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
FASTPOSE_INLINE Mask operator>(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
FASTPOSE_INLINE Mask operator>=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
FASTPOSE_INLINE Mask operator==(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
FASTPOSE_INLINE Mask operator<(IVec a, IVec b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator>(IVec a, IVec b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator==(IVec a, IVec b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.v & b.v)}; }
FASTPOSE_INLINE Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
FASTPOSE_INLINE Mask operator~(Mask a) { return {static_cast<__mmask16>(~a.v)}; }
FASTPOSE_INLINE bool any(Mask a) { return a.v != 0; }
FASTPOSE_INLINE bool all(Mask a) { return a.v == 0xffff; }
FASTPOSE_INLINE uint32_t bits(Mask a) { return a.v; }
FASTPOSE_INLINE Vec select(Mask m, Vec a, Vec b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
FASTPOSE_INLINE IVec select(Mask m, IVec a, IVec b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }

FASTPOSE_INLINE float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
FASTPOSE_INLINE float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }
FASTPOSE_INLINE float reduce_min(Vec a) { return _mm512_reduce_min_ps(a.v); }

FASTPOSE_INLINE IVec operator+(IVec a, IVec b) { return {_mm512_add_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator-(IVec a, IVec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator*(IVec a, IVec b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator&(IVec a, IVec b) { return {_mm512_and_si512(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator|(IVec a, IVec b) { return {_mm512_or_si512(a.v, b.v)}; }
template <int n> FASTPOSE_INLINE IVec shift_left(IVec a) { return {_mm512_slli_epi32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right(IVec a) { return {_mm512_srli_epi32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right_arithmetic(IVec a) { return {_mm512_srai_epi32(a.v, n)}; }
FASTPOSE_INLINE IVec to_int(Vec a) { return {_mm512_cvttps_epi32(a.v)}; }
FASTPOSE_INLINE IVec to_int_round(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }
FASTPOSE_INLINE Vec to_float(IVec a) { return {_mm512_cvtepi32_ps(a.v)}; }
FASTPOSE_INLINE IVec as_int(Vec a) { return {_mm512_castps_si512(a.v)}; }
FASTPOSE_INLINE Vec as_float(IVec a) { return {_mm512_castsi512_ps(a.v)}; }
// Gathers merge into their destination, so that an iteration waits for whatever the last one left in that register: start from zero. The
// mask of all lanes must be hidden from GCC, which otherwise drops the zero as unused.
FASTPOSE_INLINE __mmask16 all_lanes() {
  __mmask16 m = 0xffff;
  asm("" : "+Yk"(m));
  return m;
}
FASTPOSE_INLINE IVec gather_i32(const void* base, IVec offsets) {
  return {_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), all_lanes(), offsets.v, base, 1)};
}
FASTPOSE_INLINE Vec gather_f32(const float* base, IVec indices) {
  return {_mm512_mask_i32gather_ps(_mm512_setzero_ps(), all_lanes(), indices.v, base, 4)};
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
