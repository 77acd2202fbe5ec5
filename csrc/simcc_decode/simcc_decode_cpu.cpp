#include "simcc_decode/simcc_decode.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "simcc_decode/simcc_decode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

struct Peak {
  float value;  // -infinity if nothing is above it
  int32_t index;
};

FASTPOSE_INLINE Peak first_maximum(const float* v, int n) {
  const float lowest = -__builtin_inff();
  // max() gives its second operand where one is NaN: what is kept must stand there.
  Vec a = set(lowest), b = set(lowest);
  int i = 0;
  for (; i + 2 * Vec::lanes <= n; i += 2 * Vec::lanes) {
    a = max(load(v + i), a);
    b = max(load(v + i + Vec::lanes), b);
  }
  float best = reduce_max(max(a, b));
  for (; i < n; ++i)
    if (v[i] > best) best = v[i];
  if (!(best > lowest)) return {lowest, 0};
  int at = 0;
  for (; at + Vec::lanes <= n; at += Vec::lanes) {
    const uint32_t hit = bits(load(v + at) == set(best));
    if (hit != 0) return {best, at + __builtin_ctz(hit)};
  }
  while (v[at] != best) ++at;
  return {best, at};
}

template <class Type>
FASTPOSE_INLINE void widen(const typename Type::Element* from, int n, float* to) {
  int i = 0;
  for (; i + Vec::lanes <= n; i += Vec::lanes) store(to + i, Type::load(from + i));
  for (; i < n; ++i) to[i] = Type::get(from + i);
}

// One over the sum of exp(sharpness * (value - largest)): the peak of the softmax.
FASTPOSE_INLINE float softmax_peak(const float* v, int n, float largest, float sharpness) {
  Vec sum = zero();
  const Vec top = set(largest), factor = set(sharpness);
  int i = 0;
  for (; i + Vec::lanes <= n; i += Vec::lanes) sum += exp((load(v + i) - top) * factor);
  float total = reduce_add(sum);
  if (i < n) {
    float last[Vec::lanes];
    store(last, exp((load_n(v + i, n - i) - top) * factor));
    for (int j = 0; j < n - i; ++j) total += last[j];
  }
  return 1.f / total;
}

template <class Type>
struct Reader {
  using Element = typename Type::Element;
  const SimccDecodeArgs& args;
  float *merged, *blurred;

  // The vector of one keypoint along one axis as floats, averaged with the mirrored one if there is one.
  FASTPOSE_INLINE const float* values(const void* plain, const void* flipped, int64_t i, int64_t mirror, int n, bool reversed) const {
    const Element* a = static_cast<const Element*>(plain) + i * n;
    if (flipped == nullptr) {
      if constexpr (sizeof(Element) == sizeof(float)) return a;
      widen<Type>(a, n, merged);
      return merged;
    }
    const Element* b = static_cast<const Element*>(flipped) + mirror * n;
    if (reversed) {
      for (int j = 0; j < n; ++j) merged[j] = simcc_merged(Type::get(a + j), Type::get(b + n - 1 - j));
    } else {
      int j = 0;
      for (; j + Vec::lanes <= n; j += Vec::lanes) store(merged + j, (Type::load(a + j) + Type::load(b + j)) * set(0.5f));
      for (; j < n; ++j) merged[j] = simcc_merged(Type::get(a + j), Type::get(b + j));
    }
    return merged;
  }

  FASTPOSE_INLINE float refined(const SimccAxis& axis, const float* v, const Peak& peak) const {
    const int n = axis.size, reach = axis.taps / 2;
    for (int j = 0; j < n; ++j) {
      float sum = 0.f;
      for (int t = max_of(0, reach - j); t < min_of(axis.taps, n - j + reach); ++t) sum = fused(v[j + t - reach], axis.tap[t], sum);
      blurred[j] = sum;
    }
    const float factor = peak.value / first_maximum(blurred, n).value;
    float logs[5];
    for (int j = 0; j < 5; ++j) logs[j] = simcc_log(blurred[clamp(peak.index + j - 2, 0, n - 1)] * factor);
    return simcc_refined(static_cast<float>(peak.index), logs);
  }

  FASTPOSE_INLINE void decode(int64_t i) const {
    const int64_t person = i / args.keypoints_k, first = person * args.keypoints_k;
    const int64_t mirror = first + simcc_mirrored_keypoint(args, i - first);
    const float* x = values(args.x, args.flipped_x, i, mirror, args.axis_x.size, true);
    const Peak peak_x = first_maximum(x, args.axis_x.size);
    float visible = 0.f;
    if (args.visibility != nullptr) visible = softmax_peak(x, args.axis_x.size, peak_x.value, args.axis_x.sharpness);
    // The vector along x is done with before that along y takes its scratch, but for the refinement, whose place the score decides.
    if (args.axis_x.taps > 0) return decode_refined(i, person, mirror, peak_x, visible);
    const float* y = values(args.y, args.flipped_y, i, mirror, args.axis_y.size, false);
    const Peak peak_y = first_maximum(y, args.axis_y.size);
    tell_visibility(i, y, peak_y, visible);
    const float score = min_of(peak_x.value, peak_y.value);
    const bool found = score > 0.f;
    simcc_store(args, i, person, found ? static_cast<float>(peak_x.index) : -1.f, found ? static_cast<float>(peak_y.index) : -1.f,
                score > -__builtin_inff() ? score : 0.f);
  }

  FASTPOSE_INLINE void decode_refined(int64_t i, int64_t person, int64_t mirror, const Peak& peak_x, float visible) const {
    const float* y = values(args.y, args.flipped_y, i, mirror, args.axis_y.size, false);
    const Peak peak_y = first_maximum(y, args.axis_y.size);
    tell_visibility(i, y, peak_y, visible);
    const float score = min_of(peak_x.value, peak_y.value);
    const bool found = score > 0.f;
    float place_x = -1.f, place_y = -1.f;
    if (found) {
      place_y = refined(args.axis_y, y, peak_y);
      const float* x = values(args.x, args.flipped_x, i, mirror, args.axis_x.size, true);
      place_x = refined(args.axis_x, x, peak_x);
    }
    simcc_store(args, i, person, place_x, place_y, score > -__builtin_inff() ? score : 0.f);
  }

  FASTPOSE_INLINE void tell_visibility(int64_t i, const float* y, const Peak& peak_y, float visible_x) const {
    if (args.visibility == nullptr) return;
    args.visibility[i] = min_of(visible_x, softmax_peak(y, args.axis_y.size, peak_y.value, args.axis_y.sharpness));
  }
};

template <class Type>
FASTPOSE_INLINE void run(const SimccDecodeArgs& args) {
  const int64_t room = max_of(args.axis_x.size, args.axis_y.size) + Vec::lanes;
  parallel_for(args.batch * args.keypoints_k, 16, [&](int64_t begin, int64_t end) {
    float* const scratch = thread_scratch(2 * room);
    const Reader<Type> reader{args, scratch, scratch + room};
    for (int64_t i = begin; i < end; ++i) reader.decode(i);
  });
}

}  // namespace

void simcc_decode_cpu(const SimccDecodeArgs& args) {
  switch (args.dtype) {
    case DType::Float16: return run<Float16>(args);
    case DType::BFloat16: return run<BFloat16>(args);
    default: return run<Float32>(args);
  }
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(simcc_decode_cpu, SimccDecodeArgs)

}  // namespace fastpose
