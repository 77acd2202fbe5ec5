#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_encode/heatmap_target_cpu.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

FASTPOSE_INLINE void fill(float* p, int n, float value) {
  for (int i = 0; i < n; ++i) p[i] = value;
}

// x and y offsets of every pixel, in units of the radius; `line` is scratch of `width` floats.
FASTPOSE_INLINE void write_offsets(const HeatmapTarget& t, const TargetPlace& place, float* map_x, float* map_y, float* line) {
  for (int x = 0; x < t.width; ++x) line[x] = static_cast<float>(disc_offset(place.x, x, t.radius));
  for (int y = 0; y < t.height; ++y) {
    memcpy(map_x + static_cast<int64_t>(y) * t.width, line, sizeof(float) * t.width);
    fill(map_y + static_cast<int64_t>(y) * t.width, t.width, static_cast<float>(disc_offset(place.y, y, t.radius)));
  }
}

}  // namespace

void heatmap_encode_cpu(const HeatmapEncodeArgs& args) {
  const HeatmapTarget& t = args.target;
  const int64_t pixels = static_cast<int64_t>(t.height) * t.width;
  const int64_t maps = t.maps_per_keypoint();
  parallel_for(args.batch * args.keypoints_k, 4, [&](int64_t begin, int64_t end) {
    float* scratch = thread_scratch(target_scratch(t));
    TargetRows rows(t, scratch);
    for (int64_t i = begin; i < end; ++i) {
      const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
      const float level = visible_level(args.visible[i]);
      const bool drawn = rows.begin(x, y) && is_drawn(level);
      const float weight = target_weight(level, rows.place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
      float* map = args.heatmaps + i * maps * pixels;
      if (!drawn) {
        memset(map, 0, sizeof(float) * maps * pixels);
        continue;
      }
      memset(map, 0, sizeof(float) * pixels);
      const TargetPlace& place = rows.place;
      for (int row = place.y0; row < place.y1; ++row) rows.write_row(row, map + static_cast<int64_t>(row) * t.width + place.x0);
      if (maps == 3) write_offsets(t, place, map + pixels, map + 2 * pixels, scratch);
    }
  });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(heatmap_encode_cpu, HeatmapEncodeArgs)

}  // namespace fastpose
