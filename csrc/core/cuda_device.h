// Makes a CUDA device current for one launch. Declared without CUDA headers, so that the bindings need none.
#pragma once

#include <cstdint>

namespace fastpose {

// The device becomes current by its primary context, which is pushed upon whatever the calling thread has, and popped in the end: a thread
// without any context is then without one again. cudaSetDevice() cannot do that. cudaGetDevice() names device 0 for such a thread, and to
// set that again would, since CUDA 12.0, make a context on device 0, which nobody asked for (some hundred MB of its memory).
class CudaDevice {
 public:
  explicit CudaDevice(int32_t device);  // throws std::runtime_error
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

 private:
  int32_t pushed_ = -1;  // the device whose context is to be popped; -1: it was current
};

int cuda_device_count();  // 0 without a driver or a GPU; never throws

}  // namespace fastpose
