// Suppression of poses that describe the same person, for the poses of many images at once.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct OksNmsArgs {
  const void* poses;           // [N, K, channels] x, y, ... in pixels
  const double* scores;        // [N]
  const double* areas;         // [N] square pixels; a pair has the mean of both
  const double* sigmas;        // [K]
  const int64_t* image_index;  // [N], or null: all of one image
  int64_t poses_n, keypoints, channels;
  DType dtype;                 // of poses: Float32 or Float64
  double threshold;
  bool soft;
  int64_t max_per_image;
  int64_t* indices;            // [N]: indices[i] = j means that pose j is the i-th best of the kept; -1 after the last
  double* rescored;            // [N]: score of pose indices[i]; 0 after the last
  int64_t* count;              // [1]: how many are kept
  void* workspace;             // CUDA only: oks_nms_workspace(N) bytes
};

// The CUDA kernels sort by comparing every pose with every other one.
constexpr int64_t kOksNmsCudaLimit = 131072;
constexpr int64_t oks_nms_workspace(int64_t poses_n) { return 17 * poses_n; }

void oks_nms_cpu(const OksNmsArgs& args);
void oks_nms_cuda(const OksNmsArgs& args, void* stream);

}  // namespace fastpose
