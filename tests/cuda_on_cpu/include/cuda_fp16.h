// Stands in for CUDA's header of the same name.
#pragma once

#include "core/host_device.h"

struct __half { uint16_t bits; };
inline float __half2float(__half v) { return fastpose::float16_value(v.bits); }
inline __half __float2half_rn(float v) { return {fastpose::float16_bits(v)}; }

struct alignas(4) __half2 { __half x, y; };
inline float __low2float(__half2 v) { return __half2float(v.x); }
inline float __high2float(__half2 v) { return __half2float(v.y); }
// The larger one: a number before NaN, +0 before -0.
inline __half __hmax(__half a, __half b) {
  const float x = __half2float(a), y = __half2float(b);
  if (x != x || (x == y && (a.bits & 0x8000u) != 0)) return b;
  return y > x ? b : a;
}
inline __half2 __hmax2(__half2 a, __half2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
