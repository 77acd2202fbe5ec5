// Kullback-Leibler divergence of predicted coordinate vectors from the labels of keypoints, which never exist in memory, with its gradients.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "simcc_encode/simcc_encode.h"

namespace fastpose {

struct SimccLossArgs {
  const void* predicted[2];       // [B, K, bins along x], [B, K, bins along y]
  DType dtype;                    // of predicted and gradients: Float32, Float16 or BFloat16
  const float* keypoints;         // [B, K, 2] x, y in input pixels
  const float* weights;           // [B, K], or null: all 1
  const float* keypoint_weights;  // [K], or null: all 1
  float* loss;                    // []
  void* gradients[2];             // shaped like predicted; both, or both null
  double* losses;                 // [2, B, K] working memory: the loss of each vector
  int64_t batch, keypoints_k;
  float beta;        // factor on what is predicted, before its softmax
  bool softmax;      // labels are made distributions
  float label_beta;  // factor on labels before that
  SimccTarget target;
};

void simcc_loss_cpu(const SimccLossArgs& args);
void simcc_loss_cuda(const SimccLossArgs& args, void* stream);

}  // namespace fastpose
