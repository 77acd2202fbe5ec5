// What the CPU and the CUDA sources of an op share: the function macro and small arithmetic helpers.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

// FASTPOSE_HD in front of a function makes it callable from both sides. It is always inlined: a plain `inline` function that is compiled
// with AVX-512 in one unit and with SSE2 in another would leave the linker free to keep the AVX-512 copy for everybody.
#if defined(__CUDACC__)
#define FASTPOSE_HD __host__ __device__ __forceinline__
#define FASTPOSE_DEVICE __device__ __forceinline__
#else
#define FASTPOSE_HD inline __attribute__((always_inline))
#endif
// The same rule for what only the CPU calls.
#define FASTPOSE_INLINE inline __attribute__((always_inline))

namespace fastpose {

// Bytes of n elements, for memcpy and memset.
template <class T>
FASTPOSE_HD size_t bytes_of(int64_t n) { return sizeof(T) * static_cast<size_t>(n); }

template <class T>
FASTPOSE_HD T min_of(T a, T b) { return b < a ? b : a; }  // a if b is NaN

template <class T>
FASTPOSE_HD T max_of(T a, T b) { return a < b ? b : a; }  // a if b is NaN

template <class T>
FASTPOSE_HD T clamp(T x, T low, T high) { return x < low ? low : (high < x ? high : x); }  // NaN stays NaN

#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FASTPOSE_HAS_FMA 1
#endif

// a*b + c, rounded once where the machine has an instruction for it (AVX2 and up, NEON, CUDA) and twice where it has none (SSE2).
FASTPOSE_HD float madd(float a, float b, float c) {
#if defined(FASTPOSE_HAS_FMA)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

FASTPOSE_HD double madd(double a, double b, double c) {
#if defined(FASTPOSE_HAS_FMA)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

// a*b + c rounded once on every machine. Without an instruction (C's fmaf would then change the rounding mode at every call) the product is
// taken in double, where it is exact, and the sum is rounded to odd: of the two doubles around the true sum, the one whose last bit is set.
// No such double lies halfway between two floats, so that rounding it to float gives what rounding the true sum gives.
FASTPOSE_HD float fused(float a, float b, float c) {
#if defined(FASTPOSE_HAS_FMA)
  return fmaf(a, b, c);
#else
  const double product = static_cast<double>(a) * static_cast<double>(b), addend = static_cast<double>(c);
  double sum = product + addend;
  const double part = sum - product;  // Knuth's two-sum: sum + lost is product + addend exactly
  const double lost = (product - (sum - part)) + (addend - part);
  const bool inexact = lost > 0.0 || lost < 0.0;  // false for NaN, which an infinite sum gives
  const bool too_large = inexact && (lost < 0.0) != (sum < 0.0);  // in magnitude
  int64_t bits;
  memcpy(&bits, &sum, 8);
  bits = (bits - (too_large ? 1 : 0)) | (inexact ? 1 : 0);
  memcpy(&sum, &bits, 8);
  return static_cast<float>(sum);
#endif
}

// *p, which nobody writes while the kernel runs: by CUDA's read-only path.
template <class T>
FASTPOSE_HD T read_only(const T* p) {
#if defined(__CUDA_ARCH__)
  return __ldg(p);
#else
  return *p;
#endif
}

// Finite test that no compiler option folds away.
FASTPOSE_HD bool is_finite(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (bits & 0x7f800000u) != 0x7f800000u;
}

FASTPOSE_HD bool is_finite(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  return (bits & 0x7ff0000000000000ull) != 0x7ff0000000000000ull;
}

// --- 16-bit floats as bit patterns: the same rounding (to nearest, ties to even) on both sides --------------------------------------
FASTPOSE_HD uint16_t bfloat16_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);  // NaN stays NaN
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

FASTPOSE_HD float bfloat16_value(uint16_t bits) {
  const uint32_t u = static_cast<uint32_t>(bits) << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}

FASTPOSE_HD uint16_t float16_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  const uint32_t sign = (u >> 16) & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);       // NaN
  if (u >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);      // rounds to infinity
  if (u < 0x38800000u) {                                                   // subnormal: let the float adder round
    float y;
    memcpy(&y, &u, 4);
    y += 0.5f;
    uint32_t v;
    memcpy(&v, &y, 4);
    return static_cast<uint16_t>(sign | (v - 0x3f000000u));
  }
  u += 0xc8000000u + 0xfffu + ((u >> 13) & 1u);                            // rebias the exponent, round to even
  return static_cast<uint16_t>(sign | (u >> 13));
}

FASTPOSE_HD float float16_value(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  uint32_t u = bits & 0x7fffu;
  float x;
  if (u >= 0x7c00u) {
    u = (u << 13) + 0x70000000u;  // exponent 31 -> 255
    u |= 0x7f800000u;
  } else if (u < 0x0400u) {
    x = static_cast<float>(u) * 5.9604644775390625e-8f;  // 2^-24
    memcpy(&u, &x, 4);
  } else {
    u = (u << 13) + 0x38000000u;
  }
  u |= sign;
  memcpy(&x, &u, 4);
  return x;
}

}  // namespace fastpose
