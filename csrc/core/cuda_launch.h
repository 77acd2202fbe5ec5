// For the .cu files: error check and grid sizes. Nothing here synchronises or allocates.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace fastpose {

inline void cuda_check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    cudaGetLastError();  // clear it: the next call must not report this one again
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

// After every <<<>>>: reports a launch that was refused (not what goes wrong later on the device).
inline void cuda_check_launch(const char* op) { cuda_check(cudaGetLastError(), op); }

// Blocks of `threads` that cover n elements, at most `limit`: kernels use a grid-stride loop, so that any n works.
inline unsigned grid_blocks(int64_t n, int threads, int64_t limit = 65535) {
  const int64_t blocks = (n + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : (blocks > limit ? limit : blocks));
}

inline cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace fastpose
