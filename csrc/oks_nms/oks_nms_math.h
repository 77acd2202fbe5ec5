// What the CPU and the CUDA sources of oks_nms decide alike: order, threshold, rescoring.
#pragma once

#include "oks/oks_math.h"

namespace fastpose {

// A score that is not a number is the worst there is.
FASTPOSE_HD double nms_score(double score) { return score == score ? score : -HUGE_VAL; }

// Whether pose i comes before pose j: the higher score, of equal ones the lower index.
FASTPOSE_HD bool nms_before(double score_i, int64_t i, double score_j, int64_t j) {
  return score_i > score_j || (score_i == score_j && i < j);
}

// Hard suppression: exactly the threshold is still kept.
FASTPOSE_HD bool nms_suppresses(double oks, double threshold) { return oks > threshold; }

// Soft suppression (Bodla et al., ICCV 2017): what is left of a score beside a better pose.
FASTPOSE_HD double nms_rescored(double score, double oks, double threshold) {
  return nms_score(score * exp(-oks * oks / threshold));
}

}  // namespace fastpose
