// Bindings of affine_crop, its gradient and its options.
#include "affine_crop/affine_crop.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "affine_crop/affine_crop_math.h"
#include "bindings/bindings.h"

namespace fastpose {
namespace {

using Triple = std::array<double, 3>;

// What fastpose/ops/_crop_options.py makes of the options: checked once, when it is made.
struct CropOptions {
  int64_t height, width;
  Triple scale, shift, border;
  bool swap_rb, replicate, antialias, nhwc;
  bool fractions_are_odd;  // mean and std are of 0..255
};

CropOptions make_options(int64_t height, int64_t width, Triple scale, Triple shift, Triple border, bool swap_rb, bool replicate,
                         bool antialias, bool nhwc) {
  CropOptions o{height, width, scale, shift, border, swap_rb, replicate, antialias, nhwc, false};
  if (height < 1 || width < 1) fail_value("size", "(height, width) of at least 1", std::to_string(height) + " x " + std::to_string(width));
  for (size_t c = 0; c < 3; ++c) {
    if (!is_finite(border[c])) throw py::value_error("border_value: expected finite numbers");
    if (!is_finite(scale[c]) || !is_finite(shift[c])) throw py::value_error("mean, std: expected finite numbers, std above 0");
    o.fractions_are_odd = o.fractions_are_odd || scale[c] < 1.0 || -shift[c] > scale[c];
  }
  return o;
}

constexpr Rule kImages = array("images", U8 | F32 | F64, "", ANY_SHAPE | ANY_STRIDES);
constexpr Rule kGradImages = array("grad_images", F32 | F64, "", ANY_SHAPE | ANY_STRIDES);

// A list of images [H, W, 3] of any sizes, or one batch [B, H, W, 3]. Holds what it points into: a list may change while threads work, or
// make its items as they are asked for.
class Images {
 public:
  Images(Call& call, py::handle object, const Rule& rule) {
    if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr())) {
      Arg a;
      call.read(a, object, rule);
      if (call.refused()) return;
      if (a.ndim != 3 && a.ndim != 4) fail_value(rule.name, "shape [H, W, 3], or [B, H, W, 3]", shape_text(a));
      add(a, a.ndim - 3);
      return;
    }
    held_ = py::reinterpret_steal<py::tuple>(PySequence_Tuple(object.ptr()));
    if (!held_) throw py::error_already_set();
    table_.reserve(held_.size());
    arrays_.reserve(held_.size());
    for (py::handle item : held_) {
      Arg a;
      call.read(a, item, rule);
      if (call.refused()) return;
      if (a.ndim != 3) fail_value(rule.name, "images of shape [H, W, 3] in a list", shape_text(a));
      if (!arrays_.empty() && a.dtype != dtype())
        fail_type(rule.name, std::string("dtype ") + dtype_name(dtype()) + ", which the first has", dtype_name(a.dtype));
      add(a, 0);
    }
  }

  const CropImage* data() const { return table_.data(); }
  int64_t size() const { return static_cast<int64_t>(table_.size()); }
  DType dtype() const { return arrays_.empty() ? DType::UInt8 : arrays_[0].dtype; }
  const std::vector<CropImage>& table() const { return table_; }
  const std::vector<Arg>& arrays() const { return arrays_; }

 private:
  void add(const Arg& a, int first) {
    CropImage image;
    image.height = a.shape[first];
    image.width = a.shape[first + 1];
    arrays_.push_back(a);
    if (first == 1 && a.shape[0] == 0) return;
    if (image.height < 1 || image.width < 1) fail_value(a.name, "images of at least one pixel", "shape " + shape_text(a));
    if (image.height > INT32_MAX || image.width > INT32_MAX)
      fail_value(a.name, "images of less than 2^31 pixels a side", "shape " + shape_text(a));
    if (a.shape[first + 2] != 3) fail_value(a.name, "three channels last ([H, W, 3])", "shape " + shape_text(a));
    if (a.stride[first + 2] != 1 || (image.width > 1 && a.stride[first + 1] != 3))
      fail_value(a.name, "pixels of three adjacent channels side by side", "other strides for shape " + shape_text(a));
    image.row_stride = a.stride[first];
    const int64_t count = first == 0 ? 1 : a.shape[0], step = first == 0 ? 0 : a.stride[0] * dtype_size(a.dtype);
    for (int64_t i = 0; i < count; ++i) {
      image.data = a.as<const char>() + i * step;
      table_.push_back(image);
    }
  }

