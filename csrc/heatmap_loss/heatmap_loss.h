// Mean squared error between predicted heatmaps and those of keypoints, which never exist in memory, with its gradient.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "heatmap_encode/heatmap_encode.h"

namespace fastpose {

struct HeatmapLossArgs {
  const void* predicted;   // [B, K, h, w]; UdpCombined [B, 3K, h, w]
  DType dtype;             // of predicted and gradient: Float32, Float16 or BFloat16
  const float* keypoints;  // [B, K, 2] x, y in input pixels, or null: target is given
  const void* target;      // shaped like predicted, or null
  DType target_dtype;      // that of predicted, or Float32
  const float* weights;    // [B, K], or null: all 1
  float* loss;             // []
  void* gradient;          // shaped like predicted, or null
  double* losses;          // [2, B, K] working memory: the loss of each keypoint; 1 or 0, whether it counts
  int64_t batch, keypoints_k;
  int64_t topk;            // keypoints of each sample that count, those with the largest loss; 0: all
  HeatmapTarget codec;
};

void heatmap_loss_cpu(const HeatmapLossArgs& args);
void heatmap_loss_cuda(const HeatmapLossArgs& args, void* stream);

// out = gradient * slope in float32, rounded once: what backward makes of the gradient that heatmap_loss wrote for a slope of 1.
struct ScaleGradientArgs {
  const void* gradient;  // [count]
  DType dtype;           // of gradient and out: Float32, Float16 or BFloat16
  const float* slope;    // [], where the gradient is: on CUDA the kernel reads it, so that nobody waits
  void* out;             // [count]; the gradient itself is left alone where the slope is 1
  int64_t count;
};

void scale_gradient_cpu(const ScaleGradientArgs& args);
void scale_gradient_cuda(const ScaleGradientArgs& args, void* stream);

}  // namespace fastpose
