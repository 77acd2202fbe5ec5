#include "heatmap_loss/heatmap_loss.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "heatmap_encode/heatmap_target_cpu.h"
#include "heatmap_loss/heatmap_loss_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// How the gradient is stored: not at all, as usual, or past the caches.
enum class Gradient { None, Stored, Streamed };

// Sum of s (p - t)^2 over n elements, and gradient = factor s (p - t), where t is 0 if `target` is null and s is 1 if `scale` is null,
// else scale^2. Reads everything once.
template <class P, class T, Gradient kind>
FASTPOSE_INLINE float squares_as(const typename P::Element* predicted, const typename T::Element* target, const typename T::Element* scale,
                                 typename P::Element* gradient, float factor, int64_t n) {
  constexpr int kStep = 4 * Vec::lanes;
  Vec sum[4] = {zero(), zero(), zero(), zero()};
  const Vec slope = set(factor);
  const auto put = [&](int64_t at, Vec v) {
    if (kind == Gradient::Stored) P::store(gradient + at, v);
    if (kind == Gradient::Streamed) P::stream(gradient + at, v);
  };
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (int j = 0; j < 4; ++j) {
      const int64_t at = i + j * Vec::lanes;
      Vec d = P::load(predicted + at);
      if (target != nullptr) d = d - T::load(target + at);
      if (scale == nullptr) {
        sum[j] = madd(d, d, sum[j]);
        put(at, d * slope);
      } else {
        const Vec s = T::load(scale + at), ss = s * s;
        sum[j] = madd(ss * d, d, sum[j]);
        put(at, ss * d * slope);
      }
    }
  }
  float rest = 0.f;
  for (; i < n; ++i) {
    const float d = P::get(predicted + i) - (target != nullptr ? T::get(target + i) : 0.f);
    const float s = scale != nullptr ? T::get(scale + i) : 1.f;
    rest += s * s * d * d;
    if (kind != Gradient::None) P::put(gradient + i, s * s * d * factor);
  }
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

template <class P, class T>
FASTPOSE_INLINE float squares(const typename P::Element* predicted, const typename T::Element* target, const typename T::Element* scale,
                              typename P::Element* gradient, bool streamed, float factor, int64_t n) {
  if (gradient == nullptr) return squares_as<P, T, Gradient::None>(predicted, target, scale, gradient, factor, n);
  if (streamed && P::can_stream(gradient)) return squares_as<P, T, Gradient::Streamed>(predicted, target, scale, gradient, factor, n);
  return squares_as<P, T, Gradient::Stored>(predicted, target, scale, gradient, factor, n);
}

template <class P, class T>
struct Loss {
  using Element = typename P::Element;
  const HeatmapLossArgs& args;
  const HeatmapTarget& t;
  TargetRows rows;
  float* block;  // the target's rows that are not zero
  const int64_t pixels, maps;
  const bool streamed;

  FASTPOSE_INLINE Loss(const HeatmapLossArgs& a, float* scratch)
      : args(a), t(a.codec), rows(t, scratch), block(scratch + target_scratch(t)), pixels(static_cast<int64_t>(t.height) * t.width),
        maps(t.kind == CodecKind::UdpCombined ? 3 : 1),
        streamed(a.batch * a.keypoints_k * maps * pixels * static_cast<int64_t>(sizeof(Element)) >= kStreamBytes) {}

  // Loss of keypoint i times h w; writes its gradient if `gradient` (of this keypoint's maps) is not null.
  FASTPOSE_INLINE double keypoint(int64_t i, Element* gradient) {
    const Element* predicted = static_cast<const Element*>(args.predicted) + i * maps * pixels;
    float weight = loss_weight(args, i);
    bool drawn = false;
    if (args.target == nullptr) {
      drawn = rows.begin(args.keypoints[2 * i], args.keypoints[2 * i + 1]);
      if (!drawn && args.weights != nullptr) weight = 0.f;
    }
    if (weight == 0.f) {
      if (gradient != nullptr) memset(gradient, 0, bytes_of<Element>(maps * pixels));
      return 0.0;
    }
    const float factor = gradient_factor(args, weight);
    double sum = 0.0;
    if (args.target != nullptr) {
      const auto* target = static_cast<const typename T::Element*>(args.target) + i * maps * pixels;
      for (int64_t m = 0; m < maps; ++m) {
        Element* slope = gradient == nullptr ? nullptr : gradient + m * pixels;
        sum += m == 0 ? squares<P, T>(predicted, target, nullptr, slope, streamed, factor, pixels)
                      : squares<P, T>(predicted + m * pixels, target + m * pixels, target, slope, streamed, factor, pixels);
      }
    } else {
      sum = against_keypoint(predicted, gradient, factor, drawn);
    }
    return square_factor(args, weight) * sum;
  }

