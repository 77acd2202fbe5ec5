// Four launches, no host round trip: sort, compare, scan, collect. Sizes that depend on the data (poses an image, poses kept) stay on the
// device; every launch is sized for the worst case, and blocks without work return at once.
#include "core/cuda_launch.h"
#include "oks_nms/oks_nms.h"
#include "oks_nms/oks_nms_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;
constexpr int kBits = 64;

// Arrays of the workspace; "sorted" position p counts by image, then best first.
struct Workspace {
  int64_t* order;    // [N]: order[p] = i means that pose i stands at sorted position p
  double* final;     // [N] by pose: the score as it ends
  uint64_t* mask;    // [N, words] by position: bit c of word w of row p: p suppresses position 64 w + c (hard only)
  uint8_t* kept;     // [N] by pose
  int64_t words;
};

__host__ Workspace workspace_of(const OksNmsArgs& args) {
  Workspace w;
  const int64_t n = args.poses_n;
  w.words = (n + kBits - 1) / kBits;
  char* at = static_cast<char*>(args.workspace);
  w.order = reinterpret_cast<int64_t*>(at);
  w.final = reinterpret_cast<double*>(at + 8 * n);
  w.mask = reinterpret_cast<uint64_t*>(at + 16 * n);
  w.kept = reinterpret_cast<uint8_t*>(at + 16 * n + (args.soft ? 0 : 8 * n * w.words));
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
  w.kept[i] = 0;
  args.indices[i] = -1;
  args.rescored[i] = 0.0;
}

// One thread a row and word of the mask: the upper triangle, and only pairs of one image.
template <class T>
__global__ void compare_kernel(OksNmsArgs args, Workspace w) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kBits + threadIdx.x;
  for (int64_t word = blockIdx.x + blockIdx.y; word < w.words; word += gridDim.y) {
    if (row >= args.poses_n) continue;
    const int64_t i = w.order[row];
    const int64_t image = image_of(args, i);
    uint64_t bits = 0;
    for (int c = 0; c < kBits; ++c) {
      const int64_t column = word * kBits + c;
      if (column <= row) continue;
      if (column >= args.poses_n) break;
      const int64_t j = w.order[column];
      if (image_of(args, j) != image) break;  // sorted by image: nothing more of this one
      if (nms_suppresses(oks_between<T>(args, i, j), args.threshold)) bits |= uint64_t{1} << c;
    }
    w.mask[row * w.words + word] = bits;
  }
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

// One block an image: walks down its rows, the bits of what is suppressed so far in shared memory.
__global__ void scan_kernel(OksNmsArgs args, Workspace w) {
  uint64_t* const removed = dynamic_shared<uint64_t>();
  const int64_t begin = blockIdx.x;
  const int64_t end = segment_end(args, w, begin);
  if (end == begin) return;
  const int64_t first = begin / kBits, last = (end - 1) / kBits;
  for (int64_t word = first + threadIdx.x; word <= last; word += blockDim.x) removed[word - first] = 0;
  __syncthreads();
  int64_t left = args.max_per_image;
  for (int64_t row = begin; row < end && left > 0; ++row) {
    const bool dropped = (removed[row / kBits - first] >> (row % kBits)) & 1;
    if (dropped) continue;  // the same for every thread
    --left;
    if (threadIdx.x == 0) w.kept[w.order[row]] = 1;
    __syncthreads();  // all have read before any writes
    for (int64_t word = row / kBits + threadIdx.x; word <= last; word += blockDim.x)
      removed[word - first] |= w.mask[row * w.words + word];
    __syncthreads();
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
      if (!w.kept[i] && (pose < 0 || nms_before(w.final[i], i, score, pose))) score = w.final[i], pose = i;
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
      if (i == chosen) w.kept[i] = 1;
      else if (!w.kept[i]) w.final[i] = nms_rescored(w.final[i], oks_between<T>(args, chosen, i), args.threshold);
    }
    __syncthreads();
  }
}

// Each kept pose counts the kept ones before it; that is its place in the result.
__global__ void collect_kernel(OksNmsArgs args, Workspace w) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= args.poses_n || !w.kept[i]) return;
  const double score = w.final[i];
  int64_t place = 0;
  for (int64_t j = 0; j < args.poses_n; ++j)
    if (w.kept[j] && nms_before(w.final[j], j, score, i)) ++place;
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
  if (args.soft) {
    cuda_launch("oks_nms: soft", soft_kernel<T>, n, kThreads, 0, stream, args, w);
  } else {
    const unsigned rows = static_cast<unsigned>(w.words);
    cuda_launch("oks_nms: compare", compare_kernel<T>, dim3(rows, rows < 1024u ? rows : 1024u), kBits, 0, stream, args, w);
    cuda_launch("oks_nms: scan", scan_kernel, n, kBits, w.words * sizeof(uint64_t), stream, args, w);
  }
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
