// Four lanes as a plain array, for processors without a backend of their own: the compiler makes of the loops what it can.
#pragma once

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

struct Vec { static constexpr int lanes = 4; float v[4]; };
struct IVec { int32_t v[4]; };
struct Mask { bool v[4]; };

#define FASTPOSE_LANES for (int i = 0; i < 4; ++i)
#define FASTPOSE_BINARY(R, T, NAME, EXPRESSION) \
  FASTPOSE_INLINE R NAME(T a, T b) { R r; FASTPOSE_LANES r.v[i] = (EXPRESSION); return r; }
#define FASTPOSE_UNARY(R, T, NAME, EXPRESSION) \
  FASTPOSE_INLINE R NAME(T a) { R r; FASTPOSE_LANES r.v[i] = (EXPRESSION); return r; }

FASTPOSE_INLINE Vec set(float x) { return {{x, x, x, x}}; }
FASTPOSE_INLINE Vec zero() { return set(0.f); }
FASTPOSE_INLINE Vec iota() { return {{0, 1, 2, 3}}; }
FASTPOSE_INLINE IVec iset(int32_t x) { return {{x, x, x, x}}; }
FASTPOSE_INLINE IVec iiota() { return {{0, 1, 2, 3}}; }

FASTPOSE_INLINE Vec load(const float* p) { Vec r; memcpy(r.v, p, sizeof(r.v)); return r; }
FASTPOSE_INLINE void store(float* p, Vec a) { memcpy(p, a.v, sizeof(a.v)); }
FASTPOSE_INLINE Vec load_n(const float* p, int n) { Vec r; FASTPOSE_LANES r.v[i] = i < n ? p[i] : 0.f; return r; }
FASTPOSE_INLINE void store_n(float* p, Vec a, int n) { FASTPOSE_LANES if (i < n) p[i] = a.v[i]; }
FASTPOSE_INLINE IVec iload(const int32_t* p) { IVec r; memcpy(r.v, p, sizeof(r.v)); return r; }
FASTPOSE_INLINE void istore(int32_t* p, IVec a) { memcpy(p, a.v, sizeof(a.v)); }
FASTPOSE_INLINE Vec load_u8(const uint8_t* p) { Vec r; FASTPOSE_LANES r.v[i] = p[i]; return r; }
FASTPOSE_INLINE Vec load_f16(const uint16_t* p) { Vec r; FASTPOSE_LANES r.v[i] = float16_value(p[i]); return r; }
FASTPOSE_INLINE Vec load_bf16(const uint16_t* p) { Vec r; FASTPOSE_LANES r.v[i] = bfloat16_value(p[i]); return r; }
FASTPOSE_INLINE void store_f16(uint16_t* p, Vec a) { FASTPOSE_LANES p[i] = float16_bits(a.v[i]); }
FASTPOSE_INLINE void store_bf16(uint16_t* p, Vec a) { FASTPOSE_LANES p[i] = bfloat16_bits(a.v[i]); }
FASTPOSE_INLINE void store_u8(uint8_t* p, Vec a) {  // rounds to even, saturates; NaN gives 0
  FASTPOSE_LANES p[i] = a.v[i] > 0.f ? static_cast<uint8_t>(rintf(a.v[i] < 255.f ? a.v[i] : 255.f)) : uint8_t{0};
}

FASTPOSE_BINARY(Vec, Vec, operator+, a.v[i] + b.v[i])
FASTPOSE_BINARY(Vec, Vec, operator-, a.v[i] - b.v[i])
FASTPOSE_BINARY(Vec, Vec, operator*, a.v[i] * b.v[i])
FASTPOSE_BINARY(Vec, Vec, operator/, a.v[i] / b.v[i])
FASTPOSE_BINARY(Vec, Vec, min, a.v[i] < b.v[i] ? a.v[i] : b.v[i])
FASTPOSE_BINARY(Vec, Vec, max, a.v[i] > b.v[i] ? a.v[i] : b.v[i])
FASTPOSE_UNARY(Vec, Vec, abs, fabsf(a.v[i]))
FASTPOSE_UNARY(Vec, Vec, sqrt, sqrtf(a.v[i]))
FASTPOSE_UNARY(Vec, Vec, floor, floorf(a.v[i]))
FASTPOSE_UNARY(Vec, Vec, round, rintf(a.v[i]))
FASTPOSE_INLINE Vec madd(Vec a, Vec b, Vec c) { Vec r; FASTPOSE_LANES r.v[i] = fastpose::madd(a.v[i], b.v[i], c.v[i]); return r; }
#if !defined(FASTPOSE_HAS_FMA)
FASTPOSE_INLINE Vec fused(Vec a, Vec b, Vec c) { Vec r; FASTPOSE_LANES r.v[i] = fastpose::fused(a.v[i], b.v[i], c.v[i]); return r; }
#endif

