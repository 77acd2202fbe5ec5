#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_decode/heatmap_decode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// Whole maps are blurred in tiles of this width, with the rows that the blur reaches over above and below. Megvii and UdpCombined blur every
// map, in tall tiles; Dark and Udp hardly ever, and a small tile lets more blocks run at once.
constexpr int kTileWidth = 64;
constexpr int kTallTile = 96, kLowTile = 8;

struct Peak {
  float value;
  int32_t index;  // -1: nothing above -infinity so far
};

FASTPOSE_DEVICE Peak no_peak() { return {-INFINITY, -1}; }

// The larger value; of equal ones the first in row-major order.
FASTPOSE_DEVICE Peak better(Peak a, Peak b) {
  if (b.index < 0) return a;
  if (a.index < 0 || beats(b.value, a.value)) return b;
  return !beats(a.value, b.value) && b.index < a.index ? b : a;
}

FASTPOSE_DEVICE void consider(Peak* best, float value, int index) {
  if (beats(value, best->value)) *best = {value, index};
}

// The peak of all threads of the block, in every thread; value 0 at pixel 0 if there is none. `shared` holds kWarps peaks.
FASTPOSE_DEVICE Peak block_peak(Peak mine, Peak* shared) {
  for (int step = 16; step > 0; step /= 2) {
    const Peak other = {__shfl_xor_sync(0xffffffffu, mine.value, step), __shfl_xor_sync(0xffffffffu, mine.index, step)};
    mine = better(mine, other);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  mine = shared[0];
  for (int w = 1; w < kWarps; ++w) mine = better(mine, shared[w]);
  return mine.index < 0 ? Peak{0.f, 0} : mine;
}

// One map, averaged with the mirrored one if there is one.
template <class T>
struct Map {
  const T* plain;
  const T* mirror;  // or null
  int width, height;
  bool shift;

  FASTPOSE_DEVICE float at(int x, int y) const {
    const float value = to_float(plain[y * width + x]);
    if (mirror == nullptr) return value;
    return merged(value, to_float(mirror[y * width + flipped_column(x, width, shift)]));
  }
  // Whether the map, or each row if there is a mirrored one, is made of whole vectors.
  FASTPOSE_DEVICE bool has_vectors() const {
    return (mirror == nullptr ? width * height : width) % kVector<T> == 0 && begins_on_16(plain) && begins_on_16(mirror);
  }
  // The values of a vector, from pixel `index` on.
  FASTPOSE_DEVICE void values_at(int index, float (&values)[kVector<T>]) const {
    load_values(plain + index, values);
    if (mirror == nullptr) return;
    // The same columns of the mirrored row from the last to the first; if shifted, one further on: the first one comes from the vector beside.
    constexpr int kLast = kVector<T> - 1;
    const int x = static_cast<int>(static_cast<unsigned>(index) % static_cast<unsigned>(width));
    const T* row = mirror + (index - x);
    float there[kVector<T>];
    load_values(row + (width - 1 - kLast - x), there);
    const float first = shift ? to_float(read_only(row + flipped_column(x, width, true))) : there[kLast];
    values[0] = merged(values[0], first);
#pragma unroll
    for (int j = 1; j <= kLast; ++j) values[j] = merged(values[j], shift ? there[kLast + 1 - j] : there[kLast - j]);
  }
  FASTPOSE_DEVICE float at(int index) const { return mirror == nullptr ? to_float(plain[index]) : at(index % width, index / width); }
  // Beyond the border: zero, or mirrored about the outermost pixels.
  FASTPOSE_DEVICE float around(int x, int y, bool reflect) const {
    if (reflect) return at(mirrored(x, width), mirrored(y, height));
    return x < 0 || y < 0 || x >= width || y >= height ? 0.f : at(x, y);
  }
};

template <class T>
FASTPOSE_DEVICE Peak find_peak(const Map<T>& map) {
  const int pixels = map.width * map.height;
  Peak best = no_peak();
  if (map.has_vectors()) {
#pragma unroll 2  // so that enough bytes are on their way
    for (int i = static_cast<int>(threadIdx.x) * kVector<T>; i < pixels; i += kThreads * kVector<T>) {
      float values[kVector<T>];
      map.values_at(i, values);
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) consider(&best, values[j], i + j);
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < pixels; i += kThreads) consider(&best, map.at(i), i);
  }
  return best;
}

FASTPOSE_HD int tile_height(CodecKind kind) { return kind == CodecKind::Megvii || kind == CodecKind::UdpCombined ? kTallTile : kLowTile; }

