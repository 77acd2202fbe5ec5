// heatmap_encode, heatmap_decode and heatmap_loss.
#include <cmath>

#include "checks.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_encode/gaussian_taps.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_loss/heatmap_loss.h"

namespace checks {
namespace {

using fastpose::CodecKind;

// As the bindings make it of a CodecSpec.
struct Codec {
  CodecKind kind;
  int64_t height, width, batch, keypoints;
  double sigma, radius;
  int32_t encode_taps, decode_taps;

  explicit Codec(Random& random) : kind(static_cast<CodecKind>(random.turn % 5)) {
    batch = random.whole(0, 3);
    keypoints = random.whole(1, 5);
    height = random.whole(2, 20);
    width = random.pick({8 * random.whole(1, 3), 4 * random.whole(1, 5), random.whole(2, 20)});  // whole vectors of 2 or 4 bytes each, or not
    if (random.one_in(6)) {  // more than one tile of a blur
      batch = 1;
      keypoints = random.whole(1, 2);
      height = random.whole(90, 110);
      width = random.whole(60, 70);
    }
    sigma = random.pick<double>({2.0, 1.0, 3.0});
    radius = random.pick<double>({0.0546875, 0.2}) * static_cast<double>(height > width ? height : width);
    encode_taps = kind == CodecKind::Megvii ? random.pick<int32_t>({11, 5, 1, 31}) : 1;
    decode_taps = kind == CodecKind::Gaussian ? 1 : random.pick<int32_t>({11, 5, 1, 3, 23, 63, 65, 97, 127});
  }
  // Factors along x and y that fill nearly 48 KiB of shared memory, and a little more.
  void make_long(Random& random) {
    batch = keypoints = 1;
    height = random.whole(1, 3);
    width = random.whole(12281, 12288) - height;
  }
  int64_t maps() const { return kind == CodecKind::UdpCombined ? 3 : 1; }
  int64_t points() const { return batch * keypoints; }
  int64_t pixels() const { return height * width; }
  int64_t size() const { return points() * maps() * pixels(); }

