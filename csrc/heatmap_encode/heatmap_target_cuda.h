// A target heatmap in a thread block, for heatmap_encode, which stores it, and heatmap_loss, which compares with it. For .cu files only.
#pragma once

#include "core/cuda_vector.h"
#include "heatmap_encode/heatmap_encode_math.h"

namespace fastpose {

// What a kernel draws, which is decided once and not for each pixel. Product: a factor of the column times one of the row (Gaussian, Dark,
// Udp; Megvii, whose blur is one along either axis). Disc: UdpCombined.
enum class Drawing { Product, Disc };

// Calls f with the drawing of a codec, as a type. On the host.
template <class F>
void by_drawing(const HeatmapTarget& t, F f) {
  if (t.kind == CodecKind::UdpCombined) f(std::integral_constant<Drawing, Drawing::Disc>());
  else f(std::integral_constant<Drawing, Drawing::Product>());
}

// The factors along x and along y (Disc: the offsets) are made once, in shared memory: width + height floats, from 16 bytes on.
template <Drawing kDrawing>
struct BlockTarget {
  const HeatmapTarget& t;
  float* along_x;
  float* along_y;
  TargetPlace place;

  FASTPOSE_DEVICE BlockTarget(const HeatmapTarget& target, float* shared)
      : t(target), along_x(shared), along_y(shared + target.width), place() {}

  // Makes the factors of what stands at this place; with TargetPlace() a map of zeros. All threads of the block call it.
  FASTPOSE_DEVICE void prepare(const TargetPlace& where) {
    place = where;
    __syncthreads();  // the factors of the keypoint before are no longer read
    for (int i = static_cast<int>(threadIdx.x); i < t.width + t.height; i += static_cast<int>(blockDim.x))
      along_x[i] = i < t.width ? factor<true>(i) : factor<false>(i - t.width);
    __syncthreads();
  }

  // Values of the (first) map from pixel (x, y) on, all in one row.
  template <int kCount>
  FASTPOSE_DEVICE Values<kCount> values(int x, int y) const {
    Values<kCount> result;
    if constexpr (kDrawing == Drawing::Product) {
      const float of_row = along_y[y];
      if constexpr (kCount == 1) {
        result.v[0] = along_x[x] * of_row;
      } else {
#pragma unroll
        for (int j = 0; j < kCount; j += 4) {
          const float4 four = *reinterpret_cast<const float4*>(along_x + x + j);
          result.v[j] = four.x * of_row, result.v[j + 1] = four.y * of_row;
          result.v[j + 2] = four.z * of_row, result.v[j + 3] = four.w * of_row;
        }
      }
    } else {
      unsigned inside = 0;
      if (y >= place.y0 && y < place.y1 && x + kCount > place.x0 && x < place.x1)
#pragma unroll 1
        for (int j = 0; j < kCount; ++j) inside |= static_cast<unsigned>(is_inside(x + j, y)) << j;
#pragma unroll
      for (int j = 0; j < kCount; ++j) result.v[j] = (inside >> j & 1) != 0 ? 1.f : 0.f;
    }
    return result;
  }

  // Disc: whether a pixel belongs to it. In double precision, not by the offsets in shared memory.
  FASTPOSE_DEVICE bool is_inside(int x, int y) const {
    return in_disc(disc_offset(place.x, x, t.radius), disc_offset(place.y, y, t.radius));
  }

 private:
  // Of one column or one row.
  template <bool kColumn>
  FASTPOSE_DEVICE float factor(int pixel) const {
    const float centre = kColumn ? place.x : place.y;
    if constexpr (kDrawing == Drawing::Disc) {
      return place.reaches ? static_cast<float>(disc_offset(centre, pixel, t.radius)) : 0.f;
    } else {
      const bool seen = kColumn ? pixel >= place.x0 && pixel < place.x1 : pixel >= place.y0 && pixel < place.y1;
      if (!seen) return 0.f;
      if (t.kind == CodecKind::Megvii) {  // exactly 1 in the centre's column, 255 in its row
        const int middle = static_cast<int>(centre);
        if (kColumn) return blurred_row(t, middle, pixel, t.width) / blurred_row(t, middle, middle, t.width);
        return megvii_value(blurred_column(t, middle, pixel, t.height, 1.f), blurred_column(t, middle, middle, t.height, 1.f));
      }
      const float value = expf(gaussian_exponent(static_cast<float>(pixel), centre, t.sigma));
      return value < kSmallestFactor ? 0.f : value;
    }
  }
};

inline size_t block_target_bytes(const HeatmapTarget& t) { return sizeof(float) * (static_cast<size_t>(t.width) + t.height); }

}  // namespace fastpose
