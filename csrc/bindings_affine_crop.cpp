// Bindings of affine_crop and its gradient.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "affine_crop/affine_crop.h"
#include "affine_crop/affine_crop_math.h"
#include "eager.h"

namespace fastpose {
namespace {

using Triple = std::array<double, 3>;

// A list of images [H, W, 3] of any sizes, or one batch [B, H, W, 3].
struct Images {
  std::vector<CropImage> table;
  Arg first;  // stands for dtype and device of all

  void add(const Arg& a, int64_t offset_dims) {
    CropImage image;
    image.height = a.shape[offset_dims];
    image.width = a.shape[offset_dims + 1];
    if (image.height < 1 || image.width < 1) fail_value(a, "images of at least one pixel", "shape " + shape_text(a));
    if (image.height > INT32_MAX || image.width > INT32_MAX) fail_value(a, "images of less than 2^31 pixels a side", "shape " + shape_text(a));
    if (a.shape[offset_dims + 2] != 3) fail_value(a, "three channels last ([H, W, 3])", "shape " + shape_text(a));
    if (a.stride[offset_dims + 2] != 1 || (image.width > 1 && a.stride[offset_dims + 1] != 3))
      fail_value(a, "pixels of three adjacent channels side by side", "other strides for shape " + shape_text(a));
    image.row_stride = a.stride[offset_dims];
    if (offset_dims == 0) {
      image.data = a.data;
      table.push_back(image);
      return;
    }
    for (int64_t i = 0; i < a.shape[0]; ++i) {
      image.data = static_cast<const char*>(a.data) + i * a.stride[0] * dtype_size(a.dtype);
      table.push_back(image);
    }
  }

  Images(py::handle object, const char* name, bool output, std::initializer_list<DType> dtypes)
      : Images(object, dtypes, [&](py::handle item) { return output ? view_out(item, name) : view(item, name); }) {}

  template <class View>
  Images(py::handle object, std::initializer_list<DType> dtypes, View view_of) {
    const auto one = [&](py::handle item) {
      const Arg a = view_of(item);
      if (!a.present) return a;
      expect_dtype(a, dtypes);
      if (first.present) {
        expect_device(a, first);
        expect_dtype(a, {first.dtype});
      } else {
        first = a;
      }
      return a;
    };
    if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr())) {
      const Arg a = one(object);
      if (!a.present) return;
      if (a.ndim != 3 && a.ndim != 4) fail_value(a, "shape [H, W, 3], or [B, H, W, 3]", shape_text(a));
      if (a.ndim == 3 || a.shape[0] > 0) add(a, a.ndim - 3);
      return;
    }
    const auto items = py::reinterpret_borrow<py::sequence>(object);
    table.reserve(items.size());
    for (py::handle item : items) {
      const Arg a = one(item);
      if (!a.present) return;
      if (a.ndim != 3) fail_value(a, "images of shape [H, W, 3] in a list", shape_text(a));
      add(a, 0);
    }
  }
};

constexpr std::initializer_list<DType> kImageTypes = {DType::UInt8, DType::Float32, DType::Float64};

