#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_decode/heatmap_blur_cuda.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_decode/heatmap_decode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// From so many maps on a warp reads a map alone (kTeam 32), below the whole block does (kThreads). A warp has no barrier to wait for, and
// four times the bytes on their way for every step that waits for memory but reads nothing more (the end of a map: its neighbours, its
// keypoint): that counts where all SMs are full. A block is done with its map four times as early, which counts where they are not. Copies
// of whole maps into shared memory (cp.async.bulk) would need sm_90 and read the map once more from there; as it is, an SM has 64 warps x 2
// loads x 512 bytes on their way, twice what the memory's latency asks for.
constexpr int64_t kManyMaps = 2048;

struct Peak {
  float value;
  int32_t index;
};

// Nothing above -infinity so far.
FASTPOSE_DEVICE Peak no_peak() { return {-INFINITY, 0x7fffffff}; }

// The larger value; of equal ones the first in row-major order.
FASTPOSE_DEVICE Peak better(Peak a, Peak b) { return beats(b.value, a.value) || (b.value == a.value && b.index < a.index) ? b : a; }

// The peak of all kTeam threads, in each of them; value 0 at pixel 0 if there is none. `shared` holds kWarps peaks, if the team is the
// block.
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

// --- the largest value ------------------------------------------------------------------------------------------------------------------
// What a thread loads at once of a map.
template <class T, int kCount>
struct PlainPart {
  static constexpr int kAhead = 2;
  Vector<T, kCount> plain;
  FASTPOSE_DEVICE PlainPart(const Map<T>& map, int i, int) : plain(load_vector<kCount>(map.plain + i)) {}
  FASTPOSE_DEVICE float largest() const { return plain.largest(); }
};

// And of the mirrored one: the same columns from the last to the first; if shifted, one further on, and the first one comes from the vector
// beside.
template <class T, int kCount, bool kShift>
struct MergedPart {
  static constexpr int kAhead = 1;  // two loads, or three
  Vector<T, kCount> plain, mirror;
  T first;
  FASTPOSE_DEVICE MergedPart(const Map<T>& map, int i, int x)
      : plain(load_vector<kCount>(map.plain + i)), mirror(load_vector<kCount>(map.mirror + (i - 2 * x + map.width - kCount))), first() {
    if constexpr (kShift) first = read_only(map.mirror + (i - x + flipped_column(x, map.width, true)));
  }
  FASTPOSE_DEVICE float largest() const {
    float a[kCount], b[kCount], most = -INFINITY;
    plain.get(a);
    mirror.get(b);
#pragma unroll
    for (int j = 0; j < kCount; ++j) most = fmaxf(most, a[j] + (!kShift ? b[kCount - 1 - j] : j == 0 ? to_float(first) : b[kCount - j]));
    return merged(most, 0.f);  // of all of them: to halve changes no order
  }
};

// The largest value of this thread's pixels, and where the kCount neighbours begin among which it is.
template <int kTeam, int kCount, class Part, class T>
FASTPOSE_DEVICE Peak largest_part(const Map<T>& map, unsigned thread) {
  Peak best = no_peak();
  each_vector<kCount, kTeam, Part::kAhead>(thread, map.width, map.width * map.height, [&](int i, int x) { return Part(map, i, x); },
                             [&](const Part& part, int i, int, int) {
                               const float value = part.largest();
                               if (beats(value, best.value)) best = {value, i};
                             });
  return best;
}

struct Pixel {
  float value;
  int x, y;
};

FASTPOSE_DEVICE Pixel pixel_of(Peak peak, int width) {
  const int y = static_cast<int>(static_cast<unsigned>(peak.index) / static_cast<unsigned>(width));
  return {peak.value, peak.index - y * width, y};
}

