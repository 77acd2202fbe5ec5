// Stands in for CUDA's header of the same name.
#pragma once

#include "core/host_device.h"

struct __nv_bfloat16 { uint16_t bits; };
inline float __bfloat162float(__nv_bfloat16 v) { return fastpose::bfloat16_value(v.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return {fastpose::bfloat16_bits(v)}; }

struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline float __low2float(__nv_bfloat162 v) { return __bfloat162float(v.x); }
inline float __high2float(__nv_bfloat162 v) { return __bfloat162float(v.y); }
// The larger one: a number before NaN, +0 before -0.
inline __nv_bfloat16 __hmax(__nv_bfloat16 a, __nv_bfloat16 b) {
  const float x = __bfloat162float(a), y = __bfloat162float(b);
  if (x != x || (x == y && (a.bits & 0x8000u) != 0)) return b;
  return y > x ? b : a;
}
inline __nv_bfloat162 __hmax2(__nv_bfloat162 a, __nv_bfloat162 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
