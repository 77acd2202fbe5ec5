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

struct Sizes {
  int64_t batch, keypoints;
  explicit Sizes(Bytes& in) : batch(in.between(0, 3)), keypoints(in.between(0, 6)) {}
  int64_t points() const { return batch * keypoints; }
};

// As the bindings make it of a codec, within the limits that they set.
fastpose::SimccLabel label_of(Bytes& in) {
  fastpose::SimccLabel label{};
  label.width = static_cast<int32_t>(in.between(1, in.flag() ? 700 : 40));
  label.height = static_cast<int32_t>(in.between(1, in.flag() ? 700 : 40));
  label.ratio = in.pick<float>({2.f, 1.f, 1.5f, 1e-6f, 1e6f});
  label.sigma_x = in.pick<float>({6.f, 4.9f, 1e-3f, 0.3f, 90.f, 1e6f});
  label.sigma_y = in.pick<float>({6.f, 5.66f, 1e-3f, 1e6f});
  label.gaussian = in.flag();
  label.normalized = in.flag();
  label.smoothing = label.gaussian ? 0.f : in.pick<float>({0.f, 0.1f, 1.f});
  return label;
}

fastpose::SimccAxis axis_of(Bytes& in, int32_t size, int taps) {
  fastpose::SimccAxis axis{};
  axis.size = size;
  axis.sharpness = in.pick<float>({900.f, 1e-3f, 1e6f});
  axis.taps = taps;
  if (taps > 0) fastpose::gaussian_taps(taps, axis.tap);
  return axis;
}

Array<float> points_of(Bytes& in, const Sizes& sizes, const fastpose::SimccLabel& label) {
  Array<float> points(in, 2 * sizes.points());
  const double most = static_cast<double>(label.width > label.height ? label.width : label.height) / static_cast<double>(label.ratio);
  fill(points, numbers(in, -0.3 * most, 1.3 * most));
  return points;
}

}  // namespace

void simcc_encode(Bytes& in) {
  const Sizes sizes(in);
  fastpose::SimccEncodeArgs args{};
  args.label = label_of(in);
  const Array<float> points = points_of(in, sizes, args.label);
  Array<float> visible(in, sizes.points()), factors;
  fill(visible, numbers(in, -0.5, 2.5));
  if (in.flag()) {
    factors = Array<float>(in, sizes.keypoints);
    fill(factors, numbers(in, 0.0, 2.0));
  }
  args.keypoints = points.data();
  args.visible = visible.data();
  args.joint_weights = factors.data();
  args.batch = sizes.batch;
  args.keypoints_k = sizes.keypoints;
  const int64_t along_x = sizes.points() * args.label.width, along_y = sizes.points() * args.label.height;
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, along_x}, {DType::Float32, along_y}, {DType::Float32, sizes.points()}};
  trial.run = [&](void* const* outputs) {
    fastpose::SimccEncodeArgs mine = args;
    mine.x = static_cast<float*>(outputs[0]);
    mine.y = static_cast<float*>(outputs[1]);
    mine.weights = static_cast<float*>(outputs[2]);
    fastpose::simcc_encode_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    for (int64_t i = 0; i < along_x; ++i) {
      const float value = static_cast<const float*>(outputs[0])[i];
      FUZZ_CHECK(value >= 0.f && value <= 400.f, "bin %lld holds %g", static_cast<long long>(i), static_cast<double>(value));
    }
  };
  run_trial(in, trial);
}

