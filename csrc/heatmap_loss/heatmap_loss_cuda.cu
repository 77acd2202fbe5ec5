#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/cuda_launch.h"
#include "heatmap_encode/heatmap_target_cuda.h"
#include "heatmap_loss/heatmap_loss.h"
#include "heatmap_loss/heatmap_loss_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;

FASTPOSE_DEVICE float to_float(float v) { return v; }
FASTPOSE_DEVICE float to_float(__half v) { return __half2float(v); }
FASTPOSE_DEVICE float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
FASTPOSE_DEVICE void put(float* p, float v) { *p = v; }
FASTPOSE_DEVICE void put(__half* p, float v) { *p = __float2half_rn(v); }
FASTPOSE_DEVICE void put(__nv_bfloat16* p, float v) { *p = __float2bfloat16_rn(v); }

// The sum over the block, in thread 0. The order is always the same.
FASTPOSE_DEVICE double block_sum(double mine) {
  __shared__ double shared[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) mine += __shfl_down_sync(0xffffffffu, mine, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  double sum = 0.0;
  for (int w = 0; w < kThreads / 32; ++w) sum += shared[w];
  return sum;
}

// Sum over this thread's pixels of (p - t)^2, and the gradient if it is wanted; target(i) gives t, and scale(i) what p - t is multiplied
// with (and the gradient once more). 16 bytes at once where the maps begin on 16 bytes.
template <class P, class F, class S>
FASTPOSE_DEVICE float squares(const P* predicted, P* gradient, float factor, int pixels, F target, S scale) {
  constexpr int kAtOnce = 16 / sizeof(P);
  float sum = 0.f;
  const auto one = [&](float p, int i) {
    const float s = scale(i), d = (p - target(i)) * s;
    sum = fmaf(d, d, sum);
    return d * s * factor;
  };
  const bool aligned = (reinterpret_cast<uintptr_t>(predicted) | reinterpret_cast<uintptr_t>(gradient)) % 16 == 0;
  if (pixels % kAtOnce == 0 && aligned) {
    for (int i = static_cast<int>(threadIdx.x) * kAtOnce; i < pixels; i += kThreads * kAtOnce) {
      const uint4 loaded = *reinterpret_cast<const uint4*>(predicted + i);
      P values[kAtOnce];
      memcpy(values, &loaded, 16);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) put(values + j, one(to_float(values[j]), i + j));
      if (gradient == nullptr) continue;
      uint4 stored;
      memcpy(&stored, values, 16);
      *reinterpret_cast<uint4*>(gradient + i) = stored;
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < pixels; i += kThreads) {
      const float slope = one(to_float(predicted[i]), i);
      if (gradient != nullptr) put(gradient + i, slope);
    }
  }
  return sum;
}

template <class P>
FASTPOSE_DEVICE void write_zeros(P* maps, int64_t n) {
  for (int64_t i = threadIdx.x; i < n; i += kThreads) put(maps + i, 0.f);
}

