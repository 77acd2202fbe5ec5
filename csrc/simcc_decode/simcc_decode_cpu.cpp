#include "simcc_decode/simcc_decode.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "heatmap_decode/peak_cpu.h"
#include "simcc_decode/simcc_decode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

struct Reader {
  const SimccDecodeArgs& args;
  const SimccReading& r;
  float *merged_vectors[2], *mirror, *padded;
  Ahead ahead[2];  // of the vectors of keypoints `begin` to `end`, where they are read in place

  FASTPOSE_INLINE Reader(const SimccDecodeArgs& a, float* scratch, int64_t begin, int64_t end) : args(a), r(a.reading), ahead() {
    for (int axis = 0; axis < 2; ++axis) {
      if (args.dtype != DType::Float32 || args.flipped[axis] != nullptr) continue;
      const float* all = static_cast<const float*>(args.vectors[axis]);
      ahead[axis] = {reinterpret_cast<const char*>(all + begin * r.bins[axis]), reinterpret_cast<const char*>(all + end * r.bins[axis])};
    }
    const int64_t room = most(r);
    merged_vectors[0] = scratch;
    merged_vectors[1] = scratch + room;
    mirror = scratch + 2 * room;
    padded = scratch + 3 * room;
  }
  static FASTPOSE_INLINE int64_t most(const SimccReading& reading) { return max_of(reading.bins[0], reading.bins[1]) + 2 * Vec::lanes; }
  static FASTPOSE_INLINE int64_t scratch(const SimccReading& reading) { return 4 * most(reading) + kMaxTaps + 2 * kSimccReach; }

  FASTPOSE_INLINE void decode(int64_t i) const {
    const float* lines[2];
    Peak peaks[2];
    for (int axis = 0; axis < 2; ++axis) {
      lines[axis] = merged_vector(axis, i);
      peaks[axis] = first_maximum(lines[axis], r.bins[axis], ahead[axis]);
    }
    const bool empty = is_empty(lines[0], peaks[0]) || is_empty(lines[1], peaks[1]);
    const float score = empty ? 0.f : simcc_score(peaks[0].value, peaks[1].value);
    float bins[2];
    for (int axis = 0; axis < 2; ++axis) {
      bins[axis] = static_cast<float>(peaks[axis].index);
      if (score > 0.f && r.taps[axis] > 0) bins[axis] += refine(axis, lines[axis], peaks[axis]);
    }
    store_simcc(args, i, bins[0], bins[1], score);
    if (args.visibility == nullptr) return;
    float seen = empty ? 0.f : 1.f;
    for (int axis = 0; axis < 2 && seen > 0.f; ++axis) seen = min_of(seen, sharpness(axis, lines[axis], peaks[axis].value));
    args.visibility[i] = seen;
  }

 private:
  // Nothing is above -infinity: first_maximum() then says 0 at bin 0, which is not what stands there.
  static FASTPOSE_INLINE bool is_empty(const float* line, Peak peak) { return peak.index == 0 && !(line[0] > -__builtin_inff()); }

  // One vector as floats: where it lies, if it can be used as it is.
  FASTPOSE_INLINE const float* floats(const void* vectors, int axis, int64_t i, float* to) const {
    const int n = r.bins[axis];
    if (args.dtype == DType::Float32) return static_cast<const float*>(vectors) + i * n;
    widen(static_cast<const uint16_t*>(vectors) + i * n, args.dtype, n, to);
    return to;
  }

  // Averaged with that of the mirrored input if there is one.
  FASTPOSE_INLINE const float* merged_vector(int axis, int64_t i) const {
    float* to = merged_vectors[axis];
    const float* plain = floats(args.vectors[axis], axis, i, to);
    if (args.flipped[axis] == nullptr) return plain;
    const float* other = floats(args.flipped[axis], axis, simcc_mirrored(args, i), mirror);
    const int n = r.bins[axis];
    if (axis == 0) {
      for (int bin = 0; bin < n; ++bin) to[bin] = merged(plain[bin], other[n - 1 - bin]);
    } else {
      for (int bin = 0; bin < n; ++bin) to[bin] = merged(plain[bin], other[bin]);
    }
    return to;
  }

  // Copies `count` elements from `first` on into `padded`, with zeros for those beyond the ends, and a vector of zeros behind.
  FASTPOSE_INLINE void pad(const float* line, int n, int first, int count) const {
    const int begin = clamp(first, 0, n), end = clamp(first + count, 0, n);
    memset(padded, 0, bytes_of<float>(count + 2 * Vec::lanes));
    memcpy(padded + (begin - first), line + begin, bytes_of<float>(end - begin));
  }

  // The blur of what begins at padded[at]: as many neighbours as the machine has lanes. Tap by tap from the left, fused, at every level.
  FASTPOSE_INLINE Vec blurred(int axis, int at) const {
    Vec sum = load(padded + at) * set(r.tap[axis][0]);
    for (int k = 1; k < r.taps[axis]; ++k) sum = fused(load(padded + at + k), set(r.tap[axis][k]), sum);
    return sum;
  }

  FASTPOSE_INLINE float refine(int axis, const float* line, Peak peak) const {
    constexpr int kCount = 2 * kSimccReach + 1;
    const int n = r.bins[axis], radius = r.taps[axis] / 2, first = peak.index - kSimccReach;
    pad(line, n, first - radius, kCount + 2 * radius);
    float values[kCount + Vec::lanes];
    for (int j = 0; j < kCount; j += Vec::lanes) store(values + j, blurred(axis, j));
    SimccAround around;
    for (int j = 0; j < kCount; ++j) around.v[j] = values[clamp(first + j, 0, n - 1) - first];
    float step;
    if (simcc_step(around, peak.value, &step)) return step;
    pad(line, n, -radius, n + 2 * radius);
    float most_blurred = -__builtin_inff();
    for (int bin = 0; bin < n; bin += Vec::lanes) {
      const Vec inside = select(iota() < set(static_cast<float>(n - bin)), blurred(axis, bin), set(most_blurred));
      most_blurred = reduce_max(max(inside, set(most_blurred)));
    }
    return simcc_exact_step(around, peak.value / most_blurred);
  }

  // The peak of the softmax.
  FASTPOSE_INLINE float sharpness(int axis, const float* line, float peak) const {
    if (!is_finite(peak)) return 0.f;
    const int n = r.bins[axis];
    const Vec top = set(peak), factor = set(r.sharpness[axis]);
    Vec sum = zero();
    int bin = 0;
    for (; bin + Vec::lanes <= n; bin += Vec::lanes) {
      const Vec exponent = (load(line + bin) - top) * factor;
      const Mask counts = exponent > set(-87.f);  // not NaN
      if (any(counts)) sum += select(counts, exp(exponent), zero());
    }
    float total = reduce_add(sum);
    for (; bin < n; ++bin) {
      const float exponent = (line[bin] - peak) * r.sharpness[axis];
      if (exponent > -87.f) total += expf(exponent);
    }
    return 1.f / total;
  }
};

}  // namespace

void simcc_decode_cpu(const SimccDecodeArgs& args) {
  parallel_for(args.batch * args.keypoints_k, 16, [&](int64_t begin, int64_t end) {
    const Reader reader(args, thread_scratch(Reader::scratch(args.reading)), begin, end);
    for (int64_t i = begin; i < end; ++i) reader.decode(i);
  });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(simcc_decode_cpu, SimccDecodeArgs)

}  // namespace fastpose
