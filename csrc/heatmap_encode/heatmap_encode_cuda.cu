#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_encode/heatmap_target_cuda.h"

namespace fastpose {
namespace {

constexpr int kThreads = 256;

// 16 bytes in one store. For sm_75 to 90, nvcc (CUDA 13.0) takes an assignment apart into four here, and __stwb() asks for an order of memory.
FASTPOSE_DEVICE void store_whole(float* p, float4 v) {
#if defined(__CUDACC__)
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
#else
  *reinterpret_cast<float4*>(p) = v;
#endif
}

// Stores value(x, y) of each pixel, 16 bytes at once where the map is made of whole vectors.
template <class F>
FASTPOSE_DEVICE void write_map(float* map, int width, int height, F value) {
  const int pixels = width * height;
  by_vectors<float>(pixels % kVector<float> == 0 && begins_on_16(map), [&](auto count) {
    constexpr int kCount = decltype(count)::value;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) * kCount; i < pixels; i += kThreads * kCount) {
      float values[kCount];
      each_pixel<kCount>(i, width, [&](int j, int x, int y) { values[j] = value(x, y); });
      if constexpr (kCount == 4) store_whole(map + i, make_float4(values[0], values[1], values[2], values[3]));
      else map[i] = values[0];
    }
  });
}

// One block a keypoint (three maps for UdpCombined).
__global__ void __launch_bounds__(kThreads, 4) heatmap_encode_kernel(const __grid_constant__ HeatmapEncodeArgs args) {
  float* const along = dynamic_shared<float>();
  const HeatmapTarget& t = args.target;
  const int64_t pixels = int64_t{t.height} * t.width, maps = t.kind == CodecKind::UdpCombined ? 3 : 1;
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
    const auto write = [&](int64_t m, auto value) { write_map(map + m * pixels, t.width, t.height, value); };
    if (!target.place.reaches || !is_drawn(level)) {
      for (int64_t m = 0; m < maps; ++m) write(m, [](int, int) { return 0.f; });
      continue;
    }
    write(0, [&](int px, int py) { return target.at(px, py); });
    if (maps == 1) continue;
    write(1, [&](int px, int) { return target.along_x[px]; });
    write(2, [&](int, int py) { return target.along_y[py]; });
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
