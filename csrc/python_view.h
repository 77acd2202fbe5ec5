// From Python objects to TensorViews, and the checks that every binding makes before anything is computed.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/tensor_view.h"

namespace fastpose {

namespace py = pybind11;

// A view that remembers the argument's name, for messages. Borrowed: valid while the Python object is referenced by the call.
struct Arg : TensorView {
  const char* name = "";
  explicit operator bool() const { return present; }
  bool present = false;  // false: the argument was None
};

// Takes a NumPy array (read-only ones too) or a torch tensor. TypeError for anything else, for a dtype outside DType and for a tensor that
// requires grad (a native op does not record a graph: detach, or go through the op's autograd function), unless that is to be ignored.
Arg view(py::handle object, const char* name, bool ignore_grad = false);
Arg view_or_none(py::handle object, const char* name);
// The same for an output: ValueError if it is read-only or if two of its elements share memory.
Arg view_out(py::handle object, const char* name);

// For calls that need nothing of Python's gate (eager.h): whose a plain, contiguous array on the CPU is, or No, without an error, for
// anything else; also for a tensor that requires grad, unless that is to be ignored.
enum class Plain { No, NumPy, Torch };
Plain view_if_plain(Arg& a, py::handle object, const char* name, bool ignore_grad = false);

// Whether it is a tensor of torch's own type in CPU memory, contiguous or not.
bool is_plain_tensor(py::handle object);

// Whether somebody has a say in what becomes of plain tensors, so that a call must go through torch's dispatcher: torch.jit.trace, a dispatch
// mode (make_fx, FakeTensorMode, FlopCounterMode) or forward-mode AD. Wrapped tensors (torch.func, subclasses) are not plain in the first place.
bool watched();

// Each raises TypeError or ValueError naming the argument, what was expected and what came. A dimension of -1 takes any size;
// `legend` says the expected shape in words, e.g. "[M, 2, 3]".
void expect_dtype(const Arg& a, std::initializer_list<DType> allowed);
void expect_shape(const Arg& a, std::initializer_list<int64_t> shape, const char* legend);
void expect_contiguous(const Arg& a);
void expect_device(const Arg& a, const Arg& where);  // the same device as `where`
[[noreturn]] void fail_value(const Arg& a, const std::string& expected, const std::string& came);
std::string shape_text(const Arg& a);

// For tests of older torch: false reads pointer, shape and strides through attributes instead of the DLPack exchange API.
void use_exchange_api(bool enabled);

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

[[noreturn]] void fail_without_cuda(const char* op);

}  // namespace fastpose

// Runs the launcher of an op on the device of `where` (an Arg); for CUDA on `stream`. The arguments struct must be complete.
#if FASTPOSE_WITH_CUDA
#include "core/cuda_device.h"
#define FASTPOSE_LAUNCH(OP, args, where, stream)                  \
  do {                                                            \
    ::fastpose::Computing computing;                              \
    if ((where).device == ::fastpose::kCpu) {                     \
      ::fastpose::OP##_cpu(args);                                 \
    } else {                                                      \
      ::fastpose::CudaDevice device((where).device);              \
      ::fastpose::OP##_cuda(args, reinterpret_cast<void*>(stream)); \
    }                                                             \
  } while (false)
#else
#define FASTPOSE_LAUNCH(OP, args, where, stream)                               \
  do {                                                                         \
    (void)(stream);                                                            \
    if ((where).device != ::fastpose::kCpu) ::fastpose::fail_without_cuda(#OP); \
    ::fastpose::Computing computing;                                           \
    ::fastpose::OP##_cpu(args);                                                \
  } while (false)
#endif
