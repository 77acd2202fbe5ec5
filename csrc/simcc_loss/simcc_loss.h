// Kullback-Leibler divergence of predicted vectors from the labels of keypoints, which never exist in memory, with its gradient (SimCC).
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "simcc_encode/simcc_encode.h"

namespace fastpose {

struct SimccLossArgs {
  const void *x, *y;              // [B, K, width], [B, K, height], predicted
  DType dtype;                    // of these and of the gradients: Float32, Float16 or BFloat16
  const float* keypoints;         // [B, K, 2] x, y in input pixels
  const float* weights;           // [B, K]
  const float* keypoint_weights;  // [K], or null
  float* loss;                    // []
  void *gradient_x, *gradient_y;  // shaped like x and y, or null
  double* losses;                 // [B, K] working memory
  int64_t batch, keypoints_k;
  SimccLabel label;
  float beta;                     // factor on what is predicted, before its softmax
  bool label_softmax;             // whether labels are made distributions by a softmax
  float label_beta;               // factor on them before it
};

void simcc_loss_cpu(const SimccLossArgs& args);
void simcc_loss_cuda(const SimccLossArgs& args, void* stream);

}  // namespace fastpose
