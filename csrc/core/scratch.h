// Working memory of one thread, kept between calls: a fresh large block costs more than most kernels.
#pragma once

#include <cstdint>

namespace fastpose {

// At least `floats` floats, aligned to 64 bytes, with unspecified contents; valid until the same thread asks again. Never null: the process
// ends where memory has run out, because the bodies of parallel_for cannot throw.
float* thread_scratch(int64_t floats);

}  // namespace fastpose
