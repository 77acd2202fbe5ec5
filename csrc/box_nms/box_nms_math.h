// What the CPU and the CUDA sources of box_nms decide alike: overlap, threshold, rescoring. T: float or double, as the boxes are.
#pragma once

#include "box_nms/box_nms.h"
#include "nms/nms_math.h"

namespace fastpose {

template <class T>
FASTPOSE_HD T box_area(T x1, T y1, T x2, T y2) { return (x2 - x1) * (y2 - y1); }

// Intersection over union. Each step is rounded as it stands here, at every SIMD level too: so the result is one. A coordinate that is
// not a number makes an area that is none, and an overlap that is none, which is above nothing. A box whose sides are reversed meets nobody.
template <class T>
FASTPOSE_HD T box_overlap(const T* a, const T* b, T area_a, T area_b) {
  const T width = (a[2] < b[2] ? a[2] : b[2]) - (a[0] > b[0] ? a[0] : b[0]);
  const T height = (a[3] < b[3] ? a[3] : b[3]) - (a[1] > b[1] ? a[1] : b[1]);
  const T shared = (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
  return shared / (area_a + area_b - shared);
}

// The overlap that a pair must be above for anything to happen. Of float the largest one that is not above the threshold: a float is above
// the one if and only if it is above the other.
template <class T>
FASTPOSE_HD T box_nms_limit(BoxNmsMethod method, double threshold) {
  if (method == BoxNmsMethod::Gaussian) return T(0);
  const T nearest = static_cast<T>(threshold);
  return static_cast<double>(nearest) > threshold ? static_cast<T>(nextafterf(static_cast<float>(nearest), 0.f)) : nearest;
}

// Soft suppression (Bodla et al., ICCV 2017): what is left of a score beside a better box that overlaps. There is nothing to lower in a
// score of 0 or below.
FASTPOSE_HD double box_nms_rescored(double score, double overlap, BoxNmsMethod method, double sigma) {
  if (!(score > 0.0)) return score;
  const double left = method == BoxNmsMethod::Gaussian ? exp(-overlap * overlap / sigma) : max_of(1.0 - overlap, 0.0);
  return nms_score(score * left);
}

}  // namespace fastpose
