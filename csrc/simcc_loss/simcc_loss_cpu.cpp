#include "simcc_loss/simcc_loss.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "simcc_encode/simcc_label_cpu.h"
#include "simcc_loss/simcc_loss_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

template <class Type>
struct Comparer {
  using Element = typename Type::Element;
  const SimccLossArgs& args;
  float *values, *exps, *window;  // beta (v - largest); exp of it; the label's window

  // Reads a vector into `values`, less its largest value and times beta.
  FASTPOSE_INLINE void read(const Element* from, int n) const {
    const float lowest = -__builtin_inff();
    Vec most = set(lowest);
    int i = 0;
    for (; i + Vec::lanes <= n; i += Vec::lanes) {
      const Vec v = Type::load(from + i) * set(args.beta);
      store(values + i, v);
      most = max(most, v);
    }
    float largest = reduce_max(most);
    for (; i < n; ++i) {
      values[i] = Type::get(from + i) * args.beta;
      largest = max_of(largest, values[i]);
    }
    for (i = 0; i + Vec::lanes <= n; i += Vec::lanes) store(values + i, load(values + i) - set(largest));
    for (; i < n; ++i) values[i] -= largest;
  }

  // Sums over the whole vector; in double from vector to vector would cost more than it gives for so few values.
  FASTPOSE_INLINE void sum_all(int n, SimccSums& s) const {
    Vec e = zero(), v = zero();
    int i = 0;
    for (; i + Vec::lanes <= n; i += Vec::lanes) {
      const Vec value = load(values + i), power = exp(value);
      store(exps + i, power);
      e += power;
      v += value;
    }
    float of_exps = reduce_add(e), of_values = reduce_add(v);
    if (i < n) {
      float last[Vec::lanes];
      store(last, exp(load_n(values + i, n - i)));
      for (int j = 0; i + j < n; ++j) {
        exps[i + j] = last[j];
        of_exps += last[j];
        of_values += values[i + j];
      }
    }
    s.exps = of_exps;
    s.values = of_values;
  }

  // Makes the window's labels into targets that are not normalised yet, and sums over it.
  FASTPOSE_INLINE void sum_window(const SimccPlace& place, float peak, SimccSums& s) const {
    const int n = place.end - place.begin;
    const float* const at = values + place.begin;
    Vec sum = zero(), logs = zero(), dots = zero(), plain = zero();
    for (int i = 0; i < n; i += Vec::lanes) {
      const int left = n - i;
      const Mask there = iota() < set(static_cast<float>(left));  // beyond, the window holds anything
      Vec t = select(there, load(window + i), set(peak));
      const Vec v = left < Vec::lanes ? load_n(at + i, left) : load(at + i);
      Vec log_t;
      if (args.label_softmax) {
        log_t = (t - set(peak)) * set(args.label_beta);
        t = exp(log_t);
      } else {
        log_t = log(max(t, set(1e-37f)));
      }
      t = select(there, t, zero());
      store(window + i, t);
      sum += t;
      logs = madd(t, log_t, logs);
      dots = madd(t, v, dots);
      plain += v;
    }
    s.window_exps = reduce_add(sum);
    s.window_logs = reduce_add(logs);
    s.window_dots = reduce_add(dots);
    s.window_values = reduce_add(plain);
  }

  FASTPOSE_INLINE double compare(const void* vectors, void* gradients, int64_t i, const SimccPlace& place, float sigma, int n,
                                 float weight) const {
    read(static_cast<const Element*>(vectors) + i * n, n);
    SimccSums s{};
    sum_all(n, s);
    simcc_draw(args.label, place, sigma, window);
    const float peak = simcc_peak(args.label, sigma), rest = simcc_rest(args.label, n);
    sum_window(place, peak, s);
    const float elsewhere = args.label_softmax ? expf(args.label_beta * (rest - peak)) : rest;
    const int inside = place.end - place.begin;
    const SimccTerms terms = simcc_terms(args, s, n, inside, elsewhere);
    if (gradients != nullptr) {
      const float factor = weight * args.beta / (static_cast<float>(n) * static_cast<float>(args.keypoints_k));
      const float of_exps = factor * terms.total / static_cast<float>(s.exps), of_targets = factor * terms.scale;
      write(static_cast<Element*>(gradients) + i * n, n, place, of_exps, of_targets, elsewhere);
    }
    return terms.loss * static_cast<double>(weight);
  }

  // of_exps * exp - of_targets * target.
  FASTPOSE_INLINE void write(Element* to, int n, const SimccPlace& place, float of_exps, float of_targets, float elsewhere) const {
    for (int i = 0; i < place.end - place.begin; ++i) exps[place.begin + i] -= (window[i] - elsewhere) * of_targets / of_exps;
    const Vec factor = set(of_exps), less = set(of_targets * elsewhere);
    int i = 0;
    for (; i + Vec::lanes <= n; i += Vec::lanes) Type::store(to + i, load(exps + i) * factor - less);
    for (; i < n; ++i) Type::put(to + i, exps[i] * of_exps - of_targets * elsewhere);
  }

  FASTPOSE_INLINE void clear(void* gradients, int64_t i, int n) const {
    if (gradients != nullptr) memset(static_cast<Element*>(gradients) + i * n, 0, bytes_of<Element>(n));
  }

  FASTPOSE_INLINE double compare(int64_t i) const {
    const SimccLabel& label = args.label;
    const SimccPlaces places = simcc_places(label, args.keypoints[2 * i], args.keypoints[2 * i + 1]);
    const float weight = simcc_loss_weight(args, i, places);
    if (!(weight > 0.f)) {
      clear(args.gradient_x, i, label.width);
      clear(args.gradient_y, i, label.height);
      return 0.0;
    }
    return compare(args.x, args.gradient_x, i, places.x, label.sigma_x, label.width, weight) +
           compare(args.y, args.gradient_y, i, places.y, label.sigma_y, label.height, weight);
  }
};

template <class Type>
FASTPOSE_INLINE void run(const SimccLossArgs& args) {
  const int64_t room = max_of(args.label.width, args.label.height) + 2 * Vec::lanes, count = args.batch * args.keypoints_k;
  parallel_for(count, 8, [&](int64_t begin, int64_t end) {
    float* const scratch = thread_scratch(3 * room);
    const Comparer<Type> comparer{args, scratch, scratch + room, scratch + 2 * room};
    for (int64_t i = begin; i < end; ++i) args.losses[i] = comparer.compare(i);
  });
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += args.losses[i];
  *args.loss = count == 0 ? 0.f : static_cast<float>(sum / static_cast<double>(args.keypoints_k));
}

}  // namespace

void simcc_loss_cpu(const SimccLossArgs& args) {
  switch (args.dtype) {
    case DType::Float16: return run<Float16>(args);
    case DType::BFloat16: return run<BFloat16>(args);
    default: return run<Float32>(args);
  }
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(simcc_loss_cpu, SimccLossArgs)

}  // namespace fastpose
