// One keypoint and its score from a vector along x and one along y, for each of a batch (SimCC).
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "heatmap_encode/heatmap_encode.h"

namespace fastpose {

// How the vector along one axis is read.
struct SimccAxis {
  int32_t size;     // bins
  float sharpness;  // factor before the softmax whose peak says how visible a keypoint is
  int32_t taps;     // of the blur before the refinement, odd; 0: none
  float tap[kMaxTaps + 1];
};

struct SimccDecodeArgs {
  const void *x, *y;                  // [B, K, size]
  const void *flipped_x, *flipped_y;  // of the mirrored input, the same shapes and dtype, or null
  DType dtype;                        // Float32, Float16 or BFloat16
  const int64_t* flip_index;          // [K] keypoint whose mirrored vectors belong to each keypoint; null without flipped
  const double* inverse;              // [B, 2, 3] crop pixels to source pixels, or null
  float* keypoints;                   // [B, K, 2] x, y
  float* scores;                      // [B, K]
  float* visibility;                  // [B, K], or null
  int64_t batch, keypoints_k;
  float pixels;                       // of the crop in a bin
  SimccAxis axis_x, axis_y;
};

void simcc_decode_cpu(const SimccDecodeArgs& args);
void simcc_decode_cuda(const SimccDecodeArgs& args, void* stream);

}  // namespace fastpose
