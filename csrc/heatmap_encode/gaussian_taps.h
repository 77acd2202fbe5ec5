// Taps of OpenCV's Gaussian blur when its sigma is left to it. Host only, once a call.
#pragma once

#include <cmath>

namespace fastpose {

// Writes `size` (odd) floats that sum to 1. OpenCV keeps tables for up to 9 taps, in steps of 1/256: models learned from targets made so.
inline void gaussian_taps(int size, float* taps) {
  static constexpr unsigned char kHalves[5][5] = {{}, {128, 64}, {96, 64, 16}, {72, 56, 28, 8}, {60, 51, 30, 13, 4}};
  const int radius = size / 2;
  if (size == 1) {
    taps[0] = 1.f;
  } else if (radius < 5) {
    for (int i = 0; i < size; ++i) taps[i] = static_cast<float>(kHalves[radius][i < radius ? radius - i : i - radius]) / 256.f;
  } else {
    const double sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8;
    const auto value = [=](int i) { return std::exp(-(i - radius) * (i - radius) / (2 * sigma * sigma)); };
    double sum = 0;
    for (int i = 0; i < size; ++i) sum += value(i);
    for (int i = 0; i < size; ++i) taps[i] = static_cast<float>(value(i) / sum);
  }
}

}  // namespace fastpose
