// Heatmap values in device memory: the types they are stored in, and 16 bytes of them at once. For .cu files only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "core/host_device.h"

namespace fastpose {

FASTPOSE_DEVICE float to_float(float v) { return v; }
FASTPOSE_DEVICE float to_float(__half v) { return __half2float(v); }
FASTPOSE_DEVICE float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
FASTPOSE_DEVICE void put(float* p, float v) { *p = v; }
FASTPOSE_DEVICE void put(__half* p, float v) { *p = __float2half_rn(v); }
FASTPOSE_DEVICE void put(__nv_bfloat16* p, float v) { *p = __float2bfloat16_rn(v); }

template <class T>
constexpr int kVector = 16 / sizeof(T);  // values in 16 bytes

FASTPOSE_DEVICE bool begins_on_16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }  // null does

template <int kCount>
struct Values { float v[kCount]; };

// The largest of 16 bytes of values; NaN if all of them are.
FASTPOSE_DEVICE float largest_of(uint4 bits, float) {
  return fmaxf(fmaxf(__uint_as_float(bits.x), __uint_as_float(bits.y)), fmaxf(__uint_as_float(bits.z), __uint_as_float(bits.w)));
}
template <class Pair>
FASTPOSE_DEVICE Pair largest_pair(uint4 bits) {
  Pair pairs[4];
  memcpy(pairs, &bits, 16);
  return __hmax2(__hmax2(pairs[0], pairs[1]), __hmax2(pairs[2], pairs[3]));
}
FASTPOSE_DEVICE float largest_of(uint4 bits, __half) {
  const __half2 pair = largest_pair<__half2>(bits);
  return fmaxf(__low2float(pair), __high2float(pair));
}
FASTPOSE_DEVICE float largest_of(uint4 bits, __nv_bfloat16) {
  const __nv_bfloat162 pair = largest_pair<__nv_bfloat162>(bits);
  return fmaxf(__low2float(pair), __high2float(pair));
}

// kCount neighbouring values as they lie in memory: one, anywhere, or some times 16 bytes of them, which must begin on 16.
template <class T, int kCount>
struct Vector {
  static_assert(kCount % kVector<T> == 0);
  uint4 bits[kCount / kVector<T>];
  FASTPOSE_DEVICE void get(float (&values)[kCount]) const {
    T parts[kCount];
    memcpy(parts, bits, sizeof(bits));
#pragma unroll
    for (int j = 0; j < kCount; ++j) values[j] = to_float(parts[j]);
  }
  FASTPOSE_DEVICE float largest() const {
    static_assert(kCount == kVector<T>);
    return largest_of(bits[0], T{});
  }
};
template <class T>
struct Vector<T, 1> {
  T one;
  FASTPOSE_DEVICE void get(float (&values)[1]) const { values[0] = to_float(one); }
  FASTPOSE_DEVICE float largest() const { return to_float(one); }
};

template <int kCount, class T, class F>
FASTPOSE_DEVICE Vector<T, kCount> load_vector_by(F read, const T* p) {
  Vector<T, kCount> vector;
  if constexpr (kCount == 1) {
    vector.one = read(p);
  } else {
#pragma unroll
    for (int part = 0; part < kCount / kVector<T>; ++part) vector.bits[part] = read(reinterpret_cast<const uint4*>(p) + part);
  }
  return vector;
}

// Values that nobody writes while the kernel runs, and such as this thread may write.
template <int kCount, class T>
FASTPOSE_DEVICE Vector<T, kCount> load_vector(const T* p) {
  return load_vector_by<kCount>([](const auto* at) { return read_only(at); }, p);
}
template <int kCount, class T>
FASTPOSE_DEVICE Vector<T, kCount> load_own_vector(const T* p) {
  return load_vector_by<kCount>([](const auto* at) { return *at; }, p);
}

// Stores kCount values: 1, or the 16 bytes of a vector.
template <int kCount, class T>
FASTPOSE_DEVICE void store_values(T* p, const float (&values)[kCount]) {
  if constexpr (kCount == 1) {
    put(p, values[0]);
  } else {
    static_assert(kCount == kVector<T>);
    T part[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j) put(part + j, values[j]);
    uint4 bits;
    memcpy(&bits, part, 16);
    *reinterpret_cast<uint4*>(p) = bits;
  }
}

// Calls f with kVector<T>, if memory is made of whole vectors, or with 1: as a type, so that both come from one source.
template <class T, class F>
FASTPOSE_DEVICE void by_vectors(bool whole, F f) {
  if (whole) f(std::integral_constant<int, kVector<T>>());
  else f(std::integral_constant<int, 1>());
}

// Where a thread stands among `width` things a row: at the `first` one, and `step` things further with each next(). The rows are divided at
// the beginning and never again.
struct Walk {
  int x, y, width, across, down;
  FASTPOSE_DEVICE Walk(unsigned first, unsigned step, int things)
      : x(static_cast<int>(first % static_cast<unsigned>(things))), y(static_cast<int>(first / static_cast<unsigned>(things))),
        width(things),
        across(static_cast<int>(step % static_cast<unsigned>(things))), down(static_cast<int>(step / static_cast<unsigned>(things))) {}
  FASTPOSE_DEVICE void next() {
    x += across;
    y += down;
    if (x >= width) x -= width, ++y;
  }
};

// Shares the pixels of a map out among kThreads threads, kCount neighbours at once: load(i, x) for what begins at pixel i, in column x,
// then use(loaded, i, x, y) in the same order. kAhead loads are on their way before the first of them is used. Rows must be made of whole
// kCount where x and y matter.
template <int kCount, int kThreads, int kAhead = 2, class Load, class Use>
FASTPOSE_DEVICE void each_vector(unsigned thread, int width, int pixels, Load load, Use use) {
  constexpr int kStep = kThreads * kCount;
  Walk at(thread * kCount, kStep, width);
  int i = static_cast<int>(thread) * kCount;
  if constexpr (kAhead == 2) {
#pragma unroll 1
    for (; i + kStep < pixels; i += 2 * kStep) {
      const Walk here = at;
      at.next();
      const auto first = load(i, here.x), second = load(i + kStep, at.x);
      use(first, i, here.x, here.y);
      use(second, i + kStep, at.x, at.y);
      at.next();
    }
    if (i < pixels) use(load(i, at.x), i, at.x, at.y);
  } else {
    static_assert(kAhead == 1);
#pragma unroll 1
    for (; i < pixels; i += kStep, at.next()) use(load(i, at.x), i, at.x, at.y);
  }
}

}  // namespace fastpose
