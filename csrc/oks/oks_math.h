// Object keypoint similarity: the arithmetic that the CPU and the CUDA sources of oks and oks_nms share.
//
//   OKS = mean over counted keypoints k of exp(-d_k^2 / (2 (2 sigma_k)^2 area))        (COCO keypoint evaluation)
//
// Decided here: a negative area is 0; with an area of 0 a keypoint agrees only with one in the same place; a keypoint whose distance is not
// a number agrees with nothing; without any counted keypoint the OKS is 0.
#pragma once

#include "core/host_device.h"

namespace fastpose {

// Keeps the division by an area of 0 finite, so that two equal poses still agree.
constexpr double kOksSmallestArea = 2.220446049250313e-16;

FASTPOSE_HD double oks_area(double area) { return area < 0.0 ? 0.0 : area; }  // NaN stays NaN: agrees with nothing

FASTPOSE_HD double oks_area_of_pair(double area_a, double area_b) { return 0.5 * (oks_area(area_a) + oks_area(area_b)); }

FASTPOSE_HD double oks_inverse_area(double area) { return 1.0 / (oks_area(area) + kOksSmallestArea); }

FASTPOSE_HD double oks_inverse_spread(double sigma) { return 1.0 / (8.0 * sigma * sigma); }

FASTPOSE_HD double oks_agreement(double dx, double dy, double sigma, double inverse_area) {
  const double exponent = (dx * dx + dy * dy) * oks_inverse_spread(sigma) * inverse_area;
  return exponent >= 0.0 ? exp(-exponent) : 0.0;
}

// OKS of two poses.
template <class T>
FASTPOSE_HD double oks_of_pair(const T* pose_a,  // [K, channels_a] x, y, ...
                               const T* pose_b,  // [K, channels_b]
                               int64_t keypoints, int64_t channels_a, int64_t channels_b,
                               const double* sigmas,    // [K]
                               const uint8_t* visible,  // [K], or null: all count
                               double area) {
  const double inverse_area = oks_inverse_area(area);
  double sum = 0.0;
  int64_t counted = 0;
  for (int64_t k = 0; k < keypoints; ++k) {
    if (visible != nullptr && visible[k] == 0) continue;
    const double dx = static_cast<double>(pose_a[k * channels_a]) - static_cast<double>(pose_b[k * channels_b]);
    const double dy = static_cast<double>(pose_a[k * channels_a + 1]) - static_cast<double>(pose_b[k * channels_b + 1]);
    sum += oks_agreement(dx, dy, sigmas[k], inverse_area);
    ++counted;
  }
  return counted > 0 ? sum / static_cast<double>(counted) : 0.0;
}

}  // namespace fastpose
