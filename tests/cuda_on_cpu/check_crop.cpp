// affine_crop and its gradient.
#include <sys/mman.h>

#include <cmath>
#include <limits>

#include "affine_crop/affine_crop.h"
#include "affine_crop/affine_crop_math.h"
#include "checks.h"

namespace checks {
namespace {

using fastpose::AffineCropArgs;
using fastpose::CropImage;

// Arguments that the bindings let through, and the memory they point to.
struct Crop {
  AffineCropArgs args{};
  std::vector<Array> photos;
  std::vector<CropImage> table;
  Array matrices, index, flip, gain, offset;

  // `rows`: crops of bytes that look mostly inside their images, where rows are made in the fast way.
  Crop(Random& random, DType dtype, bool rows = false) {
    // Now and then more images, and more crops, than the small table of one launch holds.
    const bool many = !rows && random.one_in(8);
    const int64_t images = many ? random.whole(49, 130) : random.whole(1, 4), crops = rows ? random.whole(1, 2) : random.one_in(4) ? random.whole(12, 40) : random.whole(0, 5);
    for (int64_t i = 0; i < images; ++i) add_photo(random, dtype, rows);
    args.images = table.data();
    args.num_images = images;
    args.image_dtype = dtype;
    args.params_on_device = random.in_turn({false, true}, 15);
    args.num_crops = crops;
    const bool large = crops > 0 && crops < 3 && random.one_in(2);  // more than one tile of pixels
    args.height = large ? random.whole(20, 40) : random.whole(1, crops > 5 ? 5 : 12);
    args.width = large ? random.whole(50, 90) : random.whole(1, crops > 5 ? 9 : 40);
    if (rows) args.height = random.whole(1, 40), args.width = random.one_in(2) ? 4 * random.whole(1, 20) : random.whole(1, 80);
    if (rows && random.one_in(6)) args.height = random.whole(1, 9), args.width = random.whole(250, 530);  // up to three runs of 256 pixels
    matrices = Array(DType::Float64, 6 * crops);
    index = Array(DType::Int64, crops);
    for (int64_t m = 0; m < crops; ++m) {
      const int64_t image = random.whole(0, images - 1);
      index.put(m, static_cast<double>(image));
      put_matrix(random, matrices.as<double>() + 6 * m);
      if (rows) centre(random, table[static_cast<size_t>(image)], matrices.as<double>() + 6 * m);
    }
    args.matrices = matrices.as<double>();
    args.image_index = index.as<int64_t>();
    if (random.one_in(2)) {
      flip = Array(DType::Bool, crops);
      for (int64_t m = 0; m < crops; ++m) flip.put(m, random.one_in(2));
      args.flip = flip.as<bool>();
    }
    if (random.one_in(rows ? 8 : 3)) {
      gain = Array(DType::Float32, 3 * crops);
      fill(random, gain, 0.5, 1.5);
      args.gain = gain.as<float>();
    }
    if (random.one_in(rows ? 8 : 3)) {
      offset = Array(DType::Float32, 3 * crops);
      fill(random, offset, -60, 60);
      args.offset = offset.as<float>();
    }
    args.replicate = random.one_in(2);
    for (int c = 0; c < 3; ++c) {
      args.scale[c] = random.between(0.01, 1);
      args.shift[c] = random.between(-3, 3);
      args.border[c] = args.replicate ? 0 : random.between(0, 255);
    }
    args.swap_rb = random.one_in(2);
    args.nhwc = random.one_in(2);
    args.antialias = !rows && random.one_in(3);
  }