FASTPOSE_BINARY(Mask, Vec, operator<, a.v[i] < b.v[i])
FASTPOSE_BINARY(Mask, Vec, operator<=, a.v[i] <= b.v[i])
FASTPOSE_BINARY(Mask, Vec, operator>, a.v[i] > b.v[i])
FASTPOSE_BINARY(Mask, Vec, operator>=, a.v[i] >= b.v[i])
FASTPOSE_BINARY(Mask, Vec, operator==, a.v[i] == b.v[i])
FASTPOSE_BINARY(Mask, IVec, operator<, a.v[i] < b.v[i])
FASTPOSE_BINARY(Mask, IVec, operator>, a.v[i] > b.v[i])
FASTPOSE_BINARY(Mask, IVec, operator==, a.v[i] == b.v[i])
FASTPOSE_BINARY(Mask, Mask, operator&, a.v[i] && b.v[i])
FASTPOSE_BINARY(Mask, Mask, operator|, a.v[i] || b.v[i])
FASTPOSE_UNARY(Mask, Mask, operator~, !a.v[i])
FASTPOSE_INLINE uint32_t bits(Mask a) { uint32_t r = 0; FASTPOSE_LANES r |= (a.v[i] ? 1u : 0u) << i; return r; }
FASTPOSE_INLINE bool any(Mask a) { return bits(a) != 0; }
FASTPOSE_INLINE bool all(Mask a) { return bits(a) == 0xf; }
FASTPOSE_INLINE Vec select(Mask m, Vec a, Vec b) { Vec r; FASTPOSE_LANES r.v[i] = m.v[i] ? a.v[i] : b.v[i]; return r; }
FASTPOSE_INLINE IVec select(Mask m, IVec a, IVec b) { IVec r; FASTPOSE_LANES r.v[i] = m.v[i] ? a.v[i] : b.v[i]; return r; }

FASTPOSE_INLINE float reduce_add(Vec a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
FASTPOSE_INLINE float reduce_max(Vec a) { float r = a.v[0]; FASTPOSE_LANES r = a.v[i] > r ? a.v[i] : r; return r; }
FASTPOSE_INLINE float reduce_min(Vec a) { float r = a.v[0]; FASTPOSE_LANES r = a.v[i] < r ? a.v[i] : r; return r; }

// Unsigned inside: the vector instructions wrap, signed overflow in C++ does not.
FASTPOSE_BINARY(IVec, IVec, operator+, static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i])))
FASTPOSE_BINARY(IVec, IVec, operator-, static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i])))
FASTPOSE_BINARY(IVec, IVec, operator*, static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) * static_cast<uint32_t>(b.v[i])))
FASTPOSE_BINARY(IVec, IVec, operator&, a.v[i] & b.v[i])
FASTPOSE_BINARY(IVec, IVec, operator|, a.v[i] | b.v[i])
template <int n> FASTPOSE_UNARY(IVec, IVec, shift_left, static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n))
template <int n> FASTPOSE_UNARY(IVec, IVec, shift_right, static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> n))
template <int n> FASTPOSE_UNARY(IVec, IVec, shift_right_arithmetic, a.v[i] >> n)

// Out of range gives the smallest integer, as on x86.
FASTPOSE_INLINE int32_t int_of(float x) { return x >= -2147483648.f && x < 2147483648.f ? static_cast<int32_t>(x) : INT32_MIN; }
FASTPOSE_UNARY(IVec, Vec, to_int, int_of(a.v[i]))
FASTPOSE_UNARY(IVec, Vec, to_int_round, int_of(rintf(a.v[i])))
FASTPOSE_UNARY(Vec, IVec, to_float, static_cast<float>(a.v[i]))
FASTPOSE_INLINE IVec as_int(Vec a) { IVec r; memcpy(r.v, a.v, sizeof(r.v)); return r; }
FASTPOSE_INLINE Vec as_float(IVec a) { Vec r; memcpy(r.v, a.v, sizeof(r.v)); return r; }
FASTPOSE_INLINE IVec gather_i32(const void* base, IVec offsets) {
  IVec r;
  FASTPOSE_LANES memcpy(&r.v[i], static_cast<const char*>(base) + offsets.v[i], 4);
  return r;
}
FASTPOSE_INLINE Vec gather_f32(const float* base, IVec indices) { Vec r; FASTPOSE_LANES r.v[i] = base[indices.v[i]]; return r; }

#undef FASTPOSE_BINARY
#undef FASTPOSE_UNARY
#undef FASTPOSE_LANES

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
