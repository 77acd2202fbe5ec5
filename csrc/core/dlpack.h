// The part of the DLPack ABI (version 1.x) that the bindings use; layout from the public specification, dmlc/dlpack.
#pragma once

#include <cstdint>

namespace fastpose::dlpack {

constexpr int32_t kCpuDevice = 1;
constexpr int32_t kCudaDevice = 2;
constexpr int32_t kCudaHost = 3;
constexpr int32_t kCudaManaged = 13;

constexpr uint8_t kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6;

struct Device {
  int32_t type;
  int32_t id;
};

struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // may be null: row-major contiguous
  uint64_t byte_offset;
};

struct ExchangeHeader {
  uint32_t major, minor;
  ExchangeHeader* previous;
};

// Capsule "dlpack_exchange_api", attribute `__dlpack_c_exchange_api__` of a tensor type. Only the borrowing entry is called here.
struct ExchangeApi {
  ExchangeHeader header;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*borrow)(void* object, Tensor* out);  // 0, or -1 with a Python exception; may be null
  int (*current_stream)(int32_t device_type, int32_t device_id, void** out);
};

}  // namespace fastpose::dlpack
