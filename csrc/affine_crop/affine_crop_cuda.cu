#include <type_traits>

#include "affine_crop/affine_crop_math.h"
#include "core/cuda_launch.h"

namespace fastpose {
namespace {

constexpr int kThreads = 256;
constexpr int kCropsPerLaunch = 14;   // parameters travel as kernel arguments (4 KiB): no copy, no allocation, safe under graph capture
constexpr int kImagesPerLaunch = 48;

// Everything about one crop.
template <class T>
struct Crop {
  CropImage image;
  CropMap map;
  CropColour<T> colour;
  bool good;
};

// Parameters in host memory: resolved there, a few crops at a time.
template <class T>
struct HostParams {
  Crop<T> crops[kCropsPerLaunch];
  CropImage grads[kCropsPerLaunch];  // backward only
  int64_t first;                     // crop number of crops[0]

  FASTPOSE_DEVICE bool get(const AffineCropArgs&, int64_t m, Crop<T>& crop, CropImage& grad) const {
    crop = crops[m - first];
    grad = grads[m - first];
    return true;
  }
};

// Parameters on the device: each thread resolves its own; images beyond one launch's table are served by further launches.
template <class T>
struct DeviceParams {
  CropImage images[kImagesPerLaunch];
  CropImage grads[kImagesPerLaunch];  // backward only
  int64_t first_image, count;
  int64_t num_images;

