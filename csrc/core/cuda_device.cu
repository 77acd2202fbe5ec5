#include "core/cuda_device.h"

#include <cuda.h>

#include "core/cuda_launch.h"

namespace fastpose {
namespace {

// A function of the driver by its name: the module does not link libcuda, so that it loads where there is none.
template <class F>
F* driver_function(const char* name, unsigned version) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  cuda_check(cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found), name);
#else
  (void)version;  // that of the toolkit
  cuda_check(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found), name);
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) throw std::runtime_error(std::string("the CUDA driver has no ") + name);
  return reinterpret_cast<F*>(function);
}

struct Driver {
  CUresult (*retain)(CUcontext*, CUdevice) = driver_function<CUresult(CUcontext*, CUdevice)>("cuDevicePrimaryCtxRetain", 7000);
  CUresult (*release)(CUdevice) = driver_function<CUresult(CUdevice)>("cuDevicePrimaryCtxRelease", 11000);
  CUresult (*push)(CUcontext) = driver_function<CUresult(CUcontext)>("cuCtxPushCurrent", 4000);
  CUresult (*pop)(CUcontext*) = driver_function<CUresult(CUcontext*)>("cuCtxPopCurrent", 4000);
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

[[noreturn]] void fail(const char* what, int32_t device, CUresult status) {
  throw std::runtime_error(std::string(what) + ": CUDA device " + std::to_string(device) + ", driver error " + std::to_string(status));
}

}  // namespace

CudaDevice::CudaDevice(int32_t device) {
  int current = -1;
  cuda_check(cudaGetDevice(&current), "cudaGetDevice");
  if (current == device) return;
  CUcontext context = nullptr;  // there is one already where a tensor lies
  if (const CUresult status = driver().retain(&context, device); status != CUDA_SUCCESS) fail("cuDevicePrimaryCtxRetain", device, status);
  if (const CUresult status = driver().push(context); status != CUDA_SUCCESS) {
    driver().release(device);
    fail("cuCtxPushCurrent", device, status);
  }
  pushed_ = device;
}

CudaDevice::~CudaDevice() {
  if (pushed_ < 0) return;
  CUcontext context = nullptr;
  driver().pop(&context);
  driver().release(pushed_);
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
