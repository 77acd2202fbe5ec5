// One source row of bytes, blended along x for every column of an upright crop. Included by affine_crop_upright.h only.
//
// Where a crop is not turned, every one of its rows looks at the same columns of the image with the same weights: they are worked out
// once a crop (Columns), as integers of 15 bits, so that a row costs byte shuffles and integer dot products only.
#pragma once

#include "affine_crop/affine_crop_math.h"
#include "affine_crop/affine_crop_output.h"
#include "core/dispatch.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

constexpr int32_t kOne = 32767;       // weights of the two pixels of a pair sum to it (off by at most 255 / 65534 of a grey level)
constexpr int64_t kBlock = 16;        // columns are worked on in blocks of this many, at every level
constexpr int64_t kNarrowest = 6;     // px; a group's load of 16 bytes lies within the rows of any image as wide as that
constexpr int64_t kWidest = 1 << 29;  // px; byte offsets in a row are 32-bit

#if defined(FASTPOSE_SIMD_avx512) || defined(FASTPOSE_SIMD_avx2)
#define FASTPOSE_CROP_SHUFFLES 1  // bytes are picked by shuffles out of a few loads for a group of columns
#else
#define FASTPOSE_CROP_SHUFFLES 0  // a load for each column
#endif

#if defined(FASTPOSE_SIMD_avx512)
#define FASTPOSE_CROP_VBMI 1  // where the processor has it: bytes are picked out of 64
#else
#define FASTPOSE_CROP_VBMI 0
#endif

struct Columns {
  int64_t padded;      // the crop's width, rounded up to whole blocks
  int64_t begin, end;  // the blocks in between show something of the image
  int64_t group;       // FASTPOSE_CROP_SHUFFLES: so many columns share `loads` loads, 1, 2 or 4
  int loads;
  int32_t* offset;     // [padded] bytes from the row's begin to the column's pair, or [padded / group, loads] to a load
  int32_t* weight;     // [padded] of the left pixel, and in the upper half of the right one
  int32_t* pick;       // [padded / kBlock, loads, 3, kBlock] four bytes a column for the shuffle: where its two bytes are in the load
  float* bias[3];      // [padded] share of the border, and the shift; by source channel
  float gain[3];       // value = weighted sum * gain + bias
  float* border;       // [3, padded] what a row beyond the image gives
  float* row[2];       // [3, padded] an even and an odd source row
};

// What one column sees of a row: `share` of the border and the rest of two pixels. The decisions are those of crop_taps.
FASTPOSE_INLINE void place_column(double sx, int64_t width, bool replicate, int32_t* pair, int32_t* weight, int32_t* share) {
  const double last = static_cast<double>(width - 1);
  if (replicate) sx = sx > 0 ? (sx < last ? sx : last) : 0;  // NaN gives 0
  *share = 0;
  if (sx >= 0 && sx <= last) {
    int64_t left = static_cast<int64_t>(sx);
    left = left < width - 1 ? left : width - 2;  // the last pixel is the right one of the last pair
    const int32_t right = static_cast<int32_t>((sx - static_cast<double>(left)) * kOne + 0.5);
    *pair = static_cast<int32_t>(left);
    *weight = (kOne - right) + right * 65536;
  } else if (sx > -1 && sx < 0) {
    *share = static_cast<int32_t>(-sx * kOne + 0.5);
    *pair = 0;
    *weight = kOne - *share;
  } else if (sx > last && sx < last + 1) {
    *share = static_cast<int32_t>((sx - last) * kOne + 0.5);
    *pair = static_cast<int32_t>(width - 2);
    *weight = (kOne - *share) * 65536;
  } else {
    *share = kOne;
    *pair = sx > 0 ? static_cast<int32_t>(width - 2) : 0;
    *weight = 0;
  }
}

#if FASTPOSE_CROP_SHUFFLES
// The loads that a group of columns needs if each reaches `reach` bytes far: 1, 2 or 4, or 0 if those do not reach all its columns.
FASTPOSE_INLINE int count_loads(const Columns& columns, int64_t group, int64_t reach) {
  for (int loads = 1; loads <= 4; loads *= 2) {
    const int64_t each = group / loads;
    int64_t widest = 0;
    for (int64_t x = columns.begin; x < columns.end; x += each) {  // pairs run one way
      const int64_t step = columns.offset[x + each - 1] - columns.offset[x];
      widest = max_of(widest, step < 0 ? -step : step);
    }
    if (widest * 3 + 6 <= reach) return loads;
  }
  return 0;
}

