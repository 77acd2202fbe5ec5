#include "bindings/call.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstring>

namespace fastpose {
namespace {

std::string dtype_names(uint16_t mask) {
  std::string names;
  for (int i = 0; i < kDTypes; ++i)
    if (mask & dtype_bit(static_cast<DType>(i))) names += (names.empty() ? "" : " or ") + std::string(dtype_name(static_cast<DType>(i)));
  return names;
}

std::string device_text(int32_t device) { return device == kCpu ? "the CPU" : "CUDA device " + std::to_string(device); }

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::UInt8: return py::dtype::of<uint8_t>();
    case DType::Float16: return py::dtype("float16");
    case DType::Float64: return py::dtype::of<double>();
    case DType::Int32: return py::dtype::of<int32_t>();
    case DType::Int64: return py::dtype::of<int64_t>();
    case DType::Bool: return py::dtype::of<bool>();
    case DType::BFloat16: throw py::type_error("NumPy has no bfloat16; pass tensors to get it");
    default: return py::dtype::of<float>();
  }
}

}  // namespace

bool is_channels_last(const TensorView& a) {
  int64_t expected = 1;
  for (int i : {1, 3, 2, 0}) {
    if (a.shape[i] != 1 && a.stride[i] != expected) return a.numel() == 0;
    expected *= a.shape[i];
  }
  return true;
}

Call::Call(Way way, const Rule* rules, const py::handle* objects, Slot* slots, size_t n)
    : way_(way), rules_(rules), objects_(objects), slots_(slots), n_(n) {
  std::fill(std::begin(size_), std::end(size_), -1);
}

// Not for this way: of a prepared call an error.
template <class Fail>
bool Call::refuse(Fail fail) {
  refused_ = true;
  if (way_ == Way::Prepared) fail();
  return false;
}

bool Call::inputs() {
  for (size_t i = 0; i < n_ && !refused_; ++i) {
    const Rule& rule = rules_[i];
    if (rule.takes == Takes::Output || rule.takes == Takes::Other) continue;
    if (!rule.is_input()) {
      refused_ = !scalar(i);
    } else if (!rule.has(OPTIONAL) || !objects_[i].is_none()) {
      Arg& a = slots_[i].array;
      read(a, objects_[i], rule);
      slots_[i].given = a.dtype;
      if (!refused_ && rule.takes == Takes::Small && rule.dtypes == F64 && a.dtype == DType::Float32) widen(a);
    }
  }
  return !refused_;
}

void Call::read(Arg& a, py::handle object, const Rule& rule) {
  const bool ignores = rule.has(IGNORE_GRAD) || (ignore_grad_ && !like_);
  if (way_ == Way::Prepared) {
    begin_with(object, a, view(a, object, rule.name, ignores));
  } else if (rule.takes == Takes::Small) {
    small(a, object, rule);
  } else {
    const Framework framework = view_if_plain(a, object, rule.name, ignores);
    if (framework != Framework::None) begin_with(object, a, framework);
    refused_ = refused_ || framework == Framework::None || framework != framework_;
  }
  if (!refused_) check(a, rule);
}

void Call::begin_with(py::handle object, const Arg& a, Framework framework) {
  if (like_) return;
  like_ = object;
  like_name_ = a.name;
  like_dtype_ = a.dtype;
  device_ = a.device;
  framework_ = framework;
  if (way_ == Way::Try && framework == Framework::Torch && watched()) refused_ = true;
}

bool Call::check(const Arg& a, const Rule& rule) {
  const bool widens = way_ == Way::Try && rule.takes == Takes::Small && rule.dtypes == F64 && a.dtype == DType::Float32;
  const uint16_t dtypes = (rule.dtypes & SAME) ? static_cast<uint16_t>((rule.dtypes & ~SAME) | dtype_bit(like_dtype_)) : rule.dtypes;
  if ((dtypes & dtype_bit(a.dtype)) == 0 && !widens)
    return refuse([&] { fail_type(a.name, "dtype " + dtype_names(dtypes), dtype_name(a.dtype)); });
  if (!rule.has(ANY_SHAPE) && !fits(a, rule.shape))
    return refuse([&] { fail_value(a.name, "shape " + legend(rule.shape), shape_text(a)); });
  if (!rule.has(ANY_DEVICE) && a.device != device_)
    return refuse(
        [&] { fail_value(a.name, "memory on " + device_text(device_) + ", where " + like_name_ + " is", device_text(a.device)); });
  if (rule.has(CHANNELS_LAST) && !is_channels_last(a))
    return refuse([&] { fail_value(a.name, "the channels last in memory", "other strides for shape " + shape_text(a)); });
  if (!rule.has(CHANNELS_LAST | ANY_STRIDES) && !a.contiguous())
    return refuse([&] { fail_value(a.name, "row-major contiguous memory", "other strides for shape " + shape_text(a)); });
  return true;
}

