#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_encode/simcc_encode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;

// One block a keypoint: both of its vectors, 16 bytes at once where they are made of such.
__global__ void __launch_bounds__(kThreads, 16) simcc_encode_kernel(const __grid_constant__ SimccEncodeArgs args) {
  const SimccTarget& t = args.target;
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
    const float level = visible_level(args.visible[i]);
    const SimccPlace place = simcc_place(t, x, y);
    if (threadIdx.x == 0) {
      const float weight = simcc_weight(level, place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
    }
    const bool drawn = place.reaches && is_drawn(level);
#pragma unroll
    for (int axis = 0; axis < 2; ++axis) {
      const int bins = t.bins[axis];
      float* vector = args.vectors[axis] + i * bins;
      by_vectors<float>(bins % kVector<float> == 0 && begins_on_16(vector), [&](auto count) {
        constexpr int kCount = decltype(count)::value;
#pragma unroll 1
        for (int bin = static_cast<int>(threadIdx.x) * kCount; bin < bins; bin += kThreads * kCount) {
          float labels[kCount];
#pragma unroll
          for (int j = 0; j < kCount; ++j) labels[j] = drawn ? simcc_label(t, axis, bin + j - place.bin[axis]) : 0.f;
          store_values(vector + bin, labels);
        }
      });
    }
  }
}

}  // namespace

void simcc_encode_cuda(const SimccEncodeArgs& args, void* stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count == 0) return;
  cuda_launch("simcc_encode", simcc_encode_kernel, grid_blocks(count, 1, 1 << 20), kThreads, 0, as_stream(stream), args);
}

}  // namespace fastpose
