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

// kCount neighbouring values, 16 bytes at once, for which p must begin on 16; kCount 1: one value, anywhere. `read` reads what it points to.
template <int kCount, class T, class F>
FASTPOSE_DEVICE void load_values_by(F read, const T* p, float (&values)[kCount]) {
  if constexpr (kCount == 1) {
    values[0] = to_float(read(p));
  } else {
    static_assert(kCount % kVector<T> == 0);
#pragma unroll
    for (int first = 0; first < kCount; first += kVector<T>) {
      const uint4 bits = read(reinterpret_cast<const uint4*>(p + first));
      T part[kVector<T>];
      memcpy(part, &bits, 16);
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) values[first + j] = to_float(part[j]);
    }
  }
}

// Values that nobody writes while the kernel runs, and such as this thread may write.
template <int kCount, class T>
FASTPOSE_DEVICE void load_values(const T* p, float (&values)[kCount]) {
  load_values_by([](const auto* at) { return read_only(at); }, p, values);
}
template <int kCount, class T>
FASTPOSE_DEVICE void load_own_values(const T* p, float (&values)[kCount]) {
  load_values_by([](const auto* at) { return *at; }, p, values);
}

// The same for stores: kCount is 1 or all the values of 16 bytes.
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

// Where a thread stands among `width` things a row: at the `first` one, and `step` things further with each next(). The rows are divided at the
// beginning and never again.
struct Walk {
  int x, y, width, across, down;
  FASTPOSE_DEVICE Walk(unsigned first, unsigned step, int things)
      : x(static_cast<int>(first % static_cast<unsigned>(things))), y(static_cast<int>(first / static_cast<unsigned>(things))), width(things),
        across(static_cast<int>(step % static_cast<unsigned>(things))), down(static_cast<int>(step / static_cast<unsigned>(things))) {}
  FASTPOSE_DEVICE void next() {
    x += across;
    y += down;
    if (x >= width) x -= width, ++y;
  }
};

// Shares the pixels of a map out among kThreads threads, kCount neighbours at once: load(i) for what begins at pixel i, then use(loaded, i, x, y)
// in the same order. Two loads are on their way before the first of them is used. Rows must be made of whole kCount where x and y matter.
template <int kCount, int kThreads, class Load, class Use>
FASTPOSE_DEVICE void each_vector(unsigned thread, int width, int pixels, Load load, Use use) {
  constexpr int kStep = kThreads * kCount;
  Walk at(thread * kCount, kStep, width);
  int i = static_cast<int>(thread) * kCount;
#pragma unroll 1
  for (; i + kStep < pixels; i += 2 * kStep) {
    const auto first = load(i), second = load(i + kStep);
    use(first, i, at.x, at.y);
    at.next();
    use(second, i + kStep, at.x, at.y);
    at.next();
  }
  if (i < pixels) use(load(i), i, at.x, at.y);
}

}  // namespace fastpose
