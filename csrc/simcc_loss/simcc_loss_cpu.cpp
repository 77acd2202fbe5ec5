#include "simcc_loss/simcc_loss.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "simcc_encode/simcc_labels_cpu.h"
#include "simcc_loss/simcc_loss_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// The labels' lines, as they are or as exponentials, and the sums of their stretches.
struct SummedLabels {
  SimccLabels labels;
  double* sums[2];       // [length + 1] of what comes before
  double* entropies[2];  // the same of l log l

  FASTPOSE_INLINE SummedLabels(const SimccLossArgs& args, float* scratch) : labels(args.target, scratch + doubles(args.target)) {
    auto* next = reinterpret_cast<double*>(scratch);
    float* logs = scratch + doubles(args.target) + label_scratch(args.target);
    for (int axis = 0; axis < 2; ++axis) {
      float* line = labels.lines[axis];
      const int64_t n = SimccLabels::length(args.target, axis);
      for (int64_t i = 0; i < n; i += Vec::lanes) {
        const Vec label = load(line + i);
        if (args.softmax) {
          const Vec exponent = (label - set(max_of(args.target.peak[axis], args.target.rest[axis]))) * set(args.label_beta);
          store(logs + i, exponent);
          store(line + i, exp(exponent));
        } else {
          store(logs + i, select(label > zero(), log(label), zero()));
        }
      }
      sums[axis] = next;
      entropies[axis] = next + n + 1;
      next += 2 * (n + 1);
      double sum = 0.0, entropy = 0.0;
      for (int64_t i = 0; i < n; ++i) {
        sums[axis][i] = sum;
        entropies[axis][i] = entropy;
        sum += static_cast<double>(line[i]);
        entropy += static_cast<double>(line[i]) * static_cast<double>(logs[i]);
      }
      sums[axis][n] = sum;
      entropies[axis][n] = entropy;
    }
  }

  static FASTPOSE_INLINE int64_t doubles(const SimccTarget& t) { return (2 * 2 * (label_scratch(t) + 2) + 15) / 16 * 16; }
  static FASTPOSE_INLINE int64_t scratch(const SimccTarget& t) {
    return doubles(t) + label_scratch(t) + max_of(SimccLabels::length(t, 0), SimccLabels::length(t, 1));
  }
};

template <class P>
struct Loss {
  using Element = typename P::Element;
  const SimccLossArgs& args;
  const SimccTarget& t;
  SummedLabels made;
  float* exponents;
  const bool streamed;

  FASTPOSE_INLINE Loss(const SimccLossArgs& a, float* scratch)
      : args(a), t(a.target), made(a, scratch), exponents(scratch + SummedLabels::scratch(t)),
        streamed(a.batch * a.keypoints_k * (t.bins[0] + t.bins[1]) * static_cast<int64_t>(sizeof(Element)) >= kStreamBytes) {}

  static FASTPOSE_INLINE int64_t scratch(const SimccTarget& t) {
    return SummedLabels::scratch(t) + max_of(t.bins[0], t.bins[1]) + Vec::lanes;
  }

