// Targets of heatmap_encode, heatmap_decode and heatmap_loss.
#include <cmath>

#include "fuzz.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_encode/gaussian_taps.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_loss/heatmap_loss.h"

namespace fuzz {
namespace {

using fastpose::CodecKind;
using fastpose::DType;

// As the bindings make it of a CodecSpec, within the limits that they set.
struct Codec {
  CodecKind kind;
  int64_t height, width, input_height, input_width, kernel_size, blur_kernel;
  double sigma, radius_factor;
  bool large;

  explicit Codec(Bytes& in) {
    kind = static_cast<CodecKind>(in.byte() % 5);
    const int64_t least = is_udp() ? 2 : 1, most = in.byte() % 8 == 0 ? 130 : 20;
    large = in.byte() == 255;  // enough for the stores that go past the caches
    height = large ? 1453 : in.between(least, most);
    width = large ? in.between(1450, 1480) : in.between(least, most);
    input_height = in.byte() % 8 == 1 ? in.between(least, 16384) : height * 4;
    input_width = in.byte() % 8 == 1 ? in.between(least, 16384) : width * 4;
    sigma = in.pick<double>({2.0, 1.5, 1e-3, 0.1, 6.0, 1e6});
    radius_factor = in.pick<double>({0.0546875, 0.2, 1e-6, 1e6});
    kernel_size = 2 * in.between(0, in.byte() % 8 == 1 && !large ? 63 : 7) + 1;
    blur_kernel = 2 * in.between(0, large ? 2 : kind == CodecKind::UdpCombined ? 31 : in.byte() % 8 == 1 ? 63 : 7) + 1;
  }
  bool is_udp() const { return kind == CodecKind::Udp || kind == CodecKind::UdpCombined; }
  int64_t maps() const { return kind == CodecKind::UdpCombined ? 3 : 1; }
  int64_t pixels() const { return height * width; }
  float scale(int64_t input, int64_t heatmap) const {
    return static_cast<float>(static_cast<double>(input - is_udp()) / static_cast<double>(heatmap - is_udp()));
  }
  double radius() const { return radius_factor * static_cast<double>(height > width ? height : width); }

