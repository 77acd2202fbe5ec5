#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/stream.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_encode/heatmap_target_cpu.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

FASTPOSE_INLINE void fill(float* p, int64_t n, float value) {
  for (int64_t i = 0; i < n; ++i) p[i] = value;
}

// The disc, or what else stands in the first map of a keypoint.
FASTPOSE_INLINE void write_target(const TargetRows& rows, bool drawn, float* map, int64_t pixels) {
  memset(map, 0, bytes_of<float>(pixels));
  if (!drawn) return;
  const TargetPlace& place = rows.place;
  for (int y = place.y0; y < place.y1; ++y) rows.write_row(y, map + static_cast<int64_t>(y) * rows.t.width + place.x0);
}

// Offsets of every pixel from the keypoint, in units of the radius.
FASTPOSE_INLINE void write_offsets_x(const TargetRows& rows, float* map) {
  const HeatmapTarget& t = rows.t;
  for (int x = 0; x < t.width; ++x) map[x] = static_cast<float>(disc_offset(rows.place.x, x, t.radius));
  for (int y = 1; y < t.height; ++y) memcpy(map + static_cast<int64_t>(y) * t.width, map, bytes_of<float>(t.width));
}

FASTPOSE_INLINE void write_offsets_y(const TargetRows& rows, float* map) {
  const HeatmapTarget& t = rows.t;
  for (int y = 0; y < t.height; ++y)
    fill(map + static_cast<int64_t>(y) * t.width, t.width, static_cast<float>(disc_offset(rows.place.y, y, t.radius)));
}

}  // namespace

void heatmap_encode_cpu(const HeatmapEncodeArgs& args) {
  const HeatmapTarget& t = args.target;
  const int64_t pixels = static_cast<int64_t>(t.height) * t.width;
  const int64_t maps = t.maps_per_keypoint(), count = args.batch * args.keypoints_k;
  const bool streamed = count * maps * pixels * static_cast<int64_t>(sizeof(float)) >= kStreamBytes;
  parallel_for(count, 4, [&](int64_t begin, int64_t end) {
    float* scratch = thread_scratch(pixels + target_scratch(t));
    TargetRows rows(t, scratch + pixels);
    for (int64_t i = begin; i < end; ++i) {
      const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
      const float level = visible_level(args.visible[i]);
      const bool drawn = rows.begin(x, y) && is_drawn(level);
      const float weight = target_weight(level, rows.place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
      for (int64_t m = 0; m < maps; ++m) {
        float* map = args.heatmaps + (i * maps + m) * pixels;
        float* to = streamed ? scratch : map;  // a map is put together where it is cheap, and moved as a whole
        if (m == 0 || !drawn) write_target(rows, drawn, to, pixels);
        else if (m == 1) write_offsets_x(rows, to);
        else write_offsets_y(rows, to);
        if (streamed) stream_copy(map, to, pixels);
      }
    }
    if (streamed) stream_fence();
  });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(heatmap_encode_cpu, HeatmapEncodeArgs)

}  // namespace fastpose
