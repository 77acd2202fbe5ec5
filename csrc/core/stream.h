// Stores that go past the caches: a cached store first reads the line that it is about to overwrite, which halves the bandwidth of an
// output too large to stay in a cache. (Measured here: 23 GB/s instead of 10.)
#pragma once

#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// Outputs from this size on are streamed: the next reader would not find them in a second-level cache anyway.
constexpr int64_t kStreamBytes = 8 << 20;

FASTPOSE_INLINE bool can_stream(const float* p) { return reinterpret_cast<uintptr_t>(p) % (Vec::lanes * sizeof(float)) == 0; }

// p must be a multiple of the vector's size.
FASTPOSE_INLINE void stream(float* p, Vec v) {
#if defined(FASTPOSE_SIMD_avx512)
  _mm512_stream_ps(p, v.v);
#elif defined(FASTPOSE_SIMD_avx2)
  _mm256_stream_ps(p, v.v);
#elif defined(FASTPOSE_SIMD_sse2)
  _mm_stream_ps(p, v.v);
#else
  store(p, v);
#endif
}

// Streamed stores of this thread become visible before any later store; at the end of a parallel_for body.
FASTPOSE_INLINE void stream_fence() {
#if defined(FASTPOSE_SIMD_avx512) || defined(FASTPOSE_SIMD_avx2) || defined(FASTPOSE_SIMD_sse2)
  _mm_sfence();
#endif
}

FASTPOSE_INLINE void stream_copy(float* to, const float* from, int64_t n) {
  int64_t i = 0;
  for (; i < n && !can_stream(to + i); ++i) to[i] = from[i];
  for (; i + Vec::lanes <= n; i += Vec::lanes) stream(to + i, load(from + i));
  for (; i < n; ++i) to[i] = from[i];
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
