// AVX2 + FMA + F16C: 8 lanes. Included by simd.h only.
#pragma once

#include <immintrin.h>

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

struct Vec { static constexpr int lanes = 8; __m256 v; };
struct IVec { __m256i v; };
struct Mask { __m256 v; };  // all bits of a lane set or clear

FASTPOSE_INLINE Vec set(float x) { return {_mm256_set1_ps(x)}; }
FASTPOSE_INLINE Vec zero() { return {_mm256_setzero_ps()}; }
FASTPOSE_INLINE Vec iota() { return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7)}; }
FASTPOSE_INLINE IVec iset(int32_t x) { return {_mm256_set1_epi32(x)}; }
FASTPOSE_INLINE IVec iiota() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }
FASTPOSE_INLINE __m256i first_lanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), iiota().v); }

FASTPOSE_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
FASTPOSE_INLINE Vec load_n(const float* p, int n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
FASTPOSE_INLINE void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
FASTPOSE_INLINE void store_n(float* p, Vec a, int n) { _mm256_maskstore_ps(p, first_lanes(n), a.v); }
FASTPOSE_INLINE IVec iload(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
FASTPOSE_INLINE void istore(int32_t* p, IVec a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }

FASTPOSE_INLINE Vec load_u8(const uint8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
FASTPOSE_INLINE Vec load_f16(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
FASTPOSE_INLINE Vec load_bf16(const uint16_t* p) {
  const __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(u, 16))};
}
// The low 16 bits of each lane, in order.
FASTPOSE_INLINE __m128i narrow_u16(__m256i a) {
  const __m256i packed = _mm256_packus_epi32(a, a);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
FASTPOSE_INLINE void store_f16(uint16_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
FASTPOSE_INLINE void store_bf16(uint16_t* p, Vec a) {
  const __m256i u = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_u16(_mm256_blendv_epi8(r, quiet, nan)));
}
FASTPOSE_INLINE void store_u8(uint8_t* p, Vec a) {  // rounds to even, saturates; NaN gives 0
  const __m256 c = _mm256_min_ps(_mm256_max_ps(a.v, _mm256_setzero_ps()), _mm256_set1_ps(255.f));
  const __m128i words = narrow_u16(_mm256_cvtps_epi32(c));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

FASTPOSE_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec madd(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FASTPOSE_INLINE Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
FASTPOSE_INLINE Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.f), a.v)}; }
FASTPOSE_INLINE Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
FASTPOSE_INLINE Vec floor(Vec a) { return {_mm256_floor_ps(a.v)}; }
FASTPOSE_INLINE Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

FASTPOSE_INLINE Mask operator<(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
FASTPOSE_INLINE Mask operator<=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
FASTPOSE_INLINE Mask operator>(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
FASTPOSE_INLINE Mask operator>=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
FASTPOSE_INLINE Mask operator==(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
FASTPOSE_INLINE Mask operator<(IVec a, IVec b) { return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.v, a.v))}; }
FASTPOSE_INLINE Mask operator>(IVec a, IVec b) { return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v))}; }
FASTPOSE_INLINE Mask operator==(IVec a, IVec b) { return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.v, b.v))}; }
FASTPOSE_INLINE Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator~(Mask a) { return {_mm256_xor_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
FASTPOSE_INLINE uint32_t bits(Mask a) { return static_cast<uint32_t>(_mm256_movemask_ps(a.v)); }
FASTPOSE_INLINE bool any(Mask a) { return bits(a) != 0; }
FASTPOSE_INLINE bool all(Mask a) { return bits(a) == 0xff; }
FASTPOSE_INLINE Vec select(Mask m, Vec a, Vec b) { return {_mm256_blendv_ps(b.v, a.v, m.v)}; }
FASTPOSE_INLINE IVec select(Mask m, IVec a, IVec b) { return {_mm256_blendv_epi8(b.v, a.v, _mm256_castps_si256(m.v))}; }

FASTPOSE_INLINE float reduce_add(Vec a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
FASTPOSE_INLINE float reduce_max(Vec a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
FASTPOSE_INLINE float reduce_min(Vec a) {
  __m128 x = _mm_min_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_min_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_min_ss(x, _mm_shuffle_ps(x, x, 1)));
}

FASTPOSE_INLINE IVec operator+(IVec a, IVec b) { return {_mm256_add_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator-(IVec a, IVec b) { return {_mm256_sub_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator*(IVec a, IVec b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator&(IVec a, IVec b) { return {_mm256_and_si256(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator|(IVec a, IVec b) { return {_mm256_or_si256(a.v, b.v)}; }
template <int n> FASTPOSE_INLINE IVec shift_left(IVec a) { return {_mm256_slli_epi32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right(IVec a) { return {_mm256_srli_epi32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right_arithmetic(IVec a) { return {_mm256_srai_epi32(a.v, n)}; }
FASTPOSE_INLINE IVec to_int(Vec a) { return {_mm256_cvttps_epi32(a.v)}; }
FASTPOSE_INLINE IVec to_int_round(Vec a) { return {_mm256_cvtps_epi32(a.v)}; }
FASTPOSE_INLINE Vec to_float(IVec a) { return {_mm256_cvtepi32_ps(a.v)}; }
FASTPOSE_INLINE IVec as_int(Vec a) { return {_mm256_castps_si256(a.v)}; }
FASTPOSE_INLINE Vec as_float(IVec a) { return {_mm256_castsi256_ps(a.v)}; }
FASTPOSE_INLINE IVec gather_i32(const void* base, IVec offsets) {
  return {_mm256_i32gather_epi32(static_cast<const int*>(base), offsets.v, 1)};
}
FASTPOSE_INLINE Vec gather_f32(const float* base, IVec indices) { return {_mm256_i32gather_ps(base, indices.v, 4)}; }

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
