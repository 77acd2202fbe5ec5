// Target of box_nms, and what it has in common with oks_nms.
#include <cmath>

#include "box_nms/box_nms.h"
#include "fuzz.h"
#include "nms/nms_math.h"

namespace fuzz {
namespace {

using fastpose::BoxNmsMethod;
using fastpose::DType;

// Boxes in small groups that resemble each other, so that suppression has something to do; some of them reversed.
AnyArray boxes_of(Bytes& in, DType dtype, int64_t count) {
  AnyArray boxes(in, dtype, 4 * count);
  boxes.fill(numbers(in, 0.0, 300.0));
  const int64_t group = in.between(1, 9);
  Random random = in.random();
  for (int64_t i = 0; i < 4 * count; ++i)
    if (i / 4 % group != 0) boxes.put(i, value_of(boxes.data(), dtype, i - 4) + 12.0 * random.unit());
  return boxes;
}

Array<int64_t> numbers_of(Bytes& in, int64_t n) {
  if (!in.flag()) return {};
  Array<int64_t> result(in, n);
  Random random = in.random();
  const int64_t different = in.between(1, 12);
  for (int64_t i = 0; i < n; ++i) result[i] = random.below(different) - 1;
  if (n > 0) result[0] = in.flag() ? INT64_MIN : INT64_MAX;
  return result;
}

// How many of the kept up to place i are of its image.
int64_t of_image(const fastpose::BoxNmsArgs& args, const int64_t* indices, int64_t i) {
  int64_t found = 0;
  for (int64_t k = 0; k <= i; ++k) found += args.image_index == nullptr || args.image_index[indices[k]] == args.image_index[indices[i]];
  return found;
}

}  // namespace

void check_places(const int64_t* indices, const double* rescored, int64_t count, int64_t n) {
  std::vector<bool> seen(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = indices[i];
    if (i >= count) {
      FUZZ_CHECK(j == -1 && rescored[i] == 0.0, "place %d is not empty", static_cast<int>(i));
      continue;
    }
    FUZZ_CHECK(j >= 0 && j < n && !seen[static_cast<size_t>(j)], "place %d holds %d", static_cast<int>(i), static_cast<int>(j));
    seen[static_cast<size_t>(j)] = true;
    FUZZ_CHECK(i == 0 || fastpose::nms_before(rescored[i - 1], indices[i - 1], rescored[i], j), "place %d is out of order", static_cast<int>(i));
  }
}

void box_nms(Bytes& in) {
  fastpose::BoxNmsArgs args{};
  args.dtype = in.pick<DType>({DType::Float32, DType::Float64});
  const int64_t n = args.boxes_n = in.between(0, in.flag() ? 90 : 6);
  const AnyArray boxes = boxes_of(in, args.dtype, n);
  const Array<double> scores(in, n);
  fill(scores, numbers(in, -1.0, 2.0));
  const Array<int64_t> image = numbers_of(in, n), classes = numbers_of(in, n);
  args.boxes = boxes.data();
  args.scores = scores.data();
  args.image_index = image.data();
  args.classes = classes.data();
  args.method = in.pick<BoxNmsMethod>({BoxNmsMethod::Hard, BoxNmsMethod::Linear, BoxNmsMethod::Gaussian});
  args.threshold = in.pick<double>({0.0, 0.6, 0.3, 1e-300, 1.0, 1e300, INFINITY});
  args.sigma = in.pick<double>({0.5, 0.01, 1e-300, 1e300, INFINITY});
  args.min_score = in.pick<double>({-INFINITY, 0.0, 0.5, INFINITY});
  args.most = in.pick<int64_t>({int64_t{1} << 62, INT64_MAX, 1, 3, 20});
  const bool hard = args.method == BoxNmsMethod::Hard;
  Trial trial;
  trial.same_levels = true;
  trial.outputs = {{DType::Int64, n}, {DType::Float64, n}, {DType::Int64, 1}};
  trial.run = [&](void* const* outputs) {
    fastpose::BoxNmsArgs mine = args;
    mine.indices = static_cast<int64_t*>(outputs[0]);
    mine.rescored = static_cast<double*>(outputs[1]);
    mine.count = static_cast<int64_t*>(outputs[2]);
    fastpose::box_nms_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    const int64_t *indices = static_cast<const int64_t*>(outputs[0]), count = *static_cast<const int64_t*>(outputs[2]);
    const double* rescored = static_cast<const double*>(outputs[1]);
    const bool all = args.min_score == -INFINITY;
    FUZZ_CHECK(count >= (all && n > 0 ? 1 : 0) && count <= n, "%d of %d boxes kept", static_cast<int>(count), static_cast<int>(n));
    FUZZ_CHECK(hard || !all || args.most < n || count == n, "soft: %d of %d boxes kept", static_cast<int>(count), static_cast<int>(n));
    check_places(indices, rescored, count, n);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t j = indices[i];
      const double before = fastpose::nms_score(scores[j]);
      FUZZ_CHECK(hard ? rescored[i] == before : rescored[i] <= before, "the score of box %d has changed", static_cast<int>(j));
      FUZZ_CHECK(rescored[i] >= args.min_score, "the score of box %d is too low", static_cast<int>(j));
      FUZZ_CHECK(of_image(args, indices, i) <= args.most, "place %d is one too many of its image", static_cast<int>(i));
    }
  };
  run_trial(in, trial);
}

}  // namespace fuzz
