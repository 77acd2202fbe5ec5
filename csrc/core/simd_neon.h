// NEON (Advanced SIMD), which every AArch64 has: 4 lanes. Included by simd.h only.
#pragma once

#include <arm_neon.h>

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

struct Vec { static constexpr int lanes = 4; float32x4_t v; };
struct IVec { int32x4_t v; };
struct Mask { uint32x4_t v; };  // all bits of a lane set or clear

FASTPOSE_INLINE Vec set(float x) { return {vdupq_n_f32(x)}; }
FASTPOSE_INLINE Vec zero() { return set(0.f); }
FASTPOSE_INLINE IVec iset(int32_t x) { return {vdupq_n_s32(x)}; }
FASTPOSE_INLINE IVec iiota() {
  const int32_t lanes[4] = {0, 1, 2, 3};
  return {vld1q_s32(lanes)};
}
FASTPOSE_INLINE Vec iota() { return {vcvtq_f32_s32(iiota().v)}; }

FASTPOSE_INLINE Vec load(const float* p) { return {vld1q_f32(p)}; }
FASTPOSE_INLINE void store(float* p, Vec a) { vst1q_f32(p, a.v); }
FASTPOSE_INLINE IVec iload(const int32_t* p) { return {vld1q_s32(p)}; }
FASTPOSE_INLINE void istore(int32_t* p, IVec a) { vst1q_s32(p, a.v); }

FASTPOSE_INLINE Vec load_u8(const uint8_t* p) {
  uint32_t four;
  memcpy(&four, p, 4);
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))))};
}
FASTPOSE_INLINE Vec load_f16(const uint16_t* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))}; }
FASTPOSE_INLINE Vec load_bf16(const uint16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))}; }
FASTPOSE_INLINE void store_f16(uint16_t* p, Vec a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a.v))); }
FASTPOSE_INLINE void store_bf16(uint16_t* p, Vec a) {
  const uint32x4_t u = vreinterpretq_u32_f32(a.v), upper = vshrq_n_u32(u, 16);
  const uint32x4_t odd = vandq_u32(upper, vdupq_n_u32(1));
  const uint32x4_t r = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
  const uint32x4_t quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
  vst1_u16(p, vmovn_u32(vbslq_u32(vceqq_f32(a.v, a.v), r, quiet)));
}
FASTPOSE_INLINE void store_u8(uint8_t* p, Vec a) {  // rounds to even, saturates; NaN gives 0
  const uint16x4_t words = vqmovn_u32(vcvtnq_u32_f32(a.v));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(words, words))), 0);
  memcpy(p, &four, 4);
}

FASTPOSE_INLINE Mask operator<(Vec a, Vec b) { return {vcltq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator<=(Vec a, Vec b) { return {vcleq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator>(Vec a, Vec b) { return {vcgtq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator>=(Vec a, Vec b) { return {vcgeq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator==(Vec a, Vec b) { return {vceqq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator<(IVec a, IVec b) { return {vcltq_s32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator>(IVec a, IVec b) { return {vcgtq_s32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator==(IVec a, IVec b) { return {vceqq_s32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator&(Mask a, Mask b) { return {vandq_u32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator|(Mask a, Mask b) { return {vorrq_u32(a.v, b.v)}; }
FASTPOSE_INLINE Mask operator~(Mask a) { return {vmvnq_u32(a.v)}; }
FASTPOSE_INLINE uint32_t bits(Mask a) {
  const uint32_t places[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(a.v, vld1q_u32(places)));
}
FASTPOSE_INLINE bool any(Mask a) { return vmaxvq_u32(a.v) != 0; }
FASTPOSE_INLINE bool all(Mask a) { return vminvq_u32(a.v) != 0; }
FASTPOSE_INLINE Vec select(Mask m, Vec a, Vec b) { return {vbslq_f32(m.v, a.v, b.v)}; }
FASTPOSE_INLINE IVec select(Mask m, IVec a, IVec b) { return {vbslq_s32(m.v, a.v, b.v)}; }

FASTPOSE_INLINE Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
FASTPOSE_INLINE Vec madd(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
FASTPOSE_INLINE Vec min(Vec a, Vec b) { return select(a < b, a, b); }  // vminq_f32 of a NaN is NaN, whichever operand it is
FASTPOSE_INLINE Vec max(Vec a, Vec b) { return select(a > b, a, b); }
FASTPOSE_INLINE Vec abs(Vec a) { return {vabsq_f32(a.v)}; }
FASTPOSE_INLINE Vec sqrt(Vec a) { return {vsqrtq_f32(a.v)}; }
FASTPOSE_INLINE Vec floor(Vec a) { return {vrndmq_f32(a.v)}; }
FASTPOSE_INLINE Vec round(Vec a) { return {vrndnq_f32(a.v)}; }

// Adds and compares in the order in which the other levels do.
FASTPOSE_INLINE float reduce_add(Vec a) {
  const float32x2_t x = vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v));
  return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
}
FASTPOSE_INLINE float reduce_max(Vec a) {
  const Vec x = max(a, {vextq_f32(a.v, a.v, 2)});
  const float even = vgetq_lane_f32(x.v, 0), odd = vgetq_lane_f32(x.v, 1);
  return even > odd ? even : odd;
}
FASTPOSE_INLINE float reduce_min(Vec a) {
  const Vec x = min(a, {vextq_f32(a.v, a.v, 2)});
  const float even = vgetq_lane_f32(x.v, 0), odd = vgetq_lane_f32(x.v, 1);
  return even < odd ? even : odd;
}

FASTPOSE_INLINE IVec operator+(IVec a, IVec b) { return {vaddq_s32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator-(IVec a, IVec b) { return {vsubq_s32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator*(IVec a, IVec b) { return {vmulq_s32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator&(IVec a, IVec b) { return {vandq_s32(a.v, b.v)}; }
FASTPOSE_INLINE IVec operator|(IVec a, IVec b) { return {vorrq_s32(a.v, b.v)}; }
template <int n> FASTPOSE_INLINE IVec shift_left(IVec a) { return {vshlq_n_s32(a.v, n)}; }
template <int n> FASTPOSE_INLINE IVec shift_right(IVec a) {  // there is no instruction for n = 0
  if constexpr (n == 0) return a;
  else return {vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v), n))};
}
template <int n> FASTPOSE_INLINE IVec shift_right_arithmetic(IVec a) {
  if constexpr (n == 0) return a;
  else return {vshrq_n_s32(a.v, n)};
}

// Out of range and NaN give the smallest integer, as on x86; NEON's own conversion saturates, and makes 0 of NaN.
FASTPOSE_INLINE IVec or_smallest(Vec a, IVec converted) { return select(abs(a) < set(2147483648.f), converted, iset(INT32_MIN)); }
FASTPOSE_INLINE IVec to_int(Vec a) { return or_smallest(a, {vcvtq_s32_f32(a.v)}); }
FASTPOSE_INLINE IVec to_int_round(Vec a) { return or_smallest(a, {vcvtnq_s32_f32(a.v)}); }
FASTPOSE_INLINE Vec to_float(IVec a) { return {vcvtq_f32_s32(a.v)}; }
FASTPOSE_INLINE IVec as_int(Vec a) { return {vreinterpretq_s32_f32(a.v)}; }
FASTPOSE_INLINE Vec as_float(IVec a) { return {vreinterpretq_f32_s32(a.v)}; }

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose

#include "core/simd_through_memory.h"
