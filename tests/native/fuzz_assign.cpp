// Target of assign: what the pairs cost is the least there is, told by trying all pairings of small tables.
#include <cmath>
#include <limits>

#include "assign/assign.h"
#include "fuzz.h"

namespace fuzz {
namespace {

using fastpose::DType;

// The least sum over rows from `row` on, of those columns that are not taken.
double least_sum(const fastpose::AssignArgs& args, int64_t row, uint32_t taken) {
  if (row == args.rows) return 0.0;
  double least = args.most + least_sum(args, row + 1, taken);
  for (int64_t j = 0; j < args.columns; ++j) {
    const double cost = value_of(args.costs, args.dtype, row * args.columns + j);
    if ((taken >> j & 1u) != 0 || !(cost <= args.most)) continue;
    least = std::fmin(least, cost + least_sum(args, row + 1, taken | 1u << j));
  }
  return least;
}

}  // namespace

void assign(Bytes& in) {
  fastpose::AssignArgs args{};
  args.dtype = in.pick<DType>({DType::Float32, DType::Float64});
  const bool small = in.flag();
  args.rows = in.between(0, small ? 5 : 40);
  args.columns = in.between(0, small ? 5 : 40);
  args.most = in.pick<double>({0.5, 0.0, -0.5, 1.0, 100.0});
  AnyArray costs(in, args.dtype, args.rows * args.columns);
  const bool tied = in.flag();  // few different costs
  Random random = in.random();
  for (int64_t i = 0; i < costs.count; ++i) {
    const double cost = tied ? 0.25 * static_cast<double>(random.below(5)) - 0.25 : 2.0 * random.unit() - 1.0;
    costs.put(i, random.below(7) == 0 ? std::numeric_limits<double>::infinity() : cost);
  }
  args.costs = costs.data();
  Trial trial;
  trial.same_levels = true;
  trial.outputs = {{DType::Int64, args.rows}};
  trial.run = [&](void* const* outputs) {
    fastpose::AssignArgs mine = args;
    mine.column_of = static_cast<int64_t*>(outputs[0]);
    FUZZ_CHECK(fastpose::assign_cpu(mine), "good costs were refused");
  };
  trial.check = [&](void* const* outputs) {
    const int64_t* column_of = static_cast<const int64_t*>(outputs[0]);
    std::vector<bool> taken(static_cast<size_t>(args.columns));
    double sum = 0.0;
    for (int64_t i = 0; i < args.rows; ++i) {
      const int64_t j = column_of[i];
      FUZZ_CHECK(j >= -1 && j < args.columns, "row %d has column %d", static_cast<int>(i), static_cast<int>(j));
      const double cost = j < 0 ? args.most : value_of(args.costs, args.dtype, i * args.columns + j);
      FUZZ_CHECK(cost <= args.most, "the pair of row %d is too dear", static_cast<int>(i));
      sum += cost;
      if (j < 0) continue;
      FUZZ_CHECK(!taken[static_cast<size_t>(j)], "column %d is taken twice", static_cast<int>(j));
      taken[static_cast<size_t>(j)] = true;
    }
    if (!small) return;
    const double least = least_sum(args, 0, 0);
    FUZZ_CHECK(sum <= least + 1e-9, "the pairs cost %g, the best %g", sum, least);
  };
  run_trial(in, trial);
}

}  // namespace fuzz