// Turns pairs into loads and picks. A load never reaches beyond the row's end.
FASTPOSE_INLINE void plan_loads(Columns& columns, int64_t width) {
  int64_t reach = 64;
  columns.group = kBlock;
  columns.loads = FASTPOSE_CROP_VBMI && width * 3 >= reach && simd_vbmi() ? count_loads(columns, kBlock, reach) : 0;
  if (columns.loads == 0) {
    reach = 16;
    columns.group = 4;
    columns.loads = count_loads(columns, 4, reach);
  }
  const int32_t limit = static_cast<int32_t>(width * 3 - reach);
  const int64_t group = columns.group, each = group / columns.loads;
  for (int64_t x = columns.begin; x < columns.end; x += group) {
    int32_t* pick = columns.pick + x / kBlock * kBlock * 3 * columns.loads + x % kBlock;
    int32_t pair[kBlock];
    for (int64_t i = 0; i < group; ++i) pair[i] = columns.offset[x + i] * 3;
    for (int k = 0; k < columns.loads; ++k) {
      const int32_t base = min_of(min_of(pair[k * each], pair[k * each + each - 1]), limit);
      columns.offset[x / group * columns.loads + k] = base;  // at or behind what has been read
      for (int c = 0; c < 3; ++c) {
        int32_t* to = pick + (k * 3 + c) * kBlock;
        for (int64_t i = 0; i < group; ++i) to[i] = static_cast<int32_t>(0x80808080u);
        for (int64_t i = k * each; i < (k + 1) * each; ++i)
          to[i] = static_cast<int32_t>(0x80038000u + 0x00010001u * static_cast<uint32_t>(pair[i] - base + c));
      }
    }
  }
}
#endif

// The columns of a crop: column x looks at a x + s. Its values are samples * scale + shift (by source channel). Memory: this thread's
// scratch, rows `uneven` floats behind a vector's boundary: as the output, so that what is loaded to be stored there does not
// straddle two lines.
FASTPOSE_INLINE Columns plan_columns(const CropImage& image, int64_t crop_width, int64_t uneven, double a, double s, bool replicate,
                                     const float* border, const float* scale, const float* shift) {
  Columns columns;
  columns.padded = (crop_width + kBlock - 1) / kBlock * kBlock;
  const int64_t n = columns.padded;
  float* memory = thread_scratch(n * (9 + 3 + 2 + 12) + 2 * kBlock);
  columns.row[0] = memory + 17 * n + uneven;
  columns.row[1] = columns.row[0] + 3 * n;
  columns.border = columns.row[1] + 3 * n;
  for (int c = 0; c < 3; ++c) columns.bias[c] = memory + c * n;
  columns.offset = reinterpret_cast<int32_t*>(memory + 3 * n);
  columns.weight = reinterpret_cast<int32_t*>(memory + 4 * n);
  columns.pick = reinterpret_cast<int32_t*>(memory + 5 * n);
  float outside[3];
  for (int c = 0; c < 3; ++c) {
    columns.gain[c] = scale[c] / static_cast<float>(kOne);
    outside[c] = madd(border[c], scale[c], shift[c]);
    for (int64_t x = 0; x < n; ++x) {
      columns.bias[c][x] = shift[c];
      columns.border[c * n + x] = columns.row[0][c * n + x] = columns.row[1][c * n + x] = outside[c];
    }
  }
  int64_t first = n, last = -1;
  for (int64_t x = 0; x < n; ++x) {
    int32_t share;
    const double sx = a * static_cast<double>(min_of(x, crop_width - 1)) + s;
    place_column(sx, image.width, replicate, columns.offset + x, columns.weight + x, &share);
    if (share == kOne) {
      for (int c = 0; c < 3; ++c) columns.bias[c][x] = outside[c];
      continue;
    }
    first = min_of(first, x);
    last = x;
    if (share == 0) continue;
    const float part = static_cast<float>(share) / static_cast<float>(kOne);
    for (int c = 0; c < 3; ++c) columns.bias[c][x] = madd(border[c], scale[c] * part, shift[c]);
  }
  columns.begin = min_of(first / kBlock * kBlock, n);
  columns.end = (last + kBlock) / kBlock * kBlock;
#if FASTPOSE_CROP_SHUFFLES
  plan_loads(columns, image.width);
#else
  for (int64_t x = 0; x < n; ++x) columns.offset[x] *= 3;
#endif
  return columns;
}

