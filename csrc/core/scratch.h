// Working memory: of one call, or of one thread. Both are aligned to 64 bytes and hold anything at first. Where there is no memory they
// throw std::bad_alloc, which parallel_for carries to its caller.
#pragma once

#include <cstdint>

namespace fastpose {

// Owned by the call that makes it.
class Workspace {
 public:
  explicit Workspace(int64_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
};

// At least `floats` floats, valid until the same thread asks again. Kept between calls: a fresh large block costs more than most kernels.
float* thread_scratch(int64_t floats);

}  // namespace fastpose
