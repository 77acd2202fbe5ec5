#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_encode/heatmap_target_cuda.h"
#include "heatmap_loss/heatmap_loss.h"
#include "heatmap_loss/heatmap_loss_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128, kSumThreads = 512;
constexpr int kScaleThreads = 256, kScaleBlocks = 2048;

// The sum over the block of so many threads, in thread 0. The order is always the same.
template <int kBlock>
FASTPOSE_DEVICE double block_sum(double mine) {
  __shared__ double shared[kBlock / 32];
  for (int step = 16; step > 0; step /= 2) mine += __shfl_down_sync(0xffffffffu, mine, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  double sum = 0.0;
  for (int w = 0; w < kBlock / 32; ++w) sum += shared[w];
  return sum;
}

// What predicted values are compared with, and what the differences are multiplied with: maps in memory, or the one that a keypoint draws.
template <class T>
struct GivenMap {
  const T* target;
  const T* scale;  // or null: 1
  FASTPOSE_DEVICE bool has_vectors() const { return begins_on_16(target) && begins_on_16(scale); }
  template <int kCount>
  FASTPOSE_DEVICE void get(int i, float (&targets)[kCount], float (&scales)[kCount]) const {
    load_values(target + i, targets);
    if (scale != nullptr) load_values(scale + i, scales);
  }
};

struct DrawnMap {
  const BlockTarget& target;
  FASTPOSE_DEVICE bool has_vectors() const { return true; }
  template <int kCount>
  FASTPOSE_DEVICE void get(int i, float (&targets)[kCount], float (&)[kCount]) const {
    each_pixel<kCount>(i, target.t.width, [&](int j, int x, int y) { targets[j] = target.at(x, y); });
  }
};

// Sum over this thread's pixels of ((p - target) * scale)^2, and the gradient if it is wanted. 16 bytes at once where maps are whole vectors.
template <class P, class Map>
FASTPOSE_DEVICE float squares(const P* predicted, P* gradient, float factor, int pixels, Map map) {
  float sum = 0.f;
  by_vectors<P>(pixels % kVector<P> == 0 && begins_on_16(predicted) && begins_on_16(gradient) && map.has_vectors(), [&](auto count) {
    constexpr int kCount = decltype(count)::value;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) * kCount; i < pixels; i += kThreads * kCount) {
      float p[kCount], t[kCount], s[kCount];
      load_values(predicted + i, p);
      for (float& one : s) one = 1.f;
      map.get(i, t, s);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const float d = (p[j] - t[j]) * s[j];
        sum = fmaf(d, d, sum);
        p[j] = d * s[j] * factor;
      }
      if (gradient != nullptr) store_values(gradient + i, p);
    }
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

// One block a keypoint. Without `chosen` it stores each keypoint's loss (and gradient); with it the gradient of those that count, and zeros.
// Compared with given targets of type T, or, for void, with what the keypoints draw: kernels of their own, for the sake of registers.
template <class P, class T>
__global__ void __launch_bounds__(kThreads, sizeof(P) == 4 ? 8 : 7) heatmap_loss_kernel(const __grid_constant__ HeatmapLossArgs args, const double* chosen, bool with_gradient) {
  constexpr bool kDrawn = std::is_void_v<T>;
  float* const along = dynamic_shared<float>();
  const HeatmapTarget& t = args.codec;
  const int width = t.width, pixels = t.height * width, maps = t.kind == CodecKind::UdpCombined ? 3 : 1;
  BlockTarget made(t, along);
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const P* predicted = static_cast<const P*>(args.predicted) + i * maps * pixels;
    P* gradient = with_gradient ? static_cast<P*>(args.gradient) + i * maps * pixels : nullptr;
    float weight = chosen != nullptr && chosen[i] == 0.0 ? 0.f : loss_weight(args, i);
    if constexpr (kDrawn) {
      made.prepare(args.keypoints[2 * i], args.keypoints[2 * i + 1]);
      if (!made.place.reaches && args.weights != nullptr) weight = 0.f;
    }
    double sum = 0.0;
    if (weight == 0.f) {
      if (gradient != nullptr) write_zeros(gradient, static_cast<int64_t>(maps) * pixels);
    } else {
      const float factor = gradient_factor(args, weight);
      for (int m = 0; m < maps; ++m) {
        const P* from = predicted + static_cast<int64_t>(m) * pixels;
        P* to = gradient == nullptr ? nullptr : gradient + static_cast<int64_t>(m) * pixels;
        if constexpr (!kDrawn) {
          const T* first = static_cast<const T*>(args.target) + i * maps * pixels;
          sum += squares(from, to, factor, pixels, GivenMap<T>{first + static_cast<int64_t>(m) * pixels, m == 0 ? nullptr : first});
        } else if (m == 0) {
          sum += squares(from, to, factor, pixels, DrawnMap{made});
        } else {
          if (to != nullptr) write_zeros(to, pixels);
          __syncthreads();
          // Only the disc counts; its box is small.
          const TargetPlace& place = made.place;
          const int columns = place.x1 - place.x0, box = columns * (place.y1 - place.y0);
          for (int b = static_cast<int>(threadIdx.x); b < box; b += kThreads) {
            const int x = place.x0 + b % columns, y = place.y0 + b / columns, p = y * width + x;
            if (made.at(x, y) == 0.f) continue;
            const float d = to_float(from[p]) - (m == 1 ? made.along_x[x] : made.along_y[y]);
            sum += static_cast<double>(d * d);
            if (to != nullptr) put(to + p, d * factor);
          }
        }
      }
    }
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

// One block, whose time is that of its loads one after another: hence many threads, and nothing between the loads where all keypoints count.
__global__ void __launch_bounds__(kSumThreads) sum_kernel(HeatmapLossArgs args) {
  const int64_t count = args.batch * args.keypoints_k;
  double sum = 0.0;
  if (args.topk == 0) {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += args.losses[i];
  } else {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < count; i += kSumThreads)
      if (args.losses[count + i] != 0.0) sum += args.losses[i];
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
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x, step = static_cast<int64_t>(gridDim.x) * kScaleThreads;
  const auto scaled = [&](int64_t i, auto count) {
    float values[decltype(count)::value];
    load_own_values(from + i, values);
#pragma unroll
    for (float& value : values) value *= slope;
    store_values(to + i, values);
  };
  const int64_t vectors = begins_on_16(from) && begins_on_16(to) ? args.count / kVector<P> : 0;
  for (int64_t i = first; i < vectors; i += step) scaled(i * kVector<P>, std::integral_constant<int, kVector<P>>());
  for (int64_t i = vectors * kVector<P> + first; i < args.count; i += step) scaled(i, std::integral_constant<int, 1>());
}

template <class P, class T>
void run(const HeatmapLossArgs& args, cudaStream_t stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count > 0) {
    const size_t shared = std::is_void_v<T> ? block_target_bytes(args.codec) : 0;
    const unsigned blocks = grid_blocks(count, 1, 1 << 20);
    const bool gradient = args.gradient != nullptr, at_once = args.topk == 0;
    cuda_launch("heatmap_loss", heatmap_loss_kernel<P, T>, blocks, kThreads, shared, stream, args, nullptr, gradient && at_once);
    if (!at_once) {
      cuda_launch("heatmap_loss: choose", choose_kernel, grid_blocks(count, kThreads), kThreads, 0, stream, args);
      if (gradient)
        cuda_launch("heatmap_loss: gradient", heatmap_loss_kernel<P, T>, blocks, kThreads, shared, stream, args, args.losses + count, true);
    }
  }
  cuda_launch("heatmap_loss: sum", sum_kernel, 1, kSumThreads, 0, stream, args);
}

template <class P>
void run_any_target(const HeatmapLossArgs& args, cudaStream_t stream) {
  if (args.target == nullptr) return run<P, void>(args, stream);
  if (args.target_dtype == DType::Float32) return run<P, float>(args, stream);
  run<P, P>(args, stream);
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
