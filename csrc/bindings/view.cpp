#include "bindings/view.h"

#include <pybind11/numpy.h>

namespace fastpose {
namespace {

constexpr const char* kKnown = "uint8, float16, bfloat16, float32, float64, int32, int64 or bool";

void refuse_dims(const char* name, int64_t ndim) {
  if (ndim > kMaxDims) fail_value(name, "at most " + std::to_string(kMaxDims) + " dimensions", std::to_string(ndim));
}

void fill_from_numpy(Arg& a, py::handle object) {
  const auto array = py::reinterpret_borrow<py::array>(object);
  const py::dtype dtype = array.dtype();
  const char kind = dtype.kind();
  const auto size = dtype.itemsize();
  if (kind == 'u' && size == 1) a.dtype = DType::UInt8;
  else if (kind == 'f' && size == 2) a.dtype = DType::Float16;
  else if (kind == 'f' && size == 4) a.dtype = DType::Float32;
  else if (kind == 'f' && size == 8) a.dtype = DType::Float64;
  else if (kind == 'i' && size == 4) a.dtype = DType::Int32;
  else if (kind == 'i' && size == 8) a.dtype = DType::Int64;
  else if (kind == 'b') a.dtype = DType::Bool;
  else fail_type(a.name, std::string("dtype ") + kKnown, py::str(dtype).cast<std::string>());
  if (dtype.byteorder() == '>') fail_type(a.name, "native byte order", py::str(dtype).cast<std::string>());
  refuse_dims(a.name, array.ndim());
  a.ndim = static_cast<int32_t>(array.ndim());
  for (int i = 0; i < a.ndim; ++i) {
    a.shape[i] = array.shape(i);
    const py::ssize_t bytes = array.strides(i);
    if (bytes % size != 0) fail_type(a.name, "strides that are multiples of the element size", std::to_string(bytes) + " bytes");
    a.stride[i] = bytes / size;
  }
  a.data = const_cast<void*>(array.data());
  a.writable = array.writeable();
  if (reinterpret_cast<uintptr_t>(a.data) % static_cast<size_t>(size) != 0) fail_type(a.name, "an aligned array", "unaligned memory");
}

// --- torch, through the exchange API ----------------------------------------------------------------------------------------------
bool read_dtype(dlpack::DataType from, DType& to) {
  struct Pair {
    uint8_t code, bits;
    DType dtype;
  };
  constexpr Pair kPairs[] = {
      {dlpack::kUInt, 8, DType::UInt8},     {dlpack::kFloat, 16, DType::Float16}, {dlpack::kBfloat, 16, DType::BFloat16},
      {dlpack::kFloat, 32, DType::Float32}, {dlpack::kFloat, 64, DType::Float64}, {dlpack::kInt, 32, DType::Int32},
      {dlpack::kInt, 64, DType::Int64},     {dlpack::kBool, 8, DType::Bool}};
  for (const Pair& pair : kPairs)
    if (pair.code == from.code && pair.bits == from.bits) {
      to = pair.dtype;
      return true;
    }
  return false;
}

void fill_from_exchange(Arg& a, py::handle object, const dlpack::ExchangeApi* api) {
  dlpack::Tensor t;
  if (api->borrow(object.ptr(), &t) != 0) {
    // torch's reason (a sparse tensor, a device without memory) stays readable behind the name of the argument.
    const py::error_already_set error;
    const std::string reason = error.what();
    fail_type(a.name, "a dense tensor in CPU or CUDA memory", reason.substr(0, reason.find('\n')));  // a trace follows
  }
  if (!read_dtype(t.dtype, a.dtype)) fail_type(a.name, std::string("dtype ") + kKnown, py::str(object.attr("dtype")).cast<std::string>());
  switch (t.device.type) {
    case dlpack::kCpuDevice: case dlpack::kCudaHost: a.device = kCpu; break;
    case dlpack::kCudaDevice: case dlpack::kCudaManaged: a.device = t.device.id; break;
    default: fail_type(a.name, "a tensor on CPU or CUDA", py::str(object.attr("device")).cast<std::string>());
  }
  refuse_dims(a.name, t.ndim);
  a.ndim = t.ndim;
  int64_t step = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    a.shape[i] = t.shape[i];
    a.stride[i] = t.strides != nullptr ? t.strides[i] : step;
    step *= t.shape[i];
  }
  a.data = t.data == nullptr ? nullptr : static_cast<char*>(t.data) + t.byte_offset;
  a.writable = true;
}

// --- torch without the exchange API (before 2.10): attributes ------------------------------------------------------------------------
void fill_from_attributes(Arg& a, py::handle object, const Torch& torch) {
  const py::object dtype = object.attr("dtype"), device = object.attr("device");
  int known = 0;
  while (known < kDTypes && torch.dtype[known] != dtype.ptr()) ++known;
  if (known == kDTypes) fail_type(a.name, std::string("dtype ") + kKnown, py::str(dtype).cast<std::string>());
  a.dtype = static_cast<DType>(known);
  const auto kind = device.attr("type").cast<std::string>();
  if (kind == "cuda") a.device = device.attr("index").cast<int32_t>();
  else if (kind != "cpu") fail_type(a.name, "a tensor on CPU or CUDA", kind);
  if (py::str(object.attr("layout")).cast<std::string>() != "torch.strided") fail_type(a.name, "a dense tensor", "a sparse one");
  const py::tuple shape = object.attr("shape"), stride = object.attr("stride")();
  refuse_dims(a.name, static_cast<int64_t>(shape.size()));
  a.ndim = static_cast<int32_t>(shape.size());
  for (int i = 0; i < a.ndim; ++i) {
    a.shape[i] = shape[static_cast<size_t>(i)].cast<int64_t>();
    a.stride[i] = stride[static_cast<size_t>(i)].cast<int64_t>();
  }
  a.data = reinterpret_cast<void*>(object.attr("data_ptr")().cast<uintptr_t>());
  a.writable = true;
}

Arg named(const char* name) {
  Arg a;
  a.name = name;
  a.present = true;
  return a;
}

struct Span {
  const char *begin, *end;
};

Span span_of(const TensorView& a) {
  const int64_t size = dtype_size(a.dtype);
  int64_t first = 0, last = 0;
  for (int i = 0; i < a.ndim; ++i) (a.stride[i] < 0 ? first : last) += (a.shape[i] - 1) * a.stride[i];
  const char* const data = a.as<const char>();
  return {data + first * size, data + (last + 1) * size};
}

}  // namespace

