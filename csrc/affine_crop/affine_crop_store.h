// How values of affine_crop's kernels reach the output: pointers to one type or to any, and rows of interleaved channels, which gather in
// shared memory. For affine_crop_cuda.cu only.
#pragma once

#include "affine_crop/affine_crop_math.h"
#include "core/cuda_launch.h"
#include "core/cuda_vector.h"

namespace fastpose {

// Beside those of affine_crop_math.h: the device's own 16-bit types.
FASTPOSE_DEVICE void crop_store(__half* p, float v) { put(p, v); }
FASTPOSE_DEVICE void crop_store(__half* p, double v) { put(p, static_cast<float>(v)); }
FASTPOSE_DEVICE void crop_store(__nv_bfloat16* p, float v) { put(p, v); }
FASTPOSE_DEVICE void crop_store(__nv_bfloat16* p, double v) { put(p, static_cast<float>(v)); }

// To elements of a type that only the arguments name: one kernel then makes all of them, where a store is little beside the sample.
struct AnyPointer {
  char* at;
  DType dtype;
  int32_t size;  // of an element

  FASTPOSE_DEVICE AnyPointer operator+(int64_t elements) const { return {at + elements * size, dtype, size}; }
  FASTPOSE_DEVICE AnyPointer& operator+=(int64_t elements) { return *this = *this + elements; }
};

template <class T>
FASTPOSE_DEVICE void crop_store(AnyPointer p, T v) {
  switch (p.dtype) {
    case DType::UInt8: return crop_store(reinterpret_cast<uint8_t*>(p.at), v);
    case DType::Float16: return crop_store(reinterpret_cast<__half*>(p.at), v);
    case DType::BFloat16: return crop_store(reinterpret_cast<__nv_bfloat16*>(p.at), v);
    case DType::Float64: return crop_store(reinterpret_cast<double*>(p.at), v);
    default: return crop_store(reinterpret_cast<float*>(p.at), v);
  }
}

// A pointer of the same kind to another place, and its address.
template <class O>
FASTPOSE_DEVICE O* moved_to(O*, char* at) { return reinterpret_cast<O*>(at); }
FASTPOSE_DEVICE AnyPointer moved_to(AnyPointer p, char* at) { return {at, p.dtype, p.size}; }
template <class O>
FASTPOSE_DEVICE char* address(O* p) { return reinterpret_cast<char*>(p); }
FASTPOSE_DEVICE char* address(AnyPointer p) { return p.at; }

// --- bulk stores ------------------------------------------------------------------------------------------------------------------
// From shared memory, 16 bytes or a multiple of them, both ends on 16 bytes: one instruction of one thread, which the copy engine of an SM
// carries out while the threads go on (sm_90 and later). tests/cuda_on_cpu has its own, which copies no sooner than bulk_wait() asks for
// it.
#if defined(__CUDACC__)
FASTPOSE_DEVICE bool has_bulk_store() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return true;
#else
  return false;
#endif
}

// By every thread that wrote what a bulk store will read, before threads meet and one of them asks for the store.
FASTPOSE_DEVICE void bulk_fence() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

FASTPOSE_DEVICE void bulk_store([[maybe_unused]] void* to, [[maybe_unused]] const void* from, [[maybe_unused]] unsigned bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(from));
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n\tcp.async.bulk.commit_group;"
               ::"l"(__cvta_generic_to_global(to)), "r"(shared), "r"(bytes)
               : "memory");
#endif
}

// Until the bulk stores of this thread have read their shared memory.
FASTPOSE_DEVICE void bulk_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
#endif
}
#endif

// --- runs -----------------------------------------------------------------------------------------------------------------------
// A warp's neighbouring bytes of the output, from shared memory; any number of them at any address. Whoever writes them begins
// behind_16(to) after a multiple of 16 bytes, and calls begin_run() before and store_run() after it.
FASTPOSE_DEVICE unsigned behind_16(const char* p) { return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % 16); }

FASTPOSE_DEVICE void begin_run() {
  bulk_wait();
  __syncwarp();  // nobody still reads the run before
}

FASTPOSE_DEVICE void store_run(char* to, const char* from, unsigned bytes) {
  const unsigned lane = threadIdx.x % 32, head = min_of(bytes, (16 - behind_16(to)) % 16), tail = (bytes - head) % 16;
  const unsigned whole = bytes - head - tail;
  bulk_fence();
  __syncwarp();
  if (has_bulk_store()) {
    if (lane == 0 && whole > 0) bulk_store(to + head, from + head, whole);
  } else {
    for (unsigned i = lane * 16; i < whole; i += 32 * 16)
      *reinterpret_cast<uint4*>(to + head + i) = *reinterpret_cast<const uint4*>(from + head + i);
  }
  if (whole == bytes) return;
  if (lane < head) to[lane] = from[lane];
  if (lane < tail) to[head + whole + lane] = from[head + whole + lane];
}

}  // namespace fastpose
