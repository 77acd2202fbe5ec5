// Three launches, no host round trip: sort, suppress (a block an image) and collect. Sizes that depend on the data (poses an image, poses
// kept) stay on the device; every launch is sized for the worst case, and blocks without work return at once. The workspace is 17 bytes a
// pose.
#include "core/cuda_launch.h"
#include "oks_nms/oks_nms.h"
#include "oks_nms/oks_nms_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;
constexpr int kSuppressThreads = 256, kWarps = kSuppressThreads / 32;
constexpr int kGroup = 64;  // poses that are decided together

// Arrays of the workspace; "sorted" position p counts by image, then best first.
struct Workspace {
  int64_t* order;    // [N]: order[p] = i means that pose i stands at sorted position p
  double* final;     // [N] by pose: the score as it ends
  uint8_t* state;    // [N] by pose
};

enum State : uint8_t { kOpen, kKept, kDropped };  // kept in the end is kKept alone

__host__ Workspace workspace_of(const OksNmsArgs& args) {
  Workspace w;
  const int64_t n = args.poses_n;
  char* at = static_cast<char*>(args.workspace);
  w.order = reinterpret_cast<int64_t*>(at);
  w.final = reinterpret_cast<double*>(at + 8 * n);
  w.state = reinterpret_cast<uint8_t*>(at + 16 * n);
  return w;
}

FASTPOSE_DEVICE int64_t image_of(const OksNmsArgs& args, int64_t pose) {
  return args.image_index == nullptr ? 0 : args.image_index[pose];
}

template <class T>
FASTPOSE_DEVICE double oks_between(const OksNmsArgs& args, int64_t i, int64_t j) {
  const T* poses = static_cast<const T*>(args.poses);
  const int64_t size = args.keypoints * args.channels;
  return oks_of_pair(poses + i * size, poses + j * size, args.keypoints, args.channels, args.channels, args.sigmas,
                     static_cast<const uint8_t*>(nullptr), oks_area_of_pair(args.areas[i], args.areas[j]));
}

// Each pose counts the poses before it; that is its position.
__global__ void sort_kernel(OksNmsArgs args, Workspace w) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i == 0) *args.count = 0;
  if (i >= args.poses_n) return;
  const double score = nms_score(args.scores[i]);
  const int64_t image = image_of(args, i);
  int64_t position = 0;
  for (int64_t j = 0; j < args.poses_n; ++j) {
    const int64_t other = image_of(args, j);
    if (other < image || (other == image && nms_before(nms_score(args.scores[j]), j, score, i))) ++position;
  }
  w.order[position] = i;
  w.final[i] = score;
  w.state[i] = kOpen;
  args.indices[i] = -1;
  args.rescored[i] = 0.0;
}

// Positions [begin, end) of the image that begins at this block's position; end == begin if none begins there.
FASTPOSE_DEVICE int64_t segment_end(const OksNmsArgs& args, const Workspace& w, int64_t begin) {
  const int64_t image = image_of(args, w.order[begin]);
  if (begin > 0 && image_of(args, w.order[begin - 1]) == image) return begin;
  int64_t low = begin + 1, high = args.poses_n;  // the first position of another image
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (image_of(args, w.order[middle]) == image) low = middle + 1;
    else high = middle;
  }
  return low;
}

// One block an image. Group by group of its poses, best first: who of the group suppresses whom of it, a warp half a row at a time; then,
// by every thread alike, who of it is kept; then a thread a pose for those after the group, which the kept ones may suppress. What is
// dropped is compared with nobody any more.
template <class T>
__global__ void __launch_bounds__(kSuppressThreads) suppress_kernel(OksNmsArgs args, Workspace w) {
  __shared__ uint32_t suppressed[kGroup][2];  // bit c of row r: pose c of the group is suppressed by pose r, if that is kept
  __shared__ uint8_t open[kGroup];
  const int64_t begin = blockIdx.x;
  const int64_t end = segment_end(args, w, begin);
  if (end == begin) return;
  int64_t left = args.max_per_image;
  for (int64_t group = begin; group < end && left > 0; group += kGroup) {
    const int count = static_cast<int>(min_of(int64_t{kGroup}, end - group));
    const int64_t* const poses = w.order + group;
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    __syncthreads();  // nobody still reads what follows, and all see what was dropped
    if (thread < count) open[thread] = w.state[poses[thread]] == kOpen;
    __syncthreads();
    for (int half = thread / 32; half < 2 * count; half += kWarps) {
      const int row = half / 2, column = half % 2 * 32 + lane;
      const bool suppresses = column > row && column < count && open[row] && open[column] &&
                              nms_suppresses(oks_between<T>(args, poses[row], poses[column]), args.threshold);
      const uint32_t bits = __ballot_sync(0xffffffffu, suppresses);
      if (lane == 0) suppressed[row][half % 2] = bits;
    }
    __syncthreads();
    uint64_t kept = 0, dropped = 0;
    for (int row = 0; row < count; ++row) {
      if (!open[row] || (dropped >> row & 1)) continue;
      if (left == 0) break;
      --left;
      kept |= uint64_t{1} << row;
      dropped |= uint64_t{suppressed[row][1]} << 32 | suppressed[row][0];
    }
    if (thread < count && (kept >> thread & 1)) w.state[poses[thread]] = kKept;
    for (int64_t p = group + kGroup + thread; p < end && left > 0; p += kSuppressThreads) {
      const int64_t i = w.order[p];
      for (int row = 0; row < count && w.state[i] == kOpen; ++row)
        if ((kept >> row & 1) && nms_suppresses(oks_between<T>(args, poses[row], i), args.threshold)) w.state[i] = kDropped;
    }
  }
}