  void add_photo(Random& random, DType dtype, bool rows) {
    CropImage image;
    image.height = rows ? random.whole(2, 90) : random.whole(1, 20);
    image.width = rows ? random.one_in(6) ? random.whole(400, 700) : random.whole(2, 120) : random.whole(1, 20);
    const int64_t step = 3 * image.width + random.pick<int64_t>({0, 0, 1, 7});
    const bool upwards = !rows && random.one_in(4);
    photos.emplace_back(dtype, (image.height - 1) * step + 3 * image.width, random.whole(0, 3));
    fill(random, photos.back(), 0, 255.99);
    if (rows && random.one_in(2))  // the largest steps there are
      for (int64_t i = 0; i < photos.back().count(); ++i) photos.back().put(i, photos.back().get(i) < 128 ? 0 : 255);
    image.row_stride = upwards ? -step : step;
    image.data = static_cast<const char*>(photos.back().data()) + (upwards ? (image.height - 1) * step * dtype_size(dtype) : 0);
    table.push_back(image);
  }

  static void put_matrix(Random& random, double* matrix) {
    const double scale = std::exp2(random.between(-3, 3)), angle = random.one_in(3) ? 0 : random.between(0, 6.3);
    const double far = random.one_in(8) ? 1e9 : 15;
    const double rows[] = {scale * std::cos(angle), -scale * std::sin(angle), random.between(-far, far),
                           scale * std::sin(angle), scale * std::cos(angle),  random.between(-far, far)};
    for (int i = 0; i < 6; ++i) matrix[i] = rows[i];
    if (random.one_in(4)) {  // positions at whole pixels
      matrix[0] = matrix[4] = 1;
      matrix[1] = matrix[3] = 0;
      matrix[2] = static_cast<double>(random.whole(-9, 9));
      matrix[5] = static_cast<double>(random.whole(-9, 9));
    }
  }

