// Targets of affine_crop and its gradient.
#include <cmath>

#include "affine_crop/affine_crop.h"
#include "affine_crop/affine_crop_math.h"
#include "fuzz.h"

namespace fuzz {
namespace {

using fastpose::AffineCropArgs;
using fastpose::CropImage;
using fastpose::CropMap;
using fastpose::DType;

constexpr double kWorkLimit = 60000;  // samples of one trial, so that it takes milliseconds under sanitizers

struct Photos {
  std::vector<AnyArray> memory;
  std::vector<CropImage> table;

  // Rows of a photo may be further apart than its pixels need, or run upwards, as in a view.
  Photos(Bytes& in, DType dtype, const std::vector<CropImage>* sizes_of) {
    const int64_t count = sizes_of != nullptr ? static_cast<int64_t>(sizes_of->size()) : in.between(1, 3);
    for (int64_t i = 0; i < count; ++i) {
      CropImage image;
      const int64_t most = in.byte() % 8 == 0 ? 150 : 24;
      image.height = sizes_of != nullptr ? (*sizes_of)[static_cast<size_t>(i)].height : in.between(1, most);
      image.width = sizes_of != nullptr ? (*sizes_of)[static_cast<size_t>(i)].width : in.between(1, most);
      const int64_t step = 3 * image.width + in.pick<int64_t>({0, 0, 0, 1, 7});
      const bool upwards = in.byte() % 4 == 1;
      memory.emplace_back(in, dtype, (image.height - 1) * step + 3 * image.width);
      image.row_stride = upwards ? -step : step;
      image.data = static_cast<const char*>(memory.back().data()) + (upwards ? (image.height - 1) * step * dtype_size(dtype) : 0);
      table.push_back(image);
    }
  }
};

bool usable(const double* matrix, int64_t width) {
  CropMap map;
  return fastpose::crop_map(matrix, false, width, false, map);
}

// A matrix that the bindings let through.
void put_matrix(Bytes& in, double* matrix, int64_t width, bool far_away) {
  Numbers raw = numbers(in, -3.0, 3.0, true);
  Random& random = raw.random;
  const auto about = [&](double scale, double angle, double x, double y) {
    const double values[] = {scale * std::cos(angle), -scale * std::sin(angle), x, scale * std::sin(angle), scale * std::cos(angle), y};
    std::memcpy(matrix, values, sizeof(values));
  };
  const int kind = far_away ? 0 : in.byte() % 6;
  switch (kind) {
    case 0: about(1.0 + random.unit(), 0.0, 1e4 + 1e9 * random.unit(), -1e4); break;
    case 1: about(std::exp2(8.0 * random.unit() - 4.0), 0.0, 40.0 * random.unit() - 20.0, 40.0 * random.unit() - 20.0); break;  // rows stay level
    case 2: about(std::exp2(8.0 * random.unit() - 4.0), 6.3 * random.unit(), 40.0 * random.unit() - 20.0, 40.0 * random.unit() - 20.0); break;
    case 3: about(1.0, 0.0, static_cast<double>(random.below(9) - 4), static_cast<double>(random.below(9) - 4)); break;
    default:
      for (int i = 0; i < 6; ++i) matrix[i] = raw.next() * (kind == 5 ? std::exp2(static_cast<double>(random.below(81)) - 40.0) : 1.0);
  }
  if (!usable(matrix, width)) about(1.0, 0.0, 0.5, 0.25);
}

struct Crop {
  AffineCropArgs args{};
  Photos photos;
  Array<double> matrices;
  Array<int64_t> index;
  Array<bool> flip;
  Array<float> gain, offset;
  bool far_away;

  Crop(Bytes& in, DType dtype) : photos(in, dtype, nullptr) {
    args.images = photos.table.data();
    args.num_images = static_cast<int64_t>(photos.table.size());
    args.image_dtype = dtype;
    args.num_crops = in.between(0, 4);
    args.height = in.between(1, in.byte() % 4 == 0 ? 40 : 9);
    args.width = in.between(1, in.byte() % 8 == 0 ? 600 : 70);
    if (args.width > 200) args.height = 1;
    const int64_t m = args.num_crops;
    far_away = in.byte() % 6 == 1;
    matrices = Array<double>(in, 6 * m);
    index = Array<int64_t>(in, m);
    for (int64_t i = 0; i < m; ++i) {
      put_matrix(in, matrices.data() + 6 * i, args.width, far_away);
      index[i] = in.between(0, args.num_images - 1);
    }
    args.matrices = matrices.data();
    args.image_index = index.data();
    if (in.flag()) {
      flip = Array<bool>(in, m);
      for (int64_t i = 0; i < m; ++i) flip[i] = in.flag();
      args.flip = flip.data();
    }
    if (in.byte() % 3 == 1) {
      gain = Array<float>(in, 3 * m);
      fill(gain, numbers(in, -1.0, 3.0, true));
      args.gain = gain.data();
    }
    if (in.byte() % 3 == 1) {
      offset = Array<float>(in, 3 * m);
      fill(offset, numbers(in, -300.0, 300.0, true));
      args.offset = offset.data();
    }
    Numbers values = numbers(in, 0.0, 255.0, true);
    args.replicate = in.flag();
    for (int c = 0; c < 3; ++c) {
      args.scale[c] = std::exp2(8.0 * values.random.unit() - 6.0);
      args.shift[c] = values.next();
      args.border[c] = args.replicate ? 0.0 : values.next();
    }
    args.swap_rb = in.flag();
    args.nhwc = in.flag();
    args.antialias = in.byte() % 3 == 1 && samples() < kWorkLimit;
  }

