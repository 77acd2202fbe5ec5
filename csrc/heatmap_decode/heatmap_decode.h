// One keypoint and its score from each heatmap of a batch.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "heatmap_encode/heatmap_encode.h"

namespace fastpose {

// The parameters of a codec that decide how a heatmap is read.
struct HeatmapReading {
  CodecKind kind;
  int32_t height, width;
  float scale_x, scale_y;   // from heatmap pixels to what is reported, or to crop pixels if there are inverse matrices
  float radius;             // of the disc, heatmap pixels (UdpCombined)
  int32_t taps;             // of the blur, odd; 1: none
  float tap[kMaxTaps + 1];

  int32_t maps_per_keypoint() const { return kind == CodecKind::UdpCombined ? 3 : 1; }
};

struct HeatmapDecodeArgs {
  const void* heatmaps;       // [B, K, h, w]; UdpCombined [B, 3K, h, w]
  const void* flipped;        // of the mirrored input, same shape and dtype, or null
  DType dtype;                // Float32, Float16 or BFloat16
  const int64_t* flip_index;  // [K] keypoint whose mirrored map belongs to each keypoint; null without flipped
  bool flip_shift;            // mirrored maps move right by one pixel
  const double* inverse;      // [B, 2, 3] crop pixels to source pixels, or null
  float* keypoints;           // [B, K, 2] x, y
  float* scores;              // [B, K]
  int64_t batch, keypoints_k;
  HeatmapReading reading;
};

void heatmap_decode_cpu(const HeatmapDecodeArgs& args);
void heatmap_decode_cuda(const HeatmapDecodeArgs& args, void* stream);

}  // namespace fastpose
