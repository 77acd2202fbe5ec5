// What is known of a crop before its first pixel: where its image lies, how its pixels are found in it, and by which of the two ways of the
// kernel. Worked out by the host where the parameters lie in host memory, so that a block only copies it; else by one thread of each block.
// For affine_crop_cuda.cu only.
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
  bool is_inside;  // and all its pixels are where FixedView::blend may look
};

// `known`: there is such an image.
FASTPOSE_HD CropPlan crop_plan(const AffineCropArgs& args, const CropImage& image, bool known, const double* matrix, bool flip) {
  CropPlan plan{image, {}, false, false, false};
  CropMap map;
  plan.good = crop_map(matrix, flip, args.width, args.antialias, map) && known;
  const bool bytes = args.image_dtype == DType::UInt8 && args.out_dtype != DType::Float64;
  plan.is_fixed = plan.good && bytes && fits_fixed(map, args.height, args.width) && fits_fixed(image);
  if (!plan.is_fixed) {
    plan.map = map;
    return plan;
  }
  plan.fixed = fixed_map(map);
  const FixedView view(image, args.swap_rb);
  const unsigned right = static_cast<unsigned>(args.width - 1), bottom = static_cast<unsigned>(args.height - 1);
  plan.is_inside = true;
  for (unsigned corner = 0; corner < 4; ++corner) {
    const unsigned column = corner % 2 * right, row = corner / 2 * bottom;
    plan.is_inside = plan.is_inside && view.holds(plan.fixed.x(column, row) + kHalfWeight, plan.fixed.y(column, row));
  }
  return plan;
}

}  // namespace fastpose
