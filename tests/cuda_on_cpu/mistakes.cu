// Kernels that are wrong on purpose, each in one way: a harness that lets one of them pass finds nothing in the others either.
// `cuda_on_cpu --mistake NAME` must fail (data_race: under ThreadSanitizer; the accesses: under AddressSanitizer and UBSan).
#include <cstdio>

#include "core/cuda_launch.h"

namespace {

using fastpose::dynamic_shared;

__global__ void correct(float* out) {
  float* const shared = dynamic_shared<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

__global__ void data_race(float* out) {
  float* const shared = dynamic_shared<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

// A shuffle puts no access to memory in order.
__global__ void race_across_shuffle(float* out) {
  float* const shared = dynamic_shared<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  const float other = __shfl_xor_sync(0xffffffffu, 1.f, 1);
  out[threadIdx.x] = shared[threadIdx.x ^ 1] + other;
}

__global__ void lost_addition(float* out) {
  if (threadIdx.x < 40) out[0] += 1.f;
}

__global__ void past_shared(float*) { dynamic_shared<float>()[threadIdx.x + 1] = 0.f; }

__global__ void past_static_shared(float* out) {
  __shared__ float fixed[32];
  fixed[threadIdx.x] = 1.f;
  out[threadIdx.x] = fixed[threadIdx.x / 2];
}

__global__ void past_output(float* out) { out[threadIdx.x + 1] = 0.f; }

__global__ void misaligned(float* out) {
  *reinterpret_cast<float4*>(out + 1) = make_float4(0.f, 0.f, 0.f, 0.f);
}

__global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 32) __syncthreads();
  else __syncthreads();
  out[threadIdx.x] = 0.f;
}

__global__ void early_exit(float* out) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  out[threadIdx.x] = 0.f;
}

__global__ void absent_lane(float* out) {
  if (threadIdx.x % 2 == 0) out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.f, 1);
}

__global__ void not_in_mask(float* out) { out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.f, 0); }

struct Mistake {
  const char* name;
  void (*kernel)(float*);
};
constexpr Mistake kMistakes[] = {{"correct", correct},
                                 {"data_race", data_race},
                                 {"race_across_shuffle", race_across_shuffle},
                                 {"lost_addition", lost_addition},
                                 {"past_shared", past_shared},
                                 {"past_static_shared", past_static_shared},
                                 {"past_output", past_output},
                                 {"misaligned", misaligned},
                                 {"divergent_barrier", divergent_barrier},
                                 {"early_exit", early_exit},
                                 {"absent_lane", absent_lane},
                                 {"not_in_mask", not_in_mask}};

}  // namespace

void run_mistake(const char* name) {
  constexpr unsigned kThreads = 64;
  float* const out = new float[kThreads]();
  int stream, other;
  cuda_on_cpu::set_plan({cuda_on_cpu::Plan::Ascending, 0, ~0u, &stream});
  const auto launch = [&](void (*kernel)(float*), void* on, unsigned blocks) {
    fastpose::cuda_launch(name, kernel, blocks, kThreads, kThreads * sizeof(float), fastpose::as_stream(on), out);
  };
  if (strcmp(name, "other_stream") == 0) launch(correct, &other, 1);
  if (strcmp(name, "no_blocks") == 0) launch(correct, &stream, 0);
  for (const Mistake& mistake : kMistakes)
    if (strcmp(name, mistake.name) == 0) launch(mistake.kernel, &stream, 1);
  delete[] out;
}
