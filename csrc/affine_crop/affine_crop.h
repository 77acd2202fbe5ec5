// affine_crop: crops of any number of images, each by its own affine map, sampled, coloured, normalised and laid out in one pass.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

struct CropImage {
  const void* data;    // [height, width, 3], three channels side by side, pixels side by side
  int64_t row_stride;  // elements from one row to the next; may be negative
  int64_t height, width;
};

struct AffineCropArgs {
  const CropImage* images;  // [num_images], in host memory
  int64_t num_images;
  DType image_dtype;        // UInt8, Float32 or Float64
  const double* matrices;   // [M, 2, 3] source px -> crop px, pixel centres at integers
  const int64_t* image_index;  // [M] into images
  const bool* flip;         // [M] or null: mirror the crop left to right
  const float* gain;        // [M, 3] or null, output channel order: sample * gain + offset, clipped to 0..255, before normalisation
  const float* offset;      // [M, 3] or null
  bool params_on_device;    // CUDA: the five arrays above lie on the device, not in host memory
  int64_t num_crops, height, width;  // M and the size of a crop
  double scale[3], shift[3];  // output channel order: value = sample * scale + shift
  double border[3];         // source channel order, 0..255
  bool swap_rb;             // output channel c is source channel 2 - c
  bool replicate;           // outside the image: the nearest edge pixel, instead of `border`
  bool antialias;           // where the crop shrinks the image: average the samples under an output pixel
  void* out;                // [M, 3, h, w], or [M, h, w, 3] if nhwc
  DType out_dtype;          // UInt8, Float16, BFloat16, Float32 or Float64
  bool nhwc;
};

// The gradient with respect to float images: adds to grad_images what grad_out says. The arguments are those of the forward pass, except that
// `args.out` and its dtype are not used. Pixels where the colour was clipped give no gradient.
struct AffineCropBackwardArgs {
  AffineCropArgs forward;
  const void* grad_out;           // [M, 3, h, w] or [M, h, w, 3], dtype of the images
  const CropImage* grad_images;   // [num_images], dtype of the images; data is written
};

void affine_crop_cpu(const AffineCropArgs& args);
void affine_crop_cuda(const AffineCropArgs& args, void* stream);
void affine_crop_backward_cpu(const AffineCropBackwardArgs& args);
void affine_crop_backward_cuda(const AffineCropBackwardArgs& args, void* stream);

}  // namespace fastpose