// What the forward and the backward pass have in common.
AffineCropArgs common(const Images& images, const Arg& out, const Arg& matrices, const Arg& image_index, const Arg& flip, const Arg& gain,
                      const Arg& offset, Triple scale, Triple shift, Triple border, bool swap_rb, bool replicate, bool antialias, bool nhwc) {
  AffineCropArgs args{};
  expect_shape(matrices, {-1, 2, 3}, "[M, 2, 3]");
  args.num_crops = matrices.shape[0];
  const int64_t m = args.num_crops;
  if (nhwc) expect_shape(out, {m, -1, -1, 3}, "[M, h, w, 3]");
  else expect_shape(out, {m, 3, -1, -1}, "[M, 3, h, w]");
  args.height = out.shape[nhwc ? 1 : 2];
  args.width = out.shape[nhwc ? 2 : 3];
  expect_shape(image_index, {m}, "[M]");
  expect_dtype(matrices, {DType::Float64});
  expect_dtype(image_index, {DType::Int64});
  if (flip.present) expect_shape(flip, {m}, "[M]"), expect_dtype(flip, {DType::Bool});
  for (const Arg* a : {&gain, &offset})
    if (a->present) expect_shape(*a, {m, 3}, "[M, 3]"), expect_dtype(*a, {DType::Float32});
  for (const Arg* a : {&matrices, &image_index, &flip, &gain, &offset}) {
    if (!a->present) continue;
    expect_contiguous(*a);
    expect_device(*a, matrices);
  }
  expect_contiguous(out);
  if (images.first.present) expect_device(out, images.first);
  else if (m > 0) throw py::value_error("images: expected at least one image, got none");
  args.params_on_device = matrices.device != kCpu;
  if (args.params_on_device) expect_device(matrices, out);

  args.images = images.table.data();
  args.num_images = static_cast<int64_t>(images.table.size());
  args.image_dtype = images.first.dtype;
  args.matrices = matrices.as<const double>();
  args.image_index = image_index.as<const int64_t>();
  args.flip = flip.as<const bool>();
  args.gain = gain.as<const float>();
  args.offset = offset.as<const float>();
  if (m > 0 && args.num_images == 0) throw py::value_error("images: expected at least one image, got an empty batch");
  args.swap_rb = swap_rb;
  args.replicate = replicate;
  args.antialias = antialias;
  args.nhwc = nhwc;
  for (int c = 0; c < 3; ++c) {
    args.scale[c] = scale[c];
    args.shift[c] = shift[c];
    args.border[c] = replicate ? 0.0 : border[c];
    if (!is_finite(border[c])) throw py::value_error("border_value: expected finite numbers");
    if (!is_finite(scale[c]) || !is_finite(shift[c])) throw py::value_error("mean, std: expected finite numbers, std above 0");
  }
  if (!args.params_on_device) {
    for (int64_t i = 0; i < m; ++i) {
      CropMap map;
      if (!crop_map(args.matrices + 6 * i, false, args.width, false, map))
        fail_value(matrices, "finite, invertible matrices", "row " + std::to_string(i) + ", which is not");
      if (args.image_index[i] < 0 || args.image_index[i] >= args.num_images)
        fail_value(image_index, "indices below " + std::to_string(args.num_images),
                   std::to_string(args.image_index[i]) + " in row " + std::to_string(i));
      for (int c = 0; c < 3; ++c) {
        if (gain.present && !is_finite(args.gain[3 * i + c])) fail_value(gain, "finite numbers", "row " + std::to_string(i));
        if (offset.present && !is_finite(args.offset[3 * i + c])) fail_value(offset, "finite numbers", "row " + std::to_string(i));
      }
    }
  }
  return args;
}

void affine_crop(py::handle images_object, py::handle matrices, py::handle image_index, py::handle out_object, Triple scale, Triple shift,
                 Triple border, bool swap_rb, bool replicate, bool antialias, py::handle flip, py::handle gain, py::handle offset, bool nhwc,
                 std::intptr_t stream) {
  const Images images(images_object, "images", false, kImageTypes);
  const Arg out = view_out(out_object, "out");
  expect_dtype(out, {DType::UInt8, DType::Float16, DType::BFloat16, DType::Float32, DType::Float64});
  AffineCropArgs args = common(images, out, view(matrices, "matrices"), view(image_index, "image_index"), view_or_none(flip, "flip"),
                               view_or_none(gain, "gain"), view_or_none(offset, "offset"), scale, shift, border, swap_rb, replicate,
                               antialias, nhwc);
  args.out = out.data;
  args.out_dtype = out.dtype;
  FASTPOSE_LAUNCH(affine_crop, args, out, stream);
}

// Whether float photos may hold fractions from 0 to 1, while mean and std are of 0..255: decided by some pixels, of which the first usually
// says no. Then Python's gate looks closer, and warns.
bool look_like_fractions(const Images& images, const Triple& scale, const Triple& shift) {
  const DType dtype = images.first.dtype;
  if (dtype != DType::Float32 && dtype != DType::Float64) return false;
  bool wide = false;
  for (int c = 0; c < 3; ++c) wide = wide || scale[c] < 1.0 || -shift[c] > scale[c];
  if (!wide) return false;
  constexpr int64_t kSteps = 32;
  for (const CropImage& image : images.table) {
    bool fraction = false, inside = true;
    for (int64_t i = 0; inside && i < kSteps * kSteps; ++i) {
      const int64_t row = i / kSteps * image.height / kSteps, column = i % kSteps * image.width / kSteps;
      const int64_t at = row * image.row_stride + 3 * column;
      for (int64_t c = 0; inside && c < 3; ++c) {
        const double value = dtype == DType::Float32 ? static_cast<double>(static_cast<const float*>(image.data)[at + c])
                                                     : static_cast<const double*>(image.data)[at + c];
        inside = value >= 0.0 && value <= 1.0;
        fraction = fraction || (inside && value != 0.0 && value != 1.0);
      }
    }
    if (inside && fraction) return true;
  }
  return false;
}

// Three numbers; a tuple of floats, which Python's gate makes, is read without pybind11's detours.
Triple triple_of(py::handle object) {
  Triple triple;
  if (!PyTuple_CheckExact(object.ptr()) || PyTuple_GET_SIZE(object.ptr()) != 3) return object.cast<Triple>();
  for (int c = 0; c < 3; ++c) {
    PyObject* const item = PyTuple_GET_ITEM(object.ptr(), c);
    if (!PyFloat_CheckExact(item)) return object.cast<Triple>();
    triple[c] = PyFloat_AS_DOUBLE(item);
  }
  return triple;
}