 private:
  FASTPOSE_INLINE double against_keypoint(const Element* predicted, Element* gradient, float factor, bool drawn) {
    const TargetPlace& place = rows.place;
    int64_t first = pixels, last = pixels;
    if (drawn && place.y1 > place.y0 && place.x1 > place.x0) {
      // Cut at multiples of 16 elements, so that every part begins where the map's gradient may be streamed.
      const int64_t top = static_cast<int64_t>(place.y0) * t.width, bottom = static_cast<int64_t>(place.y1) * t.width;
      first = top / 16 * 16;
      last = min_of((bottom + 15) / 16 * 16, pixels);
      memset(block, 0, bytes_of<float>(last - first));
      for (int y = place.y0; y < place.y1; ++y) rows.write_row(y, block + (static_cast<int64_t>(y) * t.width - first) + place.x0);
    }
    const auto part = [&](int64_t from, int64_t to, const float* target) {
      return static_cast<double>(squares<P, Float32>(predicted + from, target, nullptr, gradient == nullptr ? nullptr : gradient + from,
                                                     streamed, factor, to - from));
    };
    double sum = part(0, first, nullptr) + part(first, last, block) + part(last, pixels, nullptr);
    if (maps == 3) sum += offsets(predicted + pixels, gradient == nullptr ? nullptr : gradient + pixels, factor, drawn);
    return sum;
  }

  // The offset maps count only in the disc, so that little of them is read.
  FASTPOSE_INLINE double offsets(const Element* predicted, Element* gradient, float factor, bool drawn) const {
    const TargetPlace& place = rows.place;
    if (gradient != nullptr) memset(gradient, 0, bytes_of<Element>(2 * pixels));
    double sum = 0.0;
    if (!drawn) return sum;
    for (int y = place.y0; y < place.y1; ++y) {
      const double offset_y = disc_offset(place.y, y, t.radius);
      for (int x = place.x0; x < place.x1; ++x) {
        const double offset_x = disc_offset(place.x, x, t.radius);
        if (!in_disc(offset_x, offset_y)) continue;
        const int64_t at = static_cast<int64_t>(y) * t.width + x;
        const float dx = P::get(predicted + at) - static_cast<float>(offset_x);
        const float dy = P::get(predicted + pixels + at) - static_cast<float>(offset_y);
        sum += static_cast<double>(dx * dx + dy * dy);
        if (gradient == nullptr) continue;
        P::put(gradient + at, dx * factor);
        P::put(gradient + pixels + at, dy * factor);
      }
    }
    return sum;
  }
};

template <class P, class T>
FASTPOSE_INLINE void run(const HeatmapLossArgs& args) {
  using Element = typename P::Element;
  const int64_t count = args.batch * args.keypoints_k;
  const int64_t each = static_cast<int64_t>(args.codec.height) * args.codec.width * (is_combined(args) ? 3 : 1);
  const int64_t scratch = target_scratch(args.codec) + static_cast<int64_t>(args.codec.height) * args.codec.width + 2 * Vec::lanes + 16;
  Element* gradient = static_cast<Element*>(args.gradient);
  double* counts = args.losses + count;
  // With a top k, which gradients are wanted is known only when all losses are.
  const bool at_once = args.topk == 0;
  parallel_for(count, 2, [&](int64_t begin, int64_t end) {
    Loss<P, T> loss(args, thread_scratch(scratch));
    for (int64_t i = begin; i < end; ++i)
      args.losses[i] = loss.keypoint(i, at_once && gradient != nullptr ? gradient + i * each : nullptr);
    stream_fence();
  });
  if (!at_once) {
    for (int64_t i = 0; i < count; ++i)
      counts[i] = is_hard(args.losses + i / args.keypoints_k * args.keypoints_k, args.keypoints_k, i % args.keypoints_k, args.topk);
    if (gradient != nullptr)
      parallel_for(count, 2, [&](int64_t begin, int64_t end) {
        Loss<P, T> loss(args, thread_scratch(scratch));
        for (int64_t i = begin; i < end; ++i) {
          if (counts[i] != 0.0) loss.keypoint(i, gradient + i * each);
          else memset(gradient + i * each, 0, bytes_of<Element>(each));
        }
        stream_fence();
      });
  }
  // In one order, whatever the number of threads.
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i)
    if (at_once || counts[i] != 0.0) sum += args.losses[i];
  *args.loss = count == 0 ? 0.f : static_cast<float>(sum * mean_factor(args));
}

template <class P>
FASTPOSE_INLINE void run_any_target(const HeatmapLossArgs& args) {
  if (args.target == nullptr || args.target_dtype == DType::Float32) return run<P, Float32>(args);
  run<P, P>(args);
}

template <class P>
FASTPOSE_INLINE void scale(const ScaleGradientArgs& args) {
  const auto* from = static_cast<const typename P::Element*>(args.gradient);
  auto* to = static_cast<typename P::Element*>(args.out);
  const float slope = *args.slope;
  if (slope == 1.f && from == to) return;
  parallel_for(args.count, 1 << 15, [&](int64_t begin, int64_t end) {
    const Vec factor = set(slope);
    int64_t i = begin;
    for (; i + Vec::lanes <= end; i += Vec::lanes) P::store(to + i, P::load(from + i) * factor);
    for (; i < end; ++i) P::put(to + i, P::get(from + i) * slope);
  });
}

}  // namespace

void heatmap_loss_cpu(const HeatmapLossArgs& args) {
  switch (args.dtype) {
    case DType::Float16: return run_any_target<Float16>(args);
    case DType::BFloat16: return run_any_target<BFloat16>(args);
    default: run<Float32, Float32>(args);
  }
}

void scale_gradient_cpu(const ScaleGradientArgs& args) {
  switch (args.dtype) {
    case DType::Float16: return scale<Float16>(args);
    case DType::BFloat16: return scale<BFloat16>(args);
    default: scale<Float32>(args);
  }
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(heatmap_loss_cpu, HeatmapLossArgs)
FASTPOSE_DISPATCH(scale_gradient_cpu, ScaleGradientArgs)

}  // namespace fastpose
