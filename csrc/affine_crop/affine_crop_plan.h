// What is known of a crop before its first pixel: where its image lies, how its pixels are found in it, and by which of the two ways of the kernel. Worked out
// by the host where the parameters lie in host memory, so that a block only copies it; else by one thread of each block. For affine_crop_cuda.cu only.
#pragma once

#include "affine_crop/affine_crop_fixed.h"
#include "affine_crop/affine_crop_math.h"

namespace fastpose {

struct CropPlan {
  CropImage image;
  union {
    CropMap map;
    FixedMap fixed;  // if is_fixed
  };
  bool good;      // false: all of the crop shows the border
  bool is_fixed;  // in fixed point, as FixedView has it
};

// `known`: there is such an image.
FASTPOSE_HD CropPlan crop_plan(const AffineCropArgs& args, const CropImage& image, bool known, const double* matrix, bool flip) {
  CropPlan plan{image, {}, false, false};
  CropMap map;
  plan.good = crop_map(matrix, flip, args.width, args.antialias, map) && known;
  const bool bytes = args.image_dtype == DType::UInt8 && args.out_dtype != DType::Float64;
  plan.is_fixed = plan.good && bytes && fits_fixed(map, args.height, args.width) && fits_fixed(image);
  if (plan.is_fixed) plan.fixed = fixed_map(map);
  else plan.map = map;
  return plan;
}

}  // namespace fastpose
