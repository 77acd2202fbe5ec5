// A warp makes rows of a crop, 32 neighbouring pixels at once. Both kernels make them alike (make_row); what a pixel shows comes from one
// of three samplers, told apart by what is known of the row: InsideRow and EdgeRow in fixed point, ExactRow for all that does not fit it.
#include <stdexcept>

#include "affine_crop/affine_crop_plan.h"
#include "affine_crop/affine_crop_store.h"

namespace fastpose {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int64_t kEnoughBlocks = 1024;      // two for each place on 128 SMs; more would only prepare their crops once more
constexpr int64_t kMostPixels = 0x7fffffff;  // of a crop: its pixels are counted in 32 bits

// Pixels of a row that a warp gathers in shared memory. T: arithmetic; values of the output are no larger.
template <class T>
constexpr unsigned kRun = 1024 / sizeof(T);

// --- the crops and images of a launch -------------------------------------------------------------------------------------------
// One crop, from parameters in host memory.
struct HostCrop {
  CropPlan plan;
  float gain[3], offset[3];  // if there are any
};

// Travels as a kernel argument: no copy, no allocation, safe under graph capture.
template <int kCrops>
struct Table {
  static constexpr int64_t kImages = kCrops * sizeof(HostCrop) / sizeof(CropImage);
  int64_t first, count;  // of the crops, or images
  union {
    HostCrop crops[kCrops];     // parameters in host memory
    CropImage images[kImages];  // parameters on the device
  };
};

// Kernel arguments end at 4 KiB; since CUDA 12.1 at 32764 bytes, if the driver is as new.
constexpr int kFewCrops = 32, kManyCrops = CUDART_VERSION >= 12010 ? 260 : kFewCrops;
static_assert(sizeof(Table<kFewCrops>) + sizeof(AffineCropArgs) <= 4096 && sizeof(Table<kManyCrops>) + sizeof(AffineCropArgs) <= 32764);

bool has_large_arguments() {
  int driver = 0;
  cuda_check(cudaDriverGetVersion(&driver), "affine_crop");
  return driver >= 12010;
}

// What only the backward pass needs: the gradient of images[i], or of the image of crops[i].
template <int kCrops>
struct Grads { CropImage images[Table<kCrops>::kImages]; };

constexpr int kBackwardCrops = 15;
static_assert(sizeof(Table<kBackwardCrops>) + sizeof(Grads<kBackwardCrops>) + sizeof(AffineCropArgs) <= 4000);

HostCrop host_crop(const AffineCropArgs& args, int64_t m) {
  HostCrop crop{};
  crop.plan = crop_plan(args, args.images[args.image_index[m]], true, args.matrices + 6 * m, args.flip != nullptr && args.flip[m]);
  for (int c = 0; c < 3; ++c) {
    if (args.gain != nullptr) crop.gain[c] = args.gain[3 * m + c];
    if (args.offset != nullptr) crop.offset[c] = args.offset[3 * m + c];
  }
  return crop;
}

// --- a block's crops --------------------------------------------------------------------------------------------------------------
template <class T>
struct BlockCrop {
  CropPlan plan;
  CropColour<T> colour;  // by output channel
  int64_t number;
  int64_t slot;  // in the table; -1: another launch makes this crop
};

// By all threads of a block: crop `number` of the call.
template <class T, int kCrops>
FASTPOSE_DEVICE void prepare(const AffineCropArgs& args, const Table<kCrops>& table, int64_t number, BlockCrop<T>& crop) {
  const bool on_device = args.params_on_device;
  if (threadIdx.x == 0) {
    crop.number = number;
    crop.slot = number - table.first;
    if (on_device) {
      const int64_t index = args.image_index[number];
      const bool known = index >= 0 && index < args.num_images;
      crop.slot = (known ? index : 0) - table.first;  // an unknown image gives the border, in the first launch
      if (crop.slot >= table.count) crop.slot = -1;
      if (crop.slot >= 0)
        crop.plan = crop_plan(args, table.images[crop.slot], known, args.matrices + 6 * number, args.flip != nullptr && args.flip[number]);
    } else {
      crop.plan = table.crops[crop.slot].plan;
    }
    crop.colour.active = args.gain != nullptr || args.offset != nullptr;
  }
  if (threadIdx.x < 3) {
    const int c = static_cast<int>(threadIdx.x);
    const HostCrop* host = on_device ? nullptr : table.crops + (number - table.first);
    crop.colour.gain[c] = static_cast<T>(args.gain == nullptr ? 1.f : on_device ? args.gain[3 * number + c] : host->gain[c]);
    crop.colour.offset[c] = static_cast<T>(args.offset == nullptr ? 0.f : on_device ? args.offset[3 * number + c] : host->offset[c]);
    crop.colour.scale[c] = static_cast<T>(args.scale[c]);
    crop.colour.shift[c] = static_cast<T>(args.shift[c]);
  }
}

// Calls f(crop) with each crop of a launch that falls to this row of the grid, in all threads of the block.
template <class T, int kCrops, class F>
FASTPOSE_DEVICE void for_crops_of_block(const AffineCropArgs& args, const Table<kCrops>& table, F f) {
  __shared__ BlockCrop<T> crop;
  const int64_t first = args.params_on_device ? 0 : table.first, count = args.params_on_device ? args.num_crops : table.count;
  for (int64_t m = first + blockIdx.y; m < first + count; m = crop.number + gridDim.y) {  // m itself would take two registers throughout f
    __syncthreads();  // nobody still reads the crop before
    prepare(args, table, m, crop);
    __syncthreads();
    if (crop.slot >= 0) f(crop);
  }
}

template <class T>
FASTPOSE_DEVICE void by_output_channel(bool swap_rb, T (&value)[3]) {
  const T first = value[0];
  value[0] = swap_rb ? value[2] : first;
  value[2] = swap_rb ? first : value[2];
}

// --- samplers: next() is the value of this lane's next pixel, 32 on from the one before, by output channel ---------------------------
// A row of a crop in fixed point, all of it where FixedView::blend may look. x lies kHalfWeight further on.
struct InsideRow {
  const FixedView& view;
  Fixed x, y, step_x, step_y;

