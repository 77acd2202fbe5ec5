// Rows of a target heatmap on the CPU, for heatmap_encode, which stores them, and heatmap_loss, which compares with them.
#pragma once

#include "core/simd.h"
#include "heatmap_encode/heatmap_encode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// One map at a time: begin(), then write_row() for rows y0 <= y < y1; everything else of the map is zero.
// `factors` is scratch of target_scratch(t) floats.
struct TargetRows {
  const HeatmapTarget& t;
  float* along_x;  // by x - x0: factor of a Gaussian, or blurred row
  float* along_y;  // by y - y0: factor of a Gaussian
  TargetPlace place;
  float at_centre;  // Megvii

  FASTPOSE_INLINE TargetRows(const HeatmapTarget& target, float* factors)
      : t(target), along_x(factors), along_y(factors + target.width + Vec::lanes), place(), at_centre(1.f) {}

  FASTPOSE_INLINE bool begin(float keypoint_x, float keypoint_y) {
    place = target_place(t, keypoint_x, keypoint_y);
    if (!place.reaches) return false;
    if (t.kind == CodecKind::Megvii) {
      const int column = static_cast<int>(place.x), row = static_cast<int>(place.y);
      for (int x = place.x0; x < place.x1; ++x) along_x[x - place.x0] = blurred_row(t, column, x, t.width);
      at_centre = blurred_column(t, row, row, t.height, along_x[column - place.x0]);
    } else if (t.kind != CodecKind::UdpCombined) {
      gaussian_line(along_x, place.x0, place.x1, place.x);
      gaussian_line(along_y, place.y0, place.y1, place.y);
    }
    return true;
  }

  // Writes x1 - x0 floats.
  FASTPOSE_INLINE void write_row(int y, float* row) const {
    const int n = place.x1 - place.x0;
    if (t.kind == CodecKind::UdpCombined) {
      const double dy = disc_offset(place.y, y, t.radius);
      for (int i = 0; i < n; ++i) row[i] = in_disc(disc_offset(place.x, place.x0 + i, t.radius), dy) ? 1.f : 0.f;
      return;
    }
    if (t.kind == CodecKind::Megvii) {
      const int centre = static_cast<int>(place.y);
      for (int i = 0; i < n; ++i) row[i] = megvii_value(blurred_column(t, centre, y, t.height, along_x[i]), at_centre);
      return;
    }
    const Vec factor = set(along_y[y - place.y0]);
    int i = 0;
    for (; i + Vec::lanes <= n; i += Vec::lanes) store(row + i, load(along_x + i) * factor);
    if (i < n) store_n(row + i, load(along_x + i) * factor, n - i);
  }

 private:
  FASTPOSE_INLINE void gaussian_line(float* line, int begin, int end, float centre) const {
    for (int i = begin; i < end; i += Vec::lanes) {
      const Vec d = set(static_cast<float>(i)) + iota() - set(centre);
      const Vec factor = exp(-(d * d) / set(2.f * t.sigma * t.sigma));
      store(line + (i - begin), select(factor < set(kSmallestFactor), zero(), factor));
    }
  }
};

FASTPOSE_INLINE int64_t target_scratch(const HeatmapTarget& t) { return t.width + t.height + 2 * Vec::lanes; }

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
