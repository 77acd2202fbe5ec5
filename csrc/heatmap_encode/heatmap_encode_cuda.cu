#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_encode/heatmap_target_cuda.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;

// 16 bytes in one store. For sm_75 to 90, nvcc (CUDA 13.0) takes an assignment apart into four here, and __stwb() asks for an order of
// memory.
FASTPOSE_DEVICE void store_whole(float* p, float4 v) {
#if defined(__CUDACC__)
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
#else
  *reinterpret_cast<float4*>(p) = v;
#endif
}

// Stores a map, 16 bytes at once where its rows are made of whole vectors: values(count, x, y) for `count` neighbours of a row.
template <class F>
FASTPOSE_DEVICE void write_map(float* map, int width, int pixels, F values) {
  by_vectors<float>(width % kVector<float> == 0 && begins_on_16(map), [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    each_vector<kCount, kThreads>(threadIdx.x, width, pixels, [](int, int) { return 0; }, [&](int, int i, int x, int y) {
      const Values<kCount> made = values(count, x, y);
      if constexpr (kCount == 4) store_whole(map + i, make_float4(made.v[0], made.v[1], made.v[2], made.v[3]));
      else map[i] = made.v[0];
    });
  });
}

// One block a keypoint: its map, or its three. One that is not drawn has factors of zero, and goes the same way.
template <Drawing kDrawing>
__global__ void __launch_bounds__(kThreads, kDrawing == Drawing::Product ? 16 : 8)
heatmap_encode_kernel(const __grid_constant__ HeatmapEncodeArgs args) {
  const HeatmapTarget& t = args.target;
  const int pixels = t.height * t.width;
  BlockTarget<kDrawing> target(t, dynamic_shared<float>());
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
    const float level = visible_level(args.visible[i]);
    const TargetPlace place = target_place(t, x, y);
    if (threadIdx.x == 0) {
      const float weight = target_weight(level, place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
    }
    target.prepare(place.reaches && is_drawn(level) ? place : TargetPlace());
    float* map = args.heatmaps + i * (kDrawing == Drawing::Disc ? 3 : 1) * pixels;
    write_map(map, t.width, pixels, [&](auto count, int px, int py) { return target.template values<decltype(count)::value>(px, py); });
    if constexpr (kDrawing == Drawing::Disc) {
      write_map(map + pixels, t.width, pixels, [&](auto count, int px, int) {
        Values<decltype(count)::value> offsets;
#pragma unroll
        for (int j = 0; j < decltype(count)::value; ++j) offsets.v[j] = target.along_x[px + j];
        return offsets;
      });
      write_map(map + 2 * static_cast<int64_t>(pixels), t.width, pixels, [&](auto count, int, int py) {
        Values<decltype(count)::value> offsets;
#pragma unroll
        for (float& offset : offsets.v) offset = target.along_y[py];
        return offsets;
      });
    }
  }
}

}  // namespace

void heatmap_encode_cuda(const HeatmapEncodeArgs& args, void* stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count == 0) return;
  by_drawing(args.target, [&](auto drawing) {
    cuda_launch("heatmap_encode", heatmap_encode_kernel<decltype(drawing)::value>, grid_blocks(count, 1, 1 << 20), kThreads,
                block_target_bytes(args.target), as_stream(stream), args);
  });
}

}  // namespace fastpose
