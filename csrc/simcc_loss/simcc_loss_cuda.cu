#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "simcc_loss/simcc_loss.h"
#include "simcc_loss/simcc_loss_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128, kSumThreads = 256;

FASTPOSE_DEVICE float warp_max(float mine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) mine = max_of(mine, __shfl_xor_sync(0xffffffffu, mine, step));
  return mine;
}

FASTPOSE_DEVICE double warp_sum(double mine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, step);
  return mine;
}

// A label's value in a bin of its window, before it is normalised; and its logarithm.
FASTPOSE_DEVICE float target_at(const SimccLossArgs& args, const SimccPlace& place, float sigma, float peak, int i, float* log_t) {
  const SimccLabel& label = args.label;
  const float drawn = label.gaussian ? expf(simcc_exponent(static_cast<float>(i), place.bin, sigma)) * peak : peak;
  if (args.label_softmax) {
    *log_t = (drawn - peak) * args.label_beta;
    return expf(*log_t);
  }
  *log_t = logf(max_of(drawn, 1e-37f));
  return drawn;
}

// One vector, by a warp.
template <class T>
FASTPOSE_DEVICE double compare(const SimccLossArgs& args, const T* from, T* to, const SimccPlace& place, float sigma, int n, float weight) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float largest = -INFINITY;
  for (int i = lane; i < n; i += 32) largest = max_of(largest, to_float(read_only(from + i)) * args.beta);
  largest = warp_max(largest);
  const float peak = simcc_peak(args.label, sigma), rest = simcc_rest(args.label, n);
  SimccSums s{};
  for (int i = lane; i < n; i += 32) {
    const float value = to_float(read_only(from + i)) * args.beta - largest;
    s.exps += expf(value);
    s.values += value;
    if (i >= place.begin && i < place.end) {
      float log_t;
      const float t = target_at(args, place, sigma, peak, i, &log_t);
      s.window_exps += t;
      s.window_logs += t * log_t;
      s.window_dots += t * value;
      s.window_values += value;
    }
  }
  s = {warp_sum(s.exps), warp_sum(s.values), warp_sum(s.window_exps), warp_sum(s.window_logs), warp_sum(s.window_dots), warp_sum(s.window_values)};
  const float elsewhere = args.label_softmax ? expf(args.label_beta * (rest - peak)) : rest;
  const SimccTerms terms = simcc_terms(args, s, n, place.end - place.begin, elsewhere);
  if (to != nullptr) {
    const float factor = weight * args.beta / (static_cast<float>(n) * static_cast<float>(args.keypoints_k));
    const float of_exps = factor * terms.total / static_cast<float>(s.exps), of_targets = factor * terms.scale;
    for (int i = lane; i < n; i += 32) {
      float log_t, t = elsewhere;
      if (i >= place.begin && i < place.end) t = target_at(args, place, sigma, peak, i, &log_t);
      put(to + i, expf(to_float(read_only(from + i)) * args.beta - largest) * of_exps - of_targets * t);
    }
  }
  return terms.loss * static_cast<double>(weight);
}

template <class T>
FASTPOSE_DEVICE void clear(T* to, int n) {
  if (to == nullptr) return;
  for (int i = static_cast<int>(threadIdx.x % 32); i < n; i += 32) put(to + i, 0.f);
}

// A warp a keypoint.
template <class T>
__global__ void __launch_bounds__(kThreads) simcc_loss_kernel(const SimccLossArgs args) {
  const SimccLabel& label = args.label;
  const int64_t count = args.batch * args.keypoints_k, step = static_cast<int64_t>(gridDim.x) * (kThreads / 32);
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32; i < count; i += step) {
    const T *x = static_cast<const T*>(args.x) + i * label.width, *y = static_cast<const T*>(args.y) + i * label.height;
    T* const to_x = args.gradient_x == nullptr ? nullptr : static_cast<T*>(args.gradient_x) + i * label.width;
    T* const to_y = args.gradient_y == nullptr ? nullptr : static_cast<T*>(args.gradient_y) + i * label.height;
    const SimccPlaces places = simcc_places(label, args.keypoints[2 * i], args.keypoints[2 * i + 1]);
    const float weight = simcc_loss_weight(args, i, places);
    double loss = 0.0;
    if (weight > 0.f) {
      loss = compare(args, x, to_x, places.x, label.sigma_x, label.width, weight) +
             compare(args, y, to_y, places.y, label.sigma_y, label.height, weight);
    } else {
      clear(to_x, label.width);
      clear(to_y, label.height);
    }
    if (threadIdx.x % 32 == 0) args.losses[i] = loss;
  }
}

// One block; the order of additions is always the same.
__global__ void __launch_bounds__(kSumThreads) simcc_loss_sum_kernel(const SimccLossArgs args) {
  __shared__ double shared[kSumThreads / 32];
  const int64_t count = args.batch * args.keypoints_k;
  double mine = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) mine += args.losses[i];
  mine = warp_sum(mine);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double sum = 0.0;
  for (int w = 0; w < kSumThreads / 32; ++w) sum += shared[w];
  *args.loss = count == 0 ? 0.f : static_cast<float>(sum / static_cast<double>(args.keypoints_k));
}

template <class T>
void launch(const SimccLossArgs& args, cudaStream_t stream) {
  const unsigned blocks = grid_blocks(args.batch * args.keypoints_k, kThreads / 32);
  cuda_launch("simcc_loss", simcc_loss_kernel<T>, dim3(blocks), kThreads, 0, stream, args);
}

}  // namespace

void simcc_loss_cuda(const SimccLossArgs& args, void* stream) {
  if (args.batch * args.keypoints_k > 0) {
    switch (args.dtype) {
      case DType::Float16: launch<__half>(args, as_stream(stream)); break;
      case DType::BFloat16: launch<__nv_bfloat16>(args, as_stream(stream)); break;
      default: launch<float>(args, as_stream(stream));
    }
  }
  cuda_launch("simcc_loss", simcc_loss_sum_kernel, dim3(1), kSumThreads, 0, as_stream(stream), args);
}

}  // namespace fastpose
