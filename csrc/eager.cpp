#include "eager.h"

#include <pybind11/numpy.h>

#include <cstring>

namespace fastpose {
namespace {

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::Float64: return py::dtype::of<double>();
    case DType::Int64: return py::dtype::of<int64_t>();
    default: return py::dtype::of<float>();
  }
}

PyObject* torch_dtype(DType dtype) {
  static PyObject* const torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");  // there, because there is a tensor
  static PyObject* const float64 = PyObject_GetAttrString(torch, "float64");
  static PyObject* const int64 = PyObject_GetAttrString(torch, "int64");
  static PyObject* const float32 = PyObject_GetAttrString(torch, "float32");
  static PyObject* const float16 = PyObject_GetAttrString(torch, "float16");
  static PyObject* const bfloat16 = PyObject_GetAttrString(torch, "bfloat16");
  switch (dtype) {
    case DType::Float64: return float64;
    case DType::Int64: return int64;
    case DType::Float16: return float16;
    case DType::BFloat16: return bfloat16;
    default: return float32;
  }
}

bool is_sequence(py::handle object) { return PyTuple_CheckExact(object.ptr()) || PyList_CheckExact(object.ptr()); }

template <class T>
bool read_float(PyObject* item, T* to) {
  if (!PyFloat_CheckExact(item)) return false;
  *to = static_cast<T>(PyFloat_AS_DOUBLE(item));
  return true;
}

}  // namespace

Arg Gate::array(py::handle object, const char* name, bool ignore_grad) {
  Arg a;
  if (!plain_) return a;
  const Plain kind = view_if_plain(a, object, name, ignore_grad);
  if (framework_ == Plain::No) {
    framework_ = kind;
    like_ = object;
    like_dtype_ = a.dtype;
    if (kind == Plain::Torch && watched()) plain_ = false;
  }
  plain_ = plain_ && kind != Plain::No && kind == framework_;
  return a;
}

Arg Gate::array_or_none(py::handle object, const char* name) {
  Arg a;
  a.name = name;
  return object.is_none() ? a : array(object, name);
}

Arg Gate::array(py::handle object, const char* name, DType dtype) {
  const Arg a = array(object, name);
  if (a.dtype != dtype) plain_ = false;
  return a;
}

Arg Gate::array_or_none(py::handle object, const char* name, DType dtype) {
  const Arg a = array_or_none(object, name);
  if (a && a.dtype != dtype) plain_ = false;
  return a;
}

Arg Gate::scratch(const char* name, DType dtype, std::initializer_list<int64_t> shape) {
  Arg a;
  a.name = name;
  a.present = a.writable = true;
  a.dtype = dtype;
  for (int64_t n : shape) a.shape[a.ndim++] = n;
  int64_t n = 1;
  for (int i = a.ndim - 1; i >= 0; --i) {
    a.stride[i] = n;
    n *= a.shape[i];
  }
  const int64_t bytes = (n * dtype_size(dtype) + 63) / 64 * 64;
  if (taken_ + bytes <= kRoom) {
    a.data = room_ + taken_;
    taken_ += bytes;
  } else {
    more_.emplace_back(new char[static_cast<size_t>(bytes)]);
    a.data = more_.back().get();
  }
  return a;
}

py::object Gate::copy(const Arg& from, int64_t n, DType dtype) const {
  const py::object result = empty({n}, dtype);
  Arg to;
  view_if_plain(to, result, from.name);
  if (dtype == from.dtype) {
    if (n > 0) std::memcpy(to.data, from.data, static_cast<size_t>(n * dtype_size(dtype)));
  } else {
    for (int64_t i = 0; i < n; ++i) to.as<float>()[i] = static_cast<float>(from.as<double>()[i]);
  }
  return result;
}

DType Gate::dtype_of(py::handle object) const {
  Arg a;
  const Plain kind = plain_ ? view_if_plain(a, object, "") : Plain::No;
  return kind == framework_ && a.dtype == DType::Float32 ? DType::Float32 : DType::Float64;
}

template <class T, class Read>
Arg Gate::sequence(py::handle object, const char* name, DType dtype, Read read) {
  const int64_t n = PySequence_Fast_GET_SIZE(object.ptr());
  Arg a = scratch(name, dtype, {n});
  for (int64_t i = 0; i < n && plain_; ++i) plain_ = read(PySequence_Fast_GET_ITEM(object.ptr(), i), a.as<T>() + i);
  return a;
}