  fastpose::HeatmapTarget target() const {
    fastpose::HeatmapTarget t{};
    t.kind = kind;
    t.height = static_cast<int32_t>(height);
    t.width = static_cast<int32_t>(width);
    t.scale_x = t.scale_y = 4.f;
    t.sigma = static_cast<float>(sigma);
    t.radius = radius;
    t.taps = encode_taps;
    fastpose::gaussian_taps(t.taps, t.tap);
    return t;
  }
  fastpose::HeatmapReading reading() const {
    fastpose::HeatmapReading r{};
    r.kind = kind;
    r.height = static_cast<int32_t>(height);
    r.width = static_cast<int32_t>(width);
    r.scale_x = r.scale_y = 4.f;
    r.radius = static_cast<float>(radius);
    r.taps = decode_taps;
    fastpose::gaussian_taps(r.taps, r.tap);
    return r;
  }
  Array keypoints_in(Random& random) const {
    Array points_(DType::Float32, 2 * points());
    const double size = 4.0 * static_cast<double>(height > width ? height : width);
    fill(random, points_, -0.3 * size, 1.3 * size, 20);
    for (int64_t i = 0; i < points_.count(); ++i)
      if (random.one_in(3)) points_.put(i, 4.0 * static_cast<double>(random.whole(-1, i % 2 == 0 ? width : height)));  // corners, borders
    return points_;
  }
};

// Maps as networks make them, and others: noise, bumps, flat (every pixel ties), two equal peaks, nothing but NaN or -infinity.
void fill_maps(Random& random, Array& maps, const Codec& codec) {
  for (int64_t first = 0; first < maps.count(); first += codec.pixels()) {
    const int64_t kind = codec.kind == CodecKind::Megvii && random.one_in(2) ? 7 : random.whole(0, 9), w = codec.width;
    // Products with a factor are rounded most where they come to little more than a power of two: to what the map has at its peak.
    const double high = kind == 7 ? random.between(1, 1.05) : random.pick<double>({1.0, 1e-3, 60.0, 255.0, -1.0});
    const int64_t below = random.whole(1, 4), beside = random.one_in(2) ? 0 : w / 2;  // for one thread, and for two
    const double larger = 1 + 0x1p-23 * static_cast<double>(random.whole(1, 2)), x = random.between(-1, static_cast<double>(w)),
                 y = random.between(-1, static_cast<double>(codec.height));
    for (int64_t p = 0; p < codec.pixels(); ++p) {
      const double dx = static_cast<double>(p % w) - x, dy = static_cast<double>(p / w) - y;
      double value = high * std::exp(-(dx * dx + dy * dy) / 8.0);
      if (kind == 7) {  // two narrow peaks, the second one larger by a rounding: products of both with a factor may be equal
        const double one = static_cast<double>(p % w - w / 4), two = static_cast<double>(p % w - w / 4 - beside);
        const double down = static_cast<double>(p / w - codec.height / 2), further = down - static_cast<double>(below);
        value = high * (std::exp(-4 * (one * one + down * down)) + larger * std::exp(-4 * (two * two + further * further)));
      }
      if (kind == 0) value = random.between(-1, 1);
      if (kind == 1) value = high;
      if (kind == 2) value = random.pick<double>({std::nan(""), -INFINITY});
      if (kind == 3) value += 0.1 * high * random.between(-1, 1);
      if (kind == 4) value = static_cast<double>(random.whole(0, 2));  // ties
      maps.put(first + p, value);
    }
    if (kind == 5) maps.put(first + random.whole(0, codec.pixels() - 1), std::nan(""));
    if (kind == 6) maps.put(first + random.whole(0, codec.pixels() - 1), INFINITY);
  }
}

}  // namespace

void heatmap_encode(Random& random) {
  Codec codec(random);
  if (random.turn % 40 >= 35) codec.make_long(random);
  const Array points = codec.keypoints_in(random);
  Array visible(DType::Float32, codec.points()), factors(DType::Float32, codec.keypoints);
  fill(random, visible, -0.5, 2.5, 20);
  fill(random, factors, 0, 2);
  Array maps(DType::Float32, codec.size(), random.whole(0, 3)), weights(DType::Float32, codec.points());
  fastpose::HeatmapEncodeArgs args{points.as<float>(), visible.as<float>(), random.one_in(2) ? factors.as<float>() : nullptr,
                                   maps.as<float>(),   weights.as<float>(), codec.batch, codec.keypoints, codec.target()};
  Trial trial;
  trial.outputs = {&maps, &weights};
  trial.tolerances = {codec.kind == CodecKind::Megvii ? Tolerance{1e-4, 2e-6} : Tolerance{1e-18, 2e-6}, {0, 0}};
  trial.cpu = [&] { fastpose::heatmap_encode_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::heatmap_encode_cuda(args, stream); };
  run(random, trial);
}

namespace {

void decode(Random& random, const Codec& codec) {
  const DType dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16}, 5);
  Array maps(dtype, codec.size(), random.pick<int64_t>({0, 0, 0, 8, 1})), flipped(dtype, codec.size(), random.one_in(5) ? 1 : 0);
  Array pairs(DType::Int64, codec.keypoints), inverse(DType::Float64, 6 * codec.batch);
  fill_maps(random, maps, codec);
  fill_maps(random, flipped, codec);
  fill(random, inverse, -3, 3);
  // Some beyond the keypoints: on CUDA nobody has looked.
  for (int64_t k = 0; k < codec.keypoints; ++k) pairs.put(k, static_cast<double>(random.whole(0, codec.keypoints - 1)));
  if (random.one_in(4)) pairs.put(0, random.pick<double>({-1, -1e15, static_cast<double>(codec.keypoints), 1e15}));
  Array points(DType::Float32, 2 * codec.points()), scores(DType::Float32, codec.points());
  const bool merge = random.in_turn({true, false, true}, 15);
  fastpose::HeatmapDecodeArgs args{};
  args.heatmaps = maps.data();
  args.flipped = merge ? flipped.data() : nullptr;
  args.dtype = dtype;
  args.flip_index = merge ? pairs.as<int64_t>() : nullptr;
  args.flip_shift = random.in_turn({true, false, false}, 15);
  args.inverse = random.one_in(2) ? inverse.as<double>() : nullptr;
  args.keypoints = points.as<float>();
  args.scores = scores.as<float>();
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.reading = codec.reading();
  Trial trial;
  trial.outputs = {&points, &scores};
  trial.tolerances = {{0, 0}, {0, 0}};
  trial.cpu = [&] { fastpose::heatmap_decode_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::heatmap_decode_cuda(args, stream); };
  run(random, trial);
}

}  // namespace

