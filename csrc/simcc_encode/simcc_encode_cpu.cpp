#include "simcc_encode/simcc_encode.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/stream.h"
#include "simcc_encode/simcc_labels_cpu.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

void simcc_encode_cpu(const SimccEncodeArgs& args) {
  const SimccTarget& t = args.target;
  const int64_t count = args.batch * args.keypoints_k, most = max_of(t.bins[0], t.bins[1]);
  const bool streamed = count * (t.bins[0] + t.bins[1]) * static_cast<int64_t>(sizeof(float)) >= kStreamBytes;
  parallel_for(count, 16, [&](int64_t begin, int64_t end) {
    float* scratch = thread_scratch(most + label_scratch(t));
    const float* nothing = scratch;
    memset(scratch, 0, bytes_of<float>(most));
    const SimccLabels labels(t, scratch + most);
    for (int64_t i = begin; i < end; ++i) {
      const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1];
      const float level = visible_level(args.visible[i]);
      const SimccPlace place = simcc_place(t, x, y);
      const float weight = simcc_weight(level, place, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
      const bool drawn = place.reaches && is_drawn(level);
      for (int axis = 0; axis < 2; ++axis) {
        const int64_t n = t.bins[axis];
        const float* label = drawn ? labels.lines[axis] + SimccLabels::start(t, axis, place.bin[axis]) : nothing;
        if (streamed) stream_copy(args.vectors[axis] + i * n, label, n);
        else memcpy(args.vectors[axis] + i * n, label, bytes_of<float>(n));
      }
    }
    if (streamed) stream_fence();
  });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(simcc_encode_cpu, SimccEncodeArgs)

}  // namespace fastpose