  fastpose::HeatmapTarget target() const {
    fastpose::HeatmapTarget t{};
    t.kind = kind;
    t.height = static_cast<int32_t>(height);
    t.width = static_cast<int32_t>(width);
    t.scale_x = scale(input_width, width);
    t.scale_y = scale(input_height, height);
    t.sigma = static_cast<float>(sigma);
    t.radius = radius();
    t.taps = kind == CodecKind::Megvii ? static_cast<int32_t>(kernel_size) : 1;
    fastpose::gaussian_taps(t.taps, t.tap);
    return t;
  }
  fastpose::HeatmapReading reading() const {
    fastpose::HeatmapReading r{};
    r.kind = kind;
    r.height = static_cast<int32_t>(height);
    r.width = static_cast<int32_t>(width);
    r.scale_x = scale(input_width, width);
    r.scale_y = scale(input_height, height);
    r.radius = static_cast<float>(radius());
    r.taps = static_cast<int32_t>(kind == CodecKind::Gaussian      ? 1
                                  : kind == CodecKind::Megvii      ? kernel_size
                                  : kind == CodecKind::UdpCombined ? 2 * blur_kernel + 1
                                                                   : blur_kernel);
    fastpose::gaussian_taps(r.taps, r.tap);
    return r;
  }
};

struct Sizes {
  int64_t batch, keypoints;
  Sizes(Bytes& in, const Codec& codec) : batch(in.between(0, 3)), keypoints(in.between(0, 6)) {
    if (codec.pixels() > 2000 && batch > 0) batch = 1;
    if (codec.large && keypoints > 0) keypoints = 1;
  }
  int64_t points() const { return batch * keypoints; }
};

Array<float> points_of(Bytes& in, const Sizes& sizes, const Codec& codec) {
  Array<float> points(in, 2 * sizes.points());
  const double size = static_cast<double>(codec.input_width > codec.input_height ? codec.input_width : codec.input_height);
  fill(points, numbers(in, -0.3 * size, 1.3 * size));
  return points;
}

// Either random everywhere, flat, or a bump at a random pixel, as maps are.
void fill_maps(Bytes& in, const AnyArray& array, const Codec& codec) {
  AnyArray& maps = const_cast<AnyArray&>(array);
  const int kind = in.byte() % 4;
  const double high = in.pick<double>({1.0, 1e-3, 60.0, 255.0, -1.0});
  maps.fill(numbers(in, in.flag() ? 0.0 : -1.0, high));
  if (kind < 2) return;
  Random random = in.random();
  for (int64_t i = 0; i < maps.count; i += codec.pixels()) {
    const double x = static_cast<double>(random.below(codec.width)), y = static_cast<double>(random.below(codec.height));
    for (int64_t p = 0; p < codec.pixels(); ++p) {
      const double dx = static_cast<double>(p % codec.width) - x, dy = static_cast<double>(p / codec.width) - y;
      maps.put(i + p, kind == 2 ? high * std::exp(-(dx * dx + dy * dy) / 8.0) : high);
    }
    if (random.below(3) == 0) maps.put(i + random.below(codec.pixels()), std::nan(""));
  }
}

}  // namespace

void heatmap_encode(Bytes& in) {
  const Codec codec(in);
  const Sizes sizes(in, codec);
  const Array<float> points = points_of(in, sizes, codec);
  Array<float> visible(in, sizes.points()), factors;
  fill(visible, numbers(in, -0.5, 2.5));
  if (in.flag()) {
    factors = Array<float>(in, sizes.keypoints);
    fill(factors, numbers(in, 0.0, 2.0));
  }
  fastpose::HeatmapEncodeArgs args;
  args.keypoints = points.data();
  args.visible = visible.data();
  args.joint_weights = factors.data();
  args.batch = sizes.batch;
  args.keypoints_k = sizes.keypoints;
  args.target = codec.target();
  const int64_t count = sizes.points() * codec.maps() * codec.pixels();
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, count}, {DType::Float32, sizes.points()}};
  trial.run = [&](void* const* outputs) {
    fastpose::HeatmapEncodeArgs mine = args;
    mine.heatmaps = static_cast<float*>(outputs[0]);
    mine.weights = static_cast<float*>(outputs[1]);
    fastpose::heatmap_encode_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    const float* maps = static_cast<const float*>(outputs[0]);
    // Near a border the mirrored blur may be larger beside the keypoint than at it.
    const float highest = codec.kind == CodecKind::Megvii ? 4.f * 255.f : 1.f;
    for (int64_t i = 0; i < count; ++i) {
      FUZZ_CHECK(maps[i] == maps[i], "a target that is not a number");
      const bool offset = codec.kind == CodecKind::UdpCombined && i / codec.pixels() % 3 != 0;
      FUZZ_CHECK(offset || (maps[i] >= 0.f && maps[i] <= highest), "a target of %g", static_cast<double>(maps[i]));
    }
    const float* weights = static_cast<const float*>(outputs[1]);
    for (int64_t i = 0; i < sizes.points() && !factors; ++i)
      FUZZ_CHECK(weights[i] >= 0.f && weights[i] <= 1.f, "a weight of %g", static_cast<double>(weights[i]));
  };
  run_trial(in, trial);
}

