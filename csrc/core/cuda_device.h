// Makes a CUDA device current for one launch. Declared without CUDA headers, so that bindings.cpp needs none.
#pragma once

#include <cstdint>

namespace fastpose {

class CudaDevice {
 public:
  explicit CudaDevice(int32_t device);  // throws std::runtime_error
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

 private:
  int previous_;
};

int cuda_device_count();  // 0 without a driver or a GPU; never throws

}  // namespace fastpose
