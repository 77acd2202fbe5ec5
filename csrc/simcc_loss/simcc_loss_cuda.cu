#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "simcc_loss/simcc_loss.h"
#include "simcc_loss/simcc_loss_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32, kSumThreads = 1024;

FASTPOSE_DEVICE float warp_most(float mine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) mine = fmaxf(mine, __shfl_xor_sync(0xffffffffu, mine, step));
  return mine;
}

FASTPOSE_DEVICE float warp_total(float mine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, step);
  return mine;
}

// Calls f(j, i) for every bin i of this lane. With kKept, the j-th is a register's index known at compile time; else j is 0.
template <int kKept, class F>
FASTPOSE_DEVICE void each_bin(int lane, int bins, F f) {
  if constexpr (kKept > 0) {
#pragma unroll
    for (int j = 0; j < kKept; ++j)
      if (lane + 32 * j < bins) f(j, lane + 32 * j);
  } else {
#pragma unroll 4
    for (int i = lane; i < bins; i += 32) f(0, i);
  }
}

// One warp a vector: first those along x, then those along y. Of a vector of up to 32 kKept bins each lane keeps its values: neighbours in memory belong to
// neighbouring lanes, so that nothing has to be aligned, and kKept loads are on their way at once. Longer ones (kKept 0) are read three times,
// from the first-level cache but once, and their exponentials are taken twice.
template <class P, int kKept>
__global__ void __launch_bounds__(kThreads, kKept == 32 ? 4 : 7) simcc_loss_kernel(const __grid_constant__ SimccLossArgs args) {
  const SimccTarget& t = args.target;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t count = args.batch * args.keypoints_k, step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t vector = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; vector < 2 * count; vector += step) {
    const int axis = vector < count ? 0 : 1, bins = axis == 0 ? t.bins[0] : t.bins[1];
    const int64_t i = vector - axis * count;
    const P* from = static_cast<const P*>(axis == 0 ? args.predicted[0] : args.predicted[1]) + i * bins;
    P* to = static_cast<P*>(axis == 0 ? args.gradients[0] : args.gradients[1]);
    if (to != nullptr) to += i * bins;
    const SimccPlace place = simcc_place(t, args.keypoints[2 * i], args.keypoints[2 * i + 1]);
    const float weight = place.reaches ? simcc_loss_weight(args, i) : 0.f;
    if (!(weight > 0.f)) {
      if (to != nullptr) each_bin<0>(lane, bins, [&](int, int bin) { put(to + bin, 0.f); });
      if (lane == 0) args.losses[vector] = 0.0;
      continue;
    }
    const int middle = axis == 0 ? place.bin[0] : place.bin[1];
    float values[kKept > 0 ? kKept : 1], labels[kKept > 0 ? kKept : 1];
    const auto exponent_of = [&](int bin) {  // of the label, before the exponential
      return simcc_exponent(args, axis, simcc_label(t, axis, bin - middle));
    };
    float top = -INFINITY;
    each_bin<kKept>(lane, bins, [&](int j, int bin) {
      const float value = to_float(read_only(from + bin));
      if constexpr (kKept > 0) values[j] = value;
      top = fmaxf(top, value);
    });
    top = warp_most(top);
    const auto value_at = [&](int j, int bin) {
      if constexpr (kKept > 0) return values[j];
      else return to_float(read_only(from + bin));
    };
    float label_sum = 0.f, entropy_sum = 0.f, product_sum = 0.f, exponent_sum = 0.f;
    each_bin<kKept>(lane, bins, [&](int j, int bin) {
      const float v = value_at(j, bin) - top, e = expf(v * args.beta);
      float label, logarithm;
      if (args.softmax) {
        logarithm = exponent_of(bin);
        label = expf(logarithm);
      } else {
        label = simcc_label(t, axis, bin - middle);
        logarithm = label > 0.f ? logf(label) : 0.f;
      }
      label_sum += label;
      entropy_sum = fmaf(label, logarithm, entropy_sum);
      product_sum = fmaf(label, v, product_sum);
      exponent_sum += e;
      if constexpr (kKept > 0) values[j] = e, labels[j] = label;
    });
    const SimccSums sums = {static_cast<double>(warp_total(label_sum)), static_cast<double>(warp_total(entropy_sum)),
                            static_cast<double>(warp_total(product_sum)), static_cast<double>(warp_total(exponent_sum))};
    const float factor = simcc_factor(args, axis, weight);
    if (lane == 0) args.losses[vector] = static_cast<double>(factor) * simcc_divergence(args, sums);
    if (to == nullptr) continue;
    const SimccSlopes slopes = simcc_slopes(args, sums, factor);
    each_bin<kKept>(lane, bins, [&](int j, int bin) {
      float e, label;
      if constexpr (kKept > 0) {
        e = values[j], label = labels[j];
      } else {
        e = expf((value_at(0, bin) - top) * args.beta);
        label = args.softmax ? expf(exponent_of(bin)) : simcc_label(t, axis, bin - middle);
      }
      put(to + bin, e * slopes.predicted - label * slopes.label);
    });
  }
}

// One block, always in the same order: see heatmap_loss.
__global__ void __launch_bounds__(kSumThreads) simcc_sum_kernel(SimccLossArgs args) {
  __shared__ double parts[kSumThreads / 32];
  double sum = 0.0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < 2 * args.batch * args.keypoints_k; i += kSumThreads) sum += args.losses[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = parts[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x == 0) *args.loss = static_cast<float>(sum);
}

template <class P, int kKept>
void launch(const SimccLossArgs& args, cudaStream_t stream) {
  const unsigned blocks = grid_blocks(2 * args.batch * args.keypoints_k, kWarps, 1 << 20);
  cuda_launch("simcc_loss", simcc_loss_kernel<P, kKept>, blocks, kThreads, 0, stream, args);
}

template <class P>
void run(const SimccLossArgs& args, cudaStream_t stream) {
  const int most = max_of(args.target.bins[0], args.target.bins[1]);
  if (args.batch * args.keypoints_k > 0) {
    if (most <= 32 * 16) launch<P, 16>(args, stream);
    else if (most <= 32 * 32) launch<P, 32>(args, stream);
    else launch<P, 0>(args, stream);
  }
  cuda_launch("simcc_loss: sum", simcc_sum_kernel, 1, kSumThreads, 0, stream, args);
}

}  // namespace

void simcc_loss_cuda(const SimccLossArgs& args, void* stream) {
  switch (args.dtype) {
    case DType::Float16: return run<__half>(args, as_stream(stream));
    case DType::BFloat16: return run<__nv_bfloat16>(args, as_stream(stream));
    default: run<float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