  double samples() const {
    double sum = 0;
    for (int64_t i = 0; i < args.num_crops; ++i) {
      CropMap map;
      fastpose::crop_map(args.matrices + 6 * i, false, args.width, true, map);
      sum += static_cast<double>(map.sub_x * map.sub_y) * static_cast<double>(args.height * args.width);
    }
    return sum;
  }
};

}  // namespace

void affine_crop(Bytes& in) {
  Crop crop(in, in.pick<DType>({DType::UInt8, DType::UInt8, DType::UInt8, DType::Float32, DType::Float64}));
  for (AnyArray& photo : crop.photos.memory) photo.fill(numbers(in, 0.0, 256.0));
  AffineCropArgs& args = crop.args;
  args.out_dtype = in.pick<DType>({DType::Float32, DType::UInt8, DType::Float16, DType::BFloat16, DType::Float64});
  const int64_t pixels = args.height * args.width;
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{args.out_dtype, 3 * args.num_crops * pixels}};
  trial.run = [&](void* const* outputs) {
    AffineCropArgs mine = args;
    mine.out = outputs[0];
    fastpose::affine_crop_cpu(mine);
  };
  trial.check = [&](void* const* outputs) {
    if (!crop.far_away || args.replicate) return;
    for (int64_t m = 0; m < args.num_crops; ++m) {
      const auto colour = fastpose::crop_colour<double>(args, args.gain != nullptr ? args.gain + 3 * m : nullptr,
                                                        args.offset != nullptr ? args.offset + 3 * m : nullptr);
      for (int c = 0; c < 3; ++c) {
        const double border = args.border[fastpose::crop_source_channel(args.swap_rb, c)];
        const double wanted = fastpose::crop_value(colour, c, border), size = std::fabs(border * colour.gain[c]) + std::fabs(colour.offset[c]);
        for (int64_t i = 0; i < pixels; ++i) {
          const double got = value_of(outputs[0], args.out_dtype, fastpose::crop_out_index(args, m, c, i / args.width, i % args.width));
          const bool saturated = args.out_dtype == DType::UInt8 || !(std::fabs(wanted) < 6e4);
          const double tolerance = 0.01 * std::fabs(wanted) + 1e-4 * (colour.scale[c] * size + std::fabs(colour.shift[c]) + 1.0);
          FUZZ_CHECK(saturated || std::fabs(got - wanted) <= tolerance, "crop %d, channel %d, pixel %d lies far outside: %g, not the border %g",
                     static_cast<int>(m), c, static_cast<int>(i), got, wanted);
          const double first = value_of(outputs[0], args.out_dtype, fastpose::crop_out_index(args, m, c, 0, 0));
          FUZZ_CHECK(got == first || got != got, "crop %d, channel %d lies far outside, but its pixels differ", static_cast<int>(m), c);
        }
      }
    }
  };
  run_trial(in, trial);
}

void affine_crop_backward(Bytes& in) {
  const DType dtype = in.pick<DType>({DType::Float32, DType::Float64});
  Crop crop(in, dtype);
  for (AnyArray& photo : crop.photos.memory) photo.fill(numbers(in, -20.0, 280.0));
  const AffineCropArgs& args = crop.args;
  AnyArray slopes(in, dtype, 3 * args.num_crops * args.height * args.width);
  slopes.fill(numbers(in, -1.0, 1.0));
  Trial trial;
  trial.same_levels = false;
  for (const CropImage& image : crop.photos.table) trial.outputs.push_back({dtype, 3 * image.height * image.width});
  trial.run = [&](void* const* outputs) {
    std::vector<CropImage> table = crop.photos.table;
    for (size_t i = 0; i < table.size(); ++i) {
      table[i].data = outputs[i];
      table[i].row_stride = 3 * table[i].width;
      std::memset(outputs[i], 0, trial.outputs[i].bytes());  // the op adds
    }
    fastpose::AffineCropBackwardArgs all{args, slopes.data(), table.data()};
    fastpose::affine_crop_backward_cpu(all);
  };
  trial.check = [](void* const*) {};
  run_trial(in, trial);
}

}  // namespace fuzz
