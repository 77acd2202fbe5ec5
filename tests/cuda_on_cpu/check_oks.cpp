// oks and oks_nms.
#include <cmath>

#include "checks.h"
#include "oks/oks.h"
#include "oks_nms/oks_nms.h"

namespace checks {
namespace {

// Poses of which some are alike, some the same, some not numbers.
Array poses_of(Random& random, DType dtype, int64_t people, int64_t each, int64_t skip) {
  Array poses(dtype, people * each, skip);
  fill(random, poses, 0, 200, random.one_in(4) ? 30 : 0);
  for (int64_t n = 1; n < people; ++n) {
    const int64_t kind = random.whole(0, 2), other = random.whole(0, n - 1);
    for (int64_t i = 0; i < each && kind > 0; ++i)
      poses.put(n * each + i, poses.get(other * each + i) + (kind == 1 ? 0 : random.between(-8, 8)));
  }
  return poses;
}

Array sigmas_of(Random& random, int64_t count) {
  Array sigmas(DType::Float64, count);
  fill(random, sigmas, 0.02, 0.12);
  return sigmas;
}

Array areas_of(Random& random, int64_t count) {
  Array areas(DType::Float64, count);
  fill(random, areas, 100, 40000, 20);
  for (int64_t i = 0; i < count; ++i)
    if (random.one_in(20)) areas.put(i, random.pick<double>({0.0, -5.0}));
  return areas;
}

}  // namespace

void oks(Random& random) {
  fastpose::OksArgs args{};
  args.dtype = random.in_turn({DType::Float32, DType::Float64});
  args.poses_n = random.whole(0, 30);
  args.poses_m = random.whole(0, 30);
  args.keypoints = random.whole(0, 17);
  args.channels_a = random.whole(2, 3);
  args.channels_b = random.whole(2, 3);
  const Array a = poses_of(random, args.dtype, args.poses_n, args.keypoints * args.channels_a, random.whole(0, 1));
  const Array b = poses_of(random, args.dtype, args.poses_m, args.keypoints * args.channels_b, random.whole(0, 1));
  const Array areas_a = areas_of(random, args.poses_n), areas_b = areas_of(random, args.poses_m), sigmas = sigmas_of(random, args.keypoints);
  Array visible(DType::UInt8, args.poses_n * args.keypoints), out(args.dtype, args.poses_n * args.poses_m);
  fill(random, visible, 0, 2.99);
  args.poses_a = a.data();
  args.poses_b = b.data();
  args.areas_a = areas_a.as<double>();
  args.areas_b = random.one_in(2) ? areas_b.as<double>() : nullptr;
  args.sigmas = sigmas.as<double>();
  args.visible = random.one_in(2) ? visible.as<uint8_t>() : nullptr;
  args.out = out.data();
  Trial trial;
  trial.outputs = {&out};
  trial.tolerances = {args.dtype == DType::Float64 ? Tolerance{1e-12, 0} : Tolerance{1e-6, 0}};
  trial.cpu = [&] { fastpose::oks_cpu(args); };
  trial.cuda = [&](void* stream) { fastpose::oks_cuda(args, stream); };
  run(random, trial);
}

static_assert(fastpose::oks_nms_workspace(fastpose::kOksNmsCudaLimit) <= 32 * fastpose::kOksNmsCudaLimit, "memory that grows with the poses, not with pairs");

void oks_nms(Random& random) {
  fastpose::OksNmsArgs args{};
  args.dtype = random.in_turn({DType::Float32, DType::Float64});
  const int64_t n = args.poses_n = random.turn % 16 == 5 ? 0 : random.one_in(2) ? random.whole(65, 150) : random.whole(1, 30);  // more than one word of bits, or not
  args.keypoints = random.whole(0, 17);
  args.channels = random.whole(2, 3);
  args.soft = random.in_turn({false, true}, 2);
  const Array poses = poses_of(random, args.dtype, n, args.keypoints * args.channels, random.whole(0, 1));
  Array scores(DType::Float64, n), image(DType::Int64, n);
  fill(random, scores, 0, 1, 10);
  if (random.one_in(2))  // ties
    for (int64_t i = 0; i < n; ++i) scores.put(i, 0.25 * static_cast<double>(random.whole(0, 4)));
  const int64_t images = random.whole(1, n > 30 ? 2 : 8);
  for (int64_t i = 0; i < n; ++i) image.as<int64_t>()[i] = random.one_in(20) ? random.pick<int64_t>({INT64_MIN, INT64_MAX, -1}) : random.whole(0, images);
  const Array areas = areas_of(random, n), sigmas = sigmas_of(random, args.keypoints);
  Array indices(DType::Int64, n), rescored(DType::Float64, n), count(DType::Int64, 1);
  Array workspace(DType::UInt8, fastpose::oks_nms_workspace(n));
  args.poses = poses.data();
  args.scores = scores.as<double>();
  args.areas = areas.as<double>();
  args.sigmas = sigmas.as<double>();
  args.image_index = random.one_in(2) ? image.as<int64_t>() : nullptr;
  args.threshold = random.pick<double>({0.9, 0.5, 0.05, 1.0});
  if (!args.soft && random.one_in(8)) args.threshold = 0;
  args.max_per_image = random.pick<int64_t>({int64_t{1} << 62, 1, 3, 20});
  if (n > 64 && random.one_in(2)) {  // a crowd in one image: more than one group of poses, which suppress each other
    args.image_index = nullptr;
    args.threshold = 0.5;
    args.max_per_image = int64_t{1} << 62;
  }
  args.indices = indices.as<int64_t>();
  args.rescored = rescored.as<double>();
  args.count = count.as<int64_t>();
  args.workspace = workspace.data();
  Trial trial;
  trial.outputs = {&indices, &rescored, &count};
  trial.tolerances = {{0, 0}, args.soft ? Tolerance{1e-8, 1e-7} : Tolerance{0, 0}, {0, 0}};
  trial.strides = false;
  trial.cpu = [&] { fastpose::oks_nms_cpu(args); };
  trial.cuda = [&](void* stream) {
    workspace.copy_from(workspace.rubbish(0x77));
    fastpose::oks_nms_cuda(args, stream);
  };
  run(random, trial);
}

}  // namespace checks