FASTPOSE_INLINE void put_across(const Columns& columns, float* row, int64_t x, int c, IVec sum) {
  store(row + c * columns.padded + x, madd(to_float(sum), set(columns.gain[c]), load(columns.bias[c] + x)));
}

#if FASTPOSE_CROP_SHUFFLES

#if defined(FASTPOSE_SIMD_avx512)
template <int kLoads>
FASTPOSE_INLINE __m512i load_groups(const uint8_t* row, const int32_t* offset) {
  const auto at = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + offset[i * kLoads])); };
  __m512i v = _mm512_castsi128_si512(at(0));
  v = _mm512_inserti32x4(v, at(1), 1);
  v = _mm512_inserti32x4(v, at(2), 2);
  return _mm512_inserti32x4(v, at(3), 3);
}
FASTPOSE_INLINE __m512i pick_bytes(__m512i v, const int32_t* pick) { return _mm512_shuffle_epi8(v, _mm512_load_si512(pick)); }
FASTPOSE_INLINE __m512i join(__m512i a, __m512i b) { return _mm512_or_si512(a, b); }
FASTPOSE_INLINE IVec dot(__m512i words, const int32_t* weight) { return {_mm512_madd_epi16(words, _mm512_load_si512(weight))}; }
#else
template <int kLoads>
FASTPOSE_INLINE __m256i load_groups(const uint8_t* row, const int32_t* offset) {
  const auto at = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + offset[i * kLoads])); };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(1), 1);
}
FASTPOSE_INLINE __m256i pick_bytes(__m256i v, const int32_t* pick) {
  return _mm256_shuffle_epi8(v, _mm256_load_si256(reinterpret_cast<const __m256i*>(pick)));
}
FASTPOSE_INLINE __m256i join(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }
FASTPOSE_INLINE IVec dot(__m256i words, const int32_t* weight) {
  return {_mm256_madd_epi16(words, _mm256_load_si256(reinterpret_cast<const __m256i*>(weight)))};
}
#endif

template <int kLoads>
FASTPOSE_INLINE void across_row_by(const Columns& columns, const uint8_t* source, int64_t ahead, float* row) {
  for (int64_t block = columns.begin; block < columns.end; block += kBlock) {
    const int32_t* pick = columns.pick + block * 3 * kLoads;
    prefetch(source + columns.offset[block / 4 * kLoads], ahead);
    for (int64_t x = 0; x < kBlock; x += Vec::lanes) {
      const int32_t* offset = columns.offset + (block + x) / 4 * kLoads;
      auto group = load_groups<kLoads>(source, offset);
      decltype(group) words[3];
      for (int c = 0; c < 3; ++c) words[c] = pick_bytes(group, pick + c * kBlock + x);
      for (int k = 1; k < kLoads; ++k) {
        group = load_groups<kLoads>(source, offset + k);
        for (int c = 0; c < 3; ++c) words[c] = join(words[c], pick_bytes(group, pick + (k * 3 + c) * kBlock + x));
      }
      for (int c = 0; c < 3; ++c) put_across(columns, row, block + x, c, dot(words[c], columns.weight + block + x));
    }
  }
}

#if FASTPOSE_CROP_VBMI
template <int kLoads>
__attribute__((target("avx512vbmi")))
static void across_row_vbmi(const Columns& columns, const uint8_t* source, int64_t ahead, float* row) {
  constexpr uint64_t kLow = 0x5555555555555555u, kPart = kLow >> (64 - 64 / kLoads);  // the lower byte of each word
  for (int64_t x = columns.begin; x < columns.end; x += kBlock) {
    const int32_t* offset = columns.offset + x / kBlock * kLoads;
    const int32_t* pick = columns.pick + x * 3 * kLoads;
    __m512i words[3];
    for (int k = 0; k < kLoads; ++k) {
      const uint8_t* p = source + offset[k];
      if (k % 2 == 0) prefetch(p, ahead);
      const __m512i bytes = _mm512_loadu_si512(p);
      for (int c = 0; c < 3; ++c) {
        const __m512i index = _mm512_load_si512(pick + (k * 3 + c) * kBlock);
        words[c] = k == 0 ? _mm512_maskz_permutexvar_epi8(kPart, index, bytes)
                          : _mm512_mask_permutexvar_epi8(words[c], kPart << (64 / kLoads * k), index, bytes);
      }
    }
    for (int c = 0; c < 3; ++c) put_across(columns, row, x, c, dot(words[c], columns.weight + x));
  }
}
#endif

