// What the CPU and the CUDA side of affine_crop decide together: where an output pixel looks, what lies outside the image, how many samples an
// antialiased pixel takes, and how a sample becomes an output value.
#pragma once

#include "affine_crop/affine_crop.h"
#include "core/host_device.h"

namespace fastpose {

constexpr int kMaxSubsamples = 64;  // an axis; a crop that shrinks further skips pixels

// Crop px -> source px:  x' = a x + b y + c,  y' = d x + e y + f.
struct CropMap {
  double a, b, c, d, e, f;
  int sub_x, sub_y;  // samples per output pixel along its two axes; 1 without antialiasing
};

// False if the matrix is not finite or has no finite inverse.
FASTPOSE_HD bool crop_map(const double* m, bool mirrored, int64_t width, bool antialias, CropMap& map) {
  const double det = m[0] * m[4] - m[1] * m[3];
  const double r = 1.0 / det;
  map.a = m[4] * r;
  map.b = -m[1] * r;
  map.d = -m[3] * r;
  map.e = m[0] * r;
  map.c = -(map.a * m[2] + map.b * m[5]);
  map.f = -(map.d * m[2] + map.e * m[5]);
  if (mirrored) {  // output column x shows what column width - 1 - x would
    map.c += map.a * static_cast<double>(width - 1);
    map.f += map.d * static_cast<double>(width - 1);
    map.a = -map.a;
    map.d = -map.d;
  }
  map.sub_x = map.sub_y = 1;
  bool good = is_finite(map.a) && is_finite(map.b) && is_finite(map.c) && is_finite(map.d) && is_finite(map.e) && is_finite(map.f);
  for (int i = 0; i < 6; ++i) good = good && is_finite(m[i]);
  if (good && antialias) {
    // The length in source px of one step of the crop, rounded up (but 1.0000001 is 1).
    const double step_x = ceil(sqrt(map.a * map.a + map.d * map.d) - 1e-6), step_y = ceil(sqrt(map.b * map.b + map.e * map.e) - 1e-6);
    map.sub_x = static_cast<int>(clamp(step_x, 1.0, static_cast<double>(kMaxSubsamples)));
    map.sub_y = static_cast<int>(clamp(step_y, 1.0, static_cast<double>(kMaxSubsamples)));
  }
  return good;
}

// Where sample i of n lies within an output pixel, which reaches from -0.5 to 0.5.
FASTPOSE_HD double sub_position(int i, int n) { return (i + 0.5) / n - 0.5; }

// The four pixels under a position and their weights. A tap outside the image has index -1 (constant border). Images have less than 2^31 pixels a
// side: 64 bits would cost a GPU twice the instructions.
template <class T>
struct Taps {
  int32_t x[2], y[2];
  T fx, fy;       // weight of x[1], y[1]
  bool outside;   // no tap is inside: the sample is the border value
};

template <class T>
FASTPOSE_HD Taps<T> crop_taps(double sx, double sy, int32_t height, int32_t width, bool replicate) {
  Taps<T> t;
  const double w = static_cast<double>(width), h = static_cast<double>(height);
  if (replicate) {
    sx = sx > 0 ? (sx < w - 1 ? sx : w - 1) : 0;  // NaN gives 0
    sy = sy > 0 ? (sy < h - 1 ? sy : h - 1) : 0;
  }
  t.outside = !(sx > -1 && sx < w && sy > -1 && sy < h);  // NaN is outside
  if (t.outside) {
    t.x[0] = t.x[1] = t.y[0] = t.y[1] = -1;
    t.fx = t.fy = T(0);
    return t;
  }
  const double fx = floor(sx), fy = floor(sy);
  t.fx = static_cast<T>(sx - fx);
  t.fy = static_cast<T>(sy - fy);
  t.x[0] = static_cast<int32_t>(fx);
  t.y[0] = static_cast<int32_t>(fy);
  t.x[1] = t.x[0] + 1 < width ? t.x[0] + 1 : -1;  // in the replicate case its weight is 0
  t.y[1] = t.y[0] + 1 < height ? t.y[0] + 1 : -1;
  return t;
}

// Element of an image at which tap (t.x[i], t.y[j]) begins. A row alone may have more than 2^31 elements.
template <class T>
FASTPOSE_HD int64_t crop_tap_index(const Taps<T>& t, int i, int j, int64_t row_stride) {
  return t.y[j] * row_stride + int64_t{t.x[i]} * 3;
}

// Between four pixels: p[row][column].
template <class T>
FASTPOSE_HD T crop_blend(const Taps<T>& t, const T (&p)[2][2]) {
  const T top = madd(t.fx, p[0][1] - p[0][0], p[0][0]);
  const T bottom = madd(t.fx, p[1][1] - p[1][0], p[1][0]);
  return madd(t.fy, bottom - top, top);
}

// One bilinear sample of all three channels, in source order. P: pixel type, T: arithmetic.
template <class T, class P>
FASTPOSE_HD void crop_sample(const CropImage& image, double sx, double sy, bool replicate, const T* border, T* value) {
  const Taps<T> t = crop_taps<T>(sx, sy, static_cast<int32_t>(image.height), static_cast<int32_t>(image.width), replicate);
  if (t.outside) {
    for (int c = 0; c < 3; ++c) value[c] = border[c];
    return;
  }
  const P* data = static_cast<const P*>(image.data);
  T p[2][2];
  if (t.x[0] >= 0 && t.x[1] >= 0 && t.y[0] >= 0 && t.y[1] >= 0) {  // most samples: two addresses, and loads that wait for no decision
    const P* row[2];
    row[0] = data + crop_tap_index(t, 0, 0, image.row_stride);
    row[1] = row[0] + image.row_stride;
    for (int c = 0; c < 3; ++c) {
      for (int j = 0; j < 2; ++j)
        for (int i = 0; i < 2; ++i) p[j][i] = static_cast<T>(read_only(row[j] + 3 * i + c));
      value[c] = crop_blend(t, p);
    }
    return;
  }
  for (int c = 0; c < 3; ++c) {
    for (int j = 0; j < 2; ++j)
      for (int i = 0; i < 2; ++i)
        p[j][i] = t.x[i] >= 0 && t.y[j] >= 0 ? static_cast<T>(read_only(data + crop_tap_index(t, i, j, image.row_stride) + c)) : border[c];
    value[c] = crop_blend(t, p);
  }
}

// The mean of an output pixel's samples.
template <class T, class P>
FASTPOSE_HD void crop_pixel(const CropImage& image, const CropMap& map, double x, double y, bool replicate, const T* border, T* value) {
  if (map.sub_x == 1 && map.sub_y == 1) {
    crop_sample<T, P>(image, map.a * x + (map.b * y + map.c), map.d * x + (map.e * y + map.f), replicate, border, value);
    return;
  }
  T sum[3] = {T(0), T(0), T(0)};
  for (int j = 0; j < map.sub_y; ++j) {
    const double yy = y + sub_position(j, map.sub_y);
    for (int i = 0; i < map.sub_x; ++i) {
      const double xx = x + sub_position(i, map.sub_x);
      T v[3];
      crop_sample<T, P>(image, map.a * xx + (map.b * yy + map.c), map.d * xx + (map.e * yy + map.f), replicate, border, v);
      for (int c = 0; c < 3; ++c) sum[c] += v[c];
    }
  }
  const T share = T(1) / static_cast<T>(map.sub_x * map.sub_y);
  for (int c = 0; c < 3; ++c) value[c] = sum[c] * share;
}

// From a sample to the output value of one channel. Colour: of one crop, in output channel order.
template <class T>
struct CropColour {
  bool active;
  T gain[3], offset[3];  // by output channel
  T scale[3], shift[3];
};

template <class T>
FASTPOSE_HD CropColour<T> crop_colour(const AffineCropArgs& args, const float* gain, const float* offset) {
  CropColour<T> colour;
  colour.active = gain != nullptr || offset != nullptr;
  for (int c = 0; c < 3; ++c) {
    colour.gain[c] = gain != nullptr ? static_cast<T>(gain[c]) : T(1);
    colour.offset[c] = offset != nullptr ? static_cast<T>(offset[c]) : T(0);
    colour.scale[c] = static_cast<T>(args.scale[c]);
    colour.shift[c] = static_cast<T>(args.shift[c]);
  }
  return colour;
}

template <class T>
FASTPOSE_HD T crop_value(const CropColour<T>& colour, int channel, T sample) {
  if (colour.active) sample = clamp(madd(sample, colour.gain[channel], colour.offset[channel]), T(0), T(255));
  return madd(sample, colour.scale[channel], colour.shift[channel]);
}

// Gradient of crop_value with respect to the sample; 0 where the colour was clipped (at the limits themselves too).
template <class T>
FASTPOSE_HD T crop_slope(const CropColour<T>& colour, int channel, T sample) {
  if (!colour.active) return colour.scale[channel];
  const T v = madd(sample, colour.gain[channel], colour.offset[channel]);
  return v > T(0) && v < T(255) ? colour.gain[channel] * colour.scale[channel] : T(0);
}

// Output types. Rounding to uint8 is to nearest, ties to even, saturating; NaN gives 0.
struct Float16Bits { uint16_t bits; };
struct BFloat16Bits { uint16_t bits; };

FASTPOSE_HD void crop_store(uint8_t* p, double v) { *p = v > 0 ? static_cast<uint8_t>(rint(v < 255 ? v : 255)) : uint8_t{0}; }
FASTPOSE_HD void crop_store(uint8_t* p, float v) { *p = v > 0 ? static_cast<uint8_t>(rintf(v < 255 ? v : 255)) : uint8_t{0}; }
FASTPOSE_HD void crop_store(Float16Bits* p, float v) { p->bits = float16_bits(v); }
FASTPOSE_HD void crop_store(BFloat16Bits* p, float v) { p->bits = bfloat16_bits(v); }
FASTPOSE_HD void crop_store(float* p, float v) { *p = v; }
FASTPOSE_HD void crop_store(double* p, double v) { *p = v; }
FASTPOSE_HD void crop_store(double* p, float v) { *p = v; }
FASTPOSE_HD void crop_store(float* p, double v) { *p = static_cast<float>(v); }
FASTPOSE_HD void crop_store(Float16Bits* p, double v) { p->bits = float16_bits(static_cast<float>(v)); }
FASTPOSE_HD void crop_store(BFloat16Bits* p, double v) { p->bits = bfloat16_bits(static_cast<float>(v)); }

// Element of the output that holds channel c of pixel (x, y) of crop m.
FASTPOSE_HD int64_t crop_out_index(const AffineCropArgs& args, int64_t m, int c, int64_t y, int64_t x) {
  return args.nhwc ? ((m * args.height + y) * args.width + x) * 3 + c : ((m * 3 + c) * args.height + y) * args.width + x;
}

// The source channel that output channel c shows.
FASTPOSE_HD int crop_source_channel(bool swap_rb, int c) { return swap_rb ? 2 - c : c; }

}  // namespace fastpose
