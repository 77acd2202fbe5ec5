// Where affine_crop's samples go on the CPU: coloured, normalised and converted, into rows of the output.
#pragma once

#include "affine_crop/affine_crop_math.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

constexpr int64_t kRowsAhead = 2;  // memory is asked for this many crop rows before it is needed: no prefetcher guesses these strides

// A hint, which may point anywhere.
FASTPOSE_INLINE void prefetch(const void* p, int64_t bytes) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<intptr_t>(p) + bytes));
}

FASTPOSE_INLINE void store_as(float* p, Vec v) { store(p, v); }
FASTPOSE_INLINE void store_as(Float16Bits* p, Vec v) { store_f16(&p->bits, v); }
FASTPOSE_INLINE void store_as(BFloat16Bits* p, Vec v) { store_bf16(&p->bits, v); }
FASTPOSE_INLINE void store_as(uint8_t* p, Vec v) { store_u8(p, v); }

// The first n lanes, `step` elements apart.
template <class Element>
FASTPOSE_INLINE void store_lanes(Element* p, Vec v, int64_t n, int64_t step) {
  Element lane[Vec::lanes];
  store_as(lane, v);
  for (int64_t i = 0; i < n; ++i) p[i * step] = lane[i];
}

// How far p is behind a boundary of so many elements.
template <class Element>
FASTPOSE_INLINE int64_t elements_behind(const Element* p, int64_t boundary) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) / sizeof(Element)) % boundary;
}

// A row into the caches, by whole vectors; at(x) gives its elements from x on. `ahead`: bytes to the row that will be written a little
// later.
template <class Element, class At>
FASTPOSE_INLINE void store_row(Element* row, int64_t width, int64_t ahead, At at) {
  if (width < Vec::lanes) return store_lanes(row, at(0), width, 1);
  const int64_t behind = elements_behind(row, Vec::lanes);
  int64_t x = behind == 0 ? 0 : Vec::lanes - behind;
  if (x > 0) store_as(row, at(0));
  for (; x + Vec::lanes <= width; x += Vec::lanes) {
    prefetch(row + x, ahead);
    store_as(row + x, at(x));
  }
  if (x < width) store_as(row + width - Vec::lanes, at(width - Vec::lanes));  // once more for some
}

// The rows of one crop, from the first to the last: three planes, or interleaved pixels. Channels c are those of the source.
template <class Element, bool kInterleaved>
class CropOutput {
 public:
  FASTPOSE_INLINE CropOutput(const AffineCropArgs& a, int64_t m, const CropColour<float>& c)
      : args(a), crop(m), colour(c) {}

  // Elements from a vector's boundary to where a row begins.
  FASTPOSE_INLINE int64_t uneven(int64_t y) const { return elements_behind(row(0, y), Vec::lanes); }

  FASTPOSE_INLINE Vec coloured(int c, Vec sample) const {
    const int o = crop_source_channel(args.swap_rb, c);
    return max(min(madd(sample, set(colour.gain[o]), set(colour.offset[o])), set(255.f)), set(0.f));
  }
  FASTPOSE_INLINE Vec normalised(int c, Vec sample) const {
    const int o = crop_source_channel(args.swap_rb, c);
    return madd(sample, set(colour.scale[o]), set(colour.shift[o]));
  }

  // Row y, of which at(c, x) gives normalised values from column x on; up to Vec::lanes - 1 columns beyond the last are asked for.
  template <class At>
  FASTPOSE_INLINE void write_row(int64_t y, At at) {
    const int64_t ahead = args.width * kRowsAhead * static_cast<int64_t>(sizeof(Element));
    for (int c = 0; c < 3; ++c) {
      Element* to = row(c, y);
      const auto values = [&](int64_t x) { return at(c, x); };
      if (kInterleaved) {
        for (int64_t x = 0; x < args.width; x += Vec::lanes)
          store_lanes(to + 3 * x, values(x), min_of<int64_t>(args.width - x, Vec::lanes), 3);
      } else {
        store_row(to, args.width, ahead, values);
      }
    }
  }

 private:
  const AffineCropArgs& args;
  const int64_t crop;
  const CropColour<float>& colour;

  FASTPOSE_INLINE Element* row(int c, int64_t y) const {
    const int output_channel = crop_source_channel(args.swap_rb, c);  // its own inverse
    return static_cast<Element*>(args.out) + crop_out_index(args, crop, output_channel, y, 0);
  }
};

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