// Blurs a map tile by tile and calls f(x, y, value) once for each pixel, in the thread that has it. `lines` is shared memory of
// kTileWidth * (tile_height + 2 * radius) floats.
template <class T, class F>
FASTPOSE_DEVICE void for_blurred(const HeatmapReading& r, const Map<T>& map, bool reflect, float* lines, F f) {
  const int radius = r.taps / 2;
  const int tile_rows = tile_height(r.kind);
  for (int y0 = 0; y0 < r.height; y0 += tile_rows) {
    const int rows = min_of(tile_rows, r.height - y0);
    for (int x0 = 0; x0 < r.width; x0 += kTileWidth) {
      const int columns = min_of(kTileWidth, r.width - x0);
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < (rows + 2 * radius) * columns; i += kThreads) {
        const int x = x0 + i % columns, y = y0 - radius + i / columns;
        float sum = map.around(x - radius, y, reflect) * r.tap[0];
        for (int t = 1; t < r.taps; ++t) sum = fused(map.around(x - radius + t, y, reflect), r.tap[t], sum);
        lines[i / columns * kTileWidth + i % columns] = sum;
      }
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < rows * columns; i += kThreads) {
        const float* middle = lines + (i / columns + radius) * kTileWidth + i % columns;
        float sum = middle[0] * r.tap[radius];
        for (int t = 1; t <= radius; ++t) sum = fused(middle[t * kTileWidth] + middle[-t * kTileWidth], r.tap[radius + t], sum);
        f(x0 + i % columns, y0 + i / columns, sum);
      }
    }
  }
}

// One blurred pixel, alone.
template <class T>
FASTPOSE_DEVICE float blurred_line(const HeatmapReading& r, const Map<T>& map, int x, int y) {
  const int radius = r.taps / 2;
  float sum = map.around(x - radius, y, false) * r.tap[0];
  for (int t = 1; t < r.taps; ++t) sum = fused(map.around(x - radius + t, y, false), r.tap[t], sum);
  return sum;
}

// The blurred square of `side` pixels whose first is (x0, y0), into square[5 * row + column]. `lines` is shared memory of
// 5 * (side + taps) floats.
template <class T>
FASTPOSE_DEVICE void blur_square(const HeatmapReading& r, const Map<T>& map, int x0, int y0, int side, float* lines, float* square) {
  const int radius = r.taps / 2;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < (side + 2 * radius) * side; i += kThreads)
    lines[i / side * 5 + i % side] = blurred_line(r, map, x0 + i % side, y0 - radius + i / side);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < side * side; i += kThreads) {
    const float* middle = lines + (i / side + radius) * 5 + i % side;
    float sum = middle[0] * r.tap[radius];
    for (int t = 1; t <= radius; ++t) sum = fused(middle[5 * t] + middle[-5 * t], r.tap[radius + t], sum);
    square[i / side * 5 + i % side] = sum;
  }
  __syncthreads();
}

struct Shared {
  Peak peaks[kWarps];
  float square[25];
  bool exact;
};

template <class T>
FASTPOSE_DEVICE void decode_taylor(const HeatmapDecodeArgs& args, const Map<T>& map, int64_t i, Peak peak, Shared& shared, float* lines) {
  const HeatmapReading& r = args.reading;
  const int x = peak.index % r.width, y = peak.index / r.width, reach = step_reach(r.kind);
  const bool found = peak.value > 0.f;
  Offset step = {0.f, 0.f};  // thread 0 has it
  if (found && step_inside(r, x, y)) {  // the same for all threads, and so is all that follows
    blur_square(r, map, x - reach, y - reach, 2 * reach + 1, lines, shared.square);
    Around around;
    for (int dy = -reach; dy <= reach; ++dy)
      for (int dx = -reach; dx <= reach; ++dx) {
        // Beyond the border stand the outermost pixels, after the blur.
        const int column = clamp(x + dx, 0, r.width - 1) - x, row = clamp(y + dy, 0, r.height - 1) - y;
        around.v[2 + dy][2 + dx] = shared.square[(reach + row) * 5 + reach + column];
      }
    if (threadIdx.x == 0) shared.exact = !taylor_step(r.kind, around, peak.value, &step);
    __syncthreads();
    if (shared.exact) {
      Peak best = no_peak();
      for_blurred(r, map, false, lines, [&](int px, int py, float value) { consider(&best, value, py * r.width + px); });
      best = block_peak(best, shared.peaks);
      if (threadIdx.x == 0) step = exact_step(r.kind, around, peak.value / best.value);
    }
  }
  if (threadIdx.x == 0) store_keypoint(args, i, found, x, y, step, peak.value);
}

