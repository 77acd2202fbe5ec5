#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_encode/heatmap_target_cuda.h"
#include "heatmap_loss/heatmap_loss.h"
#include "heatmap_loss/heatmap_loss_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128, kSumThreads = 1024;
constexpr int kScaleThreads = 256, kScaleBlocks = 2048;

FASTPOSE_DEVICE double warp_sum(double mine) {
  for (int step = 16; step > 0; step /= 2) mine += __shfl_down_sync(0xffffffffu, mine, step);
  return mine;
}

// The sum over the block of so many threads, in thread 0. The order is always the same.
template <int kBlock>
FASTPOSE_DEVICE double block_sum(double mine) {
  __shared__ double shared[kBlock / 32];
  mine = warp_sum(mine);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  return threadIdx.x < 32 ? warp_sum(threadIdx.x < kBlock / 32 ? shared[threadIdx.x] : 0.0) : 0.0;
}

// What predicted values are compared with: maps in memory, or what a keypoint draws. kScaled: and what the differences are multiplied with.
template <class T, bool kScaling>
struct GivenMap {
  static constexpr bool kScaled = kScaling;
  const T* target;
  const T* scales;
  template <int kCount>
  struct Loaded { Vector<T, kCount> target, scale; };

  FASTPOSE_DEVICE bool has_vectors(int) const { return begins_on_16(target) && begins_on_16(scales); }
  template <int kCount>
  FASTPOSE_DEVICE Loaded<kCount> load(int i) const {
    Loaded<kCount> loaded;
    loaded.target = load_vector<kCount>(target + i);
    if constexpr (kScaled) loaded.scale = load_vector<kCount>(scales + i);
    return loaded;
  }
  template <int kCount>
  FASTPOSE_DEVICE Values<kCount> targets(const Loaded<kCount>& loaded, int, int) const {
    Values<kCount> values;
    loaded.target.get(values.v);
    return values;
  }
};

template <Drawing kDrawing>
struct DrawnMap {
  static constexpr bool kScaled = false;
  const BlockTarget<kDrawing>& target;
  template <int kCount>
  struct Loaded {};

  FASTPOSE_DEVICE bool has_vectors(int in_16_bytes) const { return target.t.width % in_16_bytes == 0; }
  template <int kCount>
  FASTPOSE_DEVICE Loaded<kCount> load(int) const { return {}; }
  template <int kCount>
  FASTPOSE_DEVICE Values<kCount> targets(const Loaded<kCount>&, int x, int y) const { return target.template values<kCount>(x, y); }
};

// Sum over this thread's pixels of ((p - target) * scale)^2, and the gradient if it is wanted. 16 bytes at once where maps are whole
// vectors.
template <class P, class Map>
FASTPOSE_DEVICE float squares(const P* predicted, P* gradient, float factor, int width, int pixels, Map map) {
  float sum = 0.f;
  const bool whole = pixels % kVector<P> == 0 && begins_on_16(predicted) && begins_on_16(gradient) && map.has_vectors(kVector<P>);
  by_vectors<P>(whole, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    struct Pair {
      Vector<P, kCount> predicted;
      typename Map::template Loaded<kCount> given;
    };
    const auto load = [&](int i, int) { return Pair{load_vector<kCount>(predicted + i), map.template load<kCount>(i)}; };
    each_vector<kCount, kThreads>(threadIdx.x, width, pixels, load, [&](const Pair& pair, int i, int x, int y) {
      const Values<kCount> targets = map.template targets<kCount>(pair.given, x, y);
      Values<kCount> values, scales;
      pair.predicted.get(values.v);
      if constexpr (Map::kScaled) pair.given.scale.get(scales.v);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        float d = values.v[j] - targets.v[j];
        if constexpr (Map::kScaled) d *= scales.v[j];
        sum = fmaf(d, d, sum);
        if constexpr (Map::kScaled) d *= scales.v[j];
        values.v[j] = d * factor;
      }
      if (gradient != nullptr) store_values(gradient + i, values.v);
    });
  });
  return sum;
}

template <class P>
FASTPOSE_DEVICE void write_zeros(P* maps, int64_t n) {
  by_vectors<P>(n % kVector<P> == 0 && begins_on_16(maps), [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    const float zeros[kCount] = {};
#pragma unroll 1
    for (int64_t i = static_cast<int64_t>(threadIdx.x) * kCount; i < n; i += kThreads * kCount) store_values(maps + i, zeros);
  });
}

// The loss of one keypoint's maps, as much of it as this thread has. Compared with given targets of type T.
template <class P, class T>
struct GivenTargets {
  const HeatmapLossArgs& args;
  bool combined;

