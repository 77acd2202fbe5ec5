// The sorting of oks_nms and box_nms. For OP_cpu.cpp only, whose units std:: templates stay out of.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

// Merge sort. `before(a, b)` is a strict order; sorts items[0, n) with spare[0, n). What is in order already is only looked at.
template <class Item, class Before>
FASTPOSE_INLINE void sort_items(Item* items, Item* spare, int64_t n, Before before) {
  constexpr int64_t kRun = 8;
  for (int64_t start = 0; start < n; start += kRun) {
    const int64_t end = min_of(start + kRun, n);
    for (int64_t i = start + 1; i < end; ++i) {
      const Item item = items[i];
      int64_t j = i;
      for (; j > start && before(item, items[j - 1]); --j) items[j] = items[j - 1];
      items[j] = item;
    }
  }
  for (int64_t width = kRun; width < n; width *= 2) {
    for (int64_t start = 0; start + width < n; start += 2 * width) {
      const int64_t middle = start + width, end = min_of(start + 2 * width, n);
      if (!before(items[middle], items[middle - 1])) continue;
      memcpy(spare + start, items + start, bytes_of<Item>(width));
      int64_t left = start, right = middle;  // of spare, of items
      for (int64_t i = start; left < middle; ++i) {
        const bool take_right = right < end && before(items[right], spare[left]);
        items[i] = take_right ? items[right++] : spare[left++];
      }
    }
  }
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
