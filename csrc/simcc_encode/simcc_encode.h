// Coordinate vectors of a batch of poses: for each keypoint a label over the columns of the input and one over its rows.
#pragma once

#include <cstdint>

namespace fastpose {

// The parameters of a codec that decide what a label looks like. Of two numbers the first is along x, the second along y.
struct SimccTarget {
  int32_t bins[2];
  float split_ratio;  // bins in one pixel of the input
  bool gaussian;      // else one bin stands above the others
  float sigma[2];     // bins (gaussian)
  float reach[2];     // how far beyond a vector's ends a label still counts, bins (gaussian: 3 sigma; else 0)
  float peak[2];      // value at the keypoint's bin
  float rest[2];      // of all others (not gaussian)
};

struct SimccEncodeArgs {
  const float* keypoints;      // [B, K, 2] x, y in input pixels
  const float* visible;        // [B, K]
  const float* joint_weights;  // [K], or null
  float* vectors[2];           // [B, K, bins along x], [B, K, bins along y]
  float* weights;              // [B, K]
  int64_t batch, keypoints_k;
  SimccTarget target;
};

void simcc_encode_cpu(const SimccEncodeArgs& args);
void simcc_encode_cuda(const SimccEncodeArgs& args, void* stream);

}  // namespace fastpose
