#include "core/cuda_device.h"
#include "core/cuda_launch.h"

namespace fastpose {

CudaDevice::CudaDevice(int32_t device) : previous_(-1) {
  cuda_check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (previous_ == device) {
    previous_ = -1;
  } else {
    cuda_check(cudaSetDevice(device), "cudaSetDevice");
  }
}

CudaDevice::~CudaDevice() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}

int cuda_device_count() {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return n;
}

}  // namespace fastpose
