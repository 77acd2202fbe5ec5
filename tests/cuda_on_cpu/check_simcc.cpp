// simcc_encode, simcc_decode and simcc_loss.
#include <cmath>

#include "checks.h"
#include "heatmap_encode/gaussian_taps.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_loss/simcc_loss.h"

namespace checks {
namespace {

// As the bindings make it.
struct Codec {
  int64_t bins[2], batch, keypoints;
  double sigma[2];
  bool gaussian, normalized;
  int32_t taps[2];

  explicit Codec(Random& random) {
    batch = random.whole(0, 3);
    keypoints = random.whole(1, 5);
    gaussian = random.whole(0, 3) > 0;
    normalized = random.one_in(2);
    for (int axis = 0; axis < 2; ++axis) {
      bins[axis] = random.pick({8 * random.whole(1, 12), 4 * random.whole(1, 25), random.whole(1, 100)});  // whole vectors, or not
      sigma[axis] = random.pick<double>({2.0, 4.9, 0.4});
      taps[axis] = random.one_in(2) ? 0 : random.pick<int32_t>({1, 3, 11, 29, 127});
    }
    if (random.one_in(6)) bins[random.whole(0, 1)] = random.whole(513, 1100);  // more than lanes keep, and more than they keep at most
  }
  int64_t points() const { return batch * keypoints; }

  fastpose::SimccTarget target() const {
    fastpose::SimccTarget t{};
    t.split_ratio = 2.f;
    t.gaussian = gaussian;
    for (int axis = 0; axis < 2; ++axis) {
      t.bins[axis] = static_cast<int32_t>(bins[axis]);
      t.sigma[axis] = static_cast<float>(sigma[axis]);
      t.reach[axis] = gaussian ? static_cast<float>(3 * sigma[axis]) : 0.f;
      t.peak[axis] = static_cast<float>(!gaussian ? 0.9 : normalized ? 1 / (sigma[axis] * 2.5066282746) : 1.0);
      t.rest[axis] = gaussian || bins[axis] == 1 ? 0.f : static_cast<float>(0.1 / static_cast<double>(bins[axis] - 1));
    }
    return t;
  }
  Array keypoints_in(Random& random) const {
    Array points_(DType::Float32, 2 * points());
    const double size = 0.5 * static_cast<double>(bins[0] > bins[1] ? bins[0] : bins[1]);
    fill(random, points_, -0.3 * size, 1.3 * size, 20);
    for (int64_t i = 0; i < points_.count(); ++i)
      if (random.one_in(3)) points_.put(i, 0.5 * static_cast<double>(random.whole(-8, bins[i % 2] + 8)));  // ends, and the labels' reach
    return points_;
  }
};

// Vectors as networks make them, and others: noise, flat, ties, nothing but NaN or -infinity.
void fill_vectors(Random& random, Array& vectors, int64_t bins) {
  for (int64_t first = 0; first < vectors.count(); first += bins) {
    const int64_t kind = random.whole(0, 9);
    const double high = random.pick<double>({1.0, 1e-3, 0.07, 60.0, -1.0}), middle = random.between(-1, static_cast<double>(bins));
    for (int64_t p = 0; p < bins; ++p) {
      const double d = static_cast<double>(p) - middle;
      double value = high * std::exp(-d * d / 40.0);
      if (kind == 0) value = random.between(-1, 1);
      if (kind == 1) value = high;
      if (kind == 2) value = random.pick<double>({std::nan(""), -INFINITY});
      if (kind == 3) value += 0.1 * high * random.between(-1, 1);
      if (kind == 4) value = static_cast<double>(random.whole(0, 2));
      vectors.put(first + p, value);
    }
    if (kind == 5) vectors.put(first + random.whole(0, bins - 1), std::nan(""));
    if (kind == 6) vectors.put(first + random.whole(0, bins - 1), INFINITY);
  }
}

}  // namespace

void simcc_encode(Random& random) {
  const Codec codec(random);
  const Array points = codec.keypoints_in(random);
  Array visible(DType::Float32, codec.points()), factors(DType::Float32, codec.keypoints), weights(DType::Float32, codec.points());
  fill(random, visible, -0.5, 2.5, 20);
  fill(random, factors, 0, 2);
  Array x(DType::Float32, codec.points() * codec.bins[0], random.whole(0, 3)), y(DType::Float32, codec.points() * codec.bins[1]);
  fastpose::SimccEncodeArgs args{};
  args.keypoints = points.as<float>();
  args.visible = visible.as<float>();
  args.joint_weights = random.one_in(2) ? factors.as<float>() : nullptr;
  args.vectors[0] = x.as<float>();
  args.vectors[1] = y.as<float>();
  args.weights = weights.as<float>();
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.target = codec.target();
  Trial trial;
  trial.outputs = {&x, &y, &weights};
  trial.tolerances = {{2e-36, 2e-6}, {2e-36, 2e-6}, {0, 0}};
  trial.cpu = [&] { fastpose::simcc_encode_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::simcc_encode_cuda(args, stream); };
  run(random, trial);
}

void simcc_decode(Random& random) {
  const Codec codec(random);
  const DType dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16}, 5);
  const bool merge = random.in_turn({true, false}, 15);
  Array vectors[2], flipped[2], pairs(DType::Int64, codec.keypoints), inverse(DType::Float64, 6 * codec.batch);
  fastpose::SimccDecodeArgs args{};
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t count = codec.points() * codec.bins[axis];
    vectors[axis] = Array(dtype, count, random.pick<int64_t>({0, 0, 0, 8, 1}));
    flipped[axis] = Array(dtype, count, random.one_in(5) ? 1 : 0);
    fill_vectors(random, vectors[axis], codec.bins[axis]);
    fill_vectors(random, flipped[axis], codec.bins[axis]);
    args.vectors[axis] = vectors[axis].data();
    args.flipped[axis] = merge ? flipped[axis].data() : nullptr;
    args.reading.bins[axis] = static_cast<int32_t>(codec.bins[axis]);
    args.reading.sharpness[axis] = static_cast<float>(150 * codec.sigma[axis]);
    args.reading.taps[axis] = codec.taps[axis];
    if (codec.taps[axis] > 0) fastpose::gaussian_taps(codec.taps[axis], args.reading.tap[axis]);
  }
  fill(random, inverse, -3, 3);
  // Some beyond the keypoints: on CUDA nobody has looked.
  for (int64_t k = 0; k < codec.keypoints; ++k) pairs.put(k, static_cast<double>(random.whole(0, codec.keypoints - 1)));
  if (random.one_in(4)) pairs.put(0, random.pick<double>({-1, -1e15, static_cast<double>(codec.keypoints), 1e15}));
  Array points(DType::Float32, 2 * codec.points()), scores(DType::Float32, codec.points()), seen(DType::Float32, codec.points());
  args.dtype = dtype;
  args.flip_index = merge ? pairs.as<int64_t>() : nullptr;
  args.inverse = random.one_in(2) ? inverse.as<double>() : nullptr;
  args.keypoints = points.as<float>();
  args.scores = scores.as<float>();
  args.visibility = random.one_in(2) ? seen.as<float>() : nullptr;
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.reading.split_ratio = 2.f;
  Trial trial;
  trial.outputs = {&points, &scores};
  trial.tolerances = {{0, 0}, {0, 0}};
  if (args.visibility != nullptr) {
    trial.outputs.push_back(&seen);
    trial.tolerances.push_back({1e-6, 1e-5});
  }
  trial.cpu = [&] { fastpose::simcc_decode_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::simcc_decode_cuda(args, stream); };
  run(random, trial);
}