  py::tuple held_;
  std::vector<CropImage> table_;
  std::vector<Arg> arrays_;
};

// Whether float photos may hold fractions from 0 to 1: decided by some pixels, of which the first usually says no. Then Python's gate looks
// closer, and warns.
template <class T>
bool looks_like_fractions(const CropImage& image) {
  constexpr int64_t kSteps = 32;
  bool fraction = false;
  for (int64_t i = 0; i < kSteps * kSteps; ++i) {
    const int64_t row = i / kSteps * image.height / kSteps, column = i % kSteps * image.width / kSteps;
    const T* const pixel = static_cast<const T*>(image.data) + row * image.row_stride + 3 * column;
    for (int c = 0; c < 3; ++c) {
      if (!(pixel[c] >= 0 && pixel[c] <= 1)) return false;
      fraction = fraction || (pixel[c] != 0 && pixel[c] != 1);
    }
  }
  return fraction;
}

bool look_like_fractions(const Images& images) {
  if (images.dtype() == DType::UInt8) return false;
  const auto looks = images.dtype() == DType::Float32 ? looks_like_fractions<float> : looks_like_fractions<double>;
  return std::any_of(images.table().begin(), images.table().end(), looks);
}

// Matrices, indices and colours may stay on the CPU where the photos are on CUDA.
constexpr Rule kMatrices = small("matrices", F64, "M 2 3", ANY_DEVICE);
constexpr Rule kIndex = small("image_index", I64, "M", ANY_DEVICE | OPTIONAL);
constexpr Rule kFlip = small("flip", BOOL, "M", ANY_DEVICE | OPTIONAL);
constexpr Rule kGain = small("gain", F32, "M 3", ANY_DEVICE | OPTIONAL);
constexpr Rule kOffset = small("offset", F32, "M 3", ANY_DEVICE | OPTIONAL);
constexpr uint16_t kOutputs = U8 | F16 | BF16 | F32 | F64;

// Photos, the small arguments, options, and what has the shape of the crops: P, Q and R are 3, h and w in the order of the layout.
constexpr Rule kCrop[] = {other("images"), kMatrices, kIndex, kFlip, kGain, kOffset, other("options"), output("out", kOutputs, "M P Q R")};
constexpr Rule kCropGrad[] = {
    other("images"),  kMatrices, kIndex, kFlip, kGain, kOffset, other("options"), array("grad_out", F32 | F64, "M P Q R"),
    other("grad_images")};

const CropOptions& read_options(Call& call, py::handle object) {
  const auto& o = object.cast<const CropOptions&>();
  const std::array<int64_t, 3> sides = o.nhwc ? std::array<int64_t, 3>{o.height, o.width, 3} : std::array<int64_t, 3>{3, o.height, o.width};
  for (size_t i = 0; i < 3; ++i) call.say("PQR"[i], sides[i]);
  return o;
}

// Where they can be looked at without waiting.
void expect_parameters(const AffineCropArgs& args, bool has_gain, bool has_offset) {
  for (int64_t i = 0; i < args.num_crops; ++i) {
    CropMap map;
    if (!crop_map(args.matrices + 6 * i, false, args.width, false, map))
      fail_value("matrices", "finite, invertible matrices", "row " + std::to_string(i) + ", which is not");
    if (args.image_index[i] < 0 || args.image_index[i] >= args.num_images)
      fail_value("image_index", "indices below " + std::to_string(args.num_images),
                 std::to_string(args.image_index[i]) + " in row " + std::to_string(i));
    for (int64_t c = 3 * i; c < 3 * i + 3; ++c) {
      if (has_gain && !is_finite(args.gain[c])) fail_value("gain", "finite numbers", "row " + std::to_string(i));
      if (has_offset && !is_finite(args.offset[c])) fail_value("offset", "finite numbers", "row " + std::to_string(i));
    }
  }
}

