// Targets of simcc_encode, simcc_decode and simcc_loss.
#include <cmath>

#include "fuzz.h"
#include "heatmap_encode/gaussian_taps.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_loss/simcc_loss.h"

namespace fuzz {
namespace {

using fastpose::DType;

// As the bindings make it, within the limits that they set.
struct Codec {
  int64_t bins[2], batch, keypoints;
  double sigma[2], label_smoothing;
  bool gaussian, normalized, large;
  int32_t taps[2];
  float split_ratio;

  explicit Codec(Bytes& in) {
    large = in.byte() == 255;  // enough for the stores that go past the caches
    gaussian = in.byte() % 3 != 0;
    normalized = in.flag();
    label_smoothing = in.pick<double>({0.0, 0.1, 1.0});
    split_ratio = in.pick<float>({2.f, 1.f, 3.f, 0.37f});
    const int64_t most = in.byte() % 8 == 0 ? 700 : 40;
    for (int axis = 0; axis < 2; ++axis) {
      bins[axis] = large ? in.between(10000, 10040) : in.between(1, most);
      sigma[axis] = in.pick<double>({6.0, 4.9, 1.5, 1e-3, 0.4, 4096.0});
      taps[axis] = in.byte() % 2 == 0 ? 0 : static_cast<int32_t>(2 * in.between(0, in.byte() % 8 == 1 ? 63 : 20) + 1);
    }
    batch = large ? 1 : in.between(0, 3);
    keypoints = large ? 110 : in.between(0, 6);
  }
  int64_t points() const { return batch * keypoints; }
  double size() const { return static_cast<double>(bins[0] > bins[1] ? bins[0] : bins[1]) / static_cast<double>(split_ratio); }

  fastpose::SimccTarget target() const {
    fastpose::SimccTarget t{};
    t.split_ratio = split_ratio;
    t.gaussian = gaussian;
    for (int axis = 0; axis < 2; ++axis) {
      t.bins[axis] = static_cast<int32_t>(bins[axis]);
      t.sigma[axis] = static_cast<float>(sigma[axis]);
      t.reach[axis] = gaussian ? static_cast<float>(3 * sigma[axis]) : 0.f;
      t.peak[axis] = static_cast<float>(!gaussian ? 1 - label_smoothing : normalized ? 1 / (sigma[axis] * 2.5066282746) : 1.0);
      t.rest[axis] = gaussian || bins[axis] == 1 ? 0.f : static_cast<float>(label_smoothing / static_cast<double>(bins[axis] - 1));
    }
    return t;
  }
  fastpose::SimccReading reading() const {
    fastpose::SimccReading r{};
    r.split_ratio = split_ratio;
    for (int axis = 0; axis < 2; ++axis) {
      r.bins[axis] = static_cast<int32_t>(bins[axis]);
      r.sharpness[axis] = static_cast<float>(150 * sigma[axis]);
      r.taps[axis] = taps[axis];
      if (taps[axis] > 0) fastpose::gaussian_taps(taps[axis], r.tap[axis]);
    }
    return r;
  }
};

// Random everywhere, flat, or a bump at a random bin, as networks give them.
void fill_vectors(Bytes& in, AnyArray& vectors, int64_t bins) {
  const int kind = in.byte() % 4;
  const double high = in.pick<double>({1.0, 1e-3, 60.0, 255.0, -1.0});
  vectors.fill(numbers(in, in.flag() ? 0.0 : -1.0, high));
  if (kind < 2) return;
  Random random = in.random();
  for (int64_t i = 0; i < vectors.count; i += bins) {
    const double middle = static_cast<double>(random.below(bins));
    for (int64_t p = 0; p < bins; ++p) {
      const double d = static_cast<double>(p) - middle;
      vectors.put(i + p, kind == 2 ? high * std::exp(-(d * d) / 50.0) : high);
    }
    if (random.below(3) == 0) vectors.put(i + random.below(bins), std::nan(""));
  }
}

Array<float> points_of(Bytes& in, const Codec& codec) {
  Array<float> points(in, 2 * codec.points());
  fill(points, numbers(in, -0.3 * codec.size(), 1.3 * codec.size()));
  return points;
}

}  // namespace

void simcc_encode(Bytes& in) {
  const Codec codec(in);
  const Array<float> points = points_of(in, codec);
  Array<float> visible(in, codec.points()), factors;
  fill(visible, numbers(in, -0.5, 2.5));
  if (in.flag()) {
    factors = Array<float>(in, codec.keypoints);
    fill(factors, numbers(in, 0.0, 2.0));
  }
  fastpose::SimccEncodeArgs args{};
  args.keypoints = points.data();
  args.visible = visible.data();
  args.joint_weights = factors.data();
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.target = codec.target();
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, codec.points() * codec.bins[0]}, {DType::Float32, codec.points() * codec.bins[1]},
                   {DType::Float32, codec.points()}};
  trial.run = [&](void* const* outputs) {
    fastpose::SimccEncodeArgs mine = args;
    for (int axis = 0; axis < 2; ++axis) mine.vectors[axis] = static_cast<float*>(outputs[axis]);
    mine.weights = static_cast<float*>(outputs[2]);
    fastpose::simcc_encode_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    for (int axis = 0; axis < 2; ++axis) {
      const float highest = args.target.peak[axis] > args.target.rest[axis] ? args.target.peak[axis] : args.target.rest[axis];
      for (int64_t i = 0; i < codec.points() * codec.bins[axis]; ++i) {
        const float value = static_cast<const float*>(outputs[axis])[i];
        FUZZ_CHECK(value >= 0.f && value <= highest, "a label of %g", static_cast<double>(value));
      }
    }
    for (int64_t i = 0; i < codec.points() && !factors; ++i) {
      const float weight = static_cast<const float*>(outputs[2])[i];
      FUZZ_CHECK(weight >= 0.f && weight <= 1.f, "a weight of %g", static_cast<double>(weight));
    }
  };
  run_trial(in, trial);
}

