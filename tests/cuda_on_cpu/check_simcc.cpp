// simcc_encode, simcc_decode and simcc_loss.
#include "checks.h"
#include "heatmap_encode/gaussian_taps.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_loss/simcc_loss.h"

namespace checks {
namespace {

fastpose::SimccLabel label_of(Random& random) {
  fastpose::SimccLabel label{};
  label.width = static_cast<int32_t>(random.whole(1, 90));
  label.height = static_cast<int32_t>(random.whole(1, 140));
  label.ratio = random.in_turn({2.f, 1.5f});
  label.sigma_x = random.in_turn({4.9f, 6.f, 0.4f}, 2);
  label.sigma_y = random.in_turn({5.66f, 40.f}, 3);
  label.gaussian = !random.one_in(3);
  label.normalized = random.one_in(2);
  label.smoothing = label.gaussian ? 0.f : random.in_turn({0.f, 0.1f});
  return label;
}

Array points_of(Random& random, int64_t count, const fastpose::SimccLabel& label) {
  Array points(DType::Float32, 2 * count);
  fill(random, points, -20, 1.3 * (label.width > label.height ? label.width : label.height) / label.ratio, 12);
  return points;
}

Array vectors_of(Random& random, DType dtype, int64_t count, int64_t odd) {
  Array vectors(dtype, count, random.whole(0, 1));
  fill(random, vectors, random.one_in(3) ? -1 : 0, 1, odd);
  return vectors;
}

fastpose::SimccAxis axis_of(int32_t size, float sigma, int taps) {
  fastpose::SimccAxis axis{};
  axis.size = size;
  axis.sharpness = 150.f * sigma;
  axis.taps = taps;
  if (taps > 0) fastpose::gaussian_taps(taps, axis.tap);
  return axis;
}

}  // namespace

void simcc_encode(Random& random) {
  fastpose::SimccEncodeArgs args{};
  args.label = label_of(random);
  args.batch = random.whole(0, 3);
  args.keypoints_k = random.whole(0, 5);
  const int64_t count = args.batch * args.keypoints_k;
  const Array points = points_of(random, count, args.label);
  Array visible(DType::Float32, count), factors(DType::Float32, args.keypoints_k);
  fill(random, visible, 0, 2, 10);
  fill(random, factors, 0, 2);
  Array x(DType::Float32, count * args.label.width), y(DType::Float32, count * args.label.height), weights(DType::Float32, count);
  args.keypoints = points.as<float>();
  args.visible = visible.as<float>();
  args.joint_weights = random.one_in(2) ? factors.as<float>() : nullptr;
  args.x = x.as<float>();
  args.y = y.as<float>();
  args.weights = weights.as<float>();
  Trial trial;
  trial.outputs = {&x, &y, &weights};
  trial.tolerances = {{1e-6, 1e-5}, {1e-6, 1e-5}, {0, 0}};
  trial.cpu = [&] { fastpose::simcc_encode_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::simcc_encode_cuda(args, stream); };
  run(random, trial);
}

void simcc_decode(Random& random) {
  fastpose::SimccDecodeArgs args{};
  const fastpose::SimccLabel label = label_of(random);
  const bool flip = random.one_in(2), dark = random.one_in(4);
  args.dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16});
  args.batch = random.whole(0, 3);
  args.keypoints_k = random.whole(0, 5);
  args.pixels = 1.f / label.ratio;
  args.axis_x = axis_of(label.width, label.sigma_x, dark ? 7 : 0);
  args.axis_y = axis_of(label.height, label.sigma_y, dark ? 9 : 0);
  const int64_t count = args.batch * args.keypoints_k, odd = dark ? 0 : 15;
  const Array x = vectors_of(random, args.dtype, count * label.width, odd), y = vectors_of(random, args.dtype, count * label.height, odd);
  const Array other_x = vectors_of(random, args.dtype, count * label.width, odd), other_y = vectors_of(random, args.dtype, count * label.height, odd);
  Array index(DType::Int64, args.keypoints_k), inverse(DType::Float64, 6 * args.batch);
  for (int64_t k = 0; k < args.keypoints_k; ++k) index.as<int64_t>()[k] = random.whole(0, args.keypoints_k - 1);
  fill(random, inverse, -2, 2);
  Array keypoints(DType::Float32, 2 * count), scores(DType::Float32, count), visibility(DType::Float32, count);
  args.x = x.data();
  args.y = y.data();
  args.flipped_x = flip ? other_x.data() : nullptr;
  args.flipped_y = flip ? other_y.data() : nullptr;
  args.flip_index = flip ? index.as<int64_t>() : nullptr;
  args.inverse = random.one_in(2) ? inverse.as<double>() : nullptr;
  args.keypoints = keypoints.as<float>();
  args.scores = scores.as<float>();
  args.visibility = odd == 0 ? visibility.as<float>() : nullptr;
  Trial trial;
  trial.outputs = {&keypoints, &scores};
  trial.tolerances = {{dark ? 1e-2 : 1e-4, 1e-5}, {0, 0}};
  if (args.visibility != nullptr) {
    trial.outputs.push_back(&visibility);
    trial.tolerances.push_back({1e-6, 1e-4});
  }
  trial.cpu = [&] { fastpose::simcc_decode_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::simcc_decode_cuda(args, stream); };
  run(random, trial);
}

void simcc_loss(Random& random) {
  fastpose::SimccLossArgs args{};
  args.label = label_of(random);
  args.dtype = random.in_turn({DType::Float32, DType::Float16, DType::BFloat16});
  args.batch = random.whole(0, 3);
  args.keypoints_k = random.whole(0, 5);
  args.beta = random.in_turn({1.f, 10.f});
  args.label_softmax = random.one_in(2);
  args.label_beta = 10.f;
  const int64_t count = args.batch * args.keypoints_k;
  const Array points = points_of(random, count, args.label);
  const Array x = vectors_of(random, args.dtype, count * args.label.width, 0), y = vectors_of(random, args.dtype, count * args.label.height, 0);
  Array weights(DType::Float32, count), factors(DType::Float32, args.keypoints_k), losses(DType::Float64, count);
  fill(random, weights, -0.5, 2);
  fill(random, factors, 0, 2);
  Array loss(DType::Float32, 1), gradient_x(args.dtype, count * args.label.width), gradient_y(args.dtype, count * args.label.height);
  const bool wanted = !random.one_in(3);
  args.x = x.data();
  args.y = y.data();
  args.keypoints = points.as<float>();
  args.weights = weights.as<float>();
  args.keypoint_weights = random.one_in(2) ? factors.as<float>() : nullptr;
  args.loss = loss.as<float>();
  args.losses = losses.as<double>();
  Trial trial;
  trial.outputs = {&loss};
  trial.tolerances = {{1e-5, 1e-4}};
  if (wanted) {
    args.gradient_x = gradient_x.data();
    args.gradient_y = gradient_y.data();
    trial.outputs.insert(trial.outputs.end(), {&gradient_x, &gradient_y});
    trial.tolerances.insert(trial.tolerances.end(), 2, {1e-6, 1e-4});
  }
  trial.cpu = [&] { fastpose::simcc_loss_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::simcc_loss_cuda(args, stream); };
  run(random, trial);
}

}  // namespace checks
