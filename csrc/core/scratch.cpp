#include "core/scratch.h"

#include <cstdio>
#include <cstdlib>

namespace fastpose {
namespace {

struct Block {
  float* data = nullptr;
  int64_t floats = 0;
  ~Block() { std::free(data); }
};

thread_local Block block;

}  // namespace

float* thread_scratch(int64_t floats) {
  if (floats > block.floats) {
    std::free(block.data);
    const int64_t bytes = (floats * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
    block.data = static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(bytes)));
    block.floats = floats;
    if (block.data == nullptr) {
      std::fprintf(stderr, "fastpose: out of memory for %lld bytes of scratch\n", static_cast<long long>(bytes));
      std::abort();
    }
  }
  return block.data;
}

}  // namespace fastpose