// One source row; `ahead`: bytes to the one that will be wanted a little later.
FASTPOSE_INLINE void across_row(const Columns& columns, const CropImage&, const uint8_t* source, int64_t ahead, float* row) {
#if FASTPOSE_CROP_VBMI
  if (columns.group == kBlock) {
    switch (columns.loads) {
      case 1: return across_row_vbmi<1>(columns, source, ahead, row);
      case 2: return across_row_vbmi<2>(columns, source, ahead, row);
      default: return across_row_vbmi<4>(columns, source, ahead, row);
    }
  }
#endif
  switch (columns.loads) {
    case 1: return across_row_by<1>(columns, source, ahead, row);
    case 2: return across_row_by<2>(columns, source, ahead, row);
    default: return across_row_by<4>(columns, source, ahead, row);
  }
}

#elif defined(FASTPOSE_SIMD_sse2)

// Six bytes B0 G0 R0 B1 G1 R1; where there are eight, in one load.
template <bool kRoom>
FASTPOSE_INLINE __m128i load_pair(const uint8_t* p) {
  if (kRoom) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  int32_t low;
  uint16_t high;
  memcpy(&low, p, 4);
  memcpy(&high, p + 4, 2);
  return _mm_unpacklo_epi32(_mm_cvtsi32_si128(low), _mm_cvtsi32_si128(high));
}

template <bool kRoom>
FASTPOSE_INLINE void across_four(const Columns& columns, const uint8_t* source, int64_t x, float* row) {
  const __m128i none = _mm_setzero_si128();
  const __m128i weights = _mm_load_si128(reinterpret_cast<const __m128i*>(columns.weight + x));
  const auto sums = [&](int i, __m128i weight) {  // blue, green, red of one column
    const __m128i pair = load_pair<kRoom>(source + columns.offset[x + i]);
    return _mm_madd_epi16(_mm_unpacklo_epi8(_mm_unpacklo_epi8(pair, _mm_srli_epi64(pair, 24)), none), weight);
  };
  const __m128i s0 = sums(0, _mm_shuffle_epi32(weights, 0x00)), s1 = sums(1, _mm_shuffle_epi32(weights, 0x55));
  const __m128i s2 = sums(2, _mm_shuffle_epi32(weights, 0xaa)), s3 = sums(3, _mm_shuffle_epi32(weights, 0xff));
  const __m128i low01 = _mm_unpacklo_epi32(s0, s1), low23 = _mm_unpacklo_epi32(s2, s3);
  put_across(columns, row, x, 0, {_mm_unpacklo_epi64(low01, low23)});
  put_across(columns, row, x, 1, {_mm_unpackhi_epi64(low01, low23)});
  put_across(columns, row, x, 2, {_mm_unpacklo_epi64(_mm_unpackhi_epi32(s0, s1), _mm_unpackhi_epi32(s2, s3))});
}
#endif

#if defined(FASTPOSE_SIMD_sse2)
FASTPOSE_INLINE void across_row(const Columns& columns, const CropImage& image, const uint8_t* source, int64_t ahead, float* row) {
  const int32_t limit = static_cast<int32_t>(image.width * 3 - 8);
  for (int64_t block = columns.begin; block < columns.end; block += kBlock) {
    prefetch(source + columns.offset[block], ahead);
    const bool room = columns.offset[block] <= limit && columns.offset[block + kBlock - 1] <= limit;
    for (int64_t x = block; x < block + kBlock; x += Vec::lanes) {
      if (room) across_four<true>(columns, source, x, row);
      else across_four<false>(columns, source, x, row);
    }
  }
}
#elif !FASTPOSE_CROP_SHUFFLES
FASTPOSE_INLINE void across_row(const Columns& columns, const CropImage&, const uint8_t* source, int64_t, float* row) {
  for (int64_t x = columns.begin; x < columns.end; ++x) {
    const uint8_t* p = source + columns.offset[x];
    const int32_t left = columns.weight[x] & 0xffff, right = columns.weight[x] >> 16;
    for (int c = 0; c < 3; ++c)
      row[c * columns.padded + x] = madd(static_cast<float>(p[c] * left + p[c + 3] * right), columns.gain[c], columns.bias[c][x]);
  }
}
#endif

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