void heatmap_decode(Bytes& in) {
  const Codec codec(in);
  const Sizes sizes(in, codec);
  const DType dtype = in.pick<DType>({DType::Float32, DType::Float16, DType::BFloat16});
  const int64_t count = sizes.points() * codec.maps() * codec.pixels();
  const AnyArray maps(in, dtype, count);
  fill_maps(in, maps, codec);
  AnyArray flipped;
  Array<int64_t> pairs;
  Array<double> inverse;
  fastpose::HeatmapDecodeArgs args;
  args.heatmaps = maps.data();
  args.flipped = args.flip_index = nullptr;
  args.inverse = nullptr;
  args.dtype = dtype;
  args.flip_shift = in.flag();
  if (in.flag()) {
    flipped = AnyArray(in, dtype, count);
    fill_maps(in, flipped, codec);
    pairs = Array<int64_t>(in, sizes.keypoints);
    for (int64_t k = 0; k < sizes.keypoints; ++k) pairs[k] = in.between(0, sizes.keypoints - 1);
    args.flipped = flipped.data();
    args.flip_index = pairs.data();
  }
  if (in.flag()) {
    inverse = Array<double>(in, 6 * sizes.batch);
    fill(inverse, numbers(in, -3.0, 3.0, true));
    args.inverse = inverse.data();
  }
  args.batch = sizes.batch;
  args.keypoints_k = sizes.keypoints;
  args.reading = codec.reading();
  Trial trial;
  trial.same_levels = true;
  trial.outputs = {{DType::Float32, 2 * sizes.points()}, {DType::Float32, sizes.points()}};
  trial.run = [&](void* const* outputs) {
    fastpose::HeatmapDecodeArgs mine = args;
    mine.keypoints = static_cast<float*>(outputs[0]);
    mine.scores = static_cast<float*>(outputs[1]);
    fastpose::heatmap_decode_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    const float *points = static_cast<const float*>(outputs[0]), *scores = static_cast<const float*>(outputs[1]);
    for (int64_t i = 0; i < sizes.points(); ++i) {
      FUZZ_CHECK(scores[i] == scores[i], "a score that is not a number");
      FUZZ_CHECK(args.inverse != nullptr || (points[2 * i] == points[2 * i] && points[2 * i + 1] == points[2 * i + 1]),
                 "a keypoint that is not a number");
    }
  };
  run_trial(in, trial);
}

void heatmap_loss(Bytes& in) {
  const Codec codec(in);
  const Sizes sizes(in, codec);
  const DType dtype = in.pick<DType>({DType::Float32, DType::Float16, DType::BFloat16});
  const int64_t count = sizes.points() * codec.maps() * codec.pixels();
  const AnyArray predicted(in, dtype, count);
  fill_maps(in, predicted, codec);
  fastpose::HeatmapLossArgs args;
  Array<float> points, weights;
  AnyArray target;
  args.keypoints = args.weights = nullptr;
  args.target = nullptr;
  args.target_dtype = DType::Float32;
  if (in.flag()) {
    points = points_of(in, sizes, codec);
    args.keypoints = points.data();
  } else {
    args.target_dtype = in.flag() ? DType::Float32 : dtype;
    target = AnyArray(in, args.target_dtype, count);
    fill_maps(in, target, codec);
    args.target = count > 0 ? target.data() : nullptr;
  }
  if (in.flag()) {
    weights = Array<float>(in, sizes.points());
    fill(weights, numbers(in, -0.5, 2.0));
    args.weights = weights.data();
  }
  args.predicted = predicted.data();
  args.dtype = dtype;
  args.batch = sizes.batch;
  args.keypoints_k = sizes.keypoints;
  args.topk = in.between(0, sizes.keypoints);
  args.codec = codec.target();
  const bool with_gradient = in.flag();
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, 1}, {DType::Float64, sizes.points()}, {dtype, with_gradient ? count : 0}};
  trial.run = [&](void* const* outputs) {
    std::vector<double> counts(static_cast<size_t>(2 * sizes.points()));
    fastpose::HeatmapLossArgs mine = args;
    mine.loss = static_cast<float*>(outputs[0]);
    mine.losses = counts.data();
    mine.gradient = with_gradient ? outputs[2] : nullptr;
    fastpose::heatmap_loss_cpu(mine);
    for (int64_t i = 0; i < sizes.points(); ++i) static_cast<double*>(outputs[1])[i] = counts[static_cast<size_t>(i)];
  };
  trial.check = [&](void* const* outputs) {
    const float loss = *static_cast<const float*>(outputs[0]);
    FUZZ_CHECK(!(loss < 0.f), "a loss of %g", static_cast<double>(loss));
    FUZZ_CHECK(sizes.points() > 0 || loss == 0.f, "a loss of %g without keypoints", static_cast<double>(loss));
  };
  run_trial(in, trial);
}

}  // namespace fuzz
