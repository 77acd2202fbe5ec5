// core/cuda_device.cu on a machine of two GPUs that is only thought of: which contexts it makes, and what it leaves current. Built and run
// by test_cuda_device.py. The machine behaves as CUDA's documentation says of threads, contexts and devices.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "core/cuda_device.h"
#include "cuda.h"
#include "cuda_runtime.h"

struct CUctx_st {
  int device;
};

namespace {

constexpr int kDevices = 2;
CUctx_st primary[kDevices] = {{0}, {1}};
bool made[kDevices];             // whether the device has its primary context; once made by the runtime it stays
int retained[kDevices];          // by the driver's functions
std::vector<CUcontext> current;  // the thread's stack of contexts; the last one is current
bool refuse_push;

void reset(std::vector<int> devices) {
  current.clear();
  refuse_push = false;
  for (int d = 0; d < kDevices; ++d) made[d] = false, retained[d] = 0;
  for (int d : devices) made[d] = true, current.push_back(&primary[d]);
}

void expect(bool condition, const char* what, int line) {
  if (condition) return;
  std::fprintf(stderr, "line %d: %s\n", line, what);
  std::exit(1);
}
#define EXPECT(condition) expect(condition, #condition, __LINE__)

int device_now() {
  int device = -1;
  EXPECT(cudaGetDevice(&device) == cudaSuccess);
  return device;
}

CUresult retain(CUcontext* context, CUdevice device) {
  if (device < 0 || device >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  made[device] = true;
  ++retained[device];
  *context = &primary[device];
  return CUDA_SUCCESS;
}
CUresult release(CUdevice device) { return --retained[device] < 0 ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS; }
CUresult push(CUcontext context) {
  if (refuse_push) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(context);
  return CUDA_SUCCESS;
}
CUresult pop(CUcontext* context) {
  if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

}  // namespace

// A thread without a context has device 0.
cudaError_t cudaGetDevice(int* device) { return *device = current.empty() ? 0 : current.back()->device, cudaSuccess; }
// Since CUDA 12.0 makes the context at once.
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) return cudaErrorInvalidDevice;
  made[device] = true;
  if (current.empty()) current.push_back(nullptr);
  current.back() = &primary[device];
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) { return *count = kDevices, cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "invalid device"; }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *function = strcmp(name, "cuDevicePrimaryCtxRetain") == 0 ? reinterpret_cast<void*>(retain)
              : strcmp(name, "cuDevicePrimaryCtxRelease") == 0 ? reinterpret_cast<void*>(release)
              : strcmp(name, "cuCtxPushCurrent") == 0 ? reinterpret_cast<void*>(push)
              : strcmp(name, "cuCtxPopCurrent") == 0 ? reinterpret_cast<void*>(pop)
                                                     : nullptr;
  *found = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

int main() {
  using fastpose::CudaDevice;
  EXPECT(fastpose::cuda_device_count() == kDevices);

  reset({});  // a thread without a context, a tensor on device 1
  made[1] = true;
  {
    const CudaDevice guard(1);
    EXPECT(device_now() == 1);
  }
  EXPECT(current.empty());
  EXPECT(!made[0]);
  EXPECT(retained[1] == 0);

  reset({});  // a tensor on the device that such a thread has anyway
  {
    const CudaDevice guard(0);
    EXPECT(device_now() == 0);
  }
  EXPECT(current.empty());

  reset({0});  // a thread at work on device 0
  {
    const CudaDevice outer(1);
    EXPECT(device_now() == 1);
    {
      const CudaDevice same(1);
      const CudaDevice inner(0);
      EXPECT(device_now() == 0);
    }
    EXPECT(device_now() == 1);
  }
  EXPECT(device_now() == 0 && current.size() == 1);
  EXPECT(retained[0] == 0 && retained[1] == 0);

  for (const bool push_fails : {false, true}) {  // a device that is not there; a context that cannot become current
    reset({0});
    refuse_push = push_fails;
    bool thrown = false;
    try {
      const CudaDevice guard(push_fails ? 1 : 7);
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    EXPECT(thrown && device_now() == 0 && current.size() == 1 && retained[1] == 0);
  }
  std::puts("cuda_device: done");
}