  FASTPOSE_DEVICE explicit GivenTargets(const HeatmapLossArgs& a) : args(a), combined(is_combined(a)) {}
  FASTPOSE_DEVICE int maps() const { return combined ? 3 : 1; }
  FASTPOSE_DEVICE bool prepare(int64_t) { return true; }
  FASTPOSE_DEVICE double compare(int64_t first, const P* from, P* to, float factor, int width, int pixels) const {
    const T* target = static_cast<const T*>(args.target) + first;
    double sum = squares(from, to, factor, width, pixels, GivenMap<T, false>{target, nullptr});
    if (!combined) return sum;
#pragma unroll 1
    for (int m = 1; m < 3; ++m) {
      const int64_t begin = static_cast<int64_t>(m) * pixels;
      sum += squares(from + begin, to == nullptr ? nullptr : to + begin, factor, width, pixels, GivenMap<T, true>{target + begin, target});
    }
    return sum;
  }
};

// Compared with what the keypoint draws.
template <class P, Drawing kDrawing>
struct DrawnTargets {
  const HeatmapLossArgs& args;
  BlockTarget<kDrawing> made;

  FASTPOSE_DEVICE explicit DrawnTargets(const HeatmapLossArgs& a) : args(a), made(a.codec, dynamic_shared<float>()) {}
  FASTPOSE_DEVICE int maps() const { return kDrawing == Drawing::Disc ? 3 : 1; }
  FASTPOSE_DEVICE bool prepare(int64_t i) {  // false: it draws nothing
    made.prepare(target_place(args.codec, args.keypoints[2 * i], args.keypoints[2 * i + 1]));
    return made.place.reaches;
  }
  FASTPOSE_DEVICE double compare(int64_t, const P* from, P* to, float factor, int width, int pixels) const {
    double sum = squares(from, to, factor, width, pixels, DrawnMap<kDrawing>{made});
    if constexpr (kDrawing == Drawing::Disc) {
      if (to != nullptr) write_zeros(to + pixels, 2 * static_cast<int64_t>(pixels));
      __syncthreads();
      // Of the offsets only the disc counts; its box is small.
      const TargetPlace& place = made.place;
      const int columns = place.x1 - place.x0, box = columns * (place.y1 - place.y0);
      for (int b = static_cast<int>(threadIdx.x); b < box; b += kThreads) {
        const int x = place.x0 + b % columns, y = place.y0 + b / columns;
        if (!made.is_inside(x, y)) continue;
        const float offsets[2] = {made.along_x[x], made.along_y[y]};
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const int64_t p = (m + 1) * static_cast<int64_t>(pixels) + y * width + x;
          const float d = to_float(from[p]) - offsets[m];
          sum += static_cast<double>(d * d);
          if (to != nullptr) put(to + p, d * factor);
        }
      }
    }
    return sum;
  }
};

// One block a keypoint. Without `chosen` it stores each keypoint's loss (and gradient); with it the gradient of those that count, and
// zeros.
template <class P, class Targets>
__global__ void __launch_bounds__(kThreads, sizeof(P) == 4 ? 8 : 7)
heatmap_loss_kernel(const __grid_constant__ HeatmapLossArgs args, const double* chosen, bool with_gradient) {
  const int width = args.codec.width, pixels = args.codec.height * width;
  Targets targets(args);
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const int64_t first = i * targets.maps() * pixels;
    const P* predicted = static_cast<const P*>(args.predicted) + first;
    P* gradient = with_gradient ? static_cast<P*>(args.gradient) + first : nullptr;
    float weight = chosen != nullptr && chosen[i] == 0.0 ? 0.f : loss_weight(args, i);
    if (!targets.prepare(i) && args.weights != nullptr) weight = 0.f;
    double sum = 0.0;
    if (weight != 0.f) sum = targets.compare(first, predicted, gradient, gradient_factor(args, weight), width, pixels);
    else if (gradient != nullptr) write_zeros(gradient, static_cast<int64_t>(targets.maps()) * pixels);
    if (chosen != nullptr) continue;
    sum = block_sum<kThreads>(sum);
    if (threadIdx.x == 0) args.losses[i] = weight == 0.f ? 0.0 : square_factor(args, weight) * sum;
  }
}

__global__ void choose_kernel(HeatmapLossArgs args) {
  const int64_t count = args.batch * args.keypoints_k, step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    args.losses[count + i] =
        is_hard(args.losses + i / args.keypoints_k * args.keypoints_k, args.keypoints_k, i % args.keypoints_k, args.topk) ? 1.0 : 0.0;
}