// One block an image: takes the best of what is left and lowers the rest, until none is left.
template <class T>
__global__ void soft_kernel(OksNmsArgs args, Workspace w) {
  __shared__ double best_score[kThreads];
  __shared__ int64_t best_pose[kThreads];
  const int64_t begin = blockIdx.x;
  const int64_t end = segment_end(args, w, begin);
  if (end == begin) return;
  for (int64_t round = begin; round < end && round - begin < args.max_per_image; ++round) {
    double score = 0.0;
    int64_t pose = -1;
    for (int64_t p = begin + threadIdx.x; p < end; p += blockDim.x) {
      const int64_t i = w.order[p];
      if (w.state[i] == kOpen && (pose < 0 || nms_before(w.final[i], i, score, pose))) score = w.final[i], pose = i;
    }
    best_score[threadIdx.x] = score;
    best_pose[threadIdx.x] = pose;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) {
        const int other = threadIdx.x + half;
        if (best_pose[other] >= 0 &&
            (best_pose[threadIdx.x] < 0 || nms_before(best_score[other], best_pose[other], best_score[threadIdx.x],
                                                      best_pose[threadIdx.x]))) {
          best_score[threadIdx.x] = best_score[other];
          best_pose[threadIdx.x] = best_pose[other];
        }
      }
      __syncthreads();
    }
    const int64_t chosen = best_pose[0];
    for (int64_t p = begin + threadIdx.x; p < end; p += blockDim.x) {
      const int64_t i = w.order[p];
      if (i == chosen) w.state[i] = kKept;
      else if (w.state[i] == kOpen) w.final[i] = nms_rescored(w.final[i], oks_between<T>(args, chosen, i), args.threshold);
    }
    __syncthreads();
  }
}

// Each kept pose counts the kept ones before it; that is its place in the result.
__global__ void collect_kernel(OksNmsArgs args, Workspace w) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= args.poses_n || w.state[i] != kKept) return;
  const double score = w.final[i];
  int64_t place = 0;
  for (int64_t j = 0; j < args.poses_n; ++j)
    if (w.state[j] == kKept && nms_before(w.final[j], j, score, i)) ++place;
  args.indices[place] = i;
  args.rescored[place] = score;
  atomicAdd(reinterpret_cast<unsigned long long*>(args.count), 1ull);
}

template <class T>
void launch(const OksNmsArgs& args, cudaStream_t stream) {
  const Workspace w = workspace_of(args);
  const unsigned n = static_cast<unsigned>(args.poses_n);
  const unsigned blocks = (n + kThreads - 1) / kThreads;
  cuda_launch("oks_nms: sort", sort_kernel, blocks, kThreads, 0, stream, args, w);
  if (args.soft) cuda_launch("oks_nms: soft", soft_kernel<T>, n, kThreads, 0, stream, args, w);
  else cuda_launch("oks_nms: suppress", suppress_kernel<T>, n, kSuppressThreads, 0, stream, args, w);
  cuda_launch("oks_nms: collect", collect_kernel, blocks, kThreads, 0, stream, args, w);
}

}  // namespace

void oks_nms_cuda(const OksNmsArgs& args, void* stream) {
  if (args.poses_n == 0) {
    cuda_check(cudaMemsetAsync(args.count, 0, sizeof(int64_t), as_stream(stream)), "oks_nms: count");
  } else if (args.dtype == DType::Float64) {
    launch<double>(args, as_stream(stream));
  } else {
    launch<float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
