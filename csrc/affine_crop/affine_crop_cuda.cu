#include <stdexcept>

#include "affine_crop/affine_crop_fixed.h"
#include "affine_crop/affine_crop_math.h"
#include "core/cuda_launch.h"
#include "core/cuda_vector.h"

namespace fastpose {

// Beside those of affine_crop_math.h: the device's own 16-bit types.
FASTPOSE_DEVICE void crop_store(__half* p, float v) { put(p, v); }
FASTPOSE_DEVICE void crop_store(__half* p, double v) { put(p, static_cast<float>(v)); }
FASTPOSE_DEVICE void crop_store(__nv_bfloat16* p, float v) { put(p, v); }
FASTPOSE_DEVICE void crop_store(__nv_bfloat16* p, double v) { put(p, static_cast<float>(v)); }

namespace {

constexpr int kThreads = 256;
constexpr unsigned kTile = 4 * kThreads;    // neighbouring pixels of a crop, by rows, that a block makes at once
constexpr unsigned kRows = 8;               // of a patch, which is a warp wide
constexpr int64_t kEnoughBlocks = 2048;     // more would only work out the maps of the crops once more
constexpr int64_t kMostPixels = 0x7fffffff;  // of a crop: its pixels are counted in 32 bits

// --- the crops and images of a launch -------------------------------------------------------------------------------------------
// The parameters of one crop, from host memory.
struct CropParams {
  CropImage image;
  double matrix[6];
  float gain[3], offset[3];  // if there are any
  bool flip;
};

// Travels as a kernel argument: no copy, no allocation, safe under graph capture.
template <int kBytes>
struct Table {
  static constexpr int64_t kCrops = kBytes / sizeof(CropParams), kImages = kBytes / sizeof(CropImage);
  int64_t first, count;  // of the crops, or images
  union {
    CropParams crops[kCrops];   // parameters in host memory
    CropImage images[kImages];  // parameters on the device
  };
};

// Kernel arguments end at 4 KiB; since CUDA 12.1 at 32764 bytes.
constexpr int kSmall = 3600, kLarge = CUDART_VERSION >= 12010 ? 32000 : kSmall;
static_assert(sizeof(Table<kSmall>) + sizeof(AffineCropArgs) <= 4096 && sizeof(Table<kLarge>) + sizeof(AffineCropArgs) <= 32764);

bool has_large_arguments() {
  int driver = 0;
  cuda_check(cudaDriverGetVersion(&driver), "affine_crop");
  return driver >= 12010;
}

// What only the backward pass needs: the gradient of images[i], or of the image of crops[i].
template <int kBytes>
struct Grads { CropImage images[Table<kBytes>::kImages]; };

constexpr int kBackward = 1800;
static_assert(sizeof(Table<kBackward>) + sizeof(Grads<kBackward>) + sizeof(AffineCropArgs) <= 4000);

CropParams host_params(const AffineCropArgs& args, int64_t m) {
  CropParams params{};
  params.image = args.images[args.image_index[m]];
  for (int i = 0; i < 6; ++i) params.matrix[i] = args.matrices[6 * m + i];
  for (int c = 0; c < 3; ++c) {
    if (args.gain != nullptr) params.gain[c] = args.gain[3 * m + c];
    if (args.offset != nullptr) params.offset[c] = args.offset[3 * m + c];
  }
  params.flip = args.flip != nullptr && args.flip[m];
  return params;
}

// --- in the kernels -------------------------------------------------------------------------------------------------------------
template <class T>
FASTPOSE_DEVICE void swap_ends(T (&values)[3]) {
  const T first = values[0];
  values[0] = values[2];
  values[2] = first;
}

// Everything about one crop, worked out by one thread for its block.
template <class T>
struct Crop {
  CropImage image;
  CropMap map;
  CropColour<T> colour;  // by source channel
  FixedCrop fixed;       // if is_fixed
  bool good, is_fixed;
  int64_t m;     // its number
  int64_t slot;  // in the table; -1: another launch makes this crop

