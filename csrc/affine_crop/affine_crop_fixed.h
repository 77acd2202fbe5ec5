// The fast way of affine_crop's kernel, for uint8 images: an SM has not the instructions to keep up with its memory, so a sample has to do with few.
// Positions are in fixed point, where floor and weight are the two halves of a number; pixels come in aligned words; the horizontal blend is an
// integer dot product. Included by affine_crop_cuda.cu only.
//
// Positions are off by less than 2^-18 px; the horizontal weights, as those of the CPU's vectors, by at most 1 / 65534: 0.004 of a grey level. It makes
// samples that are well inside the image, or beyond it. Those at its edge, and crops or images that are too large for this, are left to crop_sample.
#pragma once

#include "affine_crop/affine_crop_math.h"

namespace fastpose {

// 2^-32 px: the upper half is a pixel, the lower half how far the position is on the way to the next one.
using Fixed = int64_t;

constexpr int64_t kFixedSide = 1 << 14;      // px of a crop: so many steps, each rounded to 2^-33
constexpr double kFixedReach = 1 << 30;      // px: positions up to here fit
constexpr int64_t kFixedBytes = 0x7fffffff;  // of an image: offsets are 32-bit

FASTPOSE_DEVICE Fixed to_fixed(double v) { return static_cast<Fixed>(rint(v * 4294967296.0)); }
FASTPOSE_DEVICE double from_fixed(Fixed v) { return static_cast<double>(v) * (1.0 / 4294967296.0); }
FASTPOSE_DEVICE uint32_t fixed_floor(Fixed v) { return static_cast<uint32_t>(v >> 32); }  // of an int32_t: below 0 it is large
FASTPOSE_DEVICE uint32_t fixed_part(Fixed v) { return static_cast<uint32_t>(v); }

// Of an image, what the fast way looks at.
struct FixedView {
  const uint8_t* data;
  uint32_t stride, last_column, last_row;
  uint32_t rows;  // which blend() may look at, each with the one below

  // False: not this image.
  FASTPOSE_DEVICE bool resolve(const CropImage& image) {
    const int64_t bytes = (image.height - 1) * image.row_stride + image.width * 3;
    if (image.row_stride < image.width * 3 || bytes > kFixedBytes) return false;
    data = static_cast<const uint8_t*>(image.data);
    stride = static_cast<uint32_t>(image.row_stride);
    last_column = static_cast<uint32_t>(image.width - 1), last_row = static_cast<uint32_t>(image.height - 1);
    // Twelve bytes are read from the word on in which a pair begins. Some may lie before the image, in memory that begins with a word all the same; those
    // behind the pair are in the row below it, for pairs of the last row but one in the last one.
    rows = image.width >= 3 && last_row > 1 ? last_row - 1 : 0;
    return true;
  }
  // Whether blend() may look at (x, y). If it may at two points, it may between them.
  FASTPOSE_DEVICE bool holds(Fixed x, Fixed y) const { return fixed_floor(x) < last_column && fixed_floor(y) < rows; }
  // Whether (x, y) is so far outside that none of its four pixels is in the image.
  FASTPOSE_DEVICE bool is_outside(Fixed x, Fixed y) const { return fixed_floor(x) + 1 > last_column + 1 || fixed_floor(y) + 1 > last_row + 1; }

  // crop_sample at (x, y).
  FASTPOSE_DEVICE void blend(Fixed x, Fixed y, float* value) const {
    // The weight of the right pixel, of 32767, and below it that of the left one.
    const uint32_t part = fixed_part(x), right = (part - (part >> 15) + 0x10000u) >> 17, weights = right * 0xffffu + 0x7fffu;
    const uint8_t* const p = data + (fixed_floor(y) * stride + fixed_floor(x) * 3);
    float top[3], bottom[3];
    blend_pair(p, weights, top);
    blend_pair(p + stride, weights, bottom);
    constexpr float kShare = 1.f / 32767.f;
    const float lower = static_cast<float>(fixed_part(y)) * (kShare / 4294967296.f), upper = kShare - lower;
    for (int c = 0; c < 3; ++c) value[c] = madd(bottom[c], lower, madd(top[c], upper, -8388608.f * kShare));
  }

 private:
  // The six bytes B0 G0 R0 B1 G1 R1 at p: each channel's two by their weights, and 2^23 on top: that makes a sum of 23 bits a float without a conversion.
  static FASTPOSE_DEVICE void blend_pair(const uint8_t* p, uint32_t weights, float (&sum)[3]) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    const uint32_t low_bits = static_cast<uint32_t>(at);
    const uint32_t* const words = reinterpret_cast<const uint32_t*>(at & ~uintptr_t{3});
    const uint32_t w0 = read_only(words), w1 = read_only(words + 1), w2 = read_only(words + 2);
    const uint32_t low = __funnelshift_r(w0, w1, low_bits * 8), high = __funnelshift_r(w1, w2, low_bits * 8);  // by so many bits modulo 32
    const uint32_t pairs = __byte_perm(low, high, 0x4130), last = __byte_perm(low, high, 0x0052);  // B0 B1 G0 G1, R0 R1
    constexpr uint32_t kFloat = 0x4b000000;
    sum[0] = __uint_as_float(__dp2a_lo(weights, pairs, kFloat));
    sum[1] = __uint_as_float(__dp2a_hi(weights, pairs, kFloat));
    sum[2] = __uint_as_float(__dp2a_lo(weights, last, kFloat));
  }
};

// A crop for the fast way: output pixel (x, y) looks at (a x + b y + c, d x + e y + f).
struct FixedCrop {
  Fixed a, b, c, d, e, f;
  FixedView view;

  // False: not this crop.
  FASTPOSE_DEVICE bool resolve(const CropImage& image, const CropMap& map, int64_t height, int64_t width) {
    const double x = static_cast<double>(width), y = static_cast<double>(height);
    const bool fits = fabs(map.a) * x + fabs(map.b) * y + fabs(map.c) < kFixedReach && fabs(map.d) * x + fabs(map.e) * y + fabs(map.f) < kFixedReach;
    if (!fits || width > kFixedSide || height > kFixedSide || map.sub_x * map.sub_y != 1) return false;
    a = to_fixed(map.a), b = to_fixed(map.b), c = to_fixed(map.c);
    d = to_fixed(map.d), e = to_fixed(map.e), f = to_fixed(map.f);
    return view.resolve(image);
  }
};

}  // namespace fastpose