// One block, whose time is that of its loads one after another: hence as many threads as a block may have, and eight loads in flight in
// each, which are all there is for 8192 keypoints. A kernel of its own: the last block of heatmap_loss_kernel could do it only if it knew
// that it is the last, from a counter that somebody has set to 0 before. That would be a node of its own in place of this one (a counter
// that outlives the call would be shared by graphs and streams); every block would wait for its store and its count to arrive, a
// microsecond of the four it lives; and then a block of 128 threads would have eight times as many loads to do one after another.
__global__ void __launch_bounds__(kSumThreads) sum_kernel(HeatmapLossArgs args) {
  const int64_t count = args.batch * args.keypoints_k;
  double sum = 0.0;
  if (args.topk == 0) {
#pragma unroll 8
    for (int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += args.losses[i];
  } else {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < count; i += kSumThreads) {
      const double loss = args.losses[i], counts = args.losses[count + i];
      sum += counts != 0.0 ? loss : 0.0;
    }
  }
  sum = block_sum<kSumThreads>(sum);
  if (threadIdx.x == 0) *args.loss = count == 0 ? 0.f : static_cast<float>(sum * mean_factor(args));
}

// Mostly the slope is 1 and the blocks end at once.
template <class P>
__global__ void __launch_bounds__(kScaleThreads) scale_kernel(ScaleGradientArgs args) {
  const P* from = static_cast<const P*>(args.gradient);
  P* to = static_cast<P*>(args.out);
  const float slope = *args.slope;
  if (slope == 1.f && from == to) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kScaleThreads;
  const auto scaled = [&](int64_t i, auto count) {
    float values[decltype(count)::value];
    load_own_vector<decltype(count)::value>(from + i).get(values);
#pragma unroll
    for (float& value : values) value *= slope;
    store_values(to + i, values);
  };
  const int64_t vectors = begins_on_16(from) && begins_on_16(to) ? args.count / kVector<P> : 0;
  for (int64_t i = first; i < vectors; i += step) scaled(i * kVector<P>, std::integral_constant<int, kVector<P>>());
  for (int64_t i = vectors * kVector<P> + first; i < args.count; i += step) scaled(i, std::integral_constant<int, 1>());
}

template <class P, class Targets>
void run(const HeatmapLossArgs& args, size_t shared, cudaStream_t stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count > 0) {
    const unsigned blocks = grid_blocks(count, 1, 1 << 20);
    const bool gradient = args.gradient != nullptr, at_once = args.topk == 0;
    const auto kernel = heatmap_loss_kernel<P, Targets>;
    cuda_launch("heatmap_loss", kernel, blocks, kThreads, shared, stream, args, nullptr, gradient && at_once);
    if (!at_once) {
      cuda_launch("heatmap_loss: choose", choose_kernel, grid_blocks(count, kThreads), kThreads, 0, stream, args);
      if (gradient)
        cuda_launch("heatmap_loss: gradient", kernel, blocks, kThreads, shared, stream, args, args.losses + count, true);
    }
  }
  cuda_launch("heatmap_loss: sum", sum_kernel, 1, kSumThreads, 0, stream, args);
}

template <class P>
void run_any_target(const HeatmapLossArgs& args, cudaStream_t stream) {
  if (args.target == nullptr)
    by_drawing(args.codec, [&](auto drawing) {
      run<P, DrawnTargets<P, decltype(drawing)::value>>(args, block_target_bytes(args.codec), stream);
    });
  else if (args.target_dtype == DType::Float32) run<P, GivenTargets<P, float>>(args, 0, stream);
  else run<P, GivenTargets<P, P>>(args, 0, stream);
}

template <class P>
void scale(const ScaleGradientArgs& args, cudaStream_t stream) {
  const unsigned blocks = grid_blocks(args.count, kScaleThreads * kVector<P>, kScaleBlocks);
  cuda_launch("heatmap_loss: scale", scale_kernel<P>, blocks, kScaleThreads, 0, stream, args);
}

}  // namespace

void heatmap_loss_cuda(const HeatmapLossArgs& args, void* stream) {
  switch (args.dtype) {
    case DType::Float16: return run_any_target<__half>(args, as_stream(stream));
    case DType::BFloat16: return run_any_target<__nv_bfloat16>(args, as_stream(stream));
    default: run_any_target<float>(args, as_stream(stream));
  }
}

void scale_gradient_cuda(const ScaleGradientArgs& args, void* stream) {
  switch (args.dtype) {
    case DType::Float16: return scale<__half>(args, as_stream(stream));
    case DType::BFloat16: return scale<__nv_bfloat16>(args, as_stream(stream));
    default: scale<float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
