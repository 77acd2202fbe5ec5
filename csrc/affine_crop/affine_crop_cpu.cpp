#include "affine_crop/affine_crop_math.h"
#include "affine_crop/affine_crop_output.h"
#include "affine_crop/affine_crop_turned.h"
#include "affine_crop/affine_crop_upright.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// Calls f(m, first_row, end_row) for each crop that rows [begin, end) of all crops' rows touch.
template <class F>
FASTPOSE_INLINE void for_crops(int64_t begin, int64_t end, int64_t height, F f) {
  while (begin < end) {
    const int64_t m = begin / height, first = begin - m * height;
    const int64_t count = min_of(end - begin, height - first);
    f(m, first, first + count);
    begin += count;
  }
}

template <class T>
FASTPOSE_INLINE CropColour<T> colour_of(const AffineCropArgs& args, int64_t m) {
  return crop_colour<T>(args, args.gain != nullptr ? args.gain + m * 3 : nullptr, args.offset != nullptr ? args.offset + m * 3 : nullptr);
}

FASTPOSE_INLINE CropMap map_of(const AffineCropArgs& args, int64_t m) {
  CropMap map;
  crop_map(args.matrices + m * 6, args.flip != nullptr && args.flip[m], args.width, args.antialias, map);
  return map;
}

// uint8 images, vectors.
template <class Element, bool kInterleaved>
void crop_bytes(const AffineCropArgs& args) {
  parallel_for(args.num_crops * args.height, 16, [&](int64_t begin, int64_t end) {
    for_crops(begin, end, args.height, [&](int64_t m, int64_t first, int64_t last) {
      const CropMap map = map_of(args, m);
      const CropImage& image = args.images[args.image_index[m]];
      const CropColour<float> colour = colour_of<float>(args, m);
      CropOutput<Element, kInterleaved> output(args, m, colour);
      if (is_upright(args, map, image)) crop_upright(args, map, image, colour, output, first, last);
      else crop_turned(args, map, image, colour.active, output, {first, last});
    });
  });
}

// Any images, scalars: float images, and float64 wherever it is asked for.
template <class T, class P, class O>
void crop_scalars(const AffineCropArgs& args) {
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  parallel_for(args.num_crops * args.height, 4, [&](int64_t begin, int64_t end) {
    for_crops(begin, end, args.height, [&](int64_t m, int64_t first, int64_t last) {
      const CropMap map = map_of(args, m);
      const CropColour<T> colour = colour_of<T>(args, m);
      const CropImage image = args.images[args.image_index[m]];
      for (int64_t y = first; y < last; ++y) {
        for (int64_t x = 0; x < args.width; ++x) {
          T value[3];
          crop_pixel<T, P>(image, map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
          for (int c = 0; c < 3; ++c) {
            const T v = crop_value(colour, c, value[crop_source_channel(args.swap_rb, c)]);
            crop_store(static_cast<O*>(args.out) + crop_out_index(args, m, c, y, x), v);
          }
        }
      }
    });
  });
}

template <class T, class P>
FASTPOSE_INLINE void crop_floats(const AffineCropArgs& args) {
  switch (args.out_dtype) {
    case DType::UInt8: return crop_scalars<T, P, uint8_t>(args);
    case DType::Float16: return crop_scalars<T, P, Float16Bits>(args);
    case DType::BFloat16: return crop_scalars<T, P, BFloat16Bits>(args);
    case DType::Float64: return crop_scalars<double, P, double>(args);
    default: return crop_scalars<T, P, float>(args);
  }
}

// Adds weight * gradient to the pixels under one sample.
template <class T>
FASTPOSE_INLINE void scatter(const CropImage& grad, double sx, double sy, bool replicate, const T* g) {
  const Taps<T> t = crop_taps<T>(sx, sy, static_cast<int32_t>(grad.height), static_cast<int32_t>(grad.width), replicate);
  if (t.outside) return;
  T* data = const_cast<T*>(static_cast<const T*>(grad.data));
  for (int j = 0; j < 2; ++j) {
    for (int i = 0; i < 2; ++i) {
      if (t.x[i] < 0 || t.y[j] < 0) continue;
      const T weight = (i ? t.fx : T(1) - t.fx) * (j ? t.fy : T(1) - t.fy);
      T* p = data + t.y[j] * grad.row_stride + int64_t{t.x[i]} * 3;
      for (int c = 0; c < 3; ++c) p[c] += weight * g[c];
    }
  }
}

template <class T>
void crop_backward(const AffineCropBackwardArgs& all) {
  const AffineCropArgs& args = all.forward;
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  const T* grad_out = static_cast<const T*>(all.grad_out);
  // One image at a time by one thread, its crops in order: the same sum for any number of threads.
  parallel_for(args.num_images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t m = 0; m < args.num_crops; ++m) {
      const int64_t index = args.image_index[m];
      if (index < begin || index >= end) continue;
      const CropMap map = map_of(args, m);
      const CropColour<T> colour = colour_of<T>(args, m);
      const CropImage grad = all.grad_images[index], image = args.images[index];
      const T share = T(1) / static_cast<T>(map.sub_x * map.sub_y);
      for (int64_t y = 0; y < args.height; ++y) {
        for (int64_t x = 0; x < args.width; ++x) {
          T value[3] = {T(0), T(0), T(0)}, g[3];
          if (colour.active)
            crop_pixel<T, T>(image, map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
          for (int c = 0; c < 3; ++c) {
            const int o = crop_source_channel(args.swap_rb, c);
            g[c] = grad_out[crop_out_index(args, m, o, y, x)] * crop_slope(colour, o, value[c]) * share;
          }
          for (int j = 0; j < map.sub_y; ++j) {
            const double yy = static_cast<double>(y) + sub_position(j, map.sub_y);
            for (int i = 0; i < map.sub_x; ++i) {
              const double xx = static_cast<double>(x) + sub_position(i, map.sub_x);
              scatter(grad, map.a * xx + (map.b * yy + map.c), map.d * xx + (map.e * yy + map.f), args.replicate, g);
            }
          }
        }
      }
    }
  });
}

}  // namespace

void affine_crop_cpu(const AffineCropArgs& args) {
  if (args.image_dtype == DType::Float32) return crop_floats<float, float>(args);
  if (args.image_dtype == DType::Float64) return crop_floats<double, double>(args);
  switch (args.out_dtype) {
    case DType::UInt8: return args.nhwc ? crop_bytes<uint8_t, true>(args) : crop_bytes<uint8_t, false>(args);
    case DType::Float16: return args.nhwc ? crop_bytes<Float16Bits, true>(args) : crop_bytes<Float16Bits, false>(args);
    case DType::BFloat16: return args.nhwc ? crop_bytes<BFloat16Bits, true>(args) : crop_bytes<BFloat16Bits, false>(args);
    case DType::Float64: return crop_scalars<double, uint8_t, double>(args);
    default: return args.nhwc ? crop_bytes<float, true>(args) : crop_bytes<float, false>(args);
  }
}

void affine_crop_backward_cpu(const AffineCropBackwardArgs& args) {
  if (args.forward.image_dtype == DType::Float64) return crop_backward<double>(args);
  crop_backward<float>(args);
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(affine_crop_cpu, AffineCropArgs)
FASTPOSE_DISPATCH(affine_crop_backward_cpu, AffineCropBackwardArgs)

}  // namespace fastpose
