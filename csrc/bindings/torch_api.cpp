#include "bindings/torch_api.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "core/parallel.h"

namespace fastpose {
namespace {

std::atomic<bool> exchange_api_enabled{true};

// A new reference to module.name, or null.
PyObject* find(const char* module, const char* name) {
  const auto key = py::reinterpret_steal<py::object>(PyUnicode_FromString(module));
  const auto found = py::reinterpret_steal<py::object>(PyImport_GetModule(key.ptr()));  // never imports it
  PyObject* value = found ? PyObject_GetAttrString(found.ptr(), name) : nullptr;
  if (value == nullptr) PyErr_Clear();
  return value;
}

const dlpack::ExchangeApi* find_exchange_api(PyObject* type) {
  const auto capsule = py::reinterpret_steal<py::object>(PyObject_GetAttrString(type, "__dlpack_c_exchange_api__"));
  if (!capsule) PyErr_Clear();
  if (!capsule || !PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
  auto* api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api != nullptr && api->header.major != 1) api = reinterpret_cast<const dlpack::ExchangeApi*>(api->header.previous);
  return api != nullptr && api->borrow != nullptr ? api : nullptr;
}

// Everything, or null while something is missing. Its references are never given back: the core outlives them all.
std::unique_ptr<Torch> find_torch() {
  auto t = std::make_unique<Torch>();
  PyObject* const tensor = find("torch", "Tensor");
  t->tensor = reinterpret_cast<PyTypeObject*>(tensor);
  t->parameter = reinterpret_cast<PyTypeObject*>(find("torch.nn", "Parameter"));
  t->get_num_threads = find("torch", "get_num_threads");
  t->forward_ad = find("torch.autograd.forward_ad", "__dict__");
  bool whole = t->tensor != nullptr && t->parameter != nullptr && t->get_num_threads != nullptr && t->forward_ad != nullptr;
  for (int i = 0; i < kDTypes; ++i) {
    t->dtype[i] = find("torch", dtype_name(static_cast<DType>(i)));
    whole = whole && t->dtype[i] != nullptr;
  }
  if (!whole) return nullptr;
  const auto property = py::reinterpret_steal<py::object>(PyObject_GetAttrString(tensor, "requires_grad"));
  if (!property) throw py::error_already_set();
  if (Py_TYPE(property.ptr()) == &PyGetSetDescr_Type) t->requires_grad = reinterpret_cast<PyGetSetDescrObject*>(property.ptr())->d_getset;
  const auto method = py::reinterpret_steal<py::object>(PyObject_GetAttrString(tensor, "is_neg"));
  if (!method) throw py::error_already_set();
  if (Py_TYPE(method.ptr()) == &PyMethodDescr_Type) {
    const PyMethodDef* const is_neg = reinterpret_cast<PyMethodDescrObject*>(method.ptr())->d_method;
    if ((is_neg->ml_flags & METH_NOARGS) != 0) t->is_neg = is_neg->ml_meth;
  }
  t->exchange_api = find_exchange_api(tensor);
  t->tracing = find("torch._C", "_is_tracing");
  t->modes = find("torch._C", "_len_torch_dispatch_stack");
  t->function_modes = find("torch._C", "_len_torch_function_stack");
  t->early_modes = find("torch._ops", "_len_torch_dispatch_stack_pre_dispatch");
  return t;
}

// What a function without arguments says, as a number.
long ask(PyObject* function) {
  if (function == nullptr) return 0;
  PyObject* answer = PyObject_CallNoArgs(function);
  if (answer == nullptr) throw py::error_already_set();
  const long number = PyLong_AsLong(answer);  // True is 1
  Py_DECREF(answer);
  return number;
}

}  // namespace

// Without a guard that threads wait at while they hold the GIL: two may look at once, and one of them is heard.
const Torch* torch() {
  static std::atomic<const Torch*> known{nullptr};
  const Torch* seen = known.load(std::memory_order_acquire);
  if (seen != nullptr) return seen;
  std::unique_ptr<Torch> found = find_torch();
  if (found == nullptr || !known.compare_exchange_strong(seen, found.get())) return seen;
  return found.release();
}

const dlpack::ExchangeApi* exchange_api(const Torch* torch) {
  return torch != nullptr && exchange_api_enabled.load(std::memory_order_relaxed) ? torch->exchange_api : nullptr;
}

void use_exchange_api(bool enabled) { exchange_api_enabled = enabled; }

bool watched() {
  const Torch* const t = torch();
  if (t == nullptr) return false;
  if (ask(t->tracing) != 0 || ask(t->modes) != 0) return true;
  // make_fx(pre_dispatch=True) has its mode on a stack of its own, which is slow to ask for, and a function mode beside it.
  if (ask(t->function_modes) != 0 && ask(t->early_modes) != 0) return true;
  static PyObject* const level = PyUnicode_InternFromString("_current_level");
  PyObject* const now = PyDict_GetItem(t->forward_ad, level);
  return now != nullptr && PyLong_AsLong(now) >= 0;
}

void* current_stream(int32_t device) {
  const dlpack::ExchangeApi* const api = exchange_api(torch());
  void* stream = nullptr;
  if (api != nullptr && api->current_stream != nullptr) {
    if (api->current_stream(dlpack::kCudaDevice, device, &stream) != 0) throw py::error_already_set();
    return stream;
  }
  const py::object current = py::module_::import("torch.cuda").attr("current_stream")(device);
  return reinterpret_cast<void*>(current.attr("cuda_stream").cast<uintptr_t>());
}

Computing::Computing() {
  if (const Torch* const t = torch()) set_num_threads(static_cast<int>(ask(t->get_num_threads)));
  state_ = PyEval_SaveThread();
}

// A daemon thread that comes back when the interpreter has ended is stopped here, as from Python 3.14 on. Older ones throw an exception
// through it that no destructor may let out: the process would be aborted.
Computing::~Computing() {
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

}  // namespace fastpose
