#include "core/cuda_launch.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_encode/simcc_encode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;

FASTPOSE_DEVICE void write(const SimccLabel& label, const SimccPlace& place, bool drawn, float sigma, int32_t size, float* to) {
  const float rest = drawn ? simcc_rest(label, size) : 0.f, peak = simcc_peak(label, sigma);
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) {
    float value = rest;
    if (drawn && i >= place.begin && i < place.end)
      value = label.gaussian ? expf(simcc_exponent(static_cast<float>(i), place.bin, sigma)) * peak : peak;
    to[i] = value;
  }
}

// A block a keypoint.
__global__ void __launch_bounds__(kThreads) simcc_encode_kernel(const SimccEncodeArgs args) {
  const SimccLabel& label = args.label;
  const int64_t count = args.batch * args.keypoints_k;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1], level = args.visible[i];
    const SimccPlaces places = simcc_places(label, x, y);
    const bool drawn = places.reaches && simcc_drawn(level);
    write(label, places.x, drawn, label.sigma_x, label.width, args.x + i * label.width);
    write(label, places.y, drawn, label.sigma_y, label.height, args.y + i * label.height);
    if (threadIdx.x == 0) {
      const float weight = simcc_weight(level, places, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
    }
  }
}

}  // namespace

void simcc_encode_cuda(const SimccEncodeArgs& args, void* stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count == 0) return;
  cuda_launch("simcc_encode", simcc_encode_kernel, dim3(grid_blocks(count, 1)), kThreads, 0, as_stream(stream), args);
}

}  // namespace fastpose