Arg Gate::small(py::handle object, const char* name) {
  Arg a;
  const Plain kind = view_if_plain(a, object, name);
  plain_ = kind == Plain::NumPy || (kind == Plain::Torch && framework_ == Plain::Torch);
  return a;
}

Arg Gate::doubles(py::handle object, const char* name) {
  if (!plain_) return Arg();
  if (is_sequence(object)) return sequence<double>(object, name, DType::Float64, read_float<double>);
  const Arg a = small(object, name);
  if (!plain_ || a.dtype == DType::Float64) return a;
  if (a.dtype != DType::Float32 || a.ndim != 1) {
    plain_ = false;
    return a;
  }
  const Arg wide = scratch(name, DType::Float64, {a.numel()});
  for (int64_t i = 0; i < a.numel(); ++i) wide.as<double>()[i] = static_cast<double>(a.as<float>()[i]);
  return wide;
}

Arg Gate::doubles_or_none(py::handle object, const char* name) {
  Arg a;
  a.name = name;
  return object.is_none() ? a : doubles(object, name);
}

Arg Gate::floats(py::handle object, const char* name) {
  if (!plain_) return Arg();
  if (is_sequence(object)) return sequence<float>(object, name, DType::Float32, read_float<float>);
  const Arg a = small(object, name);
  if (a.dtype != DType::Float32) plain_ = false;
  return a;
}

Arg Gate::floats_or_none(py::handle object, const char* name) {
  Arg a;
  a.name = name;
  return object.is_none() ? a : floats(object, name);
}

Arg Gate::integers_or_none(py::handle object, const char* name) {
  Arg a;
  a.name = name;
  if (!plain_ || object.is_none()) return a;
  if (is_sequence(object))
    return sequence<int64_t>(object, name, DType::Int64, [](PyObject* item, int64_t* to) {
      int overflow = 1;
      *to = PyLong_CheckExact(item) ? PyLong_AsLongLongAndOverflow(item, &overflow) : 0;
      return overflow == 0;
    });
  a = small(object, name);
  if (a.dtype != DType::Int64) plain_ = false;
  return a;
}

Arg Gate::booleans_or_none(py::handle object, const char* name) {
  Arg a;
  a.name = name;
  if (!plain_ || object.is_none()) return a;
  a = small(object, name);
  if (a.dtype != DType::Bool) plain_ = false;
  return a;
}

double Gate::number(py::handle object) {
  if (PyFloat_CheckExact(object.ptr())) return PyFloat_AS_DOUBLE(object.ptr());
  return static_cast<double>(integer(object));
}

int64_t Gate::integer(py::handle object) {
  int overflow = 1;
  const int64_t value = PyLong_CheckExact(object.ptr()) ? PyLong_AsLongLongAndOverflow(object.ptr(), &overflow) : 0;
  if (overflow != 0) plain_ = false;
  return value;
}

bool Gate::flag(py::handle object) {
  if (!PyBool_Check(object.ptr())) plain_ = false;
  return object.ptr() == Py_True;
}

Arg Gate::output(py::object& object, const char* name, std::initializer_list<int64_t> shape, DType dtype) {
  Arg a;
  if (!plain_) return a;
  if (object.is_none()) object = empty(shape, dtype);
  plain_ = view_if_plain(a, object, name) == framework_ && a.writable;
  return a;
}

py::object Gate::empty(std::initializer_list<int64_t> shape, DType dtype) const {
  if (framework_ == Plain::NumPy) return py::array(numpy_dtype(dtype), std::vector<py::ssize_t>(shape.begin(), shape.end()));
  // A method of the tensor, because torch.empty() would ask for the default device.
  static PyObject* const method = PyUnicode_InternFromString("new_empty");
  static PyObject* const keywords = Py_BuildValue("(s)", "dtype");
  py::tuple sizes(shape.size());
  size_t i = 0;
  for (int64_t n : shape) sizes[i++] = py::int_(n);
  PyObject* const arguments[] = {like_.ptr(), sizes.ptr(), torch_dtype(dtype)};
  PyObject* tensor = PyObject_VectorcallMethod(method, arguments, 2, dtype == like_dtype_ ? nullptr : keywords);
  if (tensor == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(tensor);
}

py::object first_of(const py::object& object, int64_t n) {
  PyObject* part = PySequence_GetSlice(object.ptr(), 0, static_cast<Py_ssize_t>(n));
  if (part == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(part);
}

}  // namespace fastpose
