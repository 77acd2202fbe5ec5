#include "core/cuda_launch.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_encode/heatmap_target_cuda.h"

namespace fastpose {
namespace {

constexpr int kThreads = 256;

// Stores `pixels` floats, four at once where the map begins on 16 bytes.
template <class F>
FASTPOSE_DEVICE void write_map(float* map, int pixels, F value) {
  if (pixels % 4 == 0 && reinterpret_cast<uintptr_t>(map) % 16 == 0) {
    for (int i = static_cast<int>(threadIdx.x) * 4; i < pixels; i += kThreads * 4)
      *reinterpret_cast<float4*>(map + i) = make_float4(value(i), value(i + 1), value(i + 2), value(i + 3));
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < pixels; i += kThreads) map[i] = value(i);
  }
}

// One block a keypoint (three maps for UdpCombined).
__global__ void heatmap_encode_kernel(const __grid_constant__ HeatmapEncodeArgs args) {
  float* const along = dynamic_shared<float>();
  const HeatmapTarget& t = args.target;
  const int width = t.width, pixels = t.height * width;
  const int64_t maps = t.kind == CodecKind::UdpCombined ? 3 : 1;
  BlockTarget target(t, along);
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
    const float level = visible_level(args.visible[i]);
    target.prepare(x, y);
    if (threadIdx.x == 0) {
      const float weight = target_weight(level, target.place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
    }
    float* map = args.heatmaps + i * maps * pixels;
    if (!target.place.reaches || !is_drawn(level)) {
      for (int64_t m = 0; m < maps; ++m) write_map(map + m * pixels, pixels, [](int) { return 0.f; });
      continue;
    }
    write_map(map, pixels, [&](int p) { return target.at(p); });
    if (maps == 1) continue;
    write_map(map + pixels, pixels, [&](int p) { return static_cast<float>(target.offset_x(p % width)); });
    write_map(map + 2 * static_cast<int64_t>(pixels), pixels, [&](int p) { return static_cast<float>(target.offset_y(p / width)); });
  }
}

}  // namespace

void heatmap_encode_cuda(const HeatmapEncodeArgs& args, void* stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count == 0) return;
  cuda_launch("heatmap_encode", heatmap_encode_kernel, grid_blocks(count, 1, 1 << 20), kThreads, block_target_bytes(args.target),
              as_stream(stream), args);
}

}  // namespace fastpose