  // The middle of the crop, about, shows that of the image, at half to twice its size.
  void centre(Random& random, const CropImage& image, double* matrix) const {
    const double scale = std::exp2(random.between(-1, 1)) / std::hypot(matrix[0], matrix[1]);
    for (int i : {0, 1, 3, 4}) matrix[i] *= scale;
    const double x = 0.5 * static_cast<double>(image.width), y = 0.5 * static_cast<double>(image.height);
    matrix[2] = 0.5 * static_cast<double>(args.width) - matrix[0] * x - matrix[1] * y + random.between(-4, 4);
    matrix[5] = 0.5 * static_cast<double>(args.height) - matrix[3] * x - matrix[4] * y + random.between(-4, 4);
  }
};

// The op in double precision.
template <class P>
void exact_crop(const AffineCropArgs& args, Array& out) {
  for (int64_t m = 0; m < args.num_crops; ++m) {
    fastpose::CropMap map;
    fastpose::crop_map(args.matrices + 6 * m, args.flip != nullptr && args.flip[m], args.width, args.antialias, map);
    const auto colour = fastpose::crop_colour<double>(args, args.gain == nullptr ? nullptr : args.gain + 3 * m, args.offset == nullptr ? nullptr : args.offset + 3 * m);
    for (int64_t i = 0; i < args.height * args.width; ++i) {
      const int64_t x = i % args.width, y = i / args.width;
      double value[3];
      fastpose::crop_pixel<double, P>(args.images[args.image_index[m]], map, static_cast<double>(x), static_cast<double>(y), args.replicate, args.border, value);
      for (int c = 0; c < 3; ++c) {
        const double v = fastpose::crop_value(colour, c, value[fastpose::crop_source_channel(args.swap_rb, c)]);
        out.put(fastpose::crop_out_index(args, m, c, y, x), args.out_dtype == DType::UInt8 ? fastpose::clamp(v, 0.0, 255.0) : v);
      }
    }
  }
}

void compare(Random& random, Crop& crop, int64_t skip) {
  AffineCropArgs& args = crop.args;
  Array out(args.out_dtype, 3 * args.num_crops * args.height * args.width, skip);
  args.out = out.data();
  Trial trial;
  trial.outputs = {&out};
  // Bytes are blended with weights of 15 bits, on either side: up to 0.004 of a grey level from the exact value, before a gain of up to 1.5.
  const bool bytes = args.image_dtype == DType::UInt8;
  const auto tolerance = [&](double grey) {
    return args.out_dtype == DType::UInt8 ? Tolerance{1, 0} : Tolerance{bytes ? grey * (args.gain == nullptr ? 1 : 1.5) : 1e-4, 1e-5};
  };
  trial.cuda = [&](void* stream) { fastpose::affine_crop_cuda(args, stream); };
  trial.tolerances = {tolerance(8e-3)};
  trial.cpu = [&] { fastpose::affine_crop_cpu(args); };
  run(random, trial);
  trial.tolerances = {tolerance(4e-3)};
  trial.cpu = [&] {
    if (bytes) exact_crop<uint8_t>(args, out);
    else if (args.image_dtype == DType::Float32) exact_crop<float>(args, out);
    else exact_crop<double>(args, out);
  };
  run(random, trial);
  if (!args.params_on_device || args.num_crops == 0) return;
  // What only the device can see: a matrix without an inverse, an image that is not there. Both give the border.
  const int64_t m = random.whole(0, args.num_crops - 1);
  const bool matrix = random.one_in(2);
  if (matrix) crop.matrices.put(6 * m + random.whole(0, 5), random.pick<double>({std::nan(""), INFINITY}));
  else crop.index.as<int64_t>()[m] = random.pick<int64_t>({-1, args.num_images, std::numeric_limits<int64_t>::max()});
  trial.cpu = [&] {
    const auto colour = fastpose::crop_colour<double>(args, args.gain == nullptr ? nullptr : args.gain + 3 * m, args.offset == nullptr ? nullptr : args.offset + 3 * m);
    for (int c = 0; c < 3; ++c) {
      const double value = fastpose::crop_value(colour, c, args.border[fastpose::crop_source_channel(args.swap_rb, c)]);
      for (int64_t i = 0; i < args.height * args.width; ++i)
        out.put(fastpose::crop_out_index(args, m, c, i / args.width, i % args.width), args.out_dtype == DType::UInt8 ? fastpose::clamp(value, 0.0, 255.0) : value);
    }
  };
  Array rest = out.rubbish(0);
  rest.copy_from(out);  // what the kernel made of the other crops a moment ago
  const auto only_mine = trial.cpu;
  trial.cpu = [&] {
    out.copy_from(rest);
    only_mine();
  };
  run(random, trial);
}

// Address space without memory behind it, but for the pages that are written: for sizes that no machine here has.
class Expanse {
 public:
  explicit Expanse(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) fail("no %zu bytes of address space", bytes);
  }
  ~Expanse() { munmap(data_, bytes_); }
  Expanse(const Expanse&) = delete;
  Expanse& operator=(const Expanse&) = delete;
  template <class T>
  T* as() const { return static_cast<T*>(data_); }

 private:
  size_t bytes_;
  void* data_;
};

// A crop of two pixels from the far end of an image of one row, of which more than 2^31 elements lie before them; and its gradient.
template <class T>
void far_crop(Random& random, DType dtype) {
  constexpr int64_t kWidth = 716'000'000, kPixels = 2;
  const int64_t column = kWidth - random.whole(2, 1000);
  static_assert(kWidth * 3 > INT32_MAX);
  const Expanse photo(static_cast<size_t>(3 * kWidth) * sizeof(T)), slopes(static_cast<size_t>(3 * kWidth) * sizeof(T));
  Array expected(dtype, 3 * kPixels), out(dtype, 3 * kPixels), grad(dtype, 3 * kPixels);
  fill(random, expected, 1, 255);
  for (int64_t i = 0; i < 3 * kPixels; ++i) photo.as<T>()[3 * column + i] = expected.as<T>()[i];
  const CropImage image{photo.as<T>(), 3 * kWidth, 1, kWidth}, grad_image{slopes.as<T>(), 3 * kWidth, 1, kWidth};
  const double matrix[6] = {1, 0, -static_cast<double>(column), 0, 1, 0};
  const int64_t index = 0;
  AffineCropArgs args{};
  args.images = &image;
  args.num_images = args.num_crops = args.height = 1;
  args.width = kPixels;
  args.image_dtype = args.out_dtype = dtype;
  args.matrices = matrix;
  args.image_index = &index;
  args.params_on_device = random.one_in(2);
  for (double& scale : args.scale) scale = 1;
  args.nhwc = true;
  args.out = out.data();
  Trial trial;
  trial.outputs = {&out};
  trial.tolerances = {{0, 0}};
  trial.cpu = [&] { out.copy_from(expected); };
  trial.cuda = [&](void* stream) { fastpose::affine_crop_cuda(args, stream); };
  run(random, trial);
  if (dtype == DType::UInt8) return;
  const fastpose::AffineCropBackwardArgs all{args, expected.data(), &grad_image};
  trial.outputs = {&grad};
  trial.cpu = [&] { grad.copy_from(expected); };
  trial.cuda = [&](void* stream) {
    T* const at = slopes.as<T>() + 3 * column;
    for (int64_t i = 0; i < 3 * kPixels; ++i) at[i] = 0;
    fastpose::affine_crop_backward_cuda(all, stream);
    for (int64_t i = 0; i < 3 * kPixels; ++i) grad.as<T>()[i] = at[i];
  };
  run(random, trial);
}

}  // namespace