// The largest value of a map and the first pixel that has it, in each thread of the team.
template <int kTeam, class T>
FASTPOSE_DEVICE Pixel find_peak(const Map<T>& map, unsigned thread, Peak* shared) {
  Peak peak = no_peak();
  int neighbours = 1;
  by_vectors<T>(map.has_vectors(), [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    neighbours = kCount;
    if (map.mirror == nullptr) peak = largest_part<kTeam, kCount, PlainPart<T, kCount>>(map, thread);
    else if (map.shift) peak = largest_part<kTeam, kCount, MergedPart<T, kCount, true>>(map, thread);
    else peak = largest_part<kTeam, kCount, MergedPart<T, kCount, false>>(map, thread);
  });
  Pixel found = pixel_of(team_peak<kTeam>(peak, shared), map.width);
  // Which of the neighbours it is, and its own value, whose zero may have a sign.
  const int lane = static_cast<int>(threadIdx.x % 32);
  const float value = lane < neighbours ? map.at(found.x + lane, found.y) : 0.f;
  const unsigned equal = __ballot_sync(0xffffffffu, lane < neighbours && value == found.value);
  if (equal != 0) {
    const int first = __ffs(static_cast<int>(equal)) - 1;
    found.x += first;
    found.value = __shfl_sync(0xffffffffu, value, first);
  }
  return found;
}

// --- Gaussian ---------------------------------------------------------------------------------------------------------------------------
// A quarter of a pixel towards the larger neighbour.
template <class T, int kTeam>
__global__ void __launch_bounds__(kThreads, 16) heatmap_decode_gaussian_kernel(const __grid_constant__ HeatmapDecodeArgs args) {
  __shared__ Peak peaks[kWarps];
  const HeatmapReading& r = args.reading;
  const unsigned thread = threadIdx.x % kTeam;
  constexpr int kTeams = kThreads / kTeam;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTeams + threadIdx.x / kTeam, stride = static_cast<int64_t>(gridDim.x) * kTeams;
  for (int64_t i = first; i < args.batch * args.keypoints_k; i += stride) {
    const Map<T> map = map_of<T>(args, i, 0);
    const Pixel peak = find_peak<kTeam>(map, thread, peaks);
    if (thread != 0) continue;
    const bool found = peak.value > 0.f;
    Offset step = {0.f, 0.f};
    if (found && quarter_x(r, peak.x, peak.y)) step.x = 0.25f * sign_of(map.at(peak.x + 1, peak.y) - map.at(peak.x - 1, peak.y));
    if (found && quarter_y(r, peak.x, peak.y)) step.y = 0.25f * sign_of(map.at(peak.x, peak.y + 1) - map.at(peak.x, peak.y - 1));
    store_keypoint(args, i, found, peak.x, peak.y, step, peak.value);
  }
}

// --- Dark and Udp -----------------------------------------------------------------------------------------------------------------------
// The pixels that a step reads: Dark a cross of five and the corners of three, Udp seven of the inner nine.
template <CodecKind kKind>
struct StepSpots;
template <>
struct StepSpots<CodecKind::Dark> {
  static constexpr int kReach = kDarkReach, kCount = 13;
  static constexpr Spots<kCount> kSpots = {{0, -1, 1, 0, 0, -2, 2, 0, 0, -1, 1, -1, 1}, {0, 0, 0, -1, 1, 0, 0, -2, 2, -1, -1, 1, 1}};
};
template <>
struct StepSpots<CodecKind::Udp> {
  static constexpr int kReach = kUdpReach, kCount = 7;
  static constexpr Spots<kCount> kSpots = {{0, -1, 1, 0, 0, -1, 1}, {0, 0, 0, -1, 1, -1, 1}};
};

// The values of these pixels by where they stand. With indices known at compile time, so that they stay in registers.
template <CodecKind kKind>
FASTPOSE_DEVICE Around around(const float* values) {
  constexpr auto kSpots = StepSpots<kKind>::kSpots;
  Around result;
#pragma unroll
  for (int j = 0; j < StepSpots<kKind>::kCount; ++j) result.v[2 + kSpots.dy[j]][2 + kSpots.dx[j]] = values[j];
  return result;
}

