// Targets of oks and oks_nms.
#include <algorithm>
#include <cmath>

#include "fuzz.h"
#include "nms/nms_math.h"
#include "oks/oks.h"
#include "oks_nms/oks_nms.h"

namespace fuzz {
namespace {

using fastpose::DType;

Array<double> sigmas_of(Bytes& in, int64_t count) {
  Array<double> sigmas(in, count);
  Numbers values = numbers(in, 0.02, 0.12, true);
  for (int64_t k = 0; k < count; ++k) {
    const double sigma = std::fabs(values.next());
    sigmas[k] = sigma > 0.0 ? sigma : 0.05;
  }
  return sigmas;
}

// Poses in small groups that resemble each other, so that suppression has something to do.
AnyArray poses_of(Bytes& in, DType dtype, int64_t people, int64_t keypoints, int64_t channels) {
  AnyArray poses(in, dtype, people * keypoints * channels);
  poses.fill(numbers(in, 0.0, 300.0));
  const int64_t each = keypoints * channels, group = in.between(1, 5);
  Random random = in.random();
  for (int64_t i = 0; i < people * each; ++i)
    if (i / each % group != 0) poses.put(i, value_of(poses.data(), dtype, i - each) + 4.0 * random.unit());
  return poses;
}

}  // namespace

void oks(Bytes& in) {
  fastpose::OksArgs args{};
  args.dtype = in.pick<DType>({DType::Float32, DType::Float64});
  args.poses_n = in.between(0, 40);
  args.poses_m = in.between(0, 40);
  args.keypoints = in.between(0, in.flag() ? 20 : 3);
  args.channels_a = in.between(2, 3);
  args.channels_b = in.between(2, 3);
  const AnyArray a = poses_of(in, args.dtype, args.poses_n, args.keypoints, args.channels_a);
  const AnyArray b = poses_of(in, args.dtype, args.poses_m, args.keypoints, args.channels_b);
  const Array<double> areas(in, args.poses_n), sigmas = sigmas_of(in, args.keypoints);
  fill(areas, numbers(in, -10.0, 40000.0));
  Array<double> areas_b;
  Array<uint8_t> visible;
  if (in.flag()) {
    areas_b = Array<double>(in, args.poses_m);
    fill(areas_b, numbers(in, -10.0, 40000.0));
  }
  if (in.flag()) {
    visible = Array<uint8_t>(in, args.poses_n * args.keypoints);
    Random random = in.random();
    for (int64_t i = 0; i < visible.size(); ++i) visible[i] = static_cast<uint8_t>(random.below(3));
  }
  args.poses_a = a.data();
  args.poses_b = b.data();
  args.areas_a = areas.data();
  args.areas_b = areas_b.data();
  args.sigmas = sigmas.data();
  args.visible = visible.data();
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{args.dtype, args.poses_n * args.poses_m}};
  trial.run = [&](void* const* outputs) {
    fastpose::OksArgs mine = args;
    mine.out = outputs[0];
    fastpose::oks_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    for (int64_t i = 0; i < trial.outputs[0].count; ++i) {
      const double value = value_of(outputs[0], args.dtype, i);
      FUZZ_CHECK(value >= 0.0 && value <= 1.0 + 1e-6, "an OKS of %.9g", value);
    }
  };
  run_trial(in, trial);
}

void oks_nms(Bytes& in) {
  fastpose::OksNmsArgs args{};
  args.dtype = in.pick<DType>({DType::Float32, DType::Float64});
  const int64_t n = args.poses_n = in.between(0, in.flag() ? 60 : 6);
  args.keypoints = in.between(0, 17);
  args.channels = in.between(2, 3);
  const AnyArray poses = poses_of(in, args.dtype, n, args.keypoints, args.channels);
  const Array<double> scores(in, n), areas(in, n), sigmas = sigmas_of(in, args.keypoints);
  fill(scores, numbers(in, -1.0, 2.0));
  fill(areas, numbers(in, -10.0, 40000.0));
  Array<int64_t> image;
  if (in.flag()) {
    image = Array<int64_t>(in, n);
    Random random = in.random();
    const int64_t images = in.between(1, 12);
    for (int64_t i = 0; i < n; ++i) image[i] = random.below(images) - 1;
    if (n > 0) image[0] = in.flag() ? INT64_MIN : INT64_MAX;
  }
  args.poses = poses.data();
  args.scores = scores.data();
  args.areas = areas.data();
  args.sigmas = sigmas.data();
  args.image_index = image.data();
  args.soft = in.flag();
  args.threshold = in.pick<double>({0.9, 0.5, 0.05, 1.0, 1e-300, 1e30, INFINITY});
  if (!args.soft && in.byte() % 8 == 0) args.threshold = 0.0;
  args.max_per_image = in.pick<int64_t>({int64_t{1} << 62, 1, 3, 20});
  Trial trial;
  trial.same_levels = !args.soft;  // soft: scores within 1e-8
  trial.outputs = {{DType::Int64, n}, {DType::Float64, n}, {DType::Int64, 1}};
  trial.run = [&](void* const* outputs) {
    fastpose::OksNmsArgs mine = args;
    mine.indices = static_cast<int64_t*>(outputs[0]);
    mine.rescored = static_cast<double*>(outputs[1]);
    mine.count = static_cast<int64_t*>(outputs[2]);
    fastpose::oks_nms_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    const int64_t *indices = static_cast<const int64_t*>(outputs[0]), count = *static_cast<const int64_t*>(outputs[2]);
    const double* rescored = static_cast<const double*>(outputs[1]);
    FUZZ_CHECK(count >= (n > 0 ? 1 : 0) && count <= n, "%d of %d poses kept", static_cast<int>(count), static_cast<int>(n));
    FUZZ_CHECK(!args.soft || args.max_per_image < n || count == n, "soft: %d of %d poses kept", static_cast<int>(count), static_cast<int>(n));
    check_places(indices, rescored, count, n);
    for (int64_t i = 0; i < count && !args.soft; ++i)
      FUZZ_CHECK(rescored[i] == fastpose::nms_score(scores[indices[i]]), "the score at place %d has changed", static_cast<int>(i));
  };
  run_trial(in, trial);
}

}  // namespace fuzz
