// box_nms.
#include <cmath>

#include "box_nms/box_nms.h"
#include "checks.h"

namespace checks {
namespace {

// Boxes of which some are alike, some the same, some reversed, some not numbers.
Array boxes_of(Random& random, DType dtype, int64_t count, int64_t skip) {
  Array boxes(dtype, 4 * count, skip);
  fill(random, boxes, 0, 200, random.one_in(4) ? 30 : 0);
  for (int64_t n = 1; n < count; ++n) {
    const int64_t kind = random.whole(0, 3), other = random.whole(0, n - 1);
    for (int64_t i = 0; i < 4 && kind > 0; ++i)
      boxes.put(4 * n + i, boxes.get(4 * other + i) + (kind == 1 ? 0 : random.between(-15, 15)));
  }
  return boxes;
}

Array numbers_of(Random& random, int64_t count, int64_t different) {
  Array numbers(DType::Int64, count);
  for (int64_t i = 0; i < count; ++i)
    numbers.as<int64_t>()[i] = random.one_in(20) ? random.pick<int64_t>({INT64_MIN, INT64_MAX, -1}) : random.whole(0, different);
  return numbers;
}

}  // namespace

static_assert(fastpose::box_nms_workspace(fastpose::kBoxNmsCudaLimit) <= 32 * fastpose::kBoxNmsCudaLimit, "memory that grows with the boxes, not with pairs");

void box_nms(Random& random) {
  using fastpose::BoxNmsMethod;
  fastpose::BoxNmsArgs args{};
  args.dtype = random.in_turn({DType::Float32, DType::Float64});
  args.method = random.in_turn({BoxNmsMethod::Hard, BoxNmsMethod::Linear, BoxNmsMethod::Hard, BoxNmsMethod::Gaussian}, 2);
  const int64_t n = args.boxes_n = random.turn % 16 == 5 ? 0 : random.one_in(2) ? random.whole(65, 150) : random.whole(1, 30);  // more than one word of bits, or not
  const Array boxes = boxes_of(random, args.dtype, n, random.whole(0, 1));
  Array scores(DType::Float64, n);
  fill(random, scores, -0.1, 1, 10);
  if (random.one_in(2))  // ties
    for (int64_t i = 0; i < n; ++i) scores.put(i, 0.25 * static_cast<double>(random.whole(0, 4)));
  const Array image = numbers_of(random, n, random.whole(1, n > 30 ? 2 : 8)), classes = numbers_of(random, n, random.whole(0, 2));
  Array indices(DType::Int64, n), rescored(DType::Float64, n), count(DType::Int64, 1);
  Array workspace(DType::UInt8, fastpose::box_nms_workspace(n));
  args.boxes = boxes.data();
  args.scores = scores.as<double>();
  args.image_index = random.one_in(2) ? image.as<int64_t>() : nullptr;
  args.classes = random.one_in(2) ? classes.as<int64_t>() : nullptr;
  args.threshold = random.pick<double>({0.0, 0.3, 0.6, 0.1 + 1e-12, 1.0});
  args.sigma = random.pick<double>({0.5, 0.05});
  args.min_score = random.pick<double>({-INFINITY, 0.0, 0.3});
  args.most = random.pick<int64_t>({int64_t{1} << 62, 1, 3, 20});
  args.indices = indices.as<int64_t>();
  args.rescored = rescored.as<double>();
  args.count = count.as<int64_t>();
  args.workspace = workspace.data();
  Trial trial;
  trial.outputs = {&indices, &rescored, &count};
  trial.tolerances = {{0, 0}, args.method == BoxNmsMethod::Gaussian ? Tolerance{0, 1e-12} : Tolerance{0, 0}, {0, 0}};
  trial.strides = false;
  trial.cpu = [&] { fastpose::box_nms_cpu(args); };
  trial.cuda = [&](void* stream) {
    workspace.copy_from(workspace.rubbish(0x77));
    fastpose::box_nms_cuda(args, stream);
  };
  run(random, trial);
}

}  // namespace checks