// One block a keypoint. Without `chosen` it stores each keypoint's loss (and gradient); with it the gradient of those that count, and zeros.
template <class P, class T>
__global__ void heatmap_loss_kernel(const __grid_constant__ HeatmapLossArgs args, const double* chosen, bool with_gradient) {
  float* const along = dynamic_shared<float>();
  const HeatmapTarget& t = args.codec;
  const int width = t.width, pixels = t.height * width, maps = t.kind == CodecKind::UdpCombined ? 3 : 1;
  BlockTarget made(t, along);
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const P* predicted = static_cast<const P*>(args.predicted) + i * maps * pixels;
    P* gradient = with_gradient ? static_cast<P*>(args.gradient) + i * maps * pixels : nullptr;
    float weight = chosen != nullptr && chosen[i] == 0.0 ? 0.f : loss_weight(args, i);
    if (args.target == nullptr) {
      made.prepare(args.keypoints[2 * i], args.keypoints[2 * i + 1]);
      if (!made.place.reaches && args.weights != nullptr) weight = 0.f;
    }
    double sum = 0.0;
    if (weight == 0.f) {
      if (gradient != nullptr) write_zeros(gradient, static_cast<int64_t>(maps) * pixels);
    } else {
      const float factor = gradient_factor(args, weight);
      const auto unscaled = [](int) { return 1.f; };
      for (int m = 0; m < maps; ++m) {
        const P* from = predicted + static_cast<int64_t>(m) * pixels;
        P* to = gradient == nullptr ? nullptr : gradient + static_cast<int64_t>(m) * pixels;
        if (args.target != nullptr) {
          const T* given = static_cast<const T*>(args.target) + i * maps * pixels;
          const T* here = given + static_cast<int64_t>(m) * pixels;
          const auto target = [&](int p) { return to_float(here[p]); };
          sum += m == 0 ? squares(from, to, factor, pixels, target, unscaled)
                        : squares(from, to, factor, pixels, target, [&](int p) { return to_float(given[p]); });
        } else if (!made.place.reaches) {
          if (m == 0) sum += squares(from, to, factor, pixels, [](int) { return 0.f; }, unscaled);
          else if (to != nullptr) write_zeros(to, pixels);
        } else if (m == 0) {
          sum += squares(from, to, factor, pixels, [&](int p) { return made.at(p); }, unscaled);
        } else {
          const auto target = [&](int p) { return static_cast<float>(m == 1 ? made.offset_x(p % width) : made.offset_y(p / width)); };
          if (to != nullptr) write_zeros(to, pixels);
          __syncthreads();
          // Only the disc counts; its box is small.
          const TargetPlace& place = made.place;
          const int columns = place.x1 - place.x0, box = columns * (place.y1 - place.y0);
          for (int b = static_cast<int>(threadIdx.x); b < box; b += kThreads) {
            const int p = (place.y0 + b / columns) * width + place.x0 + b % columns;
            if (made.at(p) == 0.f) continue;
            const float d = to_float(from[p]) - target(p);
            sum += static_cast<double>(d * d);
            if (to != nullptr) put(to + p, d * factor);
          }
        }
      }
    }
    if (chosen != nullptr) continue;
    sum = block_sum(sum);
    if (threadIdx.x == 0) args.losses[i] = weight == 0.f ? 0.0 : square_factor(args, weight) * sum;
  }
}

__global__ void choose_kernel(HeatmapLossArgs args) {
  const int64_t count = args.batch * args.keypoints_k, step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    args.losses[count + i] =
        is_hard(args.losses + i / args.keypoints_k * args.keypoints_k, args.keypoints_k, i % args.keypoints_k, args.topk) ? 1.0 : 0.0;
}

__global__ void sum_kernel(HeatmapLossArgs args) {  // one block
  const int64_t count = args.batch * args.keypoints_k;
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads)
    if (args.topk == 0 || args.losses[count + i] != 0.0) sum += args.losses[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *args.loss = count == 0 ? 0.f : static_cast<float>(sum * mean_factor(args));
}

template <class P, class T>
void run(const HeatmapLossArgs& args, cudaStream_t stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count > 0) {
    const size_t shared = block_target_bytes(args.codec);
    const unsigned blocks = grid_blocks(count, 1, 1 << 20);
    const bool gradient = args.gradient != nullptr, at_once = args.topk == 0;
    cuda_launch("heatmap_loss", heatmap_loss_kernel<P, T>, blocks, kThreads, shared, stream, args, nullptr, gradient && at_once);
    if (!at_once) {
      cuda_launch("heatmap_loss: choose", choose_kernel, grid_blocks(count, kThreads), kThreads, 0, stream, args);
      if (gradient)
        cuda_launch("heatmap_loss: gradient", heatmap_loss_kernel<P, T>, blocks, kThreads, shared, stream, args, args.losses + count, true);
    }
  }
  cuda_launch("heatmap_loss: sum", sum_kernel, 1, kThreads, 0, stream, args);
}

template <class P>
void run_any_target(const HeatmapLossArgs& args, cudaStream_t stream) {
  if (args.target == nullptr || args.target_dtype == DType::Float32) return run<P, float>(args, stream);
  run<P, P>(args, stream);
}

}  // namespace

void heatmap_loss_cuda(const HeatmapLossArgs& args, void* stream) {
  switch (args.dtype) {
    case DType::Float16: return run_any_target<__half>(args, as_stream(stream));
    case DType::BFloat16: return run_any_target<__nv_bfloat16>(args, as_stream(stream));
    default: run<float, float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
