// The largest value of a map or vector on the CPU, for heatmap_decode and simcc_decode.
#pragma once

#include "core/simd.h"
#include "core/tensor_view.h"
#include "heatmap_decode/heatmap_decode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {  // lambdas that are not inlined must not be seen by the linker

struct Peak {
  float value;    // 0 if nothing is above -infinity
  int32_t index;
};

// Asks for what is read next while there is something else to do. The hardware sees the next lines of a map coming, but not early enough
// to keep the bus busy, and it stops while a peak is refined. An address that is not ours does no harm here.
struct Ahead {
  static constexpr int64_t kLine = 64, kScan = 12 << 10, kIdle = 20 << 10;  // bytes
  mutable const char* asked;
  const char* end;

  // At most `lines` more, up to `distance` bytes from `here`.
  FASTPOSE_INLINE void ask(const void* here, int64_t distance, int lines) const {
    const char* to = min_of(static_cast<const char*>(here) + distance, end);
    for (int i = 0; i < lines && asked < to; ++i, asked += kLine) __builtin_prefetch(asked);
  }
};

// First index of the largest value. Each block of `kBlock` is compared as a whole with the best so far; only the block that holds the
// maximum is looked at again, while it is still in the cache.
FASTPOSE_INLINE Peak first_maximum(const float* map, int n, const Ahead& ahead) {
  constexpr int kBlock = Vec::lanes * 16;
  float best = -__builtin_inff();
  int block = -1, at = 0;
  for (; at + kBlock <= n; at += kBlock) {
    ahead.ask(map + at, Ahead::kScan, kBlock * static_cast<int>(sizeof(float)) / Ahead::kLine + 4);
    // max() gives its second operand where one is NaN: what is kept must stand there.
    Vec a = max(load(map + at), set(best)), b = max(load(map + at + Vec::lanes), set(best));
    for (int i = 2 * Vec::lanes; i < kBlock; i += 2 * Vec::lanes) {
      a = max(load(map + at + i), a);
      b = max(load(map + at + i + Vec::lanes), b);
    }
    a = max(a, b);
    if (any(a > set(best))) {
      best = reduce_max(a);
      block = at;
    }
  }
  int step = kBlock;  // elements in the block that holds the maximum
  for (; at + Vec::lanes <= n; at += Vec::lanes) {
    const Vec a = max(load(map + at), set(best));
    if (any(a > set(best))) {
      best = reduce_max(a);
      block = at;
      step = Vec::lanes;
    }
  }
  int index = -1;
  for (int i = at; i < n; ++i)
    if (beats(map[i], best)) best = map[i], index = i;
  if (index >= 0) return {best, index};
  if (block < 0) return {0.f, 0};
  for (index = block; index < block + step; index += Vec::lanes) {
    const uint32_t equal = bits(load(map + index) == set(best));
    if (equal != 0) return {best, index + __builtin_ctz(equal)};
  }
  return {best, index};
}

FASTPOSE_INLINE Peak first_maximum(const float* map, int n) { return first_maximum(map, n, Ahead{nullptr, nullptr}); }

FASTPOSE_INLINE void widen(const uint16_t* from, DType dtype, int n, float* to) {
  int i = 0;
  if (dtype == DType::Float16) {
    for (; i + Vec::lanes <= n; i += Vec::lanes) store(to + i, load_f16(from + i));
    for (; i < n; ++i) to[i] = float16_value(from[i]);
  } else {
    for (; i + Vec::lanes <= n; i += Vec::lanes) store(to + i, load_bf16(from + i));
    for (; i < n; ++i) to[i] = bfloat16_value(from[i]);
  }
}

}  // namespace
}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
