#include "python_view.h"

#include <pybind11/numpy.h>
#include <unistd.h>

#include "core/dlpack.h"
#include "core/parallel.h"

namespace fastpose {
namespace {

bool exchange_api_enabled = true;

std::string type_text(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

[[noreturn]] void fail_type(const char* name, const std::string& expected, const std::string& came) {
  throw py::type_error(std::string(name) + ": expected " + expected + ", got " + came);
}

constexpr const char* kDTypes = "uint8, float16, bfloat16, float32, float64, int32, int64 or bool";

void refuse_dims(const char* name, int64_t ndim) {
  if (ndim > kMaxDims)
    throw py::value_error(std::string(name) + ": expected at most " + std::to_string(kMaxDims) + " dimensions, got " + std::to_string(ndim));
}

// --- NumPy ------------------------------------------------------------------------------------------------------------------
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
  else fail_type(a.name, std::string("dtype ") + kDTypes, py::str(dtype).cast<std::string>());
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
  if (reinterpret_cast<uintptr_t>(a.data) % size != 0) fail_type(a.name, "an aligned array", "unaligned memory");
}

// --- torch, through the exchange API ----------------------------------------------------------------------------------------
// What is known of a tensor type (Tensor, Parameter, ...), looked up once. The type is kept alive, so that its address cannot be given to
// another.
struct TensorType {
  PyTypeObject* type = nullptr;
  const dlpack::ExchangeApi* api = nullptr;
  bool plain = false;  // torch.Tensor or torch.nn.Parameter themselves: nothing overrides what an op does with them
  const PyGetSetDef* requires_grad = nullptr;  // its property, which is called sooner than it is looked up

  bool wants_grad(PyObject* tensor) const {
    PyObject* flag = requires_grad->get(tensor, requires_grad->closure);
    if (flag == nullptr) throw py::error_already_set();
    Py_DECREF(flag);
    return flag == Py_True;
  }
};

bool is_attribute(PyTypeObject* type, const char* module, const char* name) {
  PyObject* found = PyDict_GetItemString(PyImport_GetModuleDict(), module);
  if (found == nullptr) return false;
  PyObject* value = PyObject_GetAttrString(found, name);
  if (value == nullptr) PyErr_Clear();
  Py_XDECREF(value);  // the module keeps it
  return value == reinterpret_cast<PyObject*>(type);
}

TensorType tensor_type(PyTypeObject* type) {
  constexpr int kSlots = 8;
  static TensorType known[kSlots];
  static int used = 0;
  for (int i = 0; i < used; ++i)
    if (known[i].type == type) return known[i];
  TensorType t;
  t.type = type;
  PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule == nullptr) {
    PyErr_Clear();
  } else {
    if (PyCapsule_IsValid(capsule, "dlpack_exchange_api")) {
      t.api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
      while (t.api != nullptr && t.api->header.major != 1)
        t.api = reinterpret_cast<const dlpack::ExchangeApi*>(t.api->header.previous);
      if (t.api != nullptr && t.api->borrow == nullptr) t.api = nullptr;
    }
    Py_DECREF(capsule);
  }
  if (PyObject* property = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "requires_grad")) {
    if (Py_TYPE(property) == &PyGetSetDescr_Type) t.requires_grad = reinterpret_cast<PyGetSetDescrObject*>(property)->d_getset;
    Py_DECREF(property);  // the type keeps it
  } else {
    PyErr_Clear();
  }
  t.plain = t.requires_grad != nullptr && (is_attribute(type, "torch", "Tensor") || is_attribute(type, "torch.nn", "Parameter"));
  if (used < kSlots) {
    Py_INCREF(type);
    known[used++] = t;
  }
  return t;
}

