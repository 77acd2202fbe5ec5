// A label along x and one along y for each keypoint of a batch (SimCC).
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

// What a label looks like.
struct SimccLabel {
  int32_t width, height;  // bins of the vectors along x and y
  float ratio;            // bins in a pixel of the input
  float sigma_x, sigma_y; // bins
  bool gaussian;          // else one bin, whose others share `smoothing`
  bool normalized;        // a Gaussian divided by sigma times the root of 2 pi
  float smoothing;
};

struct SimccEncodeArgs {
  const float* keypoints;      // [B, K, 2] x, y in input pixels
  const float* visible;        // [B, K]; below 0.5 a keypoint is not drawn
  const float* joint_weights;  // [K], or null
  float *x, *y;                // [B, K, width], [B, K, height]
  float* weights;              // [B, K]
  int64_t batch, keypoints_k;
  SimccLabel label;
};

void simcc_encode_cpu(const SimccEncodeArgs& args);
void simcc_encode_cuda(const SimccEncodeArgs& args, void* stream);

}  // namespace fastpose
