// Where affine_crop's samples go on the CPU: into a row of the output, or into sums for antialiasing. Included by affine_crop_cpu.cpp only.
#pragma once

#include "affine_crop/affine_crop_across.h"
#include "affine_crop/affine_crop_block.h"
#include "affine_crop/affine_crop_math.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

constexpr int L = Vec::lanes;
constexpr int64_t kTile = 256;         // columns of a row buffer: three of them stay in the first cache

FASTPOSE_INLINE void store_full(float* p, Vec v) { store(p, v); }
FASTPOSE_INLINE void store_full(Half* p, Vec v) { store_f16(&p->bits, v); }
FASTPOSE_INLINE void store_full(Brain* p, Vec v) { store_bf16(&p->bits, v); }
FASTPOSE_INLINE void store_full(uint8_t* p, Vec v) { store_u8(p, v); }

// Colour and normalisation of one row, by source channel, then one output row: three planes, or interleaved pixels.
template <class O, bool kInterleaved>
struct OutputSink {
  O* row[3];  // by source channel: element of column 0
  int64_t step;   // elements from one column to the next: 1 or 3
  int64_t ahead;  // bytes to the row kRowsAhead further on
  int output_channel[3];
  const CropColour<float>* colour;

  FASTPOSE_INLINE Vec value(int c, Vec v) const {
    const int o = output_channel[c];
    if (colour->active)
      v = max(min(madd(v, set(colour->gain[o]), set(colour->offset[o])), set(255.f)), set(0.f));
    return madd(v, set(colour->scale[o]), set(colour->shift[o]));
  }
  FASTPOSE_INLINE void block(int64_t x, const Vec* v, int n) const {
    for (int c = 0; c < 3; ++c) {
      prefetch(row[c] + x * step, ahead);
      const Vec y = value(c, v[c]);
      if (!kInterleaved && n == L) {
        store_full(row[c] + x, y);
      } else {
        O lane[L];
        store_full(lane, y);
        for (int i = 0; i < n; ++i) row[c][(x + i) * step] = lane[i];
      }
    }
  }
  // Elements from a vector's boundary to the row's begin.
  FASTPOSE_INLINE int64_t uneven(int c) const { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(row[c]) / sizeof(O) % L); }
  // A row of `width` columns between two rows of Columns. Those hold samples if the colour is active, and otherwise normalised values.
  FASTPOSE_INLINE void between(const float* top, const float* bottom, int64_t padded, Vec weight, int64_t width) const {
    for (int c = 0; c < 3; ++c) {
      const float* upper = top + c * padded;
      const float* lower = bottom + c * padded;
      O* out = row[c];
      const auto at = [&](int64_t x) {
        const Vec v = lerp(weight, load(upper + x), load(lower + x));
        return colour->active ? value(c, v) : v;
      };
      if (kInterleaved || width < L) {
        for (int64_t x = 0; x < width; x += L) {
          const int n = width - x < L ? static_cast<int>(width - x) : L;
          O lane[L];
          store_full(lane, at(x));
          for (int i = 0; i < n; ++i) out[(x + i) * step] = lane[i];
        }
        continue;
      }
      const int64_t behind = uneven(c);
      int64_t x = behind == 0 ? 0 : L - behind;
      if (x > 0) store_full(out, at(0));
      for (; x + L <= width; x += L) {
        prefetch(out + x, ahead);
        store_full(out + x, at(x));
      }
      if (x < width) store_full(out + width - L, at(width - L));  // once more for some
    }
  }
  FASTPOSE_INLINE void pixel(int64_t x, const float* v) const {
    for (int c = 0; c < 3; ++c) crop_store(row[c] + x * step, crop_value(*colour, output_channel[c], v[c]));
  }
  FASTPOSE_INLINE void fill(int64_t begin, int64_t end, const float* v) const {
    if (begin >= end) return;
    for (int c = 0; c < 3; ++c) {
      O constant;
      crop_store(&constant, crop_value(*colour, output_channel[c], v[c]));
      for (int64_t x = begin; x < end; ++x) row[c][x * step] = constant;
    }
  }
};

// Sums of samples under a tile of a row, for antialiasing.
struct SumSink {
  int64_t first;
  float sum[3][kTile];

  FASTPOSE_INLINE void block(int64_t x, const Vec* v, int n) {
    for (int c = 0; c < 3; ++c) {
      float* p = &sum[c][x - first];
      if (n == L) store(p, load(p) + v[c]);
      else store_n(p, load_n(p, n) + v[c], n);
    }
  }
  FASTPOSE_INLINE void pixel(int64_t x, const float* v) {
    for (int c = 0; c < 3; ++c) sum[c][x - first] += v[c];
  }
  FASTPOSE_INLINE void fill(int64_t begin, int64_t end, const float* v) {
    for (int c = 0; c < 3; ++c)
      for (int64_t x = begin; x < end; ++x) sum[c][x - first] += v[c];
  }
};

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
