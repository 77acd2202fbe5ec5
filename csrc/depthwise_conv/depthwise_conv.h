// Gradient of a depthwise convolution without bias: every channel has a kernel of its own, padded by half of its side. For the CPU only: maps
// of pixels by channels, the channels side by side.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct DepthwiseConvGradArgs {
  const void* x;       // [B, h, w, C]
  const void* grad;    // [B, (h - 1) / stride + 1, (w - 1) / stride + 1, C] with respect to the output
  const void* weight;  // [C, kernel, kernel]
  void* grad_x;        // shaped like x, or null
  float* grad_weight;  // shaped like weight, or null
  double* workspace;   // [B, kernel * kernel, C]
  DType dtype;         // of x, grad, weight and grad_x: Float32 or BFloat16
  int64_t batch, height, width, channels;
  int64_t kernel, stride;  // 3 or 5; 1 or 2
};

void depthwise_conv_grad_cpu(const DepthwiseConvGradArgs& args);

}  // namespace fastpose
