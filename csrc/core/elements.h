// Elements of the three floating-point dtypes, a vector or one at a time, for kernels that are templates over them.
#pragma once

#include "core/stream.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

struct Float32 {
  using Element = float;
  static FASTPOSE_INLINE Vec load(const float* p) { return FASTPOSE_SIMD_NS::load(p); }
  static FASTPOSE_INLINE void store(float* p, Vec v) { FASTPOSE_SIMD_NS::store(p, v); }
  static FASTPOSE_INLINE void stream(float* p, Vec v) { FASTPOSE_SIMD_NS::stream(p, v); }
  static FASTPOSE_INLINE bool can_stream(const float* p) { return FASTPOSE_SIMD_NS::can_stream(p); }
  static FASTPOSE_INLINE float get(const float* p) { return *p; }
  static FASTPOSE_INLINE void put(float* p, float v) { *p = v; }
};
struct Float16 {
  using Element = uint16_t;
  static FASTPOSE_INLINE Vec load(const uint16_t* p) { return load_f16(p); }
  static FASTPOSE_INLINE void store(uint16_t* p, Vec v) { store_f16(p, v); }
  static FASTPOSE_INLINE void stream(uint16_t* p, Vec v) { store_f16(p, v); }
  static FASTPOSE_INLINE bool can_stream(const uint16_t*) { return false; }
  static FASTPOSE_INLINE float get(const uint16_t* p) { return float16_value(*p); }
  static FASTPOSE_INLINE void put(uint16_t* p, float v) { *p = float16_bits(v); }
};
struct BFloat16 {
  using Element = uint16_t;
  static FASTPOSE_INLINE Vec load(const uint16_t* p) { return load_bf16(p); }
  static FASTPOSE_INLINE void store(uint16_t* p, Vec v) { store_bf16(p, v); }
  static FASTPOSE_INLINE void stream(uint16_t* p, Vec v) { store_bf16(p, v); }
  static FASTPOSE_INLINE bool can_stream(const uint16_t*) { return false; }
  static FASTPOSE_INLINE float get(const uint16_t* p) { return bfloat16_value(*p); }
  static FASTPOSE_INLINE void put(uint16_t* p, float v) { *p = bfloat16_bits(v); }
};

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