// 45 cases go through every codec with every dtype, alone, with mirrored maps and with mirrored maps that are shifted.
void heatmap_decode(Random& random) {
  Codec codec(random);
  if (random.turn % 20 == 4) {  // float32: so many Megvii maps that some of their near ties decide
    codec.batch = 30;
    codec.keypoints = 17;
    codec.height = 20;
    codec.width = 24;
    codec.decode_taps = 5;
  }
  decode(random, codec);
  if (random.turn % 20 != 0) return;
  codec.batch = 300;  // so many Gaussians that each has a warp and no block
  codec.keypoints = 7;
  codec.height = random.whole(1, 4);
  codec.width = random.pick({8 * random.whole(1, 2), 4 * random.whole(1, 3), random.whole(2, 9)});
  decode(random, codec);
}

void heatmap_loss(Random& random) {
  Codec codec(random);
  if (random.turn % 40 == 5) {  // more keypoints than the block has threads that sums up their losses
    codec.keypoints = 300;
    codec.batch = 4;
    codec.height = 2;
    codec.width = 4;
  }
  if (random.turn % 40 >= 35) codec.make_long(random);
  const DType dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16}, 5);
  const Array points = codec.keypoints_in(random);
  Array predicted(dtype, codec.size(), random.pick<int64_t>({0, 0, 1})), gradient(dtype, codec.size(), random.pick<int64_t>({0, 0, 2}));
  Array target(random.one_in(2) ? dtype : DType::Float32, codec.size(), random.whole(0, 1)), weights(DType::Float32, codec.points());
  fill(random, predicted, -0.2, 1);
  fill(random, target, 0, 1);
  fill(random, weights, -0.2, 2, 20);
  for (int64_t i = 0; i < weights.count(); ++i)
    if (random.one_in(4) || !std::isfinite(weights.get(i)) || weights.get(i) > 2) weights.put(i, random.pick<double>({0.0, 0.0, std::nan("")}));
  Array loss(DType::Float32, 1), work(DType::Float64, 2 * codec.points());
  const bool given = random.one_in(3);
  fastpose::HeatmapLossArgs args{};
  args.predicted = predicted.data();
  args.dtype = dtype;
  args.keypoints = given ? nullptr : points.as<float>();
  args.target = given ? target.data() : nullptr;
  args.target_dtype = target.dtype();
  args.weights = random.one_in(3) ? nullptr : weights.as<float>();
  args.loss = loss.as<float>();
  args.gradient = random.one_in(4) ? nullptr : gradient.data();
  args.losses = work.as<double>();
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.topk = codec.kind == CodecKind::UdpCombined || random.one_in(2) ? 0 : random.whole(1, codec.keypoints);
  args.codec = codec.target();
  // An equal loss of two keypoints: the first of them counts.
  if (args.topk > 0 && codec.keypoints > 1 && given && random.one_in(2)) {
    for (int64_t i = 0; i < codec.points(); ++i) {
      for (int64_t p = 0; p < codec.pixels(); ++p) {
        predicted.put(i * codec.pixels() + p, predicted.get(p));
        target.put(i * codec.pixels() + p, target.get(p));
      }
      weights.put(i, 1);
    }
  }
  Trial trial;
  trial.outputs = {&loss};
  trial.tolerances = {{1e-9, 2e-5}};
  if (args.gradient != nullptr) {
    trial.outputs.push_back(&gradient);
    trial.tolerances.push_back({1e-9, 1e-5});
  }
  trial.cpu = [&] { fastpose::heatmap_loss_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::heatmap_loss_cuda(args, stream); };
  run(random, trial);
}

void scale_gradient(Random& random) {
  const DType dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16});
  const int64_t count = random.pick<int64_t>({random.whole(0, 40), random.whole(2000, 9000)});
  Array gradient(dtype, count, random.pick<int64_t>({0, 0, 1})), other(dtype, count, random.pick<int64_t>({0, 0, 3})), slope(DType::Float32, 1);
  fill(random, gradient, -2, 2, 20);
  slope.put(0, random.pick<double>({1.0, 1.0, 65536.0, 0.37, -3.0, 0.0, INFINITY, std::nan("")}));
  const bool in_place = random.one_in(2);
  const Array& out = in_place ? gradient : other;
  const fastpose::ScaleGradientArgs args{gradient.data(), dtype, slope.as<float>(), out.data(), count};
  Trial trial;
  trial.outputs = {in_place ? &gradient : &other};
  trial.tolerances = {{0, 0}};
  trial.adds = in_place;  // what the gradient holds counts
  trial.cpu = [&] { fastpose::scale_gradient_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::scale_gradient_cuda(args, stream); };
  run(random, trial);
}

}  // namespace checks