  FASTPOSE_DEVICE bool get(const AffineCropArgs& args, int64_t m, Crop<T>& crop, CropImage& grad) const {
    const int64_t index = args.image_index[m];
    const bool known = index >= 0 && index < num_images;  // an unknown image gives the border, in the first launch
    if (known ? index < first_image || index >= first_image + count : first_image != 0) return false;
    const int64_t at = known ? index - first_image : 0;
    crop.good = crop_map(args.matrices + m * 6, args.flip != nullptr && args.flip[m], args.width, args.antialias, crop.map) && known;
    crop.image = images[at];
    grad = grads[at];
    crop.colour = crop_colour<T>(args, args.gain != nullptr ? args.gain + m * 3 : nullptr, args.offset != nullptr ? args.offset + m * 3 : nullptr);
    return true;
  }
};

template <class T, class P, class O, class Params>
__global__ void __launch_bounds__(kThreads) crop_kernel(const AffineCropArgs args, const __grid_constant__ Params params, int64_t first, int64_t total) {
  const int64_t pixels = args.height * args.width;
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total; i += int64_t{gridDim.x} * kThreads) {
    const int64_t m = first + i / pixels, at = i % pixels, y = at / args.width, x = at % args.width;
    Crop<T> crop;
    CropImage unused;
    if (!params.get(args, m, crop, unused)) continue;
    T value[3] = {border[0], border[1], border[2]};
    if (crop.good) crop_pixel<T, P>(crop.image, crop.map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
    for (int c = 0; c < 3; ++c)
      crop_store(static_cast<O*>(args.out) + crop_out_index(args, m, c, y, x), crop_value(crop.colour, c, value[crop_source_channel(args.swap_rb, c)]));
  }
}

template <class T, class Params>
__global__ void __launch_bounds__(kThreads) crop_backward_kernel(const AffineCropArgs args, const __grid_constant__ Params params,
                                                                const T* grad_out, int64_t first, int64_t total) {
  const int64_t pixels = args.height * args.width;
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  for (int64_t n = blockIdx.x * int64_t{kThreads} + threadIdx.x; n < total; n += int64_t{gridDim.x} * kThreads) {
    const int64_t m = first + n / pixels, at = n % pixels, y = at / args.width, x = at % args.width;
    Crop<T> crop;
    CropImage grad;
    if (!params.get(args, m, crop, grad) || !crop.good) continue;
    T value[3] = {T(0), T(0), T(0)}, g[3];
    if (crop.colour.active)
      crop_pixel<T, T>(crop.image, crop.map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
    const T share = T(1) / static_cast<T>(crop.map.sub_x * crop.map.sub_y);
    for (int c = 0; c < 3; ++c) {
      const int o = crop_source_channel(args.swap_rb, c);
      g[c] = grad_out[crop_out_index(args, m, o, y, x)] * crop_slope(crop.colour, o, value[c]) * share;
    }
    T* data = const_cast<T*>(static_cast<const T*>(grad.data));
    for (int j = 0; j < crop.map.sub_y; ++j) {
      for (int i = 0; i < crop.map.sub_x; ++i) {
        const double xx = static_cast<double>(x) + sub_position(i, crop.map.sub_x), yy = static_cast<double>(y) + sub_position(j, crop.map.sub_y);
        const Taps<T> t = crop_taps<T>(crop.map.a * xx + (crop.map.b * yy + crop.map.c), crop.map.d * xx + (crop.map.e * yy + crop.map.f),
                                       grad.height, grad.width, args.replicate);
        if (t.outside) continue;
        for (int q = 0; q < 2; ++q) {
          for (int p = 0; p < 2; ++p) {
            if (t.x[p] < 0 || t.y[q] < 0) continue;
            const T weight = (p ? t.fx : T(1) - t.fx) * (q ? t.fy : T(1) - t.fy);
            for (int c = 0; c < 3; ++c) atomicAdd(data + t.y[q] * grad.row_stride + t.x[p] * 3 + c, weight * g[c]);
          }
        }
      }
    }
  }
}

// Fills params with up to kCropsPerLaunch crops from `first` on; returns how many.
template <class T>
int64_t resolve(const AffineCropArgs& args, const CropImage* grads, int64_t first, HostParams<T>& params) {
  int64_t n = args.num_crops - first;
  if (n > kCropsPerLaunch) n = kCropsPerLaunch;
  params.first = first;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t m = first + i;
    Crop<T>& crop = params.crops[i];
    crop.good = crop_map(args.matrices + m * 6, args.flip != nullptr && args.flip[m], args.width, args.antialias, crop.map);
    crop.image = args.images[args.image_index[m]];
    crop.colour = crop_colour<T>(args, args.gain != nullptr ? args.gain + m * 3 : nullptr, args.offset != nullptr ? args.offset + m * 3 : nullptr);
    if (grads != nullptr) params.grads[i] = grads[args.image_index[m]];
  }
  return n;
}

// Calls run(params, first crop, number of crops) once per launch.
template <class T, class F>
void each_launch(const AffineCropArgs& args, const CropImage* grads, F run) {
  static_assert(sizeof(HostParams<double>) + sizeof(AffineCropArgs) < 4000, "kernel arguments end at 4 KiB");
  static_assert(sizeof(DeviceParams<double>) + sizeof(AffineCropArgs) < 4000, "kernel arguments end at 4 KiB");
  if (args.num_crops == 0 || args.height * args.width == 0) return;
  if (args.params_on_device) {
    for (int64_t image = 0; image < args.num_images; image += kImagesPerLaunch) {
      DeviceParams<T> params{};
      params.first_image = image;
      params.num_images = args.num_images;
      params.count = args.num_images - image < kImagesPerLaunch ? args.num_images - image : kImagesPerLaunch;
      for (int64_t i = 0; i < params.count; ++i) {
        params.images[i] = args.images[image + i];
        if (grads != nullptr) params.grads[i] = grads[image + i];
      }
      run(params, 0, args.num_crops);
    }
    return;
  }
  for (int64_t first = 0; first < args.num_crops; first += kCropsPerLaunch) {
    HostParams<T> params{};
    run(params, first, resolve<T>(args, grads, first, params));
  }
}

template <class T, class P, class O>
void launch(const AffineCropArgs& args, cudaStream_t stream) {
  each_launch<T>(args, nullptr, [&](const auto& params, int64_t first, int64_t crops) {
    const int64_t total = crops * args.height * args.width;
    using Params = std::decay_t<decltype(params)>;
    cuda_launch("affine_crop", crop_kernel<T, P, O, Params>, grid_blocks(total, kThreads), kThreads, 0, stream, args, params, first, total);
  });
}

template <class T, class P>
void launch_out(const AffineCropArgs& args, cudaStream_t stream) {
  switch (args.out_dtype) {
    case DType::UInt8: return launch<T, P, uint8_t>(args, stream);
    case DType::Float16: return launch<T, P, Half>(args, stream);
    case DType::BFloat16: return launch<T, P, Brain>(args, stream);
    case DType::Float64: return launch<double, P, double>(args, stream);
    default: return launch<T, P, float>(args, stream);
  }
}

template <class T>
void launch_backward(const AffineCropBackwardArgs& all, cudaStream_t stream) {
  const AffineCropArgs& args = all.forward;
  each_launch<T>(args, all.grad_images, [&](const auto& params, int64_t first, int64_t crops) {
    const int64_t total = crops * args.height * args.width;
    using Params = std::decay_t<decltype(params)>;
    cuda_launch("affine_crop_backward", crop_backward_kernel<T, Params>, grid_blocks(total, kThreads), kThreads, 0, stream, args, params,
                static_cast<const T*>(all.grad_out), first, total);
  });
}

}  // namespace

void affine_crop_cuda(const AffineCropArgs& args, void* stream) {
  switch (args.image_dtype) {
    case DType::Float32: return launch_out<float, float>(args, as_stream(stream));
    case DType::Float64: return launch_out<double, double>(args, as_stream(stream));
    default: return launch_out<float, uint8_t>(args, as_stream(stream));
  }
}

void affine_crop_backward_cuda(const AffineCropBackwardArgs& args, void* stream) {
  if (args.forward.image_dtype == DType::Float64) return launch_backward<double>(args, as_stream(stream));
  launch_backward<float>(args, as_stream(stream));
}

}  // namespace fastpose