void simcc_loss(Random& random) {
  Codec codec(random);
  if (random.turn % 40 == 5) codec.batch = 300, codec.keypoints = 5, codec.bins[0] = 8, codec.bins[1] = 5;  // more than the block that sums has threads
  const DType dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16}, 5);
  const Array points = codec.keypoints_in(random);
  Array predicted[2], gradients[2], weights(DType::Float32, codec.points()), factors(DType::Float32, codec.keypoints);
  fastpose::SimccLossArgs args{};
  const bool with_gradient = !random.one_in(4);
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t count = codec.points() * codec.bins[axis];
    predicted[axis] = Array(dtype, count, random.whole(0, 1));
    gradients[axis] = Array(dtype, count, random.whole(0, 1));
    fill(random, predicted[axis], -3, 3);
    if (random.one_in(8) && count > 0) predicted[axis].put(random.whole(0, count - 1), random.pick<double>({std::nan(""), INFINITY, 1e3}));
    args.predicted[axis] = predicted[axis].data();
    args.gradients[axis] = with_gradient ? gradients[axis].data() : nullptr;
  }
  fill(random, weights, -0.2, 2);
  for (int64_t i = 0; i < weights.count(); ++i)
    if (random.one_in(4)) weights.put(i, random.pick<double>({0.0, std::nan("")}));
  fill(random, factors, -0.2, 2);
  Array loss(DType::Float32, 1), work(DType::Float64, 2 * codec.points());
  args.dtype = dtype;
  args.keypoints = points.as<float>();
  args.weights = random.one_in(3) ? nullptr : weights.as<float>();
  args.keypoint_weights = random.one_in(2) ? nullptr : factors.as<float>();
  args.loss = loss.as<float>();
  args.losses = work.as<double>();
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.beta = random.pick<float>({1.f, 10.f});
  args.softmax = random.one_in(2);
  args.label_beta = random.pick<float>({10.f, 1.f});
  args.target = codec.target();
  Trial trial;
  trial.outputs = {&loss};
  trial.tolerances = {{1e-6, 2e-5}};
  for (Array& gradient : gradients) {
    if (!with_gradient) break;
    trial.outputs.push_back(&gradient);
    trial.tolerances.push_back({1e-7, 2e-5});
  }
  trial.cpu = [&] { fastpose::simcc_loss_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::simcc_loss_cuda(args, stream); };
  run(random, trial);
}

}  // namespace checks
