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
  void* workspace;             // CUDA only: oks_nms_workspace(N, soft) bytes
};

// The CUDA kernels keep a bit for every pair of poses, and one image's row of bits in shared memory.
constexpr int64_t kOksNmsCudaLimit = 131072;
constexpr int64_t oks_nms_workspace(int64_t poses_n, bool soft) {
  return 17 * poses_n + (soft ? 0 : 8 * poses_n * ((poses_n + 63) / 64));
}

void oks_nms_cpu(const OksNmsArgs& args);
void oks_nms_cuda(const OksNmsArgs& args, void* stream);

}  // namespace fastpose