Framework view(Arg& a, py::handle object, const char* name, bool ignore_grad) {
  a = named(name);
  Framework framework = Framework::NumPy;
  const Torch* const t = torch();
  if (t != nullptr && PyObject_TypeCheck(object.ptr(), t->tensor)) {
    framework = Framework::Torch;
    // The exchange API and data_ptr() both take a tensor that requires grad and drop its graph without a word; nor do they heed the bit.
    if (!ignore_grad && t->wants_grad(object.ptr()))
      fail_type(name, "a tensor that does not require grad (use .detach())", "one that does");
    if (t->is_negative(object.ptr())) fail_type(name, "a tensor without the negative bit (use .resolve_neg())", "one that has it");
    if (const dlpack::ExchangeApi* const api = exchange_api(t)) fill_from_exchange(a, object, api);
    else fill_from_attributes(a, object, *t);
  } else if (py::isinstance<py::array>(object)) {
    fill_from_numpy(a, object);
  } else {
    fail_type(name, "a NumPy array or a torch tensor", Py_TYPE(object.ptr())->tp_name);
  }
  if (a.data == nullptr && a.numel() > 0) fail_type(name, "a tensor with memory", "one without (meta or fake)");
  return framework;
}

Framework view_if_plain(Arg& a, py::handle object, const char* name, bool ignore_grad) {
  a = named(name);
  PyTypeObject* const type = Py_TYPE(object.ptr());
  Framework framework = Framework::NumPy;
  try {
    if (type == py::detail::npy_api::get().PyArray_Type_) {
      fill_from_numpy(a, object);
    } else {
      const Torch* const t = torch();
      const dlpack::ExchangeApi* const api = exchange_api(t);
      if (api == nullptr || !t->is_plain(type) || (!ignore_grad && t->wants_grad(object.ptr())) || t->is_negative(object.ptr()))
        return Framework::None;
      fill_from_exchange(a, object, api);
      framework = Framework::Torch;
    }
  } catch (const std::exception&) {  // the usual way finds the same fault, and words it
    return Framework::None;
  }
  return a.device == kCpu && a.contiguous() && (a.data != nullptr || a.numel() == 0) ? framework : Framework::None;
}

void* data_of(const py::object& fresh) {
  const dlpack::ExchangeApi* const api = exchange_api(torch());
  Arg a;
  if (py::isinstance<py::array>(fresh)) return py::reinterpret_borrow<py::array>(fresh).mutable_data();
  if (api == nullptr) {
    view(a, fresh, "");
  } else {
    fill_from_exchange(a, fresh, api);
  }
  return a.data;
}

bool is_plain_tensor(py::handle object) {
  const Torch* const t = torch();
  const dlpack::ExchangeApi* const api = exchange_api(t);
  if (api == nullptr || !t->is_plain(Py_TYPE(object.ptr())) || t->is_negative(object.ptr())) return false;
  dlpack::Tensor tensor;
  if (api->borrow(object.ptr(), &tensor) != 0) {  // sparse, or wrapped by torch.func
    PyErr_Clear();
    return false;
  }
  return tensor.data != nullptr && tensor.device.type == dlpack::kCpuDevice;  // without memory: functionalized, fake
}

bool overlap(const TensorView& a, const TensorView& b) {
  if (a.device != b.device || a.numel() == 0 || b.numel() == 0) return false;
  const Span one = span_of(a), other = span_of(b);
  return one.begin < other.end && other.begin < one.end;
}

std::string shape_text(const TensorView& a) {
  std::string text = "[";
  for (int i = 0; i < a.ndim; ++i) text += (i > 0 ? ", " : "") + std::to_string(a.shape[i]);
  return text + "]";
}

void fail_type(const char* name, const std::string& expected, const std::string& came) {
  throw py::type_error(std::string(name) + ": expected " + expected + ", got " + came);
}

void fail_value(const char* name, const std::string& expected, const std::string& came) {
  throw py::value_error(std::string(name) + ": expected " + expected + ", got " + came);
}

}  // namespace fastpose