// A Newton step on the logarithm of the blurred map, of which a few pixels are enough; hardly ever the whole map must be blurred.
template <class T, CodecKind kKind>
__global__ void __launch_bounds__(kThreads, 9)
heatmap_decode_taylor_kernel(const __grid_constant__ HeatmapDecodeArgs args, const __grid_constant__ BlurTile tile) {
  using Of = StepSpots<kKind>;
  constexpr Spots<Of::kCount> kSpots = Of::kSpots;
  __shared__ Peak peaks[kWarps];
  __shared__ float values[Of::kCount];
  __shared__ bool exact;
  float* const lines = dynamic_shared<float>();
  const HeatmapReading& r = args.reading;
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const Map<T> map = map_of<T>(args, i, 0);
    const Pixel peak = find_peak<kThreads>(map, threadIdx.x, peaks);
    const bool found = peak.value > 0.f;
    Offset step = {0.f, 0.f};  // thread 0 has it
    if (found && step_inside(r, peak.x, peak.y)) {  // the same for all threads, and so is all that follows
      blur_spots<kThreads, Of::kReach>(r, map, peak.x, peak.y, kSpots, lines, values);
      if (threadIdx.x == 0) exact = !taylor_step(kKind, around<kKind>(values), peak.value, &step);
      __syncthreads();
      if (exact) {
        Peak best = no_peak();
        for_blurred<kThreads, false>(r, map, tile, lines, [](float) {}, [&](int px, int py, float value) {
          if (beats(value, best.value)) best = {value, py * r.width + px};
        });
        best = team_peak<kThreads>(best, peaks);
        if (threadIdx.x == 0) step = exact_step(kKind, around<kKind>(values), peak.value / best.value);
      }
    }
    if (threadIdx.x == 0) store_keypoint(args, i, found, peak.x, peak.y, step, peak.value);
    __syncthreads();  // before somebody writes what others still read
  }
}

// --- Megvii -----------------------------------------------------------------------------------------------------------------------------
// The peak of the blurred map, scaled to the maximum before the blur.
template <class T>
__global__ void __launch_bounds__(kThreads, 8)
heatmap_decode_megvii_kernel(const __grid_constant__ HeatmapDecodeArgs args, const __grid_constant__ BlurTile tile) {
  constexpr Spots<4> kSpots = {{-1, 1, 0, 0}, {0, 0, -1, 1}};
  __shared__ Peak peaks[kWarps];
  __shared__ float values[4];
  float* const lines = dynamic_shared<float>();
  const HeatmapReading& r = args.reading;
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const Map<T> map = map_of<T>(args, i, 0);
    Peak before = no_peak(), best = no_peak();
    float next = -INFINITY;  // the largest of this thread's values below its best one
    for_blurred<kThreads, false>(
        r, map, tile, lines,
        [&](float value) {
          if (beats(value, before.value)) before = {value, 0};
        },
        [&](int px, int py, float value) {
          const Peak here = {value, py * r.width + px};
          if (beats(value, best.value)) next = best.value;
          else if (value != best.value) next = fmaxf(next, value);
          if (beats(value, -INFINITY)) best = better(best, here);
        });
    const Peak mine = best;
    before = team_peak<kThreads>(before, peaks);
    best = team_peak<kThreads>(best, peaks);
    float factor = before.value / best.value;
    const bool found = best.value > 0.f, scalable = factor > 0.f && is_finite(factor);
    if (found && scalable) {
      // Products of different values may be equal: the first of them counts. Hardly ever does a value come so near to the best one.
      const float limit = best.value * factor;
      const bool near = next * factor >= limit || (mine.value != best.value && mine.value * factor >= limit);
      if (__syncthreads_or(near)) {
        Peak first = no_peak();
        for_blurred<kThreads, false>(r, map, tile, lines, [](float) {}, [&](int px, int py, float value) {
          if (value * factor >= limit) first = better(first, {1.f, py * r.width + px});
        });
        best.index = team_peak<kThreads>(first, peaks).index;
      }
    }
    if (!scalable) factor = 1.f;
    const Pixel peak = pixel_of(best, r.width);
    const bool inside = found && megvii_inside(r, peak.x, peak.y);
    if (inside) blur_spots<kThreads, 1>(r, map, peak.x, peak.y, kSpots, lines, values);
    if (threadIdx.x == 0) {
      Offset step = {0.f, 0.f};
      if (inside) {
        step.x = 0.5f + 0.25f * sign_of(values[1] * factor - values[0] * factor);
        step.y = 0.5f + 0.25f * sign_of(values[3] * factor - values[2] * factor);
      }
      const bool empty = peak.value == 0.f;
      const float score = found ? peak.value * factor : min_of(before.value, 0.f);
      store_keypoint(args, i, found || empty, empty ? 0 : peak.x, empty ? 0 : peak.y, step, score / 255.f + 0.5f);
    }
    __syncthreads();  // before somebody writes what thread 0 still reads
  }
}

