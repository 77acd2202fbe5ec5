// Stands in for CUDA's own header, so that any C++ compiler compiles csrc/*/*_cuda.cu and the CPU runs them (see ../grid.h). It has what the
// kernels use; what an op must not do (allocate, synchronise, copy) is not here and does not compile.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "grid.h"

#define __host__
#define __device__
#define __global__
#define __shared__ static  // blocks run one after another
#define __grid_constant__
#define __launch_bounds__(...)

// --- vector types, aligned as on the device: UBSan finds the misaligned load ----------------------------------------------------
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// --- where a thread stands ------------------------------------------------------------------------------------------------------
using dim3 = cuda_on_cpu::Dim3;
// Objects and not macros: cudaLaunchConfig_t has members of these names.
template <cuda_on_cpu::Dim3 (*now)(), unsigned cuda_on_cpu::Dim3::*axis>
struct Coordinate {
  operator unsigned() const { return now().*axis; }
};
template <cuda_on_cpu::Dim3 (*now)()>
struct Coordinates {
  Coordinate<now, &cuda_on_cpu::Dim3::x> x;
  Coordinate<now, &cuda_on_cpu::Dim3::y> y;
  Coordinate<now, &cuda_on_cpu::Dim3::z> z;
};
inline constexpr Coordinates<cuda_on_cpu::thread_index> threadIdx{};
inline constexpr Coordinates<cuda_on_cpu::block_index> blockIdx{};
inline constexpr Coordinates<cuda_on_cpu::block_size> blockDim{};
inline constexpr Coordinates<cuda_on_cpu::grid_size> gridDim{};

// --- what threads of a block, and of a warp, do together ------------------------------------------------------------------------
#define CUDA_ON_CPU_SITE (::cuda_on_cpu::Site{__FILE__, __LINE__})
#define __syncthreads() ::cuda_on_cpu::sync_threads(CUDA_ON_CPU_SITE)
#define __syncthreads_or(predicate) ::cuda_on_cpu::sync_threads_or(CUDA_ON_CPU_SITE, (predicate) != 0)
#define __syncwarp(...) ::cuda_on_cpu::sync_warp(CUDA_ON_CPU_SITE, ::cuda_on_cpu::mask_or_all(__VA_ARGS__))
#define __shfl_sync(mask, value, lane) ::cuda_on_cpu::shuffle(CUDA_ON_CPU_SITE, mask, value, [=](int) { return static_cast<int>(lane) % 32; })
#define __shfl_xor_sync(mask, value, bits) ::cuda_on_cpu::shuffle(CUDA_ON_CPU_SITE, mask, value, [=](int mine) { return mine ^ (bits); })
#define __shfl_down_sync(mask, value, by) \
  ::cuda_on_cpu::shuffle(CUDA_ON_CPU_SITE, mask, value, [=](int mine) { return mine + (by) > 31 ? mine : mine + static_cast<int>(by); })
#define __shfl_up_sync(mask, value, by) \
  ::cuda_on_cpu::shuffle(CUDA_ON_CPU_SITE, mask, value, [=](int mine) { return mine - static_cast<int>(by) < 0 ? mine : mine - static_cast<int>(by); })
#define __ballot_sync(mask, predicate) ::cuda_on_cpu::ballot(CUDA_ON_CPU_SITE, mask, (predicate) != 0)
#define __any_sync(mask, predicate) static_cast<int>(__ballot_sync(mask, predicate) != 0)
#define __all_sync(mask, predicate) static_cast<int>(__ballot_sync(mask, predicate) == static_cast<unsigned>(mask))

template <class T>
T __ldg(const T* p) { return *p; }

