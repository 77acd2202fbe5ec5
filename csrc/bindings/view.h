// From Python objects to TensorViews.
#pragma once

#include "bindings/torch_api.h"

#include <initializer_list>
#include <string>

namespace fastpose {

// A view that knows its argument's name, for messages. Borrowed: valid as long as somebody holds the Python object.
struct Arg : TensorView {
  const char* name = "";
  bool present = false;  // false: the argument was None
  explicit operator bool() const { return present; }
  template <class T>
  operator T*() const { return as<T>(); }  // NOLINT: what an op's arguments struct takes; its table says of which dtype
};

enum class Framework { None, NumPy, Torch };

// Takes a NumPy array (read-only ones too) or a torch tensor. TypeError for anything else, for a dtype outside DType, for a tensor with the
// negative bit, and for one that requires grad (a native op does not record a graph), unless that is to be ignored.
Framework view(Arg& a, py::handle object, const char* name, bool ignore_grad = false);
// Of an array that was just made by empty() of the call: nothing but its memory.
void* data_of(const py::object& fresh);

// Whose a plain, contiguous array on the CPU is, or None, without an error, for anything else.
Framework view_if_plain(Arg& a, py::handle object, const char* name, bool ignore_grad = false);

// Whether it is a tensor of torch's own type in CPU memory, contiguous or not.
bool is_plain_tensor(py::handle object);

// Whether two arrays have memory in common, from the first to the last byte of each.
bool overlap(const TensorView& a, const TensorView& b);

[[noreturn]] void fail_type(const char* name, const std::string& expected, const std::string& came);
[[noreturn]] void fail_value(const char* name, const std::string& expected, const std::string& came);
std::string shape_text(const TensorView& a);

}  // namespace fastpose
