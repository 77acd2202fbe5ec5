// The kernels of oks_nms and box_nms. No host round trip: sort, suppress (a block a group: a class of an image), where need be limit, and
// collect. Sizes that depend on the data (members of a group, how many are kept) stay on the device; every launch is sized for the worst
// case, and blocks without work return at once. What is compared is up to `Pairs`, which has
//   bool suppresses(int64_t i, int64_t j) const                    whether j goes beside i, which is better
//   double lowered(double score, int64_t i, int64_t j) const       what is left of the score of j beside i, which is better
#pragma once

#include "core/cuda_launch.h"
#include "nms/nms_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;
constexpr int kSuppressThreads = 256, kWarps = kSuppressThreads / 32;
constexpr int kGroup = 64;  // members of a group that are decided together

// "Sorted" position p counts by image and class, then best first.
struct NmsTask {
  const double* scores;        // [N]
  const int64_t* image_index;  // [N], or null
  const int64_t* classes;      // [N], or null
  int64_t n;
  double min_score;
  int64_t most;                // of an image
  int64_t* indices;            // [N]
  double* rescored;            // [N]
  int64_t* count;              // [1]
  // The workspace, 17 bytes a member, 18 with `over`.
  int64_t* order;  // [N]: order[p] = i means that i stands at sorted position p
  double* final;   // [N] by member: the score as it ends
  uint8_t* state;  // [N] by member
  uint8_t* over;   // [N] by member: kept of its class, but one too many of its image; null where that cannot be
};

enum State : uint8_t { kOpen, kKept, kDropped };  // kept in the end is kKept alone

template <class Args>
__host__ NmsTask nms_task(const Args& args, int64_t n, const int64_t* classes, double min_score, int64_t most) {
  char* const at = static_cast<char*>(args.workspace);
  uint8_t* const state = reinterpret_cast<uint8_t*>(at + 16 * n);
  return {args.scores,  args.image_index, classes,    n, min_score, most, args.indices, args.rescored, args.count,
          reinterpret_cast<int64_t*>(at), reinterpret_cast<double*>(at + 8 * n), state, classes != nullptr && most < n ? state + n : nullptr};
}

FASTPOSE_DEVICE int64_t at_or_0(const int64_t* numbers, int64_t i) { return numbers == nullptr ? 0 : numbers[i]; }

FASTPOSE_DEVICE bool same_group(const NmsTask& t, int64_t i, int64_t j) {
  return at_or_0(t.image_index, i) == at_or_0(t.image_index, j) && at_or_0(t.classes, i) == at_or_0(t.classes, j);
}

// Each member counts those before it; that is its position.
__global__ void sort_kernel(NmsTask t) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i == 0) *t.count = 0;
  if (i >= t.n) return;
  const double score = nms_score(t.scores[i]);
  const int64_t image = at_or_0(t.image_index, i), kind = at_or_0(t.classes, i);
  int64_t position = 0;
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t other_image = at_or_0(t.image_index, j), other_kind = at_or_0(t.classes, j);
    const bool before = other_image != image ? other_image < image
                        : other_kind != kind ? other_kind < kind
                                             : nms_before(nms_score(t.scores[j]), j, score, i);
    if (before) ++position;
  }
  t.order[position] = i;
  t.final[i] = score;
  t.state[i] = score < t.min_score ? kDropped : kOpen;
  t.indices[i] = -1;
  t.rescored[i] = 0.0;
}

// Positions [begin, end) of the group that begins at this block's position; end == begin if none begins there.
FASTPOSE_DEVICE int64_t segment_end(const NmsTask& t, int64_t begin) {
  const int64_t first = t.order[begin];
  if (begin > 0 && same_group(t, t.order[begin - 1], first)) return begin;
  int64_t low = begin + 1, high = t.n;  // the first position of another group
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (same_group(t, t.order[middle], first)) low = middle + 1;
    else high = middle;
  }
  return low;
}

