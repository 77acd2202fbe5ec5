// affine_crop on the CPU for crops whose rows and columns are rows and columns of the image.
#pragma once

#include "affine_crop/affine_crop_across.h"
#include "affine_crop/affine_crop_block.h"
#include "affine_crop/affine_crop_math.h"
#include "affine_crop/affine_crop_output.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// But for rounding.
FASTPOSE_INLINE bool is_upright(const AffineCropArgs& args, const CropMap& map, const CropImage& image) {
  return map.sub_x == 1 && map.sub_y == 1 && fabs(map.d) * static_cast<double>(args.width) < 1e-6 &&
         fabs(map.b) * static_cast<double>(args.height) < 1e-6 && image.width >= kNarrowest && image.width <= kWidest;
}

// Source rows as a crop's columns see them: blended along x, and normalised unless colour comes first. The last even and the last odd one
// are kept, for the crop's next row.
class UprightRows {
 public:
  FASTPOSE_INLINE UprightRows(const AffineCropArgs& args, const CropMap& map, const CropImage& from, const CropColour<float>& colour,
                              int64_t uneven)
      : image(from), ahead((map.e < 0 ? -kRowsAhead : kRowsAhead) * from.row_stride) {
    float border[3], scale[3], shift[3];
    for (int c = 0; c < 3; ++c) {
      const int o = crop_source_channel(args.swap_rb, c);
      border[c] = static_cast<float>(args.border[c]);
      scale[c] = colour.active ? 1.f : colour.scale[o];
      shift[c] = colour.active ? 0.f : colour.shift[o];
    }
    columns = plan_columns(image, args.width, uneven, map.a, map.c, args.replicate, border, scale, shift);
  }
  // [3, columns.padded]
  FASTPOSE_INLINE const float* operator()(int64_t y) {
    if (y < 0 || y >= image.height) return columns.border;
    float* row = columns.row[y & 1];
    if (held[y & 1] != y) {
      held[y & 1] = y;
      across_row(columns, image, static_cast<const uint8_t*>(image.data) + y * image.row_stride, ahead, row);
    }
    return row;
  }
  FASTPOSE_INLINE int64_t padded() const { return columns.padded; }
  FASTPOSE_INLINE const float* border() const { return columns.border; }

 private:
  const CropImage& image;
  const int64_t ahead;  // bytes from a source row to one that will be wanted a little later
  Columns columns;
  int64_t held[2] = {-1, -1};  // source rows in columns.row
};

// Rows [first, last) of an upright crop: each source row is blended along x once, and serves all crop rows that look at it.
template <class Output>
FASTPOSE_INLINE void crop_upright(const AffineCropArgs& args, const CropMap& map, const CropImage& image, const CropColour<float>& colour,
                                  Output& output, int64_t first, int64_t last) {
  UprightRows rows(args, map, image, colour, output.uneven(first));
  const double h = static_cast<double>(image.height);
  const int64_t padded = rows.padded();
  for (int64_t y = first; y < last; ++y) {
    double sy = map.e * static_cast<double>(y) + map.f;
    if (args.replicate) sy = sy > 0 ? (sy < h - 1 ? sy : h - 1) : 0;  // as crop_taps
    const float *top = rows.border(), *bottom = top;
    Vec weight = zero();  // of the row below
    if (sy > -1 && sy < h) {
      const int64_t above = sy < 0 ? -1 : static_cast<int64_t>(sy);
      weight = set(static_cast<float>(sy - static_cast<double>(above)));
      top = rows(above);
      bottom = args.replicate && above + 1 >= image.height ? top : rows(above + 1);
    }
    const auto between = [&](int c, int64_t x) { return lerp(weight, load(top + c * padded + x), load(bottom + c * padded + x)); };
    if (colour.active) output.write_row(y, [&](int c, int64_t x) { return output.normalised(c, output.coloured(c, between(c, x))); });
    else output.write_row(y, between);
  }
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
