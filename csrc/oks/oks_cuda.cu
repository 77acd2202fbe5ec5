#include "core/cuda_launch.h"
#include "oks/oks.h"
#include "oks/oks_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;

// One thread an entry of the matrix. Threads of a warp read the same pose of a and neighbouring poses of b, which stay in the cache.
template <class T>
__global__ void oks_kernel(OksArgs args) {
  const T* poses_a = static_cast<const T*>(args.poses_a);
  const T* poses_b = static_cast<const T*>(args.poses_b);
  const int64_t total = args.poses_n * args.poses_m;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t n = i / args.poses_m, m = i % args.poses_m;
    const double area =
        args.areas_b == nullptr ? args.areas_a[n] : oks_area_of_pair(args.areas_a[n], args.areas_b[m]);
    static_cast<T*>(args.out)[i] = static_cast<T>(oks_of_pair(
        poses_a + n * args.keypoints * args.channels_a, poses_b + m * args.keypoints * args.channels_b, args.keypoints,
        args.channels_a, args.channels_b, args.sigmas,
        args.visible == nullptr ? nullptr : args.visible + n * args.keypoints, area));
  }
}

}  // namespace

void oks_cuda(const OksArgs& args, void* stream) {
  const int64_t total = args.poses_n * args.poses_m;
  if (total == 0) return;
  const unsigned blocks = grid_blocks(total, kThreads);
  cuda_launch("oks", args.dtype == DType::Float64 ? oks_kernel<double> : oks_kernel<float>, blocks, kThreads, 0, as_stream(stream), args);
}

}  // namespace fastpose
