// The stand-ins themselves, by results worked out by hand.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/cuda_launch.h"

namespace {

using cuda_on_cpu::fail;

__global__ void exchange_kernel(int* out, unsigned long long* sum) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  int wrong = 0;
  wrong += __shfl_sync(0xffffffffu, i, 3) != i - lane + 3;
  wrong += __shfl_xor_sync(0xffffffffu, i, 5) != (i ^ 5);
  wrong += __shfl_down_sync(0xffffffffu, i, 4) != (lane + 4 > 31 ? i : i + 4);
  wrong += __shfl_up_sync(0xffffffffu, 2.5 * i, 1) != (lane == 0 ? 2.5 * i : 2.5 * (i - 1));
  wrong += __ballot_sync(0xffffffffu, lane % 4 == 0) != 0x11111111u;
  wrong += __any_sync(0xffffffffu, lane == 31) != 1 || __any_sync(0xffffffffu, lane > 31) != 0;
  wrong += __all_sync(0xffffffffu, lane < 32) != 1 || __all_sync(0xffffffffu, lane < 31) != 0;
  wrong += __uint_as_float(0x40490fdbu) != 3.14159274f;
  wrong += __funnelshift_r(0x33221100u, 0x77665544u, 32) != 0x33221100u || __funnelshift_r(0x33221100u, 0x77665544u, 24) != 0x66554433u;
  wrong += __byte_perm(0x33221100u, 0x77665544u, 0x0752u) != 0x00775522u;
  wrong += __dp2a_lo(0x00020003u, 0x07060504u, 1) != 2 * 5 + 3 * 4 + 1 || __dp2a_hi(0x00020003u, 0x07060504u, 1) != 2 * 7 + 3 * 6 + 1;
  wrong += __ffs(0) != 0 || __ffs(0x50) != 5;
  const int last = static_cast<int>(blockDim.x) - 1;
  wrong += __syncthreads_or(i == last) != 1 || __syncthreads_or(i > last) != 0;
  wrong += __syncthreads_or(i == 0) != 1 || __syncthreads_or(false) != 0;
  if (lane < 8) wrong += __ballot_sync(0x000000ffu, lane != 2) != 0xfbu;
  else wrong += __shfl_sync(0xffffff00u, lane, 9) != 9;
  __shared__ int first[2];
  if (lane == 0) first[i / 32] = i;
  __syncwarp();
  wrong += first[i / 32] != i - lane;
  int* const shared = fastpose::dynamic_shared<int>();
  shared[i] = i * i;
  __syncthreads();
  const int next = (i + 1) % static_cast<int>(blockDim.x);
  wrong += shared[next] != next * next;
  out[blockIdx.x * blockDim.x + threadIdx.x] = wrong;
  atomicAdd(sum, 1ull);
}

__global__ void most_shared_kernel(int* out) { fastpose::dynamic_shared<char>()[56 * 1024 - 1] = 1, *out = 7; }

// Numbers before NaN, and zeros by their sign.
template <class T, class Pair>
void check_largest(uint16_t one, uint16_t two, uint16_t nan) {
  const auto most = [](uint16_t a, uint16_t b) { return __hmax2(Pair{T{a}, T{b}}, Pair{T{b}, T{a}}); };
  const Pair numbers = most(one, two), odd = most(nan, one), zeros = most(0x8000, 0), none = most(nan, nan);
  const auto are = [](Pair pair, uint16_t bits) { return pair.x.bits == bits && pair.y.bits == bits; };
  if (!are(numbers, two) || !are(odd, one) || !are(zeros, 0) || !are(none, nan))
    fail("the stand-ins: __hmax2");
}

__global__ void little_shared_kernel(int* out) { fastpose::dynamic_shared<char>()[0] = 1, *out = 7; }

// How the device treats a launch of so many bytes that were not asked for.
cudaError_t launch_unasked(size_t bytes, int* out, cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, little_shared_kernel, out);
}

template <class F>
bool throws(F f) {
  try {
    f();
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

// 48 KiB, what the kernel declares itself included, are everybody's; more must be asked for, and no device has everything.
void check_shared_memory() {
  constexpr size_t kAlways = 48 * 1024, kRest = kAlways - cuda_on_cpu::kStaticShared;
  int out = 0, stream;
  cuda_on_cpu::Plan plan{cuda_on_cpu::Plan::Ascending, 1, ~0u, &stream};
  plan.most_shared = 64 * 1024;
  cuda_on_cpu::set_plan(plan);
  const cudaStream_t on = fastpose::as_stream(&stream);
  const auto launch = [&](size_t bytes) { fastpose::cuda_launch("stand-ins", little_shared_kernel, 1, 1, bytes, on, &out); };
  if (launch_unasked(kRest, &out, on) != cudaSuccess || out != 7) fail("the stand-ins: 48 KiB of shared memory are refused");
  if (launch_unasked(kRest + 1, &out, on) == cudaSuccess) fail("the stand-ins: static shared memory counts for nothing");
  launch(kRest + 1);
  launch(kAlways);
  launch(64 * 1024 - cuda_on_cpu::kStaticShared);
  if (!throws([&] { launch(64 * 1024); })) fail("the stand-ins: more shared memory than the device has");
}

}  // namespace

void check_stand_ins() {
  check_largest<__half, __half2>(0x3c00, 0x4000, 0x7e00);
  check_largest<__nv_bfloat16, __nv_bfloat162>(0x3f80, 0x4000, 0x7fc0);
  check_shared_memory();
  constexpr unsigned kThreads = 64, kBlocks = 3;
  int out[kThreads * kBlocks];
  for (const auto order : {cuda_on_cpu::Plan::Ascending, cuda_on_cpu::Plan::Descending, cuda_on_cpu::Plan::Shuffled}) {
    unsigned long long sum = 0;
    int stream;
    cuda_on_cpu::set_plan({order, 1, ~0u, &stream});
    for (int& o : out) o = -1;
    fastpose::cuda_launch("stand-ins", exchange_kernel, kBlocks, kThreads, kThreads * sizeof(int), fastpose::as_stream(&stream), out, &sum);
    for (int o : out)
      if (o != 0) fail("the stand-ins: %d wrong results in a thread", o);
    if (sum != kThreads * kBlocks) fail("the stand-ins: %llu additions", sum);
    int big = 0;
    fastpose::cuda_launch("stand-ins", most_shared_kernel, 1, 1, 56 * 1024, fastpose::as_stream(&stream), &big);
    if (big != 7) fail("the stand-ins: a kernel with much shared memory did not run");
  }
}