void simcc_decode(Bytes& in) {
  const Sizes sizes(in);
  fastpose::SimccDecodeArgs args{};
  const fastpose::SimccLabel label = label_of(in);
  const bool dark = in.flag();
  args.axis_x = axis_of(in, label.width, dark ? static_cast<int>(2 * in.between(0, 63) + 1) : 0);
  args.axis_y = axis_of(in, label.height, dark ? static_cast<int>(2 * in.between(0, 63) + 1) : 0);
  args.pixels = 1.f / label.ratio;
  args.dtype = in.pick<DType>({DType::Float32, DType::Float16, DType::BFloat16});
  args.batch = sizes.batch;
  args.keypoints_k = sizes.keypoints;
  AnyArray vectors[4];
  const bool flip = in.flag(), told = in.flag();
  for (int i = 0; i < (flip ? 4 : 2); ++i) {
    vectors[i] = AnyArray(in, args.dtype, sizes.points() * (i % 2 == 0 ? label.width : label.height));
    vectors[i].fill(numbers(in, in.flag() ? 0.0 : -1.0, 1.0));
  }
  Array<int64_t> index;
  if (flip) {
    index = Array<int64_t>(in, sizes.keypoints);
    Random random = in.random();
    for (int64_t k = 0; k < sizes.keypoints; ++k) index[k] = random.below(sizes.keypoints);
  }
  Array<double> inverse;
  if (in.flag()) {
    inverse = Array<double>(in, 6 * sizes.batch);
    fill(inverse, numbers(in, -3.0, 3.0, true));
  }
  args.x = vectors[0].data();
  args.y = vectors[1].data();
  args.flipped_x = vectors[2].data();
  args.flipped_y = vectors[3].data();
  args.flip_index = index.data();
  args.inverse = inverse.data();
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, 2 * sizes.points()}, {DType::Float32, sizes.points()}, {DType::Float32, told ? sizes.points() : 0}};
  trial.run = [&](void* const* outputs) {
    fastpose::SimccDecodeArgs mine = args;
    mine.keypoints = static_cast<float*>(outputs[0]);
    mine.scores = static_cast<float*>(outputs[1]);
    mine.visibility = told ? static_cast<float*>(outputs[2]) : nullptr;
    fastpose::simcc_decode_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    for (int64_t i = 0; i < sizes.points(); ++i) {
      const float score = static_cast<const float*>(outputs[1])[i];
      FUZZ_CHECK(score == score, "keypoint %lld has no score", static_cast<long long>(i));
    }
  };
  run_trial(in, trial);
}

void simcc_loss(Bytes& in) {
  const Sizes sizes(in);
  fastpose::SimccLossArgs args{};
  args.label = label_of(in);
  args.dtype = in.pick<DType>({DType::Float32, DType::Float16, DType::BFloat16});
  args.beta = in.pick<float>({1.f, 10.f, 0.f, -3.f});
  args.label_softmax = in.flag();
  args.label_beta = in.pick<float>({10.f, 1.f, 0.f});
  args.batch = sizes.batch;
  args.keypoints_k = sizes.keypoints;
  const Array<float> points = points_of(in, sizes, args.label);
  Array<float> weights(in, sizes.points()), factors;
  fill(weights, numbers(in, -0.5, 2.0));
  if (in.flag()) {
    factors = Array<float>(in, sizes.keypoints);
    fill(factors, numbers(in, 0.0, 2.0));
  }
  const int64_t along_x = sizes.points() * args.label.width, along_y = sizes.points() * args.label.height;
  AnyArray x(in, args.dtype, along_x), y(in, args.dtype, along_y);
  x.fill(numbers(in, -2.0, 2.0));
  y.fill(numbers(in, -2.0, 2.0));
  const bool gradient = in.flag();
  args.x = x.data();
  args.y = y.data();
  args.keypoints = points.data();
  args.weights = weights.data();
  args.keypoint_weights = factors.data();
  std::vector<double> losses(static_cast<size_t>(sizes.points()));
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{DType::Float32, 1}, {args.dtype, gradient ? along_x : 0}, {args.dtype, gradient ? along_y : 0}};
  trial.run = [&](void* const* outputs) {
    fastpose::SimccLossArgs mine = args;
    std::vector<double> room(losses.size());
    mine.losses = room.data();
    mine.loss = static_cast<float*>(outputs[0]);
    mine.gradient_x = gradient ? outputs[1] : nullptr;
    mine.gradient_y = gradient ? outputs[2] : nullptr;
    fastpose::simcc_loss_cpu(mine);
  };
  trial.check = [](void* const*) {};
  run_trial(in, trial);
}

}  // namespace fuzz
