// Where oks_nms and box_nms write, and what the caller gets of it.
#pragma once

#include "bindings/call.h"

namespace fastpose {

constexpr int64_t kNoLimit = int64_t{1} << 62;

// Of those kept the indices, and their scores. `try_OP` gives what the public function gives: as many as are kept, and scores, of the dtype
// that they had, only where they have changed. `OP` cannot: on CUDA the number would have to be waited for. It gives indices and scores [N],
// and the number [1].
class NmsResult {
 public:
  // The outputs are arguments `out`, the indices, and `out + 1`, the scores.
  NmsResult(Call& call, size_t out, int64_t n) : call_(call), out_(out), n_(n), indices_(call.result(out)), rescored_(call.result(out + 1)) {
    indices = static_cast<int64_t*>(room(call[out], indices_, n, DType::Int64));
    rescored = static_cast<double*>(room(call[out + 1], rescored_, n, DType::Float64));
    count = static_cast<int64_t*>(room(Arg(), count_, 1, DType::Int64));
  }

  int64_t* indices;
  double* rescored;
  int64_t* count;

  py::object of_prepared() const { return py::make_tuple(indices_, rescored_, count_); }

  py::object of_tried(bool padded, bool with_scores, DType score_dtype) const {
    const int64_t places = padded ? n_ : *count;
    const py::object kept = call_[out_] ? first(indices_, places) : call_.copy(indices, DType::Int64, places, DType::Int64);
    if (!with_scores) return kept;
    return py::make_tuple(kept, call_[out_ + 1] ? first(rescored_, places) : call_.copy(rescored, DType::Float64, places, score_dtype));
  }

 private:
  void* room(const Arg& given, py::object& object, int64_t size, DType dtype) {
    if (given) return given.data;
    if (call_.way() == Way::Try) return call_.workspace(size * dtype_size(dtype));
    object = call_.empty(&size, 1, dtype);
    return data_of(object);
  }

  // object[:places], or the object itself
  py::object first(const py::object& object, int64_t places) const {
    if (places == n_) return object;
    PyObject* const part = PySequence_GetSlice(object.ptr(), 0, static_cast<Py_ssize_t>(places));
    if (part == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(part);
  }

  Call& call_;
  size_t out_;
  int64_t n_;
  py::object indices_, rescored_, count_;
};

}  // namespace fastpose
