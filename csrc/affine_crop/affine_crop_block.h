// The innermost step of a turned affine_crop on the CPU: one vector of output pixels, all taps inside the image.
//
// blend_block(row0, row1, at, wx, wy, value): pixel pairs start `at` bytes behind row0 (upper) and row1 (lower); wx, wy in [0, 1] are the
// weights of the right and of the lower pixel; value[c] gets the samples of source channel c.
// kOverread: bytes behind the six of a pixel pair that are loaded too (and ignored); the caller keeps away from the end of the image.
#pragma once

#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

FASTPOSE_INLINE Vec lerp(Vec w, Vec from, Vec to) { return madd(w, to - from, from); }

#if defined(FASTPOSE_SIMD_avx512)

constexpr int kOverread = 2;

// Both pixels of a pair come in one 64-bit load: B0 G0 R0 B1 G1 R1 . . ; the horizontal blend is an integer dot product of two 16-bit
// numbers with weights that sum to 32767 (off by at most 255 / 65534 of a grey level), the vertical one is done in floats.
FASTPOSE_INLINE void blend_block(const uint8_t* row0, const uint8_t* row1, IVec at, Vec wx, Vec wy, Vec* value) {
  const __m256i first = _mm512_castsi512_si256(at.v), second = _mm512_extracti64x4_epi64(at.v, 1);
  const auto pairs = [](const uint8_t* row, __m256i offsets) {
    return _mm512_mask_i32gather_epi64(_mm512_setzero_si512(), static_cast<__mmask8>(all_lanes()), offsets, row, 1);
  };
  const __m512i top_a = pairs(row0, first), top_b = pairs(row0, second), bottom_a = pairs(row1, first), bottom_b = pairs(row1, second);

  const __m512i right = _mm512_cvtps_epi32(_mm512_mul_ps(wx.v, _mm512_set1_ps(32767.f)));
  const __m512i weights = _mm512_or_si512(_mm512_sub_epi32(_mm512_set1_epi32(32767), right), _mm512_slli_epi32(right, 16));
  const __m512i twice_a = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m512i twice_b = _mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
  const __m512i weights_a = _mm512_permutexvar_epi32(twice_a, weights), weights_b = _mm512_permutexvar_epi32(twice_b, weights);

  const char z = -128;  // gives 0
  const __m512i pick_01 = _mm512_broadcast_i32x4(_mm_setr_epi8(0, z, 3, z, 1, z, 4, z, 8, z, 11, z, 9, z, 12, z));
  const __m512i pick_2 = _mm512_broadcast_i32x4(_mm_setr_epi8(2, z, 5, z, z, z, z, z, 10, z, 13, z, z, z, z, z));
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);

  const __m512 lower = _mm512_mul_ps(wy.v, _mm512_set1_ps(1.f / 32767.f));
  const __m512 upper = _mm512_sub_ps(_mm512_set1_ps(1.f / 32767.f), lower);
  const auto across = [](__m512i words, __m512i w) { return _mm512_cvtepi32_ps(_mm512_madd_epi16(words, w)); };
  const auto down = [](__m512 top, __m512 bottom, __m512 u, __m512 l) { return _mm512_fmadd_ps(bottom, l, _mm512_mul_ps(top, u)); };

  const __m512 top_01a = across(_mm512_shuffle_epi8(top_a, pick_01), weights_a);
  const __m512 top_01b = across(_mm512_shuffle_epi8(top_b, pick_01), weights_b);
  const __m512 bottom_01a = across(_mm512_shuffle_epi8(bottom_a, pick_01), weights_a);
  const __m512 bottom_01b = across(_mm512_shuffle_epi8(bottom_b, pick_01), weights_b);
  const __m512 top_0 = _mm512_permutex2var_ps(top_01a, even, top_01b), top_1 = _mm512_permutex2var_ps(top_01a, odd, top_01b);
  const __m512 bottom_0 = _mm512_permutex2var_ps(bottom_01a, even, bottom_01b);
  const __m512 bottom_1 = _mm512_permutex2var_ps(bottom_01a, odd, bottom_01b);
  const __m512i top_2 = _mm512_permutex2var_epi32(_mm512_shuffle_epi8(top_a, pick_2), even, _mm512_shuffle_epi8(top_b, pick_2));
  const __m512i bottom_2 = _mm512_permutex2var_epi32(_mm512_shuffle_epi8(bottom_a, pick_2), even, _mm512_shuffle_epi8(bottom_b, pick_2));
  value[0] = {down(top_0, bottom_0, upper, lower)};
  value[1] = {down(top_1, bottom_1, upper, lower)};
  value[2] = {down(across(top_2, weights), across(bottom_2, weights), upper, lower)};
}

#elif defined(FASTPOSE_SIMD_avx2)

