// OKS of every pose of one set with every pose of another.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct OksArgs {
  const void* poses_a;     // [N, K, channels_a] x, y, ... in pixels
  const void* poses_b;     // [M, K, channels_b]
  const double* areas_a;   // [N] square pixels
  const double* areas_b;   // [M], or null: the area of a pair is that of a alone
  const double* sigmas;    // [K]
  const uint8_t* visible;  // [N, K], or null: keypoints of a count where this is not 0
  void* out;               // [N, M]
  int64_t poses_n, poses_m, keypoints, channels_a, channels_b;
  DType dtype;             // of poses and out: Float32 or Float64
};

void oks_cpu(const OksArgs& args);
void oks_cuda(const OksArgs& args, void* stream);

}  // namespace fastpose
