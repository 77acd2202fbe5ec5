// A target heatmap in a thread block, for heatmap_encode, which stores it, and heatmap_loss, which compares with it. For .cu files only.
#pragma once

#include "heatmap_encode/heatmap_encode_math.h"

namespace fastpose {

// The factors along x and along y (UdpCombined: the offsets) are made once, in shared memory: width + height floats. All threads of the block call
// prepare().
struct BlockTarget {
  const HeatmapTarget& t;
  float* along_x;
  float* along_y;
  TargetPlace place;
  float at_centre;  // Megvii

  FASTPOSE_DEVICE BlockTarget(const HeatmapTarget& target, float* shared)
      : t(target), along_x(shared), along_y(shared + target.width), place(), at_centre(1.f) {}

  FASTPOSE_DEVICE void prepare(float keypoint_x, float keypoint_y) {
    place = target_place(t, keypoint_x, keypoint_y);
    __syncthreads();  // the factors of the keypoint before are no longer read
    for (int i = static_cast<int>(threadIdx.x); i < t.width + t.height; i += static_cast<int>(blockDim.x)) {
      const bool column = i < t.width;
      const int pixel = column ? i : i - t.width;
      const bool seen = column ? pixel >= place.x0 && pixel < place.x1 : pixel >= place.y0 && pixel < place.y1;
      float value = 0.f;
      if (t.kind == CodecKind::UdpCombined) {
        value = static_cast<float>(column ? offset_x(pixel) : offset_y(pixel));
      } else if (seen && t.kind == CodecKind::Megvii) {
        value = column ? blurred_row(t, static_cast<int>(place.x), pixel, t.width) : 1.f;
      } else if (seen) {
        const float factor = expf(gaussian_exponent(static_cast<float>(pixel), column ? place.x : place.y, t.sigma));
        value = factor < kSmallestFactor ? 0.f : factor;
      }
      along_x[i] = value;
    }
    __syncthreads();
    if (t.kind == CodecKind::Megvii && place.reaches) {
      const int centre = static_cast<int>(place.y);
      at_centre = blurred_column(t, centre, centre, t.height, along_x[static_cast<int>(place.x)]);
    }
  }

  // Value of the (first) map: 0 throughout if the keypoint does not reach it.
  FASTPOSE_DEVICE float at(int x, int y) const {
    if (t.kind == CodecKind::UdpCombined) {
      if (x < place.x0 || x >= place.x1 || y < place.y0 || y >= place.y1) return 0.f;
      return in_disc(offset_x(x), offset_y(y)) ? 1.f : 0.f;
    }
    const float value = along_x[x] * along_y[y];
    if (t.kind != CodecKind::Megvii) return value;
    return value > 0.f ? megvii_value(blurred_column(t, static_cast<int>(place.y), y, t.height, value), at_centre) : 0.f;
  }

  // UdpCombined, on the way to float: to decide whether a pixel belongs to the disc.
  FASTPOSE_DEVICE double offset_x(int x) const { return disc_offset(place.x, x, t.radius); }
  FASTPOSE_DEVICE double offset_y(int y) const { return disc_offset(place.y, y, t.radius); }
};

inline size_t block_target_bytes(const HeatmapTarget& t) { return sizeof(float) * (static_cast<size_t>(t.width) + t.height); }

}  // namespace fastpose
