// Two maps to one whose channels take turns: the first channel of one, the first of the other, and so on (the channel shuffle of two halves).
// The second one may be scaled by a weight for each image and channel on the way. For the CPU only: maps of pixels by channels, the channels
// side by side.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct InterleaveArgs {
  const void* first;       // [B, pixels, C], pixels so many elements apart
  const void* second;      // [B, pixels, C], likewise
  const void* weights;     // [B, C], or null: all 1
  void* out;               // [B, pixels, C, 2]
  int64_t first_pitch, second_pitch;  // at least C
  DType dtype;             // of all: Float32 or BFloat16
  int64_t batch, pixels, channels;
};

struct InterleaveGradArgs {
  const void* grad;        // [B, pixels, C, 2]
  const void* second;      // [B, pixels, C], pixels so many elements apart; null without weights
  const void* weights;     // [B, C], or null
  void* grad_first;        // [B, pixels, C]
  void* grad_second;       // [B, pixels, C]
  void* grad_weights;      // [B, C]; null without weights
  int64_t second_pitch;
  DType dtype;             // of all: Float32 or BFloat16
  int64_t batch, pixels, channels;
};

void interleave_cpu(const InterleaveArgs& args);
void interleave_grad_cpu(const InterleaveGradArgs& args);

}  // namespace fastpose