constexpr int kOverread = 2;

// As with AVX-512, but a load a pair: gathers take as long or longer on most processors that have no AVX-512. Pairs lie as
// 0 1 | 4 5 and 2 3 | 6 7 (of the two halves of a register), so that joining every other sum of both puts the columns in order.
struct Pairs {
  __m256i first, second;
};

FASTPOSE_INLINE Pairs load_pairs(const uint8_t* row, const int32_t* at) {
  const auto two = [&](int i) {
    const __m128i left = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + at[i]));
    return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(left), reinterpret_cast<const __m64*>(row + at[i + 1])));
  };
  return {_mm256_set_m128i(two(4), two(0)), _mm256_set_m128i(two(6), two(2))};
}

// Blue, green and red of a row: each the sum of two pixels by their weights.
FASTPOSE_INLINE void blend_pairs(const Pairs& pairs, __m256i weights, __m256* sum) {
  const char z = -128;  // gives 0
  const __m256i pick_01 = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, z, 3, z, 1, z, 4, z, 8, z, 11, z, 9, z, 12, z));
  const __m256i pick_2 = _mm256_broadcastsi128_si256(_mm_setr_epi8(2, z, 5, z, z, z, z, z, 10, z, 13, z, z, z, z, z));
  const auto floats = [](__m256i words, __m256i w) { return _mm256_cvtepi32_ps(_mm256_madd_epi16(words, w)); };
  const __m256 first_01 = floats(_mm256_shuffle_epi8(pairs.first, pick_01), _mm256_unpacklo_epi32(weights, weights));
  const __m256 second_01 = floats(_mm256_shuffle_epi8(pairs.second, pick_01), _mm256_unpackhi_epi32(weights, weights));
  const __m256 first_2 = _mm256_castsi256_ps(_mm256_shuffle_epi8(pairs.first, pick_2));
  const __m256 second_2 = _mm256_castsi256_ps(_mm256_shuffle_epi8(pairs.second, pick_2));
  sum[0] = _mm256_shuffle_ps(first_01, second_01, 0x88);  // even
  sum[1] = _mm256_shuffle_ps(first_01, second_01, 0xdd);  // odd
  sum[2] = floats(_mm256_castps_si256(_mm256_shuffle_ps(first_2, second_2, 0x88)), weights);
}

FASTPOSE_INLINE void blend_block(const uint8_t* row0, const uint8_t* row1, IVec at, Vec wx, Vec wy, Vec* value) {
  int32_t offset[8];
  istore(offset, at);
  asm("" : "+m"(offset));  // loaded from there: taking them out of the vector costs GCC twice the instructions
  const __m256i right = _mm256_cvtps_epi32(_mm256_mul_ps(wx.v, _mm256_set1_ps(32767.f)));
  const __m256i weights = _mm256_or_si256(_mm256_sub_epi32(_mm256_set1_epi32(32767), right), _mm256_slli_epi32(right, 16));
  __m256 top[3], bottom[3];
  blend_pairs(load_pairs(row0, offset), weights, top);
  blend_pairs(load_pairs(row1, offset), weights, bottom);
  const __m256 lower = _mm256_mul_ps(wy.v, _mm256_set1_ps(1.f / 32767.f)), upper = _mm256_sub_ps(_mm256_set1_ps(1.f / 32767.f), lower);
  for (int c = 0; c < 3; ++c) value[c] = {_mm256_fmadd_ps(bottom[c], lower, _mm256_mul_ps(top[c], upper))};
}

#else

constexpr int kOverread = 0;

template <int byte>
FASTPOSE_INLINE Vec channel(IVec word) {
  if (byte == 0) return to_float(word & iset(255));
  if (byte == 3) return to_float(shift_right<24>(word));
  return to_float(shift_right<byte * 8>(word) & iset(255));
}

// Six bytes B0 G0 R0 B1 G1 R1 in two 32-bit loads that never leave the pair.
FASTPOSE_INLINE void blend_block(const uint8_t* row0, const uint8_t* row1, IVec at, Vec wx, Vec wy, Vec* value) {
  const IVec low0 = gather_i32(row0, at), high0 = gather_i32(row0 + 2, at);
  const IVec low1 = gather_i32(row1, at), high1 = gather_i32(row1 + 2, at);
  value[0] = lerp(wy, lerp(wx, channel<0>(low0), channel<3>(low0)), lerp(wx, channel<0>(low1), channel<3>(low1)));
  value[1] = lerp(wy, lerp(wx, channel<1>(low0), channel<2>(high0)), lerp(wx, channel<1>(low1), channel<2>(high1)));
  value[2] = lerp(wy, lerp(wx, channel<2>(low0), channel<3>(high0)), lerp(wx, channel<2>(low1), channel<3>(high1)));
}

#endif

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