// One block a group. Part by part of its members, best first: who of the part suppresses whom of it, a warp half a row at a time; then, by
// every thread alike, who of it is kept; then a thread a member for those after the part, which the kept ones may suppress. What is dropped
// is compared with nobody any more.
template <class Pairs>
__global__ void __launch_bounds__(kSuppressThreads) suppress_kernel(Pairs pairs, NmsTask t) {
  __shared__ uint32_t suppressed[kGroup][2];  // bit c of row r: member c of the part is suppressed by member r, if that is kept
  __shared__ uint8_t open[kGroup];
  const int64_t begin = blockIdx.x;
  const int64_t end = segment_end(t, begin);
  if (end == begin) return;
  int64_t left = t.most;
  for (int64_t part = begin; part < end && left > 0; part += kGroup) {
    const int count = static_cast<int>(min_of(int64_t{kGroup}, end - part));
    const int64_t* const members = t.order + part;
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    __syncthreads();  // nobody still reads what follows, and all see what was dropped
    if (thread < count) open[thread] = t.state[members[thread]] == kOpen;
    __syncthreads();
    for (int half = thread / 32; half < 2 * count; half += kWarps) {
      const int row = half / 2, column = half % 2 * 32 + lane;
      const bool suppresses =
          column > row && column < count && open[row] && open[column] && pairs.suppresses(members[row], members[column]);
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
    if (thread < count && (kept >> thread & 1)) t.state[members[thread]] = kKept;
    for (int64_t p = part + kGroup + thread; p < end && left > 0; p += kSuppressThreads) {
      const int64_t i = t.order[p];
      for (int row = 0; row < count && t.state[i] == kOpen; ++row)
        if ((kept >> row & 1) && pairs.suppresses(members[row], i)) t.state[i] = kDropped;
    }
  }
}

// One block a group: takes the best of what is left and lowers the rest, until none is left.
template <class Pairs>
__global__ void soft_kernel(Pairs pairs, NmsTask t) {
  __shared__ double best_score[kThreads];
  __shared__ int64_t best[kThreads];
  const int64_t begin = blockIdx.x;
  const int64_t end = segment_end(t, begin);
  if (end == begin) return;
  for (int64_t round = begin; round < end && round - begin < t.most; ++round) {
    double score = 0.0;
    int64_t member = -1;
    for (int64_t p = begin + threadIdx.x; p < end; p += blockDim.x) {
      const int64_t i = t.order[p];
      if (t.state[i] == kOpen && (member < 0 || nms_before(t.final[i], i, score, member))) score = t.final[i], member = i;
    }
    best_score[threadIdx.x] = score;
    best[threadIdx.x] = member;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) {
        const int other = threadIdx.x + half;
        if (best[other] >= 0 &&
            (best[threadIdx.x] < 0 || nms_before(best_score[other], best[other], best_score[threadIdx.x], best[threadIdx.x]))) {
          best_score[threadIdx.x] = best_score[other];
          best[threadIdx.x] = best[other];
        }
      }
      __syncthreads();
    }
    const int64_t chosen = best[0];
    if (chosen < 0) return;  // of the whole block: all that is left was dropped
    for (int64_t p = begin + threadIdx.x; p < end; p += blockDim.x) {
      const int64_t i = t.order[p];
      if (i == chosen) {
        t.state[i] = kKept;
      } else if (t.state[i] == kOpen) {
        t.final[i] = pairs.lowered(t.final[i], chosen, i);
        if (t.final[i] < t.min_score) t.state[i] = kDropped;
      }
    }
    __syncthreads();
  }
}

// Each kept member counts the kept ones of its image before it, of all classes.
__global__ void limit_kernel(NmsTask t) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= t.n) return;
  const int64_t image = at_or_0(t.image_index, i);
  int64_t before = 0;
  for (int64_t j = 0; j < t.n && t.state[i] == kKept && before < t.most; ++j)
    if (t.state[j] == kKept && at_or_0(t.image_index, j) == image && nms_before(t.final[j], j, t.final[i], i)) ++before;
  t.over[i] = before == t.most;
}

FASTPOSE_DEVICE bool stays(const NmsTask& t, int64_t i) { return t.state[i] == kKept && (t.over == nullptr || t.over[i] == 0); }

// Each of those that stay counts the others before it; that is its place in the result.
__global__ void collect_kernel(NmsTask t) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= t.n || !stays(t, i)) return;
  const double score = t.final[i];
  int64_t place = 0;
  for (int64_t j = 0; j < t.n; ++j)
    if (stays(t, j) && nms_before(t.final[j], j, score, i)) ++place;
  t.indices[place] = i;
  t.rescored[place] = score;
  atomicAdd(reinterpret_cast<unsigned long long*>(t.count), 1ull);
}

template <class Pairs>
void launch_nms(const char* op, const Pairs& pairs, const NmsTask& task, bool soft, cudaStream_t stream) {
  const unsigned n = static_cast<unsigned>(task.n);
  const unsigned blocks = (n + kThreads - 1) / kThreads;
  cuda_launch(op, sort_kernel, blocks, kThreads, 0, stream, task);
  if (soft) cuda_launch(op, soft_kernel<Pairs>, n, kThreads, 0, stream, pairs, task);
  else cuda_launch(op, suppress_kernel<Pairs>, n, kSuppressThreads, 0, stream, pairs, task);
  if (task.over != nullptr) cuda_launch(op, limit_kernel, blocks, kThreads, 0, stream, task);
  cuda_launch(op, collect_kernel, blocks, kThreads, 0, stream, task);
}

}  // namespace
}  // namespace fastpose