// --- integers and bits -------------------------------------------------------------------------------------------------------------
inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (bits & 31));
}
// Four bytes out of eight: a hexadecimal digit of `pick` each, the lowest first.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned pick) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= static_cast<unsigned>(bytes >> (pick >> 4 * i & 7) * 8 & 255) << 8 * i;
  return result;
}
// Two halves of `words` times two bytes, the lower or the upper ones of `bytes`, and `sum`.
inline unsigned __dp2a_lo(unsigned words, unsigned bytes, unsigned sum) {
  return (words & 0xffff) * (bytes & 255) + (words >> 16) * (bytes >> 8 & 255) + sum;
}
inline unsigned __dp2a_hi(unsigned words, unsigned bytes, unsigned sum) { return __dp2a_lo(words, bytes >> 16, sum); }

// --- atomics: relaxed, as on the device -----------------------------------------------------------------------------------------
namespace cuda_on_cpu {
template <class T, class F>
T atomic_update(T* p, F next) {
  T before, after;
  __atomic_load(p, &before, __ATOMIC_RELAXED);
  do after = next(before);
  while (!__atomic_compare_exchange(p, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}
}  // namespace cuda_on_cpu

inline float atomicAdd(float* p, float v) { return cuda_on_cpu::atomic_update(p, [=](float a) { return a + v; }); }
inline double atomicAdd(double* p, double v) { return cuda_on_cpu::atomic_update(p, [=](double a) { return a + v; }); }
inline int atomicAdd(int* p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }

// --- the runtime ----------------------------------------------------------------------------------------------------------------
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaFuncAttributes { size_t sharedSizeBytes; };  // what the kernel declares itself
using cudaStream_t = struct CUstream_st*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

#define CUDART_VERSION 13000
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = cuda_on_cpu::driver_version(), cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t status) { return status == cudaErrorInvalidConfiguration ? "invalid configuration" : "invalid value"; }
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  return attributes->sharedSizeBytes = cuda_on_cpu::kStaticShared, cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  return cuda_on_cpu::allow_shared(kernel, value) ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  cuda_on_cpu::expect_stream(stream);
  memset(p, value, bytes);
  return cudaSuccess;
}

template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  static_assert((std::is_trivially_copyable_v<std::decay_t<Params>> && ...), "kernel arguments are copied byte by byte");
  static_assert((sizeof(Params) + ... + 0) <= 32764, "kernel arguments end at 32764 bytes");
  cuda_on_cpu::expect_arguments((sizeof(Params) + ... + 0));
  cuda_on_cpu::expect_stream(config->stream);
  const std::tuple<std::decay_t<Params>...> copies(std::forward<Args>(args)...);
  const bool fits = cuda_on_cpu::launch(config->gridDim, config->blockDim, config->dynamicSmemBytes, reinterpret_cast<const void*>(kernel),
                                        [&] { std::apply(kernel, copies); });
  return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}

// --- bulk stores (affine_crop_store.h): no sooner than their thread waits for them, so that memory that is written again before shows up in the result --
namespace cuda_on_cpu {
struct BulkStore {
  void* to;
  const void* from;
  unsigned bytes;
};
inline std::vector<BulkStore> bulk_stores[1024];  // by thread
}  // namespace cuda_on_cpu

namespace fastpose {
inline bool has_bulk_store() { return cuda_on_cpu::driver_version() >= 12010; }  // an older driver stands for an older GPU, too
inline void bulk_fence() {}
inline void bulk_store(void* to, const void* from, unsigned bytes) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0 || bytes == 0)
    cuda_on_cpu::fail("a bulk store of %u bytes that are not whole 16", bytes);
  cuda_on_cpu::bulk_stores[threadIdx.x].push_back({to, from, bytes});
}
inline void bulk_wait() {
  for (const cuda_on_cpu::BulkStore& store : cuda_on_cpu::bulk_stores[threadIdx.x]) memcpy(store.to, store.from, store.bytes);
  cuda_on_cpu::bulk_stores[threadIdx.x].clear();
}
}  // namespace fastpose

namespace fastpose {
template <class T>
T* dynamic_shared() { return static_cast<T*>(cuda_on_cpu::dynamic_shared_memory()); }
}  // namespace fastpose
