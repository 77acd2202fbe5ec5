// What the CPU and the CUDA sources of oks_nms decide alike: threshold, rescoring; the order stands in nms/nms_math.h.
#pragma once

#include "nms/nms_math.h"
#include "oks/oks_math.h"

namespace fastpose {

// Hard suppression: exactly the threshold is still kept.
FASTPOSE_HD bool nms_suppresses(double oks, double threshold) { return oks > threshold; }

// Soft suppression (Bodla et al., ICCV 2017): what is left of a score beside a better pose.
FASTPOSE_HD double nms_rescored(double score, double oks, double threshold) {
  return nms_score(score * exp(-oks * oks / threshold));
}

}  // namespace fastpose