py::object affine_crop_eager(py::handle images_object, py::handle matrices_object, py::handle index_object, py::object out_object, int64_t height,
                             int64_t width, py::handle scale_object, py::handle shift_object, py::handle border_object, bool swap_rb,
                             bool replicate, bool antialias, py::handle flip_object, py::handle gain_object, py::handle offset_object, bool nhwc) {
  Gate gate;
  const Images images(images_object, kImageTypes, [&](py::handle item) {
    Arg a = gate.array(item, "images");
    if (!gate) a.present = false;
    return a;
  });
  const int64_t num_images = static_cast<int64_t>(images.table.size());
  const Triple scale = triple_of(scale_object), shift = triple_of(shift_object), border = triple_of(border_object);
  if (look_like_fractions(images, scale, shift)) return py::none();
  const Arg matrices = gate.doubles(matrices_object, "matrices");
  Arg index = gate.integers_or_none(index_object, "image_index");
  const Arg flip = gate.booleans_or_none(flip_object, "flip");
  const Arg gain = gate.floats_or_none(gain_object, "gain"), offset = gate.floats_or_none(offset_object, "offset");
  if (!gate || matrices.ndim != 3 || num_images == 0) return py::none();
  const int64_t m = matrices.shape[0];
  if (!index) {
    if (num_images != 1 && num_images != m) return py::none();
    index = gate.scratch("image_index", DType::Int64, {m});
    for (int64_t i = 0; i < m; ++i) index.as<int64_t>()[i] = num_images == 1 ? 0 : i;
  }
  const auto shape = nhwc ? std::array<int64_t, 4>{m, height, width, 3} : std::array<int64_t, 4>{m, 3, height, width};
  const Arg out = gate.output(out_object, "out", {shape[0], shape[1], shape[2], shape[3]}, DType::Float32);
  if (!gate || out.ndim != 4 || !std::equal(shape.begin(), shape.end(), out.shape)) return py::none();
  if (out.dtype == DType::Int64 || out.dtype == DType::Int32 || out.dtype == DType::Bool) return py::none();
  AffineCropArgs args =
      common(images, out, matrices, index, flip, gain, offset, scale, shift, border, swap_rb, replicate, antialias, nhwc);
  args.out = out.data;
  args.out_dtype = out.dtype;
  FASTPOSE_LAUNCH(affine_crop, args, out, 0);
  return out_object;
}

void affine_crop_backward(py::handle grad_out_object, py::handle images_object, py::handle grad_images_object, py::handle matrices,
                          py::handle image_index, Triple scale, Triple shift, Triple border, bool swap_rb, bool replicate, bool antialias,
                          py::handle flip, py::handle gain, py::handle offset, bool nhwc, std::intptr_t stream) {
  const Images images(images_object, "images", false, {DType::Float32, DType::Float64});
  const Images grads(grad_images_object, "grad_images", true, {DType::Float32, DType::Float64});
  const Arg grad_out = view(grad_out_object, "grad_out");
  AffineCropBackwardArgs args{};
  args.forward = common(images, grad_out, view(matrices, "matrices"), view(image_index, "image_index"), view_or_none(flip, "flip"),
                        view_or_none(gain, "gain"), view_or_none(offset, "offset"), scale, shift, border, swap_rb, replicate, antialias, nhwc);
  if (images.first.present) expect_dtype(grad_out, {images.first.dtype});
  bool same = images.table.size() == grads.table.size() && images.first.dtype == grads.first.dtype && images.first.device == grads.first.device;
  for (size_t i = 0; same && i < images.table.size(); ++i)
    same = images.table[i].height == grads.table[i].height && images.table[i].width == grads.table[i].width;
  if (!same) throw py::value_error("grad_images: expected as many images of the same sizes, dtype and device as images");
  args.grad_out = grad_out.data;
  args.grad_images = grads.table.data();
  FASTPOSE_LAUNCH(affine_crop_backward, args, grad_out, stream);
}

}  // namespace

void bind_affine_crop(py::module_& m) {
  m.def("affine_crop", &affine_crop, py::arg("images"), py::arg("matrices"), py::arg("image_index"), py::arg("out"), py::arg("scale"),
        py::arg("shift"), py::arg("border"), py::arg("swap_rb"), py::arg("replicate"), py::arg("antialias"), py::arg("flip"),
        py::arg("gain"), py::arg("offset"), py::arg("nhwc"), py::arg("stream"));
  m.def("affine_crop_eager", &affine_crop_eager, kEagerDoc);
  m.def("affine_crop_backward", &affine_crop_backward, py::arg("grad_out"), py::arg("images"), py::arg("grad_images"), py::arg("matrices"),
        py::arg("image_index"), py::arg("scale"), py::arg("shift"), py::arg("border"), py::arg("swap_rb"), py::arg("replicate"),
        py::arg("antialias"), py::arg("flip"), py::arg("gain"), py::arg("offset"), py::arg("nhwc"), py::arg("stream"));
}

}  // namespace fastpose