template <class T>
FASTPOSE_DEVICE void decode_megvii(const HeatmapDecodeArgs& args, const Map<T>& map, int64_t i, Peak peak, Shared& shared, float* lines) {
  const HeatmapReading& r = args.reading;
  Peak best = no_peak();
  for_blurred(r, map, false, lines, [&](int px, int py, float value) {
    const Peak here = {value, py * r.width + px};
    if (beats(value, -INFINITY)) best = better(best, here);
  });
  best = block_peak(best, shared.peaks);
  float factor = peak.value / best.value;
  const bool found = best.value > 0.f, scalable = factor > 0.f && is_finite(factor);
  if (found && scalable) {  // products of different values may be equal: the first of them counts
    const float limit = best.value * factor;
    Peak first = no_peak();
    for_blurred(r, map, false, lines, [&](int px, int py, float value) {
      const Peak here = {1.f, py * r.width + px};
      if (value * factor >= limit) first = better(first, here);
    });
    best.index = block_peak(first, shared.peaks).index;
  }
  if (!scalable) factor = 1.f;
  const int x = best.index % r.width, y = best.index / r.width;
  const bool inside = found && megvii_inside(r, x, y);
  if (inside) blur_square(r, map, x - 1, y - 1, 3, lines, shared.square);
  if (threadIdx.x != 0) return;
  Offset step = {0.f, 0.f};
  if (inside) {
    const auto at = [&](int dx, int dy) { return shared.square[5 * (1 + dy) + 1 + dx] * factor; };
    step.x = 0.5f + 0.25f * sign_of(at(1, 0) - at(-1, 0));
    step.y = 0.5f + 0.25f * sign_of(at(0, 1) - at(0, -1));
  }
  const bool empty = best.value == 0.f;
  const float score = found ? best.value * factor : min_of(peak.value, 0.f);
  store_keypoint(args, i, found || empty, empty ? 0 : x, empty ? 0 : y, step, score / 255.f + 0.5f);
}

// One block a keypoint.
template <class T>
__global__ void __launch_bounds__(kThreads, 8) heatmap_decode_kernel(const __grid_constant__ HeatmapDecodeArgs args) {
  __shared__ Shared shared;
  float* const lines = dynamic_shared<float>();
  const HeatmapReading& r = args.reading;
  const int64_t pixels = static_cast<int64_t>(r.height) * r.width, each = r.kind == CodecKind::UdpCombined ? 3 : 1;
  for (int64_t i = blockIdx.x; i < args.batch * args.keypoints_k; i += gridDim.x) {
    const int64_t k = i % args.keypoints_k;
    const int64_t mirror = i - k + mirrored_keypoint(args, k);
    const auto map_of = [&](int64_t channel) {
      return Map<T>{static_cast<const T*>(args.heatmaps) + (i * each + channel) * pixels,
                    args.flipped == nullptr ? nullptr : static_cast<const T*>(args.flipped) + (mirror * each + channel) * pixels,
                    r.width, r.height, args.flip_shift};
    };
    const Map<T> map = map_of(0);
    __syncthreads();  // nobody still reads what was shared about the keypoint before
    if (r.kind == CodecKind::UdpCombined) {
      Peak peak = no_peak();
      for_blurred(r, map, true, lines, [&](int px, int py, float value) {
        const Peak here = {value, py * r.width + px};
        if (beats(value, -INFINITY)) peak = better(peak, here);
      });
      peak = block_peak(peak, shared.peaks);
      if (threadIdx.x != 0) continue;
      const int x = peak.index % r.width, y = peak.index / r.width;
      Offset step = {0.f, 0.f};
      if (peak.value > 0.f) {
        const Map<T> offset_x = map_of(1), offset_y = map_of(2);
        step.x = to_float(offset_x.plain[peak.index]);
        if (offset_x.mirror != nullptr)
          step.x = merged(step.x, -to_float(offset_x.mirror[y * r.width + flipped_column(x, r.width, args.flip_shift)]));
        step.x *= r.radius;
        step.y = offset_y.at(x, y) * r.radius;
      }
      store_keypoint(args, i, peak.value > 0.f, x, y, step, peak.value);
      continue;
    }
    const Peak peak = block_peak(find_peak(map), shared.peaks);
    if (r.kind == CodecKind::Megvii) {
      decode_megvii(args, map, i, peak, shared, lines);
    } else if (r.kind != CodecKind::Gaussian) {
      decode_taylor(args, map, i, peak, shared, lines);
    } else if (threadIdx.x == 0) {
      const int x = peak.index % r.width, y = peak.index / r.width;
      const bool found = peak.value > 0.f;
      Offset step = {0.f, 0.f};
      if (found && quarter_x(r, x, y)) step.x = 0.25f * sign_of(map.at(x + 1, y) - map.at(x - 1, y));
      if (found && quarter_y(r, x, y)) step.y = 0.25f * sign_of(map.at(x, y + 1) - map.at(x, y - 1));
      store_keypoint(args, i, found, x, y, step, peak.value);
    }
  }
}

template <class T>
void launch(const HeatmapDecodeArgs& args, int64_t count, cudaStream_t stream) {
  const HeatmapReading& r = args.reading;
  const size_t rows = static_cast<size_t>(tile_height(r.kind) + r.taps - 1);
  const size_t shared = r.kind == CodecKind::Gaussian ? 0 : sizeof(float) * kTileWidth * rows;
  cuda_launch("heatmap_decode", heatmap_decode_kernel<T>, grid_blocks(count, 1, 1 << 20), kThreads, shared, stream, args);
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
