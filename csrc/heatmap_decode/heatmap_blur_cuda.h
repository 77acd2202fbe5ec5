// Maps in device memory, and their blur, for heatmap_decode. For .cu files only.
#pragma once

#include "core/cuda_vector.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_decode/heatmap_decode_math.h"

namespace fastpose {

// One map, averaged with the mirrored one if there is one.
template <class T>
struct Map {
  const T* plain;
  const T* mirror;  // or null
  int width, height;
  bool shift;

  FASTPOSE_DEVICE float at(int x, int y) const {
    const float value = to_float(read_only(plain + y * width + x));
    if (mirror == nullptr) return value;
    return merged(value, to_float(read_only(mirror + y * width + flipped_column(x, width, shift))));
  }
  // Whether rows are made of whole vectors.
  FASTPOSE_DEVICE bool has_vectors() const { return width % kVector<T> == 0 && begins_on_16(plain) && begins_on_16(mirror); }
};

// A tile of a map in shared memory. Its rows, and those that the blur reaches over above and below, come in by kStageRows at a time, with
// the columns that the blur reaches over on either side; blurred along x they become `lines`, and blurred along y values. Both have rows of
// an odd number of floats, so that neighbouring rows lie in different banks.
struct BlurTile {
  int32_t columns, rows;               // most of a tile
  int32_t stage_stride, lines_stride;  // floats from one row to the next

  FASTPOSE_HD int32_t lines_rows(int32_t taps) const { return rows + taps - 1; }
  FASTPOSE_HD int32_t bytes(int32_t taps) const { return 4 * (kStageRows * stage_stride + lines_rows(taps) * lines_stride); }

  static constexpr int32_t kStageRows = 32;
  static constexpr int32_t kGroup = 4;  // neighbours that a thread blurs at once: each value is read once for all of them
};

// The tile for maps of this size, in less than the 48 KiB that every kernel may have. Whole maps where they are no larger than 64 x 96;
// `most_rows` and `most_columns` make it smaller, for kernels that hardly ever need it.
inline BlurTile blur_tile(const HeatmapReading& r, int32_t most_columns, int32_t most_rows) {
  constexpr int32_t kMostBytes = 47 * 1024;
  const auto whole_groups = [](int32_t n) { return (n + BlurTile::kGroup - 1) / BlurTile::kGroup * BlurTile::kGroup; };
  BlurTile tile{};
  tile.columns = whole_groups(min_of(min_of(most_columns, r.width), r.taps > 63 ? 32 : 64));
  tile.stage_stride = (tile.columns + r.taps - 1) | 1;
  tile.lines_stride = tile.columns | 1;
  tile.rows = whole_groups(min_of(most_rows, r.height));
  while (tile.bytes(r.taps) > kMostBytes) tile.rows -= BlurTile::kGroup;
  return tile;
}

// Four neighbours blurred along x, additions from the first tap to the last: `from` is the first value that the first of them reads.
FASTPOSE_DEVICE void blur_along_x(const HeatmapReading& r, const float* from, float (&sums)[BlurTile::kGroup]) {
  constexpr int kGroup = BlurTile::kGroup;
  float window[kGroup];
#pragma unroll
  for (int j = 0; j < kGroup; ++j) {
    window[j] = from[j];
    sums[j] = window[j] * r.tap[0];
  }
#pragma unroll 4
  for (int t = 1; t < r.taps; ++t) {
#pragma unroll
    for (int j = 0; j < kGroup - 1; ++j) window[j] = window[j + 1];
    window[kGroup - 1] = from[t + kGroup - 1];
#pragma unroll
    for (int j = 0; j < kGroup; ++j) sums[j] = fused(window[j], r.tap[t], sums[j]);
  }
}

// Four neighbours blurred along y, from the middle outward: `middle` is the line of the first of them.
FASTPOSE_DEVICE void blur_along_y(const HeatmapReading& r, const float* middle, int stride, float (&sums)[BlurTile::kGroup]) {
  constexpr int kGroup = BlurTile::kGroup;
  const int radius = r.taps / 2;
  float above[kGroup], below[kGroup];
#pragma unroll
  for (int j = 0; j < kGroup; ++j) {
    above[j] = below[j] = middle[j * stride];
    sums[j] = above[j] * r.tap[radius];
  }
  const float *up = middle, *down = middle + (kGroup - 1) * stride;
#pragma unroll 4
  for (int t = 1; t <= radius; ++t) {
    up -= stride;
    down += stride;
#pragma unroll
    for (int j = kGroup - 1; j > 0; --j) above[j] = above[j - 1];
#pragma unroll
    for (int j = 0; j < kGroup - 1; ++j) below[j] = below[j + 1];
    above[0] = *up;
    below[kGroup - 1] = *down;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) sums[j] = fused(below[j] + above[j], r.tap[radius + t], sums[j]);
  }
}

