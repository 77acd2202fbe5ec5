#include "core/scratch.h"

#include <cstddef>
#include <limits>
#include <new>

namespace fastpose {
namespace {

constexpr std::align_val_t kAlignment{64};

void* allocate(int64_t bytes) {
  if (bytes < 0 || static_cast<uint64_t>(bytes) > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  return ::operator new(static_cast<std::size_t>(bytes), kAlignment);
}

void release(void* data) { ::operator delete(data, kAlignment); }

struct Block {
  void* data = nullptr;
  int64_t floats = 0;
  ~Block() { release(data); }
};

thread_local Block block;

}  // namespace

Workspace::Workspace(int64_t bytes) : data_(allocate(bytes)) {}
Workspace::~Workspace() { release(data_); }

float* thread_scratch(int64_t floats) {
  if (floats > block.floats) {
    release(block.data);  // before the larger block is there: two at once may be too much
    block = {};           // whatever happens next
    block.data = allocate(floats * static_cast<int64_t>(sizeof(float)));
    block.floats = floats;
  }
  return static_cast<float*>(block.data);
}

}  // namespace fastpose