// --- UdpCombined ------------------------------------------------------------------------------------------------------------------------
// The peak of the blurred disc, and the offsets there.
template <class T>
__global__ void __launch_bounds__(kThreads, 8)
heatmap_decode_combined_kernel(const __grid_constant__ HeatmapDecodeArgs args, const __grid_constant__ BlurTile tile) {
  __shared__ Peak peaks[kWarps];
  float* const lines = dynamic_shared<float>();
  const HeatmapReading& r = args.reading;
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    Peak best = no_peak();
    for_blurred<kThreads, true>(r, map_of<T>(args, i, 0), tile, lines, [](float) {}, [&](int px, int py, float value) {
      if (beats(value, -INFINITY)) best = better(best, {value, py * r.width + px});
    });
    const Pixel peak = pixel_of(team_peak<kThreads>(best, peaks), r.width);
    if (threadIdx.x != 0) continue;
    Offset step = {0.f, 0.f};
    if (peak.value > 0.f) {
      const Map<T> offset_x = map_of<T>(args, i, 1);
      step.x = to_float(offset_x.plain[peak.y * r.width + peak.x]);
      if (offset_x.mirror != nullptr)
        step.x = merged(step.x, -to_float(offset_x.mirror[peak.y * r.width + flipped_column(peak.x, r.width, args.flip_shift)]));
      step.x *= r.radius;
      step.y = map_of<T>(args, i, 2).at(peak.x, peak.y) * r.radius;
    }
    store_keypoint(args, i, peak.value > 0.f, peak.x, peak.y, step, peak.value);
  }
}

// --- launches ---------------------------------------------------------------------------------------------------------------------------
template <class T>
void launch(const HeatmapDecodeArgs& args, int64_t count, cudaStream_t stream) {
  const HeatmapReading& r = args.reading;
  const char* const op = "heatmap_decode";
  const auto blocks = [&](int64_t maps_per_block) { return grid_blocks(count, static_cast<int>(maps_per_block), 1 << 20); };
  const auto blurred = [&](auto kernel, const BlurTile& tile) {
    cuda_launch(op, kernel, blocks(1), kThreads, static_cast<size_t>(tile.bytes(r.taps)), stream, args, tile);
  };
  const BlurTile whole = blur_tile(r, 64, 96), low = blur_tile(r, 32, 8);
  switch (r.kind) {
    case CodecKind::Dark: return blurred(heatmap_decode_taylor_kernel<T, CodecKind::Dark>, low);
    case CodecKind::Udp: return blurred(heatmap_decode_taylor_kernel<T, CodecKind::Udp>, low);
    case CodecKind::Megvii: return blurred(heatmap_decode_megvii_kernel<T>, whole);
    case CodecKind::UdpCombined: return blurred(heatmap_decode_combined_kernel<T>, whole);
    case CodecKind::Gaussian: break;
  }
  if (count >= kManyMaps) cuda_launch(op, heatmap_decode_gaussian_kernel<T, 32>, blocks(kWarps), kThreads, 0, stream, args);
  else cuda_launch(op, heatmap_decode_gaussian_kernel<T, kThreads>, blocks(1), kThreads, 0, stream, args);
}

}  // namespace

void heatmap_decode_cuda(const HeatmapDecodeArgs& args, void* stream) {
  const int64_t count = args.batch * args.keypoints_k;
  if (count == 0) return;
  switch (args.dtype) {
    case DType::Float16: return launch<__half>(args, count, as_stream(stream));
    case DType::BFloat16: return launch<__nv_bfloat16>(args, count, as_stream(stream));
    default: return launch<float>(args, count, as_stream(stream));
  }
}

}  // namespace fastpose