// Blurs a map tile by tile, each pixel once, and calls f(x, y, value) for each in the thread that has it, and seen(value) for each value
// before the blur, some of them more than once. kReflect: beyond the border lies the map mirrored about its outermost pixels, else zeros.
// All kThreads threads of the block call it; `shared` is tile.bytes().
template <int kThreads, bool kReflect, class T, class S, class F>
FASTPOSE_DEVICE void for_blurred(const HeatmapReading& r, const Map<T>& map, const BlurTile& tile, float* shared, S seen, F f) {
  constexpr int kGroup = BlurTile::kGroup;
  const int radius = r.taps / 2;
  float* const stage = shared;
  float* const lines = shared + BlurTile::kStageRows * tile.stage_stride;
  for (int y0 = 0; y0 < r.height; y0 += tile.rows) {
    const int rows = min_of(tile.rows, r.height - y0), all_rows = rows + 2 * radius;
    for (int x0 = 0; x0 < r.width; x0 += tile.columns) {
      const int columns = min_of(tile.columns, r.width - x0), groups = (columns + kGroup - 1) / kGroup;
      for (int first = 0; first < all_rows; first += BlurTile::kStageRows) {
        const int some_rows = min_of(BlurTile::kStageRows, all_rows - first);
        __syncthreads();  // nobody reads the stage any more, nor, before a tile's first rows, the lines
        for (int row = static_cast<int>(threadIdx.x / 32); row < some_rows; row += kThreads / 32) {  // a warp a row
          int y = y0 - radius + first + row;
          if (kReflect) y = mirrored(y, r.height);
          const bool inside = kReflect || (y >= 0 && y < r.height);
          float* const to = stage + row * tile.stage_stride;
#pragma unroll 2
          for (int column = static_cast<int>(threadIdx.x % 32); column < groups * kGroup + 2 * radius; column += 32) {
            int x = x0 - radius + column;
            if (kReflect) x = mirrored(x, r.width);
            float value = 0.f;
            if (inside && (kReflect || (x >= 0 && x < r.width))) {
              value = map.at(x, y);
              seen(value);
            }
            to[column] = value;
          }
        }
        __syncthreads();
        for (Walk at(threadIdx.x, kThreads, some_rows); at.y < groups; at.next()) {  // neighbouring threads: neighbouring rows
          float sums[kGroup];
          blur_along_x(r, stage + at.x * tile.stage_stride + kGroup * at.y, sums);
#pragma unroll
          for (int j = 0; j < kGroup; ++j) lines[(first + at.x) * tile.lines_stride + kGroup * at.y + j] = sums[j];
        }
      }
      __syncthreads();
      for (Walk at(threadIdx.x, kThreads, columns); kGroup * at.y < rows; at.next()) {
        float sums[kGroup];
        blur_along_y(r, lines + (radius + kGroup * at.y) * tile.lines_stride + at.x, tile.lines_stride, sums);
#pragma unroll
        for (int j = 0; j < kGroup; ++j)
          if (kGroup * at.y + j < rows) f(x0 + at.x, y0 + kGroup * at.y + j, sums[j]);
      }
    }
  }
}

// The few blurred pixels that a step is made of: kCount of them, around (x, y), within `kReach` of it.
template <int kCount>
struct Spots { int dx[kCount], dy[kCount]; };

// Blurs a map's pixels x + spots.dx, y + spots.dy alone, with zeros beyond the border, into `values` in shared memory. Pixels beyond the
// border are those nearest to them. `lines` is shared memory of (2 kReach + 1) * (2 kReach + taps) floats. All kThreads threads of the
// block call it.
template <int kThreads, int kReach, int kCount, class T>
FASTPOSE_DEVICE void blur_spots(const HeatmapReading& r, const Map<T>& map, int x, int y, const Spots<kCount>& spots, float* lines,
                                float* values) {
  constexpr int kSide = 2 * kReach + 1;
  const int radius = r.taps / 2, tall = kSide + 2 * radius;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSide * tall; i += kThreads) {
    const int column = x - kReach + i % kSide, row = y - kReach - radius + i / kSide;
    float sum = 0.f;
    if (row >= 0 && row < r.height && column >= 0 && column < r.width) {
      // Taps beyond the border have nothing to add.
      const int begin = max_of(0, radius - column), end = min_of(r.taps, r.width + radius - column);
#pragma unroll 4
      for (int t = begin; t < end; ++t) sum = fused(map.at(column - radius + t, row), r.tap[t], sum);
    }
    lines[i] = sum;
  }
  __syncthreads();
  if (threadIdx.x < kCount) {
    int dx = 0, dy = 0;
#pragma unroll
    for (int j = 0; j < kCount; ++j)
      if (static_cast<int>(threadIdx.x) == j) dx = spots.dx[j], dy = spots.dy[j];
    const int column = clamp(x + dx, 0, r.width - 1) - (x - kReach), row = clamp(y + dy, 0, r.height - 1) - (y - kReach);
    const float* middle = lines + (row + radius) * kSide + column;
    float sum = middle[0] * r.tap[radius];
    for (int t = 1; t <= radius; ++t) sum = fused(middle[kSide * t] + middle[-kSide * t], r.tap[radius + t], sum);
    values[threadIdx.x] = sum;
  }
  __syncthreads();
}

}  // namespace fastpose
