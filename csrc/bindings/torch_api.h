// What the core asks of torch. It links nothing of it: names are looked up in the interpreter, once, as soon as torch has been imported.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "core/dlpack.h"
#include "core/tensor_view.h"

namespace fastpose {

namespace py = pybind11;

struct Torch {
  PyTypeObject* tensor;     // torch.Tensor
  PyTypeObject* parameter;  // torch.nn.Parameter
  const PyGetSetDef* requires_grad;  // the property, which is called sooner than it is looked up; null: neither is
  PyCFunction is_neg;                // the method, likewise
  const dlpack::ExchangeApi* exchange_api;  // null before torch 2.10
  PyObject* dtype[kDTypes];          // by DType
  PyObject* get_num_threads;
  // How many modes and traces look on; null where this torch has no such function.
  PyObject *tracing, *modes, *function_modes, *early_modes;
  PyObject* forward_ad;  // the module's dictionary

  // A tensor whose class overrides nothing of what an op does with it.
  bool is_plain(PyTypeObject* type) const { return type == tensor || type == parameter; }
  bool wants_grad(PyObject* object) const {
    if (requires_grad != nullptr) return says(requires_grad->get(object, requires_grad->closure));
    return says(PyObject_GetAttrString(object, "requires_grad"));
  }
  // Whether the memory holds the values with the other sign (torch._neg_view, the imaginary part of a conjugate).
  bool is_negative(PyObject* object) const {
    return says(is_neg != nullptr ? is_neg(object, nullptr) : PyObject_CallMethod(object, "is_neg", nullptr));
  }

 private:
  static bool says(PyObject* flag) {
    if (flag == nullptr) throw py::error_already_set();
    Py_DECREF(flag);
    return flag == Py_True;
  }
};

// Null where torch has not been imported, or not to its end.
const Torch* torch();
// Its exchange API, if there is one and tests have not switched it off.
const dlpack::ExchangeApi* exchange_api(const Torch* torch);
void use_exchange_api(bool enabled);

// Whether somebody has a say in what becomes of plain tensors, so that a call must go through torch's dispatcher: torch.jit.trace, a
// dispatch mode (make_fx, FakeTensorMode, FlopCounterMode) or forward-mode AD. Wrapped tensors (torch.func, subclasses) are not plain to
// begin with.
bool watched();

// torch's current stream of a CUDA device.
void* current_stream(int32_t device);

// Around the computation: takes over torch's thread count (if torch is loaded), then releases the GIL.
class Computing {
 public:
  Computing();
  ~Computing();
  Computing(const Computing&) = delete;
  Computing& operator=(const Computing&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace fastpose