void fill_from_exchange(Arg& a, py::handle object, const dlpack::ExchangeApi* api) {
  dlpack::Tensor t;
  if (api->borrow(object.ptr(), &t) != 0) {
    // torch's reason (a sparse tensor, a device without memory) stays readable behind the name of the argument.
    const py::error_already_set error;
    const std::string reason = error.what();
    fail_type(a.name, "a dense tensor in CPU or CUDA memory", reason.substr(0, reason.find('\n')));  // a trace follows
  }
  const int code = t.dtype.code, bits = t.dtype.bits;
  if (code == dlpack::kUInt && bits == 8) a.dtype = DType::UInt8;
  else if (code == dlpack::kFloat && bits == 16) a.dtype = DType::Float16;
  else if (code == dlpack::kBfloat && bits == 16) a.dtype = DType::BFloat16;
  else if (code == dlpack::kFloat && bits == 32) a.dtype = DType::Float32;
  else if (code == dlpack::kFloat && bits == 64) a.dtype = DType::Float64;
  else if (code == dlpack::kInt && bits == 32) a.dtype = DType::Int32;
  else if (code == dlpack::kInt && bits == 64) a.dtype = DType::Int64;
  else if (code == dlpack::kBool && bits == 8) a.dtype = DType::Bool;
  else fail_type(a.name, std::string("dtype ") + kDTypes, py::str(object.attr("dtype")).cast<std::string>());
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
  a.data = static_cast<char*>(t.data) + t.byte_offset;
  if (t.data == nullptr) a.data = nullptr;
  a.writable = true;
}

// --- torch without the exchange API (before 2.10): attributes ------------------------------------------------------------------
DType dtype_from_text(const char* name, const std::string& text) {
  for (DType d : {DType::UInt8, DType::Float16, DType::BFloat16, DType::Float32, DType::Float64, DType::Int32, DType::Int64, DType::Bool})
    if (text == std::string("torch.") + dtype_name(d)) return d;
  fail_type(name, std::string("dtype ") + kDTypes, text);
}

void fill_from_attributes(Arg& a, py::handle object) {
  a.dtype = dtype_from_text(a.name, py::str(object.attr("dtype")).cast<std::string>());
  const py::object device = object.attr("device");
  const auto kind = device.attr("type").cast<std::string>();
  if (kind == "cuda") a.device = device.attr("index").cast<int32_t>();
  else if (kind != "cpu") fail_type(a.name, "a tensor on CPU or CUDA", kind);
  if (py::str(object.attr("layout")).cast<std::string>() != "torch.strided") fail_type(a.name, "a dense tensor", "a sparse one");
  const py::tuple shape = object.attr("shape"), stride = object.attr("stride")();
  refuse_dims(a.name, static_cast<int64_t>(shape.size()));
  a.ndim = static_cast<int32_t>(shape.size());
  for (int i = 0; i < a.ndim; ++i) {
    a.shape[i] = shape[i].cast<int64_t>();
    a.stride[i] = stride[i].cast<int64_t>();
  }
  a.data = reinterpret_cast<void*>(object.attr("data_ptr")().cast<uintptr_t>());
  a.writable = true;
}

bool is_torch_tensor(py::handle object) {
  static PyObject* tensor_type = nullptr;
  if (tensor_type == nullptr) {
    PyObject* torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");  // never import it from here
    if (torch == nullptr || !PyObject_HasAttrString(torch, "Tensor")) return false;
    tensor_type = PyObject_GetAttrString(torch, "Tensor");
  }
  return PyObject_IsInstance(object.ptr(), tensor_type) == 1;
}

bool requires_grad(py::handle object) {
  static PyObject* attribute = PyUnicode_InternFromString("requires_grad");
  PyObject* flag = PyObject_GetAttr(object.ptr(), attribute);
  if (flag == nullptr) throw py::error_already_set();
  Py_DECREF(flag);
  return flag == Py_True;
}

// The exchange API and data_ptr() both take a tensor that requires grad and drop its graph without a word.
void refuse_grad(const char* name, py::handle object) {
  if (requires_grad(object)) fail_type(name, "a tensor that does not require grad (use .detach())", "one that does");
}

}  // namespace