  FASTPOSE_DEVICE void next(float (&value)[3]) {
    view.blend(x, y, value);
    x += step_x;
    y += step_y;
  }
};

// Any row of such a crop, the same x.
struct EdgeRow {
  const FixedView& view;
  Fixed x, y, step_x, step_y;
  const AffineCropArgs& args;
  const CropPlan& plan;

  FASTPOSE_DEVICE void next(float (&value)[3]) {
    if (view.holds(x, y)) {
      view.blend(x, y, value);
    } else {
      float border[3];
      for (int c = 0; c < 3; ++c) border[c] = value[c] = static_cast<float>(args.border[c]);
      const Fixed exact = x - kHalfWeight;
      if (args.replicate || !view.is_outside(exact, y))
        crop_sample<float, uint8_t>(plan.image, from_fixed(exact), from_fixed(y), args.replicate, border, value);
      by_output_channel(args.swap_rb, value);
    }
    x += step_x;
    y += step_y;
  }
};

// A row of any crop. P: pixels of the image; T: arithmetic.
template <class T, class P>
struct ExactRow {
  unsigned x, y;
  const AffineCropArgs& args;
  const CropPlan& plan;

  FASTPOSE_DEVICE void next(T (&value)[3]) {
    T border[3];
    for (int c = 0; c < 3; ++c) border[c] = value[c] = static_cast<T>(args.border[c]);
    if (plan.good)
      crop_pixel<T, P>(plan.image, plan.map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
    by_output_channel(args.swap_rb, value);
    x += 32;
  }
};

// --- rows -----------------------------------------------------------------------------------------------------------------------
// Where a row's channels lie.
enum class Layout { Planes, Interleaved, AsArgs };

// A row of a crop by a warp. Planes are stored as they are made; interleaved channels gather in the warp's shared memory, a run at a time.
template <Layout kLayout, class T, class Pointer, class Sampler>
FASTPOSE_DEVICE void make_row(const AffineCropArgs& args, const CropColour<T>& colour, Pointer row, char* gathered, Sampler sampler) {
  const bool interleaved = kLayout == Layout::AsArgs ? args.nhwc : kLayout == Layout::Interleaved;
  const unsigned width = static_cast<unsigned>(args.width), step = interleaved ? 3 : 1;
  const unsigned apart = interleaved ? 1 : static_cast<unsigned>(args.height) * width;  // elements from a channel to the next: below 2^31
  unsigned left = 0;
  do {
    const unsigned count = interleaved ? min_of(kRun<T>, width - left) : width;
    char* const target = address(row + int64_t{left} * 3);
    char* const source = gathered + behind_16(target);
    if (interleaved) begin_run();
    const Pointer to = interleaved ? moved_to(row, source) : row;
    const Pointer channel[3] = {to, to + apart, to + 2 * int64_t{apart}};
    const auto put = [&](int64_t i, const T (&value)[3]) {
      for (int c = 0; c < 3; ++c) crop_store(channel[c] + i * step, crop_value(colour, c, value[c]));
    };
    unsigned i = threadIdx.x % 32;
    if constexpr (kLayout != Layout::AsArgs) {
      for (; i + 32 < count; i += 64) {  // two pixels at once: twice the loads under way, half the loop
        T value[3], other[3];
        sampler.next(value);
        sampler.next(other);
        put(i, value);
        put(int64_t{i} + 32, other);
      }
    }
    for (; i < count; i += 32) {
      T value[3];
      sampler.next(value);
      put(i, value);
    }
    if (interleaved) store_run(target, source, static_cast<unsigned>(address(row + 3 * count) - address(row)));
    left += count;
  } while (interleaved && left < width);
}

FASTPOSE_DEVICE unsigned rows_of_block(const AffineCropArgs& args) {
  return (static_cast<unsigned>(args.height) + gridDim.x - 1) / gridDim.x;
}
FASTPOSE_DEVICE unsigned first_row_of_warp(const AffineCropArgs& args) { return blockIdx.x * rows_of_block(args) + threadIdx.x / 32; }

// The rows of a crop that fall to this warp, from first_row_of_warp() on and kWarps further each time: calls f(y, pointer to the row's
// first pixel) for each.
template <class Pointer, class F>
FASTPOSE_DEVICE void for_rows_of_warp(const AffineCropArgs& args, int64_t crop, Pointer out, F f) {
  const unsigned end = min_of(static_cast<unsigned>(args.height), (blockIdx.x + 1) * rows_of_block(args));
  const int64_t row = args.width * (args.nhwc ? 3 : 1);
  unsigned y = first_row_of_warp(args);
  out += crop_out_index(args, crop, 0, y, 0);
  for (; y < end; y += kWarps) {
    f(y, out);
    out += kWarps * row;
  }
}

// A crop in fixed point.
template <class O>
FASTPOSE_DEVICE void make_fixed(const AffineCropArgs& args, const BlockCrop<float>& crop, char* gathered) {
  const unsigned width = static_cast<unsigned>(args.width), column = min_of(threadIdx.x % 32, width - 1);
  const CropPlan& plan = crop.plan;
  const FixedView view(plan.image, args.swap_rb);
  const FixedMap& map = plan.fixed;
  const unsigned steps = (width - column - 1) / 32;  // to this lane's last pixel
  const bool is_inside = plan.is_inside && !crop.colour.active;
  const unsigned top = first_row_of_warp(args);
  Fixed x = map.x(column, top) + kHalfWeight, y = map.y(column, top);
  for_rows_of_warp(args, crop.number, static_cast<O*>(args.out), [&](unsigned, O* row) {
    const auto is_row_inside = [&] { return view.holds(x, y) && view.holds(x + map.step_x * steps, y + map.step_y * steps); };
    if (is_inside || (!crop.colour.active && __all_sync(0xffffffffu, is_row_inside()))) {
      CropColour<float> plain = crop.colour;
      plain.active = false;
      const InsideRow sampler{view, x, y, map.step_x, map.step_y};
      if (args.nhwc) make_row<Layout::Interleaved>(args, plain, row, gathered, sampler);
      else make_row<Layout::Planes>(args, plain, row, gathered, sampler);
    } else {
      make_row<Layout::AsArgs>(args, crop.colour, row, gathered, EdgeRow{view, x, y, map.step_x, map.step_y, args, plan});
    }
    x += map.b * kWarps;
    y += map.e * kWarps;
  });
}

// Any crop.
template <class T, class P, class Pointer>
FASTPOSE_DEVICE void make_exact(const AffineCropArgs& args, const BlockCrop<T>& crop, Pointer out, char* gathered) {
  for_rows_of_warp(args, crop.number, out, [&](unsigned y, Pointer row) {
    make_row<Layout::AsArgs>(args, crop.colour, row, gathered, ExactRow<T, P>{threadIdx.x % 32, y, args, crop.plan});
  });
}

// --- kernels --------------------------------------------------------------------------------------------------------------------
// 16 bytes each in the shared memory of one warp: a run of O, which begins up to 15 bytes after a multiple of 16.
template <class T, class O>
constexpr unsigned kRunVectors = 3 * kRun<T> * sizeof(O) / 16 + 1;

// From uint8 images to any type but double.
template <class O, int kCrops>
__global__ void __launch_bounds__(kThreads, 4)
    crop_bytes_kernel(const __grid_constant__ AffineCropArgs args, const __grid_constant__ Table<kCrops> table) {
  __shared__ uint4 runs[kWarps * kRunVectors<float, O>];
  char* const gathered = reinterpret_cast<char*>(runs + threadIdx.x / 32 * kRunVectors<float, O>);
  for_crops_of_block<float>(args, table, [&](const BlockCrop<float>& crop) {
    if (crop.plan.is_fixed) make_fixed<O>(args, crop, gathered);
    else make_exact<float, uint8_t>(args, crop, static_cast<O*>(args.out), gathered);
  });
  bulk_wait();  // before the block gives its shared memory back
}

// From float images, or to double: images and output of types that only the arguments name. T: arithmetic; float if both are of float or
// less.
template <class T, int kCrops>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 3)
    crop_kernel(const __grid_constant__ AffineCropArgs args, const __grid_constant__ Table<kCrops> table, int32_t out_size) {
  __shared__ uint4 runs[kWarps * kRunVectors<T, T>];
  char* const gathered = reinterpret_cast<char*>(runs + threadIdx.x / 32 * kRunVectors<T, T>);
  const AnyPointer out{static_cast<char*>(args.out), args.out_dtype, out_size};
  for_crops_of_block<T>(args, table, [&](const BlockCrop<T>& crop) {
    if constexpr (std::is_same_v<T, double>) {
      if (args.image_dtype == DType::Float64) return make_exact<T, double>(args, crop, out, gathered);
      if (args.image_dtype == DType::UInt8) return make_exact<T, uint8_t>(args, crop, out, gathered);
    }
    make_exact<T, float>(args, crop, out, gathered);
  });
  bulk_wait();
}

template <class T, int kCrops>
__global__ void __launch_bounds__(kThreads, 3)
    crop_backward_kernel(const __grid_constant__ AffineCropArgs args, const __grid_constant__ Table<kCrops> table,
                         const __grid_constant__ Grads<kCrops> grads, const T* grad_out) {
  const unsigned width = static_cast<unsigned>(args.width), pixels = static_cast<unsigned>(args.height) * width;
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  for_crops_of_block<T>(args, table, [&](const BlockCrop<T>& crop) {
    if (!crop.plan.good) return;
    const CropMap& map = crop.plan.map;
    const CropImage grad = grads.images[crop.slot];
    T* data = const_cast<T*>(static_cast<const T*>(grad.data));
    const T share = T(1) / static_cast<T>(map.sub_x * map.sub_y);
    for (unsigned n = blockIdx.x * kThreads + threadIdx.x; n < pixels; n += gridDim.x * kThreads) {
      const unsigned x = n % width, y = n / width;
      T value[3] = {T(0), T(0), T(0)}, g[3];
      if (crop.colour.active)
        crop_pixel<T, T>(crop.plan.image, map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
      for (int c = 0; c < 3; ++c) {
        const int o = crop_source_channel(args.swap_rb, c);
        g[c] = grad_out[crop_out_index(args, crop.number, o, y, x)] * crop_slope(crop.colour, o, value[c]) * share;
      }
      for (int j = 0; j < map.sub_y; ++j) {
        for (int i = 0; i < map.sub_x; ++i) {
          const double xx = static_cast<double>(x) + sub_position(i, map.sub_x), yy = static_cast<double>(y) + sub_position(j, map.sub_y);
          const double sx = map.a * xx + (map.b * yy + map.c), sy = map.d * xx + (map.e * yy + map.f);
          const Taps<T> t = crop_taps<T>(sx, sy, static_cast<int32_t>(grad.height), static_cast<int32_t>(grad.width), args.replicate);
          if (t.outside) continue;
          for (int q = 0; q < 2; ++q) {
            for (int p = 0; p < 2; ++p) {
              if (t.x[p] < 0 || t.y[q] < 0) continue;
              const T weight = (p ? t.fx : T(1) - t.fx) * (q ? t.fy : T(1) - t.fy);
              for (int c = 0; c < 3; ++c) atomicAdd(data + crop_tap_index(t, p, q, grad.row_stride) + c, weight * g[c]);
            }
          }
        }
      }
    }
  });
}

// --- launches -------------------------------------------------------------------------------------------------------------------
// Calls run(table, grid) once per launch; a block of the grid makes `each` of a crop's `pieces` at once.
template <int kCrops, class F>
void for_launches(const AffineCropArgs& args, int64_t pieces, int each, F run) {
  const bool on_device = args.params_on_device;
  const int64_t all = on_device ? args.num_images : args.num_crops, most = on_device ? Table<kCrops>::kImages : kCrops;
  for (int64_t first = 0; first < all; first += most) {
    Table<kCrops> table;
    table.first = first;
    table.count = min_of(all - first, most);
    for (int64_t i = 0; i < table.count; ++i) {
      if (on_device) table.images[i] = args.images[first + i];
      else table.crops[i] = host_crop(args, first + i);
    }
    const int64_t crops = on_device ? args.num_crops : table.count, enough = (kEnoughBlocks + crops - 1) / crops;
    run(table, dim3(grid_blocks(pieces, each, enough), grid_blocks(crops, 1)));
  }
}

// False: nothing to do.
bool has_pixels(const AffineCropArgs& args) {
  if (args.num_crops == 0 || args.height * args.width == 0) return false;
  if (args.height > kMostPixels / args.width)
    throw std::invalid_argument("size: expected crops of less than 2^31 pixels on CUDA, got " + std::to_string(args.height) + " x " +
                                std::to_string(args.width));
  return true;
}

template <class O, int kCrops>
void launch_bytes(const AffineCropArgs& args, cudaStream_t stream) {
  for_launches<kCrops>(args, args.height, kWarps, [&](const Table<kCrops>& table, dim3 grid) {
    cuda_launch("affine_crop", crop_bytes_kernel<O, kCrops>, grid, kThreads, 0, stream, args, table);
  });
}

template <class O>
void launch_bytes(const AffineCropArgs& args, cudaStream_t stream) {
  const bool fits = args.params_on_device ? args.num_images <= Table<kFewCrops>::kImages : args.num_crops <= kFewCrops;
  if (fits || !has_large_arguments()) launch_bytes<O, kFewCrops>(args, stream);
  else launch_bytes<O, kManyCrops>(args, stream);
}

template <class T>
void launch_any(const AffineCropArgs& args, cudaStream_t stream) {
  for_launches<kFewCrops>(args, args.height, kWarps, [&](const Table<kFewCrops>& table, dim3 grid) {
    cuda_launch("affine_crop", crop_kernel<T, kFewCrops>, grid, kThreads, 0, stream, args, table, dtype_size(args.out_dtype));
  });
}

template <class T>
void launch_backward(const AffineCropBackwardArgs& all, cudaStream_t stream) {
  const AffineCropArgs& args = all.forward;
  if (!has_pixels(args)) return;
  for_launches<kBackwardCrops>(args, args.height * args.width, kThreads, [&](const Table<kBackwardCrops>& table, dim3 grid) {
    Grads<kBackwardCrops> grads;
    for (int64_t i = 0; i < table.count; ++i)
      grads.images[i] = all.grad_images[args.params_on_device ? table.first + i : args.image_index[table.first + i]];
    cuda_launch("affine_crop_backward", crop_backward_kernel<T, kBackwardCrops>, grid, kThreads, 0, stream, args, table, grads,
                static_cast<const T*>(all.grad_out));
  });
}

}  // namespace

void affine_crop_cuda(const AffineCropArgs& args, void* stream) {
  if (!has_pixels(args)) return;
  if (args.image_dtype == DType::Float64 || args.out_dtype == DType::Float64) return launch_any<double>(args, as_stream(stream));
  if (args.image_dtype == DType::Float32) return launch_any<float>(args, as_stream(stream));
  switch (args.out_dtype) {
    case DType::UInt8: return launch_bytes<uint8_t>(args, as_stream(stream));
    case DType::Float16: return launch_bytes<__half>(args, as_stream(stream));
    case DType::BFloat16: return launch_bytes<__nv_bfloat16>(args, as_stream(stream));
    default: return launch_bytes<float>(args, as_stream(stream));
  }
}

void affine_crop_backward_cuda(const AffineCropBackwardArgs& args, void* stream) {
  if (args.forward.image_dtype == DType::Float64) return launch_backward<double>(args, as_stream(stream));
  launch_backward<float>(args, as_stream(stream));
}

}  // namespace fastpose
