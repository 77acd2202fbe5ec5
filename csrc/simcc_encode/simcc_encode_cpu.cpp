#include "simcc_encode/simcc_encode.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/stream.h"
#include "simcc_encode/simcc_label_cpu.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// One vector: put together in scratch where it is to be streamed.
FASTPOSE_INLINE void write(const SimccLabel& label, const SimccPlace& place, bool drawn, float sigma, int32_t size, float* window,
                           float* to) {
  const float rest = drawn ? simcc_rest(label, size) : 0.f;
  int i = 0;
  for (; i + Vec::lanes <= size; i += Vec::lanes) store(to + i, set(rest));
  for (; i < size; ++i) to[i] = rest;
  if (!drawn) return;
  simcc_draw(label, place, sigma, window);
  memcpy(to + place.begin, window, bytes_of<float>(place.end - place.begin));
}

}  // namespace

void simcc_encode_cpu(const SimccEncodeArgs& args) {
  const SimccLabel& label = args.label;
  const int64_t count = args.batch * args.keypoints_k;
  const int32_t sizes[2] = {label.width, label.height};
  const int32_t largest = max_of(label.width, label.height);
  const bool streamed = count * (label.width + label.height) * static_cast<int64_t>(sizeof(float)) >= kStreamBytes;
  parallel_for(count, 16, [&](int64_t begin, int64_t end) {
    float* const window = thread_scratch(2 * simcc_window(largest));
    float* const whole = window + simcc_window(largest);
    for (int64_t i = begin; i < end; ++i) {
      const float x = args.keypoints[2 * i], y = args.keypoints[2 * i + 1], level = args.visible[i];
      const SimccPlaces places = simcc_places(label, x, y);
      const bool drawn = places.reaches && simcc_drawn(level);
      const float weight = simcc_weight(level, places, x, y);
      args.weights[i] = args.joint_weights == nullptr ? weight : weight * args.joint_weights[i % args.keypoints_k];
      for (int axis = 0; axis < 2; ++axis) {
        float* const to = (axis == 0 ? args.x : args.y) + i * sizes[axis];
        write(label, axis == 0 ? places.x : places.y, drawn, axis == 0 ? label.sigma_x : label.sigma_y, sizes[axis], window,
              streamed ? whole : to);
        if (streamed) stream_copy(to, whole, sizes[axis]);
      }
    }
    if (streamed) stream_fence();
  });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(simcc_encode_cpu, SimccEncodeArgs)

}  // namespace fastpose