Arg view(py::handle object, const char* name, bool ignore_grad) {
  Arg a;
  a.name = name;
  a.present = true;
  const dlpack::ExchangeApi* api = exchange_api_enabled ? tensor_type(Py_TYPE(object.ptr())).api : nullptr;
  if (api != nullptr) {
    if (!ignore_grad) refuse_grad(name, object);
    fill_from_exchange(a, object, api);
  } else if (py::isinstance<py::array>(object)) {
    fill_from_numpy(a, object);
  } else if (is_torch_tensor(object)) {
    if (!ignore_grad) refuse_grad(name, object);
    fill_from_attributes(a, object);
  } else {
    fail_type(name, "a NumPy array or a torch tensor", type_text(object));
  }
  if (a.data == nullptr && a.numel() > 0) fail_type(name, "a tensor with memory", "one without (meta or fake)");
  return a;
}

Arg view_or_none(py::handle object, const char* name) {
  if (!object.is_none()) return view(object, name);
  Arg a;
  a.name = name;
  return a;
}

Arg view_out(py::handle object, const char* name) {
  Arg a = view(object, name);
  if (!a.writable) throw py::value_error(std::string(name) + ": expected a writable array, got a read-only one");
  if (a.numel() == 0) return a;  // NumPy gives such arrays strides of 0
  for (int i = 0; i < a.ndim; ++i)
    if (a.stride[i] == 0 && a.shape[i] > 1) fail_value(a, "distinct memory for every element", "an expanded tensor");
  return a;
}

Plain view_if_plain(Arg& a, py::handle object, const char* name, bool ignore_grad) {
  a = Arg();
  a.name = name;
  a.present = true;
  PyTypeObject* type = Py_TYPE(object.ptr());
  Plain kind = Plain::No;
  try {
    if (type == py::detail::npy_api::get().PyArray_Type_) {
      fill_from_numpy(a, object);
      kind = Plain::NumPy;
    } else if (exchange_api_enabled) {
      const TensorType known = tensor_type(type);
      if (!known.plain || known.api == nullptr || (!ignore_grad && known.wants_grad(object.ptr()))) return Plain::No;
      fill_from_exchange(a, object, known.api);
      kind = Plain::Torch;
    }
  } catch (const std::exception&) {  // the usual way finds the same fault, and words it
    return Plain::No;
  }
  return a.device == kCpu && a.contiguous() && (a.data != nullptr || a.numel() == 0) ? kind : Plain::No;
}

bool is_plain_tensor(py::handle object) {
  if (!exchange_api_enabled) return false;
  const TensorType known = tensor_type(Py_TYPE(object.ptr()));
  dlpack::Tensor t;
  if (!known.plain || known.api == nullptr) return false;
  if (known.api->borrow(object.ptr(), &t) != 0) {  // sparse, or wrapped by torch.func
    PyErr_Clear();
    return false;
  }
  return t.data != nullptr && t.device.type == dlpack::kCpuDevice;  // without memory: functionalized, fake
}

namespace {

PyObject* attribute_of(const char* module, const char* name) {
  PyObject* found = PyDict_GetItemString(PyImport_GetModuleDict(), module);
  PyObject* value = found == nullptr ? nullptr : PyObject_GetAttrString(found, name);
  if (value == nullptr) PyErr_Clear();
  return value;
}

// What a function of torch without arguments says, as a number; 0 if this torch has no such function.
long ask(PyObject* function) {
  if (function == nullptr) return 0;
  PyObject* answer = PyObject_CallNoArgs(function);
  if (answer == nullptr) throw py::error_already_set();
  const long number = PyLong_AsLong(answer);  // True is 1
  Py_DECREF(answer);
  return number;
}

}  // namespace

