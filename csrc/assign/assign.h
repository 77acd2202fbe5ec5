// Pairs of rows and columns of least cost. For the CPU only: the costs of a frame are few, and the next step waits for the pairs.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct AssignArgs {
  const void* costs;   // [N, M]
  int64_t* column_of;  // [N]: column of each row, -1 for a row that stays alone
  int64_t rows, columns;
  double most;  // what leaving a row alone costs; a dearer pair is none
  DType dtype;  // of costs: Float32 or Float64
};

// False, and nothing is written, where a cost is NaN or minus infinity.
bool assign_cpu(const AssignArgs& args);

}  // namespace fastpose
