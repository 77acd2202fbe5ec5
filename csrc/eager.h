// The gate of an op for the usual call: plain NumPy arrays or plain CPU tensors that are contiguous and of a dtype that the kernels take. Such
// a call goes from fastpose/ops/OP.py straight to `OP_eager`, which allocates what is missing and runs. Anything else makes `OP_eager` return
// None, and Python's gate (traced and fake tensors, gradients, CUDA, lists, other dtypes and memory orders) does what it always did.
#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "python_view.h"

namespace fastpose {

class Gate {
 public:
  // False as soon as one argument was not plain; what was given out since is of no use.
  explicit operator bool() const { return plain_; }

  // The first array decides whose the call is: all others, and the outputs, are of the same framework.
  Arg array(py::handle object, const char* name, bool ignore_grad = false);
  Arg array_or_none(py::handle object, const char* name);
  // The same, of this dtype only.
  Arg array(py::handle object, const char* name, DType dtype);
  Arg array_or_none(py::handle object, const char* name, DType dtype);

  // Small arguments, which NumPy may hold where the others are tensors: as doubles (from float32, float64, or a tuple or list of floats), or
  // as int64 (from int64, or a tuple or list of ints).
  Arg doubles(py::handle object, const char* name);
  Arg doubles_or_none(py::handle object, const char* name);
  Arg floats(py::handle object, const char* name);
  Arg floats_or_none(py::handle object, const char* name);
  Arg integers_or_none(py::handle object, const char* name);
  Arg booleans_or_none(py::handle object, const char* name);  // arrays only

  // Plain numbers: float or int, int, bool.
  double number(py::handle object);
  int64_t integer(py::handle object);
  bool flag(py::handle object);

  // An output: what the caller gave, or else a fresh one, which replaces `object`.
  Arg output(py::object& object, const char* name, std::initializer_list<int64_t> shape, DType dtype);
  py::object empty(std::initializer_list<int64_t> shape, DType dtype) const;
  // Working memory, as long as the gate lives; and the first n of it as an array of the caller's framework (float64 also as float32).
  Arg scratch(const char* name, DType dtype, std::initializer_list<int64_t> shape);
  py::object copy(const Arg& from, int64_t n, DType dtype) const;

  // Float32 for such an array or tensor of the call's framework, else Float64.
  DType dtype_of(py::handle object) const;

 private:
  template <class T, class Read>
  Arg sequence(py::handle object, const char* name, DType dtype, Read read);
  // Plain, of NumPy or of the call's framework.
  Arg small(py::handle object, const char* name);

  bool plain_ = true;
  Plain framework_ = Plain::No;
  py::handle like_;
  DType like_dtype_ = DType::Float32;
  static constexpr int64_t kRoom = 8192;
  alignas(64) char room_[kRoom];
  int64_t taken_ = 0;
  std::vector<std::unique_ptr<char[]>> more_;  // what does not fit
};

// object[:n]
py::object first_of(const py::object& object, int64_t n);

constexpr const char* kEagerDoc = "The op for plain contiguous arrays or CPU tensors; None, and nothing done, for any other arguments.";

}  // namespace fastpose
