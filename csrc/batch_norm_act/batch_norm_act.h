// BatchNorm in training mode, then a residual added and ReLU where wanted, with its gradient. For the CPU only: a map of pixels by channels, the
// channels side by side.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct BatchNormActArgs {
  const void* x;         // [rows, channels]
  const void* residual;  // shaped like x, or null
  const float* weight;   // [channels]
  const float* bias;     // [channels]
  float* running_mean;   // [channels]
  float* running_var;    // [channels], of the unbiased variance
  void* out;             // shaped like x
  float* stats;          // [2, channels] for the gradient: mean, 1 / sqrt(variance + eps)
  double* workspace;     // [batch_norm_blocks(), 2, channels]
  DType dtype;           // of x, residual and out: Float32 or BFloat16
  bool relu;
  double momentum, eps;
  int64_t rows, channels;
};

struct BatchNormActGradArgs {
  const void* x;           // [rows, channels]
  const void* out;         // shaped like x; null where ReLU's input can be made again from x: without a residual
  const void* grad;        // shaped like x: with respect to out
  const float* weight;     // [channels]
  const float* bias;       // [channels]
  const float* stats;      // [2, channels], of the forward pass
  void* grad_x;            // shaped like x, or null
  void* grad_residual;     // shaped like x, or null: not wanted, or equal to `grad` for want of a ReLU
  float* grad_weight;      // [channels]
  float* grad_bias;        // [channels]
  double* workspace;       // [batch_norm_blocks(), 2, channels]
  DType dtype;             // of x, out, grad, grad_x and grad_residual
  bool relu;
  int64_t rows, channels;
};

// Rows of a block. Blocks have sums of their own, put together in one order, so that results do not depend on the number of threads.
constexpr int64_t batch_norm_block_rows(int64_t channels) {
  constexpr int64_t kFew = 256, kElements = 1 << 16;  // a multiple of what Folding folds
  return channels * kFew >= kElements ? kFew : kElements / channels / kFew * kFew;
}
constexpr int64_t batch_norm_blocks(int64_t rows, int64_t channels) {
  return (rows + batch_norm_block_rows(channels) - 1) / batch_norm_block_rows(channels);
}

void batch_norm_act_cpu(const BatchNormActArgs& args);
void batch_norm_act_grad_cpu(const BatchNormActGradArgs& args);

}  // namespace fastpose
