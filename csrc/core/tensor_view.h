// A borrowed n-dimensional array: what the bindings make of a NumPy array or a torch tensor, and all that the ops ever see.
#pragma once

#include <cstdint>

namespace fastpose {

enum class DType : uint8_t { UInt8, Float16, BFloat16, Float32, Float64, Int32, Int64, Bool };

constexpr int kDTypes = 8;
constexpr int kMaxDims = 6;
constexpr int32_t kCpu = -1;

struct TensorView {
  void* data = nullptr;        // first element; may be null only if there are no elements
  int32_t ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t stride[kMaxDims] = {};  // in elements
  DType dtype = DType::Float32;
  int32_t device = kCpu;       // kCpu or the CUDA index
  bool writable = false;

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  bool contiguous() const {
    int64_t expected = 1;
    for (int i = ndim - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != expected) return numel() == 0;
      expected *= shape[i];
    }
    return true;
  }
  template <class T>
  T* as() const { return static_cast<T*>(data); }
};

constexpr int dtype_size(DType t) {
  switch (t) {
    case DType::UInt8: case DType::Bool: return 1;
    case DType::Float16: case DType::BFloat16: return 2;
    case DType::Float32: case DType::Int32: return 4;
    default: return 8;
  }
}

constexpr const char* dtype_name(DType t) {
  switch (t) {
    case DType::UInt8: return "uint8";
    case DType::Float16: return "float16";
    case DType::BFloat16: return "bfloat16";
    case DType::Float32: return "float32";
    case DType::Float64: return "float64";
    case DType::Int32: return "int32";
    case DType::Int64: return "int64";
    case DType::Bool: return "bool";
  }
  return "?";
}

}  // namespace fastpose
