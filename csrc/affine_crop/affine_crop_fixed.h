// The fast way of affine_crop's kernel, for uint8 images: an SM has not the instructions to keep up with its memory, so a sample has to do
// with few. Positions are in fixed point, where floor and weight are the two halves of a number; pixels come in aligned words; the
// horizontal blend is an integer dot product. For affine_crop_cuda.cu only.
//
// Positions are off by less than 2^-18 px; the horizontal weights by at most 2^-16, as those of the CPU's vectors: 0.004 of a grey level.
// It makes samples that are well inside the image, or beyond it. Those at its edge, and crops or images that are too large for this, are
// left to crop_sample.
#pragma once

#include "affine_crop/affine_crop_math.h"

namespace fastpose {

// 2^-32 px: the upper half is a pixel, the lower half how far the position is on the way to the next one.
using Fixed = int64_t;

constexpr int64_t kFixedSide = 1 << 14;      // px of a crop: so many steps, each rounded to 2^-33
constexpr double kFixedReach = 1 << 25;      // px: positions up to here fit, and 32 times the step between two
constexpr Fixed kHalfWeight = 1 << 16;      // px: horizontal weights are multiples of 2^-15, and are rounded to the nearest by this
constexpr int64_t kFixedBytes = 0x7fffffff;  // of an image: offsets are 32-bit

FASTPOSE_HD Fixed to_fixed(double v) { return static_cast<Fixed>(rint(v * 4294967296.0)); }
FASTPOSE_HD double from_fixed(Fixed v) { return static_cast<double>(v) * (1.0 / 4294967296.0); }
FASTPOSE_HD uint32_t fixed_floor(Fixed v) { return static_cast<uint32_t>(v >> 32); }  // of an int32_t: below 0 it is large
FASTPOSE_DEVICE uint32_t fixed_part(Fixed v) { return static_cast<uint32_t>(v); }

// Whether positions of all pixels of a crop fit, and the steps to them.
FASTPOSE_HD bool fits_fixed(const CropMap& map, int64_t height, int64_t width) {
  const double x = static_cast<double>(width), y = static_cast<double>(height);
  const double reach_x = fabs(map.a) * x + fabs(map.b) * y + fabs(map.c), reach_y = fabs(map.d) * x + fabs(map.e) * y + fabs(map.f);
  return reach_x < kFixedReach && reach_y < kFixedReach && width <= kFixedSide && height <= kFixedSide && map.sub_x * map.sub_y == 1;
}

// Whether offsets of an image's bytes fit.
FASTPOSE_HD bool fits_fixed(const CropImage& image) {
  return image.row_stride >= image.width * 3 && (image.height - 1) * image.row_stride + image.width * 3 <= kFixedBytes;
}

// CropMap in fixed point, for rows of which a warp makes 32 pixels at once.
struct FixedMap {
  Fixed step_x, step_y;  // from an output pixel to the one 32 further right
  Fixed b, c, e, f;

  FASTPOSE_HD Fixed x(unsigned column, unsigned row) const { return (step_x >> 5) * column + b * row + c; }
  FASTPOSE_HD Fixed y(unsigned column, unsigned row) const { return (step_y >> 5) * column + e * row + f; }
};

FASTPOSE_HD FixedMap fixed_map(const CropMap& map) {
  return {to_fixed(map.a) * 32, to_fixed(map.d) * 32, to_fixed(map.b), to_fixed(map.c), to_fixed(map.e), to_fixed(map.f)};
}

// Of an image that fits_fixed, what the fast way looks at.
struct FixedView {
  const uint32_t* words;  // the image begins `behind` bytes after
  uint32_t behind, stride, last_column, last_row;
  uint32_t rows;  // which blend() may look at, each with the one below
  uint32_t first, last;  // which bytes of a pair of pixels make output channels 0 and 1, and which make 2

  FASTPOSE_HD FixedView(const CropImage& image, bool swap_rb)
      : words(reinterpret_cast<const uint32_t*>(reinterpret_cast<uintptr_t>(image.data) & ~uintptr_t{3})),
        behind(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(image.data) & 3)), stride(static_cast<uint32_t>(image.row_stride)),
        last_column(static_cast<uint32_t>(image.width - 1)), last_row(static_cast<uint32_t>(image.height - 1)) {
    // Twelve bytes are read from the word on in which a pair begins. Some may lie before the image, in memory that begins with a word all
    // the same; those behind the pair are in the row below it, for pairs of the last row but one in the last one.
    rows = image.width >= 3 && last_row > 1 ? last_row - 1 : 0;
    const uint32_t blue_green = 0x4130, red_green = 0x4152;  // B0 B1 G0 G1, R0 R1 G0 G1
    first = swap_rb ? red_green : blue_green;
    last = swap_rb ? blue_green : red_green;
  }
  // Whether blend() may look at (x, y). If it may at two points, it may between them.
  FASTPOSE_HD bool holds(Fixed x, Fixed y) const { return fixed_floor(x) < last_column && fixed_floor(y) < rows; }
  // Whether (x, y) is so far outside that none of its four pixels is in the image.
  FASTPOSE_DEVICE bool is_outside(Fixed x, Fixed y) const {
    return fixed_floor(x) + 1 > last_column + 1 || fixed_floor(y) + 1 > last_row + 1;
  }

  // crop_sample at (x - kHalfWeight, y), by output channel.
  FASTPOSE_DEVICE void blend(Fixed x, Fixed y, float (&value)[3]) const {
    // Of 32768: the right pixel's weight in the upper half, the left one's below it.
    const uint32_t right = fixed_part(x) >> 17, weights = right * 0xffffu + 0x8000u;
    const uint32_t at = fixed_floor(y) * stride + (fixed_floor(x) * 3 + behind);
    float top[3], bottom[3];
    blend_pair(at, weights, top);
    blend_pair(at + stride, weights, bottom);
    constexpr float kShare = 1.f / 32768.f;
    const float lower = static_cast<float>(fixed_part(y)) * (kShare / 4294967296.f), upper = kShare - lower;
    for (int c = 0; c < 3; ++c) value[c] = madd(bottom[c], lower, madd(top[c], upper, -8388608.f * kShare));
  }

 private:
  // The six bytes B0 G0 R0 B1 G1 R1 at offset `at`: each channel's two by their weights, and 2^23 on top: that makes a sum of 23 bits a
  // float without a conversion.
  FASTPOSE_DEVICE void blend_pair(uint32_t at, uint32_t weights, float (&sum)[3]) const {
    const uint32_t* const pair = words + (at >> 2);
    const uint32_t w0 = read_only(pair), w1 = read_only(pair + 1), w2 = read_only(pair + 2);
    const uint32_t low = __funnelshift_r(w0, w1, at * 8), high = __funnelshift_r(w1, w2, at * 8);  // by so many bits modulo 32
    const uint32_t pairs = __byte_perm(low, high, first), rest = __byte_perm(low, high, last);
    constexpr uint32_t kFloat = 0x4b000000;
    sum[0] = __uint_as_float(__dp2a_lo(weights, pairs, kFloat));
    sum[1] = __uint_as_float(__dp2a_hi(weights, pairs, kFloat));
    sum[2] = __uint_as_float(__dp2a_lo(weights, rest, kFloat));
  }
};

}  // namespace fastpose
