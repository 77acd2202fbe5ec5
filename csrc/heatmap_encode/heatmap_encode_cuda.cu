#include "core/cuda_launch.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_encode/heatmap_encode_math.h"

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

// One block a keypoint (three maps for UdpCombined). The factors along x and along y are made once, in shared memory:
// width + height floats.
__global__ void heatmap_encode_kernel(const __grid_constant__ HeatmapEncodeArgs args) {
  extern __shared__ float along[];
  const HeatmapTarget& t = args.target;
  const int pixels = t.height * t.width, maps = t.kind == CodecKind::UdpCombined ? 3 : 1;
  float* along_x = along;
  float* along_y = along + t.width;
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
    const float level = visible_level(args.visible[i]);
    const TargetPlace place = target_place(t, x, y);
    const bool drawn = place.reaches && is_drawn(level);
    if (threadIdx.x == 0) {
      const float weight = target_weight(level, place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
    }
    float* map = args.heatmaps + i * maps * pixels;
    if (!drawn) {
      for (int m = 0; m < maps; ++m) write_map(map + static_cast<int64_t>(m) * pixels, pixels, [](int) { return 0.f; });
      continue;
    }
    if (t.kind == CodecKind::UdpCombined) {
      const auto offset_x = [&](int p) { return disc_offset(place.x, p % t.width, t.radius); };
      const auto offset_y = [&](int p) { return disc_offset(place.y, p / t.width, t.radius); };
      write_map(map, pixels, [&](int p) {
        const int column = p % t.width, row = p / t.width;
        if (column < place.x0 || column >= place.x1 || row < place.y0 || row >= place.y1) return 0.f;
        return in_disc(offset_x(p), offset_y(p)) ? 1.f : 0.f;
      });
      write_map(map + pixels, pixels, [&](int p) { return static_cast<float>(offset_x(p)); });
      write_map(map + 2 * static_cast<int64_t>(pixels), pixels, [&](int p) { return static_cast<float>(offset_y(p)); });
      continue;
    }
    __syncthreads();  // the factors of the keypoint before are no longer read
    for (int j = static_cast<int>(threadIdx.x); j < t.width + t.height; j += kThreads) {
      const bool column = j < t.width;
      const int pixel = column ? j : j - t.width;
      const bool seen = column ? pixel >= place.x0 && pixel < place.x1 : pixel >= place.y0 && pixel < place.y1;
      float value = 0.f;
      if (seen && t.kind == CodecKind::Megvii) {
        value = column ? blurred_row(t, static_cast<int>(place.x), pixel, t.width) : 1.f;
      } else if (seen) {
        const float factor = expf(gaussian_exponent(static_cast<float>(pixel), column ? place.x : place.y, t.sigma));
        value = factor < kSmallestFactor ? 0.f : factor;
      }
      along[j] = value;
    }
    __syncthreads();
    if (t.kind == CodecKind::Megvii) {
      const int centre = static_cast<int>(place.y);
      const float at_centre = blurred_column(t, centre, centre, t.height, along_x[static_cast<int>(place.x)]);
      write_map(map, pixels, [&](int p) {
        const float value = along_x[p % t.width] * along_y[p / t.width];
        return value > 0.f ? megvii_value(blurred_column(t, centre, p / t.width, t.height, value), at_centre) : 0.f;
      });
    } else {
      write_map(map, pixels, [&](int p) { return along_x[p % t.width] * along_y[p / t.width]; });
    }
  }
}

}  // namespace

void heatmap_encode_cuda(const HeatmapEncodeArgs& args, void* stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count == 0) return;
  const size_t shared = sizeof(float) * (args.target.width + args.target.height);
  if (shared > 48 * 1024)
    cuda_check(cudaFuncSetAttribute(heatmap_encode_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
               "heatmap_encode");
  heatmap_encode_kernel<<<grid_blocks(count, 1, 1 << 20), kThreads, shared, as_stream(stream)>>>(args);
  cuda_check_launch("heatmap_encode");
}

}  // namespace fastpose