bool Call::fits(const Arg& a, const Shape& shape) {
  if (a.ndim != shape.ndim) return false;
  for (int i = 0; i < a.ndim; ++i) {
    const Shape::Dim& dim = shape.dim[i];
    const int64_t factor = times(dim);
    if (dim.letter == '\0') {
      if (a.shape[i] != factor) return false;
      continue;
    }
    int64_t& known = size_[dim.letter - 'A'];
    if (known < 0 && a.shape[i] % factor == 0) known = a.shape[i] / factor;
    if (a.shape[i] != factor * known) return false;
  }
  return true;
}

std::string Call::legend(const Shape& shape) const {
  std::string names, sizes;
  for (int i = 0; i < shape.ndim; ++i) {
    const Shape::Dim& dim = shape.dim[i];
    const int64_t factor = times(dim), known = dim.letter == '\0' ? 1 : size(dim.letter);
    const std::string times_text = factor == 1 && dim.letter != '\0' ? "" : std::to_string(factor), comma = i > 0 ? ", " : "";
    names += comma + times_text + (dim.letter == '\0' ? "" : std::string(1, dim.letter));
    sizes += comma + (known < 0 ? (factor == 1 ? "any" : "a multiple of " + times_text) : std::to_string(factor * known));
  }
  return "[" + names + "]" + (names == sizes ? "" : " = [" + sizes + "]");
}

// --- small arguments and scalars ----------------------------------------------------------------------------------------------------
void Call::small(Arg& a, py::handle object, const Rule& rule) {
  PyObject* const o = object.ptr();
  if (!PyTuple_CheckExact(o) && !PyList_CheckExact(o)) {
    const Framework framework = view_if_plain(a, object, rule.name);
    refused_ = framework == Framework::None || (framework == Framework::Torch && framework_ != Framework::Torch);
    return;
  }
  a.name = rule.name;
  const auto as_double = [](PyObject* item, double& to) {
    to = PyFloat_CheckExact(item) ? PyFloat_AS_DOUBLE(item) : 0.0;
    return static_cast<bool>(PyFloat_CheckExact(item));
  };
  if (rule.dtypes == I64) {
    sequence<int64_t>(a, object, DType::Int64, [](PyObject* item, int64_t& to) {
      int overflow = 1;
      to = PyLong_CheckExact(item) ? PyLong_AsLongLongAndOverflow(item, &overflow) : 0;
      return overflow == 0;
    });
  } else if (rule.dtypes == F64) {
    sequence<double>(a, object, DType::Float64, as_double);
  } else {
    sequence<float>(a, object, DType::Float32, [&](PyObject* item, float& to) {
      double value;
      const bool good = as_double(item, value);
      to = static_cast<float>(value);
      return good;
    });
  }
}

template <class T, class Read>
void Call::sequence(Arg& a, py::handle object, DType dtype, Read read) {
  // A tuple cannot change while it is read.
  const auto items = py::reinterpret_steal<py::tuple>(PySequence_Tuple(object.ptr()));
  if (!items) throw py::error_already_set();
  a.present = true;
  a.dtype = dtype;
  a.ndim = 1;
  a.shape[0] = PyTuple_GET_SIZE(items.ptr());
  a.stride[0] = 1;
  a.data = workspace(a.shape[0] * dtype_size(dtype));
  for (int64_t i = 0; i < a.shape[0] && !refused_; ++i) refused_ = !read(PyTuple_GET_ITEM(items.ptr(), i), a.as<T>()[i]);
}

void Call::widen(Arg& a) {
  const float* const narrow = a.as<float>();
  a.dtype = DType::Float64;
  a.data = workspace(a.numel() * dtype_size(a.dtype));
  for (int64_t i = 0; i < a.numel(); ++i) a.as<double>()[i] = static_cast<double>(narrow[i]);
}

bool Call::scalar(size_t i) {
  const Rule& rule = rules_[i];
  Slot& slot = slots_[i];
  PyObject* const o = objects_[i].ptr();
  if (rule.takes == Takes::Flag) {
    slot.whole = o == Py_True;
    return PyBool_Check(o) || refuse([&] { fail_type(rule.name, "True or False", Py_TYPE(o)->tp_name); });
  }
  slot.array.present = !objects_[i].is_none();
  if (!slot.array.present && rule.has(OPTIONAL)) return true;
  int overflow = 1;
  slot.whole = PyLong_CheckExact(o) ? PyLong_AsLongLongAndOverflow(o, &overflow) : 0;
  const bool real = rule.takes == Takes::Number && PyFloat_CheckExact(o);
  slot.number = real ? PyFloat_AS_DOUBLE(o) : static_cast<double>(slot.whole);
  return real || overflow == 0 ||
         refuse([&] { fail_type(rule.name, rule.takes == Takes::Number ? "a number" : "an int of 64 bits", Py_TYPE(o)->tp_name); });
}

// --- outputs ------------------------------------------------------------------------------------------------------------------------
bool Call::outputs() {
  for (size_t i = 0; i < n_; ++i) {
    if (rules_[i].takes != Takes::Output) continue;
    if (!objects_[i].is_none()) {
      if (!take_output(i)) return false;
    } else if (!rules_[i].has(OPTIONAL)) {
      make_output(i);
    }
  }
  return true;
}

