// What oks_nms and box_nms order alike, on the CPU and on CUDA.
#pragma once

#include "core/host_device.h"

namespace fastpose {

// A score that is not a number is the worst there is.
FASTPOSE_HD double nms_score(double score) { return score == score ? score : -HUGE_VAL; }

// Whether i comes before j: the higher score, of equal ones the lower index.
FASTPOSE_HD bool nms_before(double score_i, int64_t i, double score_j, int64_t j) {
  return score_i > score_j || (score_i == score_j && i < j);
}

}  // namespace fastpose
