#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_decode/heatmap_blur_cuda.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_decode/heatmap_decode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// From so many maps on a warp reads a map alone (kTeam 32), below the whole block does (kThreads). A warp has no barrier to wait for, and four times the
// bytes on their way for every step that waits for memory but reads nothing more (the end of a map: its neighbours, its keypoint): that counts
// where all SMs are full. A block is done with its map four times as early, which counts where they are not. Copies of whole maps into shared memory
// (cp.async.bulk) would need sm_90 and read the map once more from there; as it is, an SM has 64 warps x 2 loads x 512 bytes on their way, twice
// what the memory's latency asks for.
constexpr int64_t kManyMaps = 2048;

struct Peak {
  float value;
  int32_t index;
};

// Nothing above -infinity so far.
FASTPOSE_DEVICE Peak no_peak() { return {-INFINITY, 0x7fffffff}; }

// The larger value; of equal ones the first in row-major order.
FASTPOSE_DEVICE Peak better(Peak a, Peak b) { return beats(b.value, a.value) || (b.value == a.value && b.index < a.index) ? b : a; }

// The peak of all kTeam threads, in each of them; value 0 at pixel 0 if there is none. `shared` holds kWarps peaks, if the team is the block.
template <int kTeam>
FASTPOSE_DEVICE Peak team_peak(Peak mine, Peak* shared) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    mine = better(mine, {__shfl_xor_sync(0xffffffffu, mine.value, step), __shfl_xor_sync(0xffffffffu, mine.index, step)});
  if constexpr (kTeam > 32) {
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
    __syncthreads();
    mine = shared[0];
#pragma unroll
    for (int w = 1; w < kTeam / 32; ++w) mine = better(mine, shared[w]);
  }
  return mine.value == -INFINITY ? Peak{0.f, 0} : mine;
}

template <class T>
FASTPOSE_DEVICE Map<T> map_of(const HeatmapDecodeArgs& args, int64_t i, int channel) {
  const HeatmapReading& r = args.reading;
  const int64_t each = r.kind == CodecKind::UdpCombined ? 3 : 1, pixels = static_cast<int64_t>(r.height) * r.width;
  Map<T> map{static_cast<const T*>(args.heatmaps) + (i * each + channel) * pixels, nullptr, r.width, r.height, args.flip_shift};
  if (args.flipped != nullptr) {
    const int64_t k = i % args.keypoints_k, mirror = i - k + mirrored_keypoint(args, k);
    map.mirror = static_cast<const T*>(args.flipped) + (mirror * each + channel) * pixels;
  }
  return map;
}

// --- the largest value ----------------------------------------------------------------------------------------------------------------
// What a thread loads at once of a map, of a mirrored one and of a mirrored one that is shifted.
template <class T, int kCount>
struct Part {
  Vector<T, kCount> plain;
  FASTPOSE_DEVICE Part(const Map<T>& map, int i, int) : plain(map.plain + i) {}
  FASTPOSE_DEVICE float largest() const { return plain.largest(); }
};

template <class T, int kCount, bool kShift>
struct MergedPart {
  // The same columns of the mirrored row from the last to the first; if shifted, one further on: the first one comes from the vector beside.
  Vector<T, kCount> plain, mirror;
  T first;
  FASTPOSE_DEVICE MergedPart(const Map<T>& map, int i, int x)
      : plain(map.plain + i), mirror(map.mirror + (i - x) + (map.width - kCount - x)),
        first(kShift ? read_only(map.mirror + (i - x) + flipped_column(x, map.width, true)) : T{}) {}
  FASTPOSE_DEVICE float largest() const {
    Values<kCount> a, b;
    plain.get(a.v);
    mirror.get(b.v);
    float most = -INFINITY;
#pragma unroll
    for (int j = 0; j < kCount; ++j) most = fmaxf(most, a.v[j] + (!kShift ? b.v[kCount - 1 - j] : j == 0 ? to_float(first) : b.v[kCount - j]));
    return merged(most, 0.f);  // halving keeps the order
  }
};

// The largest value of this thread's pixels, and where the kCount neighbours begin of which it is one.
template <int kTeam, int kCount, class Part, class T>
FASTPOSE_DEVICE Peak largest_part(const Map<T>& map, unsigned thread) {
  constexpr int kStep = kTeam * kCount;
  const int pixels = map.width * map.height;
  Peak best = no_peak();
  const auto consider = [&](const Part& part, int i) {
    const float value = part.largest();
    if (beats(value, best.value)) best = {value, i};
  };
  int i = static_cast<int>(thread) * kCount;
  Walk at(thread * kCount, kStep, map.width);
#pragma unroll 1
  for (; i + kStep < pixels; i += 2 * kStep) {
    const Part first(map, i, at.x);
    at.next();
    const Part second(map, i + kStep, at.x);
    at.next();
    consider(first, i);
    consider(second, i + kStep);
  }
  if (i < pixels) consider(Part(map, i, at.x), i);
  return best;
}

// The peak of a map, in each thread of its team.
template <int kTeam, class T>
FASTPOSE_DEVICE Peak find_peak(const Map<T>& map, unsigned thread, Peak* shared) {
  Peak peak;
  int count;
  by_vectors<T>(map.has_vectors(), [&](auto type) {
    constexpr int kCount = count = decltype(type)::value;
    if (map.mirror == nullptr) peak = largest_part<kTeam, kCount, Part<T, kCount>>(map, thread);
    else if (map.shift) peak = largest_part<kTeam, kCount, MergedPart<T, kCount, true>>(map, thread);
    else peak = largest_part<kTeam, kCount, MergedPart<T, kCount, false>>(map, thread);
  });
  peak = team_peak<kTeam>(peak, shared);
  return peak;
}

}  // namespace
}  // namespace fastpose
