// Runs CUDA kernels on the CPU: the blocks of a grid one after another, every thread of a block as a fiber of its own.
//
// A fiber runs until it waits (at a barrier, for its warp) or ends; then the next one does. Nothing is left to chance: the same seed gives
// the same run. Under ThreadSanitizer each fiber is a thread of its own to the sanitizer, and only __syncthreads, __syncwarp and the
// beginning and end of a block put one access before another (a shuffle does not, as CUDA has it): a forgotten barrier is a data race,
// found in one run, whatever the order. Between two blocks of a grid no race can be seen; that their order does not matter is tried by
// running it in others.
//
// A run fails, with a message and abort(), where the device would hang or compute rubbish: some threads of a block at a barrier and others
// at another or at their end, a lane named in a mask that does not come. A refused launch is an error as with CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

namespace cuda_on_cpu {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  Dim3() = default;
  Dim3(unsigned width, unsigned height = 1, unsigned depth = 1) : x(width), y(height), z(depth) {}
};

struct Site {
  const char* file;
  int line;
};

// How grids run from now on.
struct Plan {
  enum Order { Ascending, Descending, Shuffled } order = Ascending;  // of blocks, and of the threads that may go on
  uint64_t seed = 0;          // of Shuffled
  unsigned most_blocks = ~0u;  // along x and along y, for kernels that stride over their grid: a block then has more than one piece of work
  void* stream = nullptr;     // every launch must be on this stream
  int driver = 13000;         // its version, as CUDA writes it
  size_t most_shared = 227 * 1024;  // bytes of shared memory that a block may ask for on this device
};
void set_plan(const Plan& plan);

// Printed before whatever goes wrong, sanitizers' findings included. Not copied.
void set_case(const char* how_to_repeat);
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Static shared memory of a kernel, in bytes. What a kernel declares is not seen here, so that each counts as one with so many: more than
// any has that asks for dynamic shared memory too. (tools/cuda_resources.py prints what it is.)
constexpr size_t kStaticShared = 1024;

// --- for the stand-ins of the runtime -------------------------------------------------------------------------------------------
bool launch(Dim3 grid, Dim3 block, size_t shared_bytes, const void* kernel, const std::function<void()>& run);  // false: refused
bool allow_shared(const void* kernel, int bytes);  // false: more than the device has
void expect_stream(void* stream);
void expect_arguments(size_t bytes);  // no more than the driver takes
int driver_version();

// --- for the kernels ------------------------------------------------------------------------------------------------------------
Dim3 thread_index();
Dim3 block_index();
Dim3 block_size();
Dim3 grid_size();
void* dynamic_shared_memory();
void sync_threads(Site site);
int sync_threads_or(Site site, bool predicate);
void sync_warp(Site site, unsigned mask);
int lane();
// Gives `value` to the lanes of `mask` and returns when all of them are here; lanes[i] is then what lane i gave.
void exchange(Site site, unsigned mask, uint64_t value, uint64_t* lanes);

inline unsigned mask_or_all(unsigned mask = ~0u) { return mask; }

template <class T, class F>
T shuffle(Site site, unsigned mask, T value, F source) {
  static_assert(sizeof(T) <= 8, "shuffles move 4 or 8 bytes");
  uint64_t bits = 0, lanes[32];
  memcpy(&bits, &value, sizeof(T));
  exchange(site, mask, bits, lanes);
  T result;
  memcpy(&result, &lanes[source(lane())], sizeof(T));  // rubbish from a lane that is not in the mask
  return result;
}

inline unsigned ballot(Site site, unsigned mask, bool predicate) {
  uint64_t lanes[32];
  exchange(site, mask, predicate ? 1 : 0, lanes);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) bits |= static_cast<unsigned>(lanes[i]) << i;
  return bits;
}

}  // namespace cuda_on_cpu