  template <int kBytes>
  FASTPOSE_DEVICE void resolve(const AffineCropArgs& args, const Table<kBytes>& table, int64_t number) {
    m = number;
    const bool on_device = args.params_on_device;
    bool known = true;
    slot = m - table.first;
    if (on_device) {
      const int64_t index = args.image_index[m];
      known = index >= 0 && index < args.num_images;
      slot = (known ? index : 0) - table.first;  // an unknown image gives the border, in the first launch
      if (slot < 0 || slot >= table.count) slot = -1;
      if (slot < 0) return;
    }
    image = on_device ? table.images[slot] : table.crops[slot].image;
    double matrix[6];
    float gain[3] = {1.f, 1.f, 1.f}, offset[3] = {0.f, 0.f, 0.f};
    for (int i = 0; i < 6; ++i) matrix[i] = on_device ? args.matrices[6 * m + i] : table.crops[slot].matrix[i];
    for (int c = 0; c < 3; ++c) {
      if (args.gain != nullptr) gain[c] = on_device ? args.gain[3 * m + c] : table.crops[slot].gain[c];
      if (args.offset != nullptr) offset[c] = on_device ? args.offset[3 * m + c] : table.crops[slot].offset[c];
    }
    const bool flip = args.flip != nullptr && (on_device ? args.flip[m] : table.crops[slot].flip);
    good = crop_map(matrix, flip, args.width, args.antialias, map) && known;
    colour = crop_colour<T>(args, gain, offset);
    colour.active = args.gain != nullptr || args.offset != nullptr;
    if (args.swap_rb) swap_ends(colour.gain), swap_ends(colour.offset), swap_ends(colour.scale), swap_ends(colour.shift);
    is_fixed = good && args.image_dtype == DType::UInt8 && fixed.resolve(image, map, args.height, args.width);
  }
};

// Calls f(crop) with each crop of a launch that falls to this row of the grid, in all threads of the block.
template <class T, int kBytes, class F>
FASTPOSE_DEVICE void each_crop(const AffineCropArgs& args, const Table<kBytes>& table, F f) {
  __shared__ Crop<T> crop;
  const int64_t first = args.params_on_device ? 0 : table.first, count = args.params_on_device ? args.num_crops : table.count;
  for (int64_t m = first + blockIdx.y; m < first + count; m = crop.m + gridDim.y) {  // m itself would take two registers throughout f
    __syncthreads();  // nobody still reads the crop before
    if (threadIdx.x == 0) crop.resolve(args, table, m);
    __syncthreads();
    if (crop.slot >= 0) f(crop);
  }
}

// Elements from the multiple of 16 bytes before it to p.
template <class O>
FASTPOSE_DEVICE unsigned behind_16(const O* p) { return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % 16 / sizeof(O)); }

// Copies n elements from shared memory, by the whole block: 16 bytes at once, but for the ends. `from` is as far behind 16 bytes as `to`.
template <class O>
FASTPOSE_DEVICE void store_run(O* to, const O* from, unsigned n) {
  constexpr unsigned kAtOnce = 16 / sizeof(O);
  const unsigned head = min_of(n, (kAtOnce - behind_16(to)) % kAtOnce), vectors = (n - head) / kAtOnce, tail = head + vectors * kAtOnce;
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < vectors; i += kThreads)
    reinterpret_cast<uint4*>(to + head)[i] = reinterpret_cast<const uint4*>(from + head)[i];
  if (threadIdx.x < head) to[threadIdx.x] = from[threadIdx.x];
  if (threadIdx.x < n - tail) to[tail + threadIdx.x] = from[tail + threadIdx.x];
}

template <class T, class P>
constexpr bool kCanBeFixed = std::is_same_v<T, float> && std::is_same_v<P, uint8_t>;

// Whether rows of the output are whole vectors that begin on 16 bytes.
template <class O>
FASTPOSE_DEVICE bool has_vector_rows(const AffineCropArgs& args) {
  return behind_16(static_cast<const O*>(args.out)) == 0 && (args.nhwc ? 3 : 1) * args.width % (16 / sizeof(O)) == 0;
}