  FASTPOSE_INLINE void keypoint(int64_t i) {
    const SimccPlace place = simcc_place(t, args.keypoints[2 * i], args.keypoints[2 * i + 1]);
    const float weight = place.reaches ? simcc_loss_weight(args, i) : 0.f;
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t n = t.bins[axis];
      Element* gradient = args.gradients[axis] == nullptr ? nullptr : static_cast<Element*>(args.gradients[axis]) + i * n;
      double loss = 0.0;
      if (weight > 0.f) loss = vector(axis, static_cast<const Element*>(args.predicted[axis]) + i * n, gradient, place.bin[axis], weight);
      else if (gradient != nullptr) memset(gradient, 0, bytes_of<Element>(n));
      args.losses[axis * args.batch * args.keypoints_k + i] = loss;
    }
  }

 private:
  // The last elements of a vector, as many as do not fill one of the machine's.
  static FASTPOSE_INLINE Vec rest_of(const Element* from, int rest) {
    Element last[Vec::lanes] = {};
    memcpy(last, from, bytes_of<Element>(rest));
    return P::load(last);
  }

  // The largest value; NaN is passed over, and comes back in the sums.
  static FASTPOSE_INLINE float largest(const Element* x, int n) {
    const Vec nothing = set(-__builtin_inff());
    Vec a = nothing, b = nothing;
    int i = 0;
    for (; i + 2 * Vec::lanes <= n; i += 2 * Vec::lanes) {
      a = max(P::load(x + i), a);
      b = max(P::load(x + i + Vec::lanes), b);
    }
    for (; i + Vec::lanes <= n; i += Vec::lanes) a = max(P::load(x + i), a);
    if (i < n) b = max(select(iota() < set(static_cast<float>(n - i)), rest_of(x + i, n - i), nothing), b);
    return reduce_max(max(a, b));
  }

  FASTPOSE_INLINE double vector(int axis, const Element* x, Element* gradient, int32_t bin, float weight) const {
    const int n = t.bins[axis], whole = n / Vec::lanes * Vec::lanes;
    const int64_t start = SimccLabels::start(t, axis, bin);
    const float* label = made.labels.lines[axis] + start;
    const Vec top = set(largest(x, n)), beta = set(args.beta);
    Vec exponent_sum[2] = {zero(), zero()}, product_sum[2] = {zero(), zero()};
    const auto add = [&](int at, int i) {
      const Vec v = P::load(x + i) - top, e = exp(v * beta);
      store(exponents + i, e);
      exponent_sum[at] += e;
      product_sum[at] = madd(load(label + i), v, product_sum[at]);
    };
    int i = 0;
    for (; i + 2 * Vec::lanes <= whole; i += 2 * Vec::lanes) {
      add(0, i);
      add(1, i + Vec::lanes);
    }
    if (i < whole) add(0, i);
    if (whole < n) {
      const Mask inside = iota() < set(static_cast<float>(n - whole));
      const Vec v = rest_of(x + whole, n - whole) - top, e = exp(v * beta);
      store(exponents + whole, e);
      exponent_sum[0] += select(inside, e, zero());
      product_sum[0] += select(inside, load(label + whole) * v, zero());
    }
    SimccSums sums;
    sums.labels = made.sums[axis][start + n] - made.sums[axis][start];
    sums.entropies = made.entropies[axis][start + n] - made.entropies[axis][start];
    sums.products = static_cast<double>(reduce_add(product_sum[0] + product_sum[1]));
    sums.exponents = static_cast<double>(reduce_add(exponent_sum[0] + exponent_sum[1]));
    const float factor = simcc_factor(args, axis, weight);
    if (gradient != nullptr) write_gradient(gradient, label, simcc_slopes(args, sums, factor), n);
    return static_cast<double>(factor) * simcc_divergence(args, sums);
  }

  FASTPOSE_INLINE void write_gradient(Element* gradient, const float* label, SimccSlopes slopes, int n) const {
    const Vec a = set(slopes.predicted), b = set(slopes.label);
    const int whole = n / Vec::lanes * Vec::lanes;
    const auto at = [&](int i) { return load(exponents + i) * a - load(label + i) * b; };
    if (streamed && P::can_stream(gradient)) {
      for (int i = 0; i < whole; i += Vec::lanes) P::stream(gradient + i, at(i));
    } else {
      for (int i = 0; i < whole; i += Vec::lanes) P::store(gradient + i, at(i));
    }
    if (whole == n) return;
    Element last[Vec::lanes];
    P::store(last, at(whole));
    memcpy(gradient + whole, last, bytes_of<Element>(n - whole));
  }
};

template <class P>
FASTPOSE_INLINE void run(const SimccLossArgs& args) {
  const int64_t count = args.batch * args.keypoints_k;
  parallel_for(count, 16, [&](int64_t begin, int64_t end) {
    Loss<P> loss(args, thread_scratch(Loss<P>::scratch(args.target)));
    for (int64_t i = begin; i < end; ++i) loss.keypoint(i);
    stream_fence();
  });
  // In one order, whatever the number of threads.
  double sum = 0.0;
  for (int64_t i = 0; i < 2 * count; ++i) sum += args.losses[i];
  *args.loss = static_cast<float>(sum);
}

}  // namespace

void simcc_loss_cpu(const SimccLossArgs& args) {
  switch (args.dtype) {
    case DType::Float16: return run<Float16>(args);
    case DType::BFloat16: return run<BFloat16>(args);
    default: run<Float32>(args);
  }
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(simcc_loss_cpu, SimccLossArgs)

}  // namespace fastpose
