// Stands in for CUDA's header of the same name.
#pragma once

#include "core/host_device.h"

struct __nv_bfloat16 { uint16_t bits; };
inline float __bfloat162float(__nv_bfloat16 v) { return fastpose::bfloat16_value(v.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return {fastpose::bfloat16_bits(v)}; }