// At most kRows lines of kLine elements, neighbours in shared memory, by a warp to the output, where they are `stride` elements apart; of each line
// the first `used` elements count.
template <unsigned kLine, class O>
FASTPOSE_DEVICE void store_lines(O* out, const O* from, unsigned lines, unsigned used, unsigned stride) {
  constexpr unsigned kAtOnce = 16 / sizeof(O), kVectors = kLine / kAtOnce, kLines = 32 / kVectors;
  const unsigned lane = threadIdx.x % 32, first = lane / kVectors, at = lane % kVectors * kAtOnce;
  if (first >= kLines || at >= used) return;
  O* to = out + (first * stride + at);
  from += first * kLine + at;
#pragma unroll
  for (unsigned line = 0; line < kRows; line += kLines) {
    if (first + line < lines) *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from + line * kLine);
    to += kLines * stride;
  }
}

// A crop by the fast way, if has_vector_rows. A warp makes some patches of 32 x kRows pixels, one below the other and a row at once; their values
// gather in its shared memory as they shall lie in the output, and leave from there 16 bytes at once. No warp waits for another.
template <class O>
FASTPOSE_DEVICE void crop_patches(const AffineCropArgs& args, const Crop<float>& crop, O* shared) {
  const unsigned width = static_cast<unsigned>(args.width), height = static_cast<unsigned>(args.height);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = kThreads / 32;
  const unsigned down = (height + kRows - 1) / kRows, patches = (width + 31) / 32 * down, share = (patches + gridDim.x * warps - 1) / (gridDim.x * warps);
  const unsigned begin = (blockIdx.x * warps + warp) * share, left_over = patches - min_of(begin, patches);
  const unsigned step = args.nhwc ? 96 : 32;
  const int plane = args.nhwc ? 1 : 32 * kRows, apart = args.swap_rb ? -plane : plane;
  O* const from = shared + warp * (3 * 32 * kRows);
  const FixedCrop& map = crop.fixed;
  const FixedView view = map.view;
  const Fixed b = map.b, e = map.e;
  Fixed x, y;
  unsigned left = begin / down * 32, top = begin % down * kRows;
  const auto place = [&] {
    const unsigned column = min_of(left + lane, width - 1);  // beyond the crop's end the last one once more, which nobody stores
    x = map.a * column + b * top + map.c;
    y = map.d * column + e * top + map.f;
  };
  place();
  for (unsigned count = min_of(share, left_over); count > 0; --count) {
    const unsigned rows = min_of(kRows, height - top);
    O* to = from + (args.nhwc ? 3 * lane : lane) + (args.swap_rb ? 2 * plane : 0);  // of the first source channel
    const auto put = [&](const CropColour<float>& colour, const float* value) {
      for (int c = 0; c < 3; ++c) crop_store(to + c * apart, crop_value(colour, c, value[c]));
      to += step;
      x += b;
      y += e;
    };
    float value[3];
    if (!crop.colour.active && __all_sync(0xffffffffu, view.holds(x, y) && view.holds(x + b * (rows - 1), y + e * (rows - 1)))) {
      CropColour<float> plain = crop.colour;
      plain.active = false;
#pragma unroll 1
      for (unsigned row = 0; row < rows; ++row) {
        view.blend(x, y, value);
        put(plain, value);
      }
    } else {
#pragma unroll 1
      for (unsigned row = 0; row < rows; ++row) {
        if (view.holds(x, y)) {
          view.blend(x, y, value);
        } else {
          float border[3];
          for (int c = 0; c < 3; ++c) border[c] = value[c] = static_cast<float>(args.border[c]);
          if (args.replicate || !map.view.is_outside(x, y))
            crop_sample<float, uint8_t>(crop.image, from_fixed(x), from_fixed(y), args.replicate, border, value);
        }
        put(crop.colour, value);
      }
    }
    __syncwarp();
    O* const out = static_cast<O*>(args.out) + crop_out_index(args, crop.m, 0, top, left);
    if (args.nhwc) store_lines<96>(out, from, rows, 3 * (width - left), 3 * width);
    else
      for (unsigned c = 0; c < 3; ++c) store_lines<32>(out + c * height * width, from + c * 32 * kRows, rows, width - left, width);
    __syncwarp();
    top += kRows;
    if (top >= height) {
      top = 0;
      left += 32;
      place();
    }
  }
}