// What the forward and the backward pass have in common; false if Python has to see to it.
bool fill(AffineCropArgs& args, Call& call, const Images& images, const CropOptions& options) {
  const Arg &matrices = call[1], &index = call[2], &flip = call[3], &gain = call[4], &offset = call[5];
  const int64_t crops = call.size('M');
  for (const Arg* a : {&matrices, &index, &flip, &gain, &offset})
    if (*a && (a->device != matrices.device || (a->device != kCpu && a->device != call.device())))
      fail_value(a->name, "memory where matrices is: on the CPU, or where images is", "another device");
  args.params_on_device = matrices.device != kCpu;
  args.images = images.data();
  args.num_images = images.size();
  args.image_dtype = images.dtype();
  args.matrices = matrices;
  args.image_index = index;
  args.flip = flip;
  args.gain = gain;
  args.offset = offset;
  args.num_crops = crops;
  args.height = options.height;
  args.width = options.width;
  args.swap_rb = options.swap_rb;
  args.replicate = options.replicate;
  args.antialias = options.antialias;
  args.nhwc = options.nhwc;
  for (size_t c = 0; c < 3; ++c) {
    args.scale[c] = options.scale[c];
    args.shift[c] = options.shift[c];
    args.border[c] = options.replicate ? 0.0 : options.border[c];
  }
  if (!index) {
    if (args.num_images != 1 && args.num_images != crops) return false;
    auto* const made = static_cast<int64_t*>(call.workspace(crops * dtype_size(DType::Int64)));
    for (int64_t i = 0; i < crops; ++i) made[i] = args.num_images == 1 ? 0 : i;
    args.image_index = made;
  }
  if (crops > 0 && args.num_images == 0) throw py::value_error("images: expected at least one image, got none");
  if (!args.params_on_device) expect_parameters(args, gain.present, offset.present);
  return true;
}

py::object affine_crop(Way way, const Objects<8>& objects) {
  CallOf call(way, kCrop, objects);
  const CropOptions& options = read_options(call, objects[6]);
  const Images images(call, objects[0], kImages);
  const bool to_be_warned_of = way == Way::Try && options.fractions_are_odd && look_like_fractions(images);
  if (call.refused() || to_be_warned_of || (way == Way::Try && images.size() == 0)) return py::none();
  if (!call.inputs() || !call.outputs()) return py::none();
  AffineCropArgs args{};
  const Arg& out = call[7];
  for (const Arg& image : images.arrays()) call.expect_own_memory(out, image);
  if (!fill(args, call, images, options)) return py::none();
  args.out = out.data;
  args.out_dtype = out.dtype;
  FASTPOSE_LAUNCH(affine_crop, args, call);
  return call.result(7);
}

py::object affine_crop_backward(Way way, const Objects<9>& objects) {
  CallOf call(way, kCropGrad, objects);
  const CropOptions& options = read_options(call, objects[6]);
  const Images images(call, objects[0], kImages), grads(call, objects[8], kGradImages);
  if (!call.inputs()) return py::none();
  AffineCropBackwardArgs args{};
  fill(args.forward, call, images, options);
  const Arg& grad_out = call[7];
  if (images.size() > 0 && grad_out.dtype != images.dtype())
    fail_type("grad_out", std::string("dtype ") + dtype_name(images.dtype()), dtype_name(grad_out.dtype));
  bool same = images.size() == grads.size() && images.dtype() == grads.dtype();
  for (size_t i = 0; same && i < images.table().size(); ++i)
    same = images.table()[i].height == grads.table()[i].height && images.table()[i].width == grads.table()[i].width;
  if (!same) throw py::value_error("grad_images: expected as many images of the same sizes and dtype as images");
  args.grad_out = grad_out.data;
  args.grad_images = grads.data();
  FASTPOSE_LAUNCH(affine_crop_backward, args, call);
  return py::none();
}

}  // namespace

void bind_affine_crop(py::module_& m) {
  py::class_<CropOptions>(m, "CropOptions", "What fastpose/ops/_crop_options.py makes of the options.").def(py::init(&make_options));
  bind_op(m, "affine_crop", &affine_crop);
  bind_prepared(m, "affine_crop_backward", &affine_crop_backward);
}

}  // namespace fastpose