void simcc_decode(Bytes& in) {
  const Codec codec(in);
  const DType dtype = in.pick<DType>({DType::Float32, DType::Float16, DType::BFloat16});
  AnyArray vectors[2], flipped[2];
  Array<int64_t> pairs;
  Array<double> inverse;
  fastpose::SimccDecodeArgs args{};
  const bool merge = in.flag();
  for (int axis = 0; axis < 2; ++axis) {
    vectors[axis] = AnyArray(in, dtype, codec.points() * codec.bins[axis]);
    fill_vectors(in, vectors[axis], codec.bins[axis]);
    args.vectors[axis] = vectors[axis].data();
    if (!merge) continue;
    flipped[axis] = AnyArray(in, dtype, codec.points() * codec.bins[axis]);
    fill_vectors(in, flipped[axis], codec.bins[axis]);
    args.flipped[axis] = flipped[axis].data();
  }
  if (merge) {
    pairs = Array<int64_t>(in, codec.keypoints);
    for (int64_t k = 0; k < codec.keypoints; ++k) pairs[k] = in.between(0, codec.keypoints - 1);
    args.flip_index = pairs.data();
  }
  if (in.flag()) {
    inverse = Array<double>(in, 6 * codec.batch);
    fill(inverse, numbers(in, -3.0, 3.0, true));
    args.inverse = inverse.data();
  }
  const bool tells = in.flag();
  args.dtype = dtype;
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.reading = codec.reading();
  Trial trial;
  trial.same_levels = !tells;  // the sum of a softmax depends on the order of additions
  trial.outputs = {{DType::Float32, 2 * codec.points()}, {DType::Float32, codec.points()}, {DType::Float32, tells ? codec.points() : 0}};
  trial.run = [&](void* const* outputs) {
    fastpose::SimccDecodeArgs mine = args;
    mine.keypoints = static_cast<float*>(outputs[0]);
    mine.scores = static_cast<float*>(outputs[1]);
    mine.visibility = tells ? static_cast<float*>(outputs[2]) : nullptr;
    fastpose::simcc_decode_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    const float *points = static_cast<const float*>(outputs[0]), *scores = static_cast<const float*>(outputs[1]);
    const float* seen = static_cast<const float*>(outputs[2]);
    for (int64_t i = 0; i < codec.points(); ++i) {
      FUZZ_CHECK(scores[i] == scores[i], "a score that is not a number");
      FUZZ_CHECK(args.inverse != nullptr || (points[2 * i] == points[2 * i] && points[2 * i + 1] == points[2 * i + 1]),
                 "a keypoint that is not a number");
      FUZZ_CHECK(!tells || (seen[i] >= 0.f && seen[i] <= 1.f), "a visibility of %g", static_cast<double>(seen[i]));
    }
  };
  run_trial(in, trial);
}

void simcc_loss(Bytes& in) {
  const Codec codec(in);
  const DType dtype = in.pick<DType>({DType::Float32, DType::Float16, DType::BFloat16});
  AnyArray predicted[2];
  fastpose::SimccLossArgs args{};
  for (int axis = 0; axis < 2; ++axis) {
    predicted[axis] = AnyArray(in, dtype, codec.points() * codec.bins[axis]);
    fill_vectors(in, predicted[axis], codec.bins[axis]);
    args.predicted[axis] = predicted[axis].data();
  }
  const Array<float> points = points_of(in, codec);
  Array<float> weights, factors;
  if (in.flag()) {
    weights = Array<float>(in, codec.points());
    fill(weights, numbers(in, -0.5, 2.0));
  }
  if (in.flag()) {
    factors = Array<float>(in, codec.keypoints);
    fill(factors, numbers(in, -0.5, 2.0));
  }
  args.dtype = dtype;
  args.keypoints = points.data();
  args.weights = weights.data();
  args.keypoint_weights = factors.data();
  args.batch = codec.batch;
  args.keypoints_k = codec.keypoints;
  args.beta = in.pick<float>({1.f, 10.f, 1e6f, 1e-3f});
  args.softmax = in.flag();
  args.target = codec.target();
  float highest = 0.f;
  for (int axis = 0; axis < 2; ++axis) highest = std::fmax(highest, std::fmax(args.target.peak[axis], args.target.rest[axis]));
  args.label_beta = in.pick<float>({10.f, 80.f, 1e-3f});
  if (args.label_beta * highest > 80.f) args.label_beta = 80.f / highest;
  const bool with_gradient = in.flag();
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, 1}, {DType::Float64, 2 * codec.points()}};
  for (int axis = 0; axis < 2; ++axis) trial.outputs.push_back({dtype, with_gradient ? codec.points() * codec.bins[axis] : 0});
  trial.run = [&](void* const* outputs) {
    fastpose::SimccLossArgs mine = args;
    mine.loss = static_cast<float*>(outputs[0]);
    mine.losses = static_cast<double*>(outputs[1]);
    for (int axis = 0; axis < 2; ++axis) mine.gradients[axis] = with_gradient ? outputs[2 + axis] : nullptr;
    fastpose::simcc_loss_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    const float loss = *static_cast<const float*>(outputs[0]);
    FUZZ_CHECK(codec.points() > 0 || loss == 0.f, "a loss of %g without keypoints", static_cast<double>(loss));
  };
  run_trial(in, trial);
}

}  // namespace fuzz
