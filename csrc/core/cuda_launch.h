// For the .cu files: error check, grid sizes, launches and dynamic shared memory. Nothing here synchronises or allocates. Without nvcc's
// own syntax outside `__CUDACC__`, so that tests/cuda_on_cpu compiles the same .cu files with any C++ compiler and runs them on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/host_device.h"

namespace fastpose {

inline void cuda_check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    cudaGetLastError();  // clear it: the next call must not report this one again
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

// Blocks of `threads` that cover n elements, at most `limit`: kernels use a grid-stride loop, so that any n works.
inline unsigned grid_blocks(int64_t n, int threads, int64_t limit = 65535) {
  const int64_t blocks = (n + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : (blocks > limit ? limit : blocks));
}

inline cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

// Asks for `shared` bytes of dynamic shared memory where they do not fit, beside what the kernel itself declares, into the 48 KiB that
// every kernel may have. May be called while a stream is captured. No kernel that has dynamic shared memory declares half of the 48 KiB:
// below that nobody is asked.
inline void allow_shared(const char* op, const void* kernel, size_t shared) {
  constexpr size_t kAlways = 48 * 1024;
  if (shared <= kAlways / 2) return;
  cudaFuncAttributes attributes;
  cuda_check(cudaFuncGetAttributes(&attributes, kernel), op);
  if (attributes.sharedSizeBytes + shared <= kAlways) return;
  const std::string what = std::string(op) + ": " + std::to_string(shared) + " bytes of shared memory for a block";
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), what.c_str());
}

// kernel<<<blocks, threads, shared, stream>>>(args...), with a check that reports a launch that was refused (not what goes wrong later on
// the device).
template <class... Params, class... Args>
void cuda_launch(const char* op, void (*kernel)(Params...), dim3 blocks, unsigned threads, size_t shared, cudaStream_t stream,
                 Args&&... args) {
  allow_shared(op, reinterpret_cast<const void*>(kernel), shared);
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cuda_check(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), op);
}

#if defined(__CUDACC__)
// The block's dynamic shared memory, aligned to 16 bytes.
template <class T>
FASTPOSE_DEVICE T* dynamic_shared() {
  extern __shared__ uint4 dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}
#endif

}  // namespace fastpose
