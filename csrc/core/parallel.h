// CPU threads: one small pool for the whole process.
#pragma once

#include <cstdint>

namespace fastpose {

// Threads that parallel_for may use when called from this thread. Set by the bindings from torch.get_num_threads() before each call.
void set_num_threads(int n);
int get_num_threads();

// Implementation; a plain function pointer keeps std:: templates out of the AVX units.
void parallel_run(int64_t n, int64_t grain, void (*body)(void* context, int64_t begin, int64_t end), void* context);

// Calls f(begin, end) on pieces that cover [0, n) once each; a piece is a multiple of `grain` long (the last may be shorter).
// Serial if n <= grain, inside another parallel_for, if another thread has the pool, or where the system has no thread to give. Results
// must not depend on the cutting. What f throws reaches the caller (the first exception, if several pieces fail); pieces that nobody has
// begun by then are left out.
template <class F>
inline __attribute__((always_inline)) void parallel_for(int64_t n, int64_t grain, F f) {
  if (n <= 0) return;
  parallel_run(
      n, grain, [](void* context, int64_t begin, int64_t end) { (*static_cast<F*>(context))(begin, end); }, &f);
}

}  // namespace fastpose
