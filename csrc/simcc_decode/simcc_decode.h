// One keypoint, its score and how visible it is from each pair of coordinate vectors of a batch.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "heatmap_encode/heatmap_encode.h"

namespace fastpose {

// The parameters of a codec that decide how vectors are read. Of two numbers the first is along x, the second along y.
struct SimccReading {
  int32_t bins[2];
  float split_ratio;  // bins in one pixel of the input
  float sharpness[2]; // factor on a vector before the softmax whose peak says how visible its keypoint is
  int32_t taps[2];    // of the blur before a keypoint is refined, odd; 0: it is not
  float tap[2][kMaxTaps + 1];
};

struct SimccDecodeArgs {
  const void* vectors[2];     // [B, K, bins along x], [B, K, bins along y]
  const void* flipped[2];     // of the mirrored input, same shapes and dtype, or null
  DType dtype;                // Float32, Float16 or BFloat16
  const int64_t* flip_index;  // [K] keypoint whose mirrored vectors belong to each keypoint; null without flipped
  const double* inverse;      // [B, 2, 3] crop pixels to source pixels, or null
  float* keypoints;           // [B, K, 2] x, y
  float* scores;              // [B, K]
  float* visibility;          // [B, K], or null
  int64_t batch, keypoints_k;
  SimccReading reading;
};

void simcc_decode_cpu(const SimccDecodeArgs& args);
void simcc_decode_cuda(const SimccDecodeArgs& args, void* stream);

}  // namespace fastpose