bool watched() {
  static PyObject* const tracing = attribute_of("torch._C", "_is_tracing");
  static PyObject* const modes = attribute_of("torch._C", "_len_torch_dispatch_stack");
  static PyObject* const function_modes = attribute_of("torch._C", "_len_torch_function_stack");
  static PyObject* const early_modes = attribute_of("torch._ops", "_len_torch_dispatch_stack_pre_dispatch");
  static PyObject* const forward_ad = attribute_of("torch.autograd.forward_ad", "__dict__");
  static PyObject* const level = PyUnicode_InternFromString("_current_level");
  if (ask(tracing) != 0 || ask(modes) != 0) return true;
  // make_fx(pre_dispatch=True) has its mode on a stack of its own, which is slow to ask for, and a function mode beside it.
  if (ask(function_modes) != 0 && ask(early_modes) != 0) return true;
  PyObject* const now = forward_ad == nullptr ? nullptr : PyDict_GetItem(forward_ad, level);
  return now != nullptr && PyLong_AsLong(now) >= 0;
}

void use_exchange_api(bool enabled) { exchange_api_enabled = enabled; }

std::string shape_text(const Arg& a) {
  std::string text = "[";
  for (int i = 0; i < a.ndim; ++i) text += (i ? ", " : "") + std::to_string(a.shape[i]);
  return text + "]";
}

void fail_value(const Arg& a, const std::string& expected, const std::string& came) {
  throw py::value_error(std::string(a.name) + ": expected " + expected + ", got " + came);
}

void expect_dtype(const Arg& a, std::initializer_list<DType> allowed) {
  std::string names;
  for (DType d : allowed) {
    if (a.dtype == d) return;
    names += (names.empty() ? "" : " or ") + std::string(dtype_name(d));
  }
  fail_type(a.name, "dtype " + names, dtype_name(a.dtype));
}

void expect_shape(const Arg& a, std::initializer_list<int64_t> shape, const char* legend) {
  bool good = a.ndim == static_cast<int32_t>(shape.size());
  int i = 0;
  for (int64_t n : shape) {
    if (!good) break;
    good = n < 0 || a.shape[i] == n;
    ++i;
  }
  if (good) return;
  std::string sizes;
  for (int64_t n : shape) sizes += (sizes.empty() ? "" : ", ") + (n < 0 ? std::string("any") : std::to_string(n));
  fail_value(a, std::string("shape ") + legend + " = [" + sizes + "]", shape_text(a));
}

void expect_contiguous(const Arg& a) {
  if (!a.contiguous()) fail_value(a, "row-major contiguous memory", "other strides for shape " + shape_text(a));
}

void expect_device(const Arg& a, const Arg& where) {
  if (a.device == where.device) return;
  const auto text = [](int32_t d) { return d == kCpu ? std::string("the CPU") : "CUDA device " + std::to_string(d); };
  fail_value(a, "memory on " + text(where.device) + ", where " + where.name + " is", text(a.device));
}

Computing::Computing() {
  static PyObject* torch_threads = nullptr;
  if (torch_threads == nullptr) {
    PyObject* torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
    if (torch != nullptr && PyObject_HasAttrString(torch, "get_num_threads"))
      torch_threads = PyObject_GetAttrString(torch, "get_num_threads");
  }
  if (torch_threads != nullptr) {
    PyObject* n = PyObject_CallNoArgs(torch_threads);
    if (n == nullptr) throw py::error_already_set();
    set_num_threads(static_cast<int>(PyLong_AsLong(n)));
    Py_DECREF(n);
  }
  state_ = PyEval_SaveThread();
}

// A daemon thread that comes back when the interpreter has ended is stopped here, as from Python 3.14 on. Older ones throw an exception
// through it that no destructor may let out: the process would be aborted.
Computing::~Computing() {
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {
    for (;;) pause();
  }
}

void fail_without_cuda(const char* op) {
  throw std::runtime_error(std::string(op) +
                           ": got a CUDA tensor, but this build of fastpose has no CUDA kernels; rebuild where nvcc is on the PATH with "
                           "FASTPOSE_CUDA=on pip install --no-cache-dir --force-reinstall --no-deps <fastpose>, or move the tensor to the CPU");
}

}  // namespace fastpose