bool Call::take_output(size_t i) {
  const Rule& rule = rules_[i];
  Arg& a = slots_[i].array;
  slots_[i].result = py::reinterpret_borrow<py::object>(objects_[i]);
  if (way_ == Way::Prepared) view(a, objects_[i], rule.name);
  else refused_ = view_if_plain(a, objects_[i], rule.name) != framework_;
  if (refused_ || !check(a, rule)) return false;
  if (!a.writable) return refuse([&] { fail_value(a.name, "a writable array", "a read-only one"); });
  for (size_t j = 0; j < n_; ++j) {
    const Arg& b = slots_[j].array;
    const bool there = b && (rules_[j].is_input() || (rules_[j].takes == Takes::Output && j < i));
    if (there && !(rule.has(IN_PLACE) && j == 0 && b.data == a.data)) expect_own_memory(a, b);
  }
  return true;
}

void Call::make_output(size_t i) {
  const Rule& rule = rules_[i];
  Arg& a = slots_[i].array;
  a.name = rule.name;
  a.present = true;
  a.dtype = rule.dtypes & SAME ? like_dtype_ : rule.dtypes & F32 ? DType::Float32 : rule.dtypes & F64 ? DType::Float64 : DType::Int64;
  a.ndim = rule.shape.ndim;
  for (int d = 0; d < a.ndim; ++d) {
    const Shape::Dim& dim = rule.shape.dim[d];
    a.shape[d] = times(dim) * (dim.letter == '\0' ? 1 : size(dim.letter));
  }
  slots_[i].result = empty(a.shape, a.ndim, a.dtype);
  a.data = data_of(slots_[i].result);
}

void Call::expect_own_memory(const Arg& written, const Arg& other) const {
  if (overlap(written, other)) fail_value(written.name, "memory of its own", "memory that overlaps " + std::string(other.name));
}

py::object Call::empty(const int64_t* shape, int ndim, DType dtype) const {
  if (framework_ == Framework::NumPy) return py::array(numpy_dtype(dtype), std::vector<py::ssize_t>(shape, shape + ndim));
  // A method of the tensor, because torch.empty() would ask for the default device.
  static PyObject* const method = PyUnicode_InternFromString("new_empty");
  static PyObject* const keywords = Py_BuildValue("(s)", "dtype");
  const py::tuple sizes(static_cast<size_t>(ndim));
  for (int i = 0; i < ndim; ++i) PyTuple_SET_ITEM(sizes.ptr(), i, PyLong_FromLongLong(shape[i]));
  PyObject* const arguments[] = {like_.ptr(), sizes.ptr(), torch()->dtype[static_cast<int>(dtype)]};
  PyObject* const tensor = PyObject_VectorcallMethod(method, arguments, 2, dtype == like_dtype_ ? nullptr : keywords);
  if (tensor == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(tensor);
}

void* Call::workspace(int64_t bytes) {
  if (device_ != kCpu) {
    held_.push_back(empty(&bytes, 1, DType::UInt8));
    return data_of(held_.back());
  }
  bytes = (bytes + 63) / 64 * 64;
  if (taken_ + bytes <= kRoom) {
    taken_ += bytes;
    return room_ + taken_ - bytes;
  }
  more_.emplace_back(new char[static_cast<size_t>(bytes)]);
  return more_.back().get();
}

py::object Call::copy(const void* from, DType from_dtype, int64_t n, DType dtype) const {
  py::object result = empty(&n, 1, dtype);
  void* const to = data_of(result);
  if (dtype == from_dtype) {
    if (n > 0) std::memcpy(to, from, static_cast<size_t>(n * dtype_size(dtype)));
  } else {
    for (int64_t i = 0; i < n; ++i) static_cast<float*>(to)[i] = static_cast<float>(static_cast<const double*>(from)[i]);
  }
  return result;
}

void expect_indices(const Arg& indices, int64_t count) {
  if (!indices || indices.device != kCpu) return;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t index = indices.as<int64_t>()[k];
    if (index < 0 || index >= count) fail_value(indices.name, "indices from 0 to " + std::to_string(count - 1), std::to_string(index));
  }
}

void expect_finite(const Arg& numbers) {
  if (!numbers || numbers.device != kCpu) return;
  for (int64_t i = 0; i < numbers.numel(); ++i)
    if (!std::isfinite(numbers.as<double>()[i])) fail_value(numbers.name, "finite numbers", std::to_string(numbers.as<double>()[i]));
}

void fail_without_cuda(const char* op) {
  throw std::runtime_error(
      std::string(op) + ": got a CUDA tensor, but this build of fastpose has no CUDA kernels; rebuild where nvcc is on the PATH with " +
      "FASTPOSE_CUDA=on pip install --no-cache-dir --force-reinstall --no-deps <fastpose>, or move the tensor to the CPU");
}

}  // namespace fastpose
