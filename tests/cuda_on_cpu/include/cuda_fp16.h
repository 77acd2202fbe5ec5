// Stands in for CUDA's header of the same name.
#pragma once

#include "core/host_device.h"

struct __half { uint16_t bits; };
inline float __half2float(__half v) { return fastpose::float16_value(v.bits); }
inline __half __float2half_rn(float v) { return {fastpose::float16_bits(v)}; }