// A block makes tiles of neighbouring pixels: 32 of them a warp at once, so that their samples lie close together. The values gather in
// shared memory as they shall lie in the output, three planes or one row of whole pixels, and leave from there 16 bytes at once.
template <class T, class P, class O, int kBytes>
__global__ void __launch_bounds__(kThreads, kCanBeFixed<T, P> ? 4 : 3) crop_kernel(const __grid_constant__ AffineCropArgs args, const __grid_constant__ Table<kBytes> table) {
  constexpr unsigned kAtOnce = 16 / sizeof(O);
  constexpr unsigned kTileVectors = 3 * (kTile / kAtOnce + 1), kPatchVectors = kCanBeFixed<T, P> ? 3 * kRows * kThreads / kAtOnce : 0;
  __shared__ uint4 tile[kTileVectors > kPatchVectors ? kTileVectors : kPatchVectors];
  const unsigned width = static_cast<unsigned>(args.width), pixels = static_cast<unsigned>(args.height) * width;
  const unsigned step = args.nhwc ? 3 : 1, across = kThreads % width, down = kThreads / width;
  each_crop<T>(args, table, [&](const Crop<T>& crop) {
    if constexpr (kCanBeFixed<T, P>) {
      if (crop.is_fixed && has_vector_rows<O>(args)) {
        crop_patches(args, crop, reinterpret_cast<O*>(tile));
        return;
      }
    }
    for (unsigned begin = blockIdx.x * kTile; begin < pixels; begin += gridDim.x * kTile) {
      const unsigned n = min_of(kTile, pixels - begin);
      const auto to = [&](int c) { return static_cast<O*>(args.out) + crop_out_index(args, crop.m, c, 0, 0) + begin * step; };
      const auto from = [&](int c) {
        return reinterpret_cast<O*>(tile) + (args.nhwc ? c : c * (kTile + kAtOnce)) + behind_16(to(args.nhwc ? 0 : c));
      };
      __syncthreads();  // the tile before has left
      O* into[3];  // by source channel
      for (int c = 0; c < 3; ++c) into[c] = from(crop_source_channel(args.swap_rb, c)) + threadIdx.x * step;
      unsigned x = (begin + threadIdx.x) % width, y = (begin + threadIdx.x) / width;
      for (unsigned i = threadIdx.x; i < n; i += kThreads) {
        T value[3], border[3];
        for (int c = 0; c < 3; ++c) border[c] = value[c] = static_cast<T>(args.border[c]);
        if (crop.good) crop_pixel<T, P>(crop.image, crop.map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
        for (int c = 0; c < 3; ++c) {
          crop_store(into[c], crop_value(crop.colour, c, value[c]));
          into[c] += kThreads * step;
        }
        x += across;
        y += down;
        if (x >= width) x -= width, ++y;
      }
      __syncthreads();
      if (args.nhwc) store_run(to(0), from(0), 3 * n);
      else
        for (int c = 0; c < 3; ++c) store_run(to(c), from(c), n);
    }
  });
}

template <class T, int kBytes>
__global__ void __launch_bounds__(kThreads, 3) crop_backward_kernel(const __grid_constant__ AffineCropArgs args, const __grid_constant__ Table<kBytes> table,
                                                                const __grid_constant__ Grads<kBytes> grads, const T* grad_out) {
  const unsigned width = static_cast<unsigned>(args.width), pixels = static_cast<unsigned>(args.height) * width;
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  each_crop<T>(args, table, [&](const Crop<T>& crop) {
    if (!crop.good) return;
    const CropImage grad = grads.images[crop.slot];
    T* data = const_cast<T*>(static_cast<const T*>(grad.data));
    const T share = T(1) / static_cast<T>(crop.map.sub_x * crop.map.sub_y);
    for (unsigned n = blockIdx.x * kThreads + threadIdx.x; n < pixels; n += gridDim.x * kThreads) {
      const unsigned x = n % width, y = n / width;
      T value[3] = {T(0), T(0), T(0)}, g[3];
      if (crop.colour.active)
        crop_pixel<T, T>(crop.image, crop.map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
      for (int c = 0; c < 3; ++c) {
        const int o = crop_source_channel(args.swap_rb, c);
        g[c] = grad_out[crop_out_index(args, crop.m, o, y, x)] * crop_slope(crop.colour, c, value[c]) * share;
      }
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
  });
}

// --- launches -------------------------------------------------------------------------------------------------------------------
// Calls run(table, grid) once per launch; a block of the grid makes `each` pixels of a crop at once.
template <int kBytes, class F>
void each_launch(const AffineCropArgs& args, int64_t each, F run) {
  const bool on_device = args.params_on_device;
  const int64_t all = on_device ? args.num_images : args.num_crops, most = on_device ? Table<kBytes>::kImages : Table<kBytes>::kCrops;
  for (int64_t first = 0; first < all; first += most) {
    Table<kBytes> table;
    table.first = first;
    table.count = min_of(all - first, most);
    for (int64_t i = 0; i < table.count; ++i) {
      if (on_device) table.images[i] = args.images[first + i];
      else table.crops[i] = host_params(args, first + i);
    }
    const int64_t crops = on_device ? args.num_crops : table.count, enough = (kEnoughBlocks + crops - 1) / crops;
    run(table, dim3(grid_blocks(args.height * args.width, each, enough), grid_blocks(crops, 1)));
  }
}

// False: nothing to do.
bool has_pixels(const AffineCropArgs& args) {
  if (args.num_crops == 0 || args.height * args.width == 0) return false;
  if (args.height > kMostPixels / args.width)
    throw std::invalid_argument("size: expected crops of less than 2^31 pixels on CUDA, got " + std::to_string(args.height) + " x " + std::to_string(args.width));
  return true;
}

template <class T, class P, class O, int kBytes>
void launch(const AffineCropArgs& args, cudaStream_t stream) {
  each_launch<kBytes>(args, kTile, [&](const Table<kBytes>& table, dim3 grid) {
    cuda_launch("affine_crop", crop_kernel<T, P, O, kBytes>, grid, kThreads, 0, stream, args, table);
  });
}

template <class T, class P, class O>
void launch(const AffineCropArgs& args, cudaStream_t stream) {
  if (!has_pixels(args)) return;
  const bool fits = args.params_on_device ? args.num_images <= Table<kSmall>::kImages : args.num_crops <= Table<kSmall>::kCrops;
  if (fits || !has_large_arguments()) launch<T, P, O, kSmall>(args, stream);
  else launch<T, P, O, kLarge>(args, stream);
}

template <class T, class P>
void launch_out(const AffineCropArgs& args, cudaStream_t stream) {
  switch (args.out_dtype) {
    case DType::UInt8: return launch<T, P, uint8_t>(args, stream);
    case DType::Float16: return launch<T, P, __half>(args, stream);
    case DType::BFloat16: return launch<T, P, __nv_bfloat16>(args, stream);
    case DType::Float64: return launch<double, P, double>(args, stream);
    default: return launch<T, P, float>(args, stream);
  }
}

template <class T>
void launch_backward(const AffineCropBackwardArgs& all, cudaStream_t stream) {
  const AffineCropArgs& args = all.forward;
  if (!has_pixels(args)) return;
  each_launch<kBackward>(args, kThreads, [&](const Table<kBackward>& table, dim3 grid) {
    Grads<kBackward> grads;
    for (int64_t i = 0; i < table.count; ++i)
      grads.images[i] = all.grad_images[args.params_on_device ? table.first + i : args.image_index[table.first + i]];
    cuda_launch("affine_crop_backward", crop_backward_kernel<T, kBackward>, grid, kThreads, 0, stream, args, table, grads,
                static_cast<const T*>(all.grad_out));
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