// Sizes beyond 2^31 elements.
void affine_crop_far(Random& random) {
  AffineCropArgs args{};
  args.height = 1;
  args.width = 2'000'000'000;
  for (const bool nhwc : {false, true}) {
    args.nhwc = nhwc;
    const int64_t wanted = nhwc ? 3 * (2 * args.width + 1'999'999'999) + 1 : 7 * args.width + 1'999'999'999;
    if (fastpose::crop_out_index(args, 2, 1, 0, 1'999'999'999) != wanted) fail("crop_out_index: a pixel beyond 2^31 elements");
  }
  switch (random.turn % 3) {
    case 0: return far_crop<uint8_t>(random, DType::UInt8);
    case 1: return far_crop<float>(random, DType::Float32);
    default: return far_crop<double>(random, DType::Float64);
  }
}

void affine_crop(Random& random) {
  Crop crop(random, random.in_turn({DType::UInt8, DType::Float32, DType::Float64}));
  crop.args.out_dtype = random.in_turn({DType::Float32, DType::UInt8, DType::Float16, DType::BFloat16, DType::Float64}, 3);
  compare(random, crop, random.whole(0, 17));  // rows, planes and crops at any distance from 16 bytes
}

void affine_crop_rows(Random& random) {
  Crop crop(random, DType::UInt8, true);
  crop.args.out_dtype = random.in_turn({DType::Float32, DType::Float16, DType::UInt8, DType::BFloat16});
  crop.args.nhwc = random.in_turn({false, true}, 4);
  compare(random, crop, random.one_in(2) ? 0 : random.whole(1, 17));
}

void affine_crop_backward(Random& random) {
  const DType dtype = random.in_turn({DType::Float32, DType::Float64});
  Crop crop(random, dtype);
  const AffineCropArgs& args = crop.args;
  Array slopes(dtype, 3 * args.num_crops * args.height * args.width);
  fill(random, slopes, -1, 1);
  std::vector<Array> grads;
  std::vector<CropImage> table = crop.table;
  Trial trial;
  for (CropImage& image : table) {
    grads.emplace_back(dtype, 3 * image.height * image.width);
    fill(random, grads.back(), -1, 1);
    image.data = grads.back().data();
    image.row_stride = 3 * image.width;
  }
  for (Array& grad : grads) {
    trial.outputs.push_back(&grad);
    trial.tolerances.push_back(dtype == DType::Float64 ? Tolerance{1e-9, 1e-9} : Tolerance{2e-4, 2e-4});
  }
  const fastpose::AffineCropBackwardArgs all{args, slopes.data(), table.data()};
  trial.adds = true;
  trial.cpu = [&] { fastpose::affine_crop_backward_cpu(all); };
  trial.cuda = [&](void* stream) { fastpose::affine_crop_backward_cuda(all, stream); };
  run(random, trial);
}

}  // namespace checks
