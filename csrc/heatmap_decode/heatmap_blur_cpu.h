// The blur before a keypoint is read, on the CPU: of a whole map, or only of the pixels around the peak. Both add in OpenCV's order (rows
// tap by tap from the left, columns in pairs from the middle, fused), so that both give the same bits, at every SIMD level.
#pragma once

#include "core/simd.h"
#include "heatmap_decode/heatmap_decode_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {  // lambdas that are not inlined must not be seen by the linker

FASTPOSE_INLINE int whole_vectors(int n) { return (n + Vec::lanes - 1) / Vec::lanes * Vec::lanes; }

// Side of the window of input pixels that the blurred pixels around a peak depend on.
FASTPOSE_INLINE int window_side(const HeatmapReading& r) { return 2 * (step_reach(r.kind) + r.taps / 2) + 1; }

struct BlurScratch {
  float* padded;  // a row or a window, with zeros around it
  float* lines;   // what the row pass made
  float* none;    // a line of zeros

  BlurScratch() = default;
  FASTPOSE_INLINE BlurScratch(const HeatmapReading& r, float* memory) {
    const int side = window_side(r);
    const int64_t row = r.width + 2 * (r.taps / 2) + 2 * Vec::lanes, window = static_cast<int64_t>(side) * (side + 2 * Vec::lanes);
    padded = memory;
    none = padded + (row > window ? row : window);
    lines = none + whole_vectors(r.width) + Vec::lanes;
  }
};

FASTPOSE_INLINE int64_t blur_scratch(const HeatmapReading& r) {
  const int side = window_side(r);
  const int64_t row = r.width + 2 * (r.taps / 2) + 2 * Vec::lanes, window = static_cast<int64_t>(side) * (side + 2 * Vec::lanes);
  const int64_t map_lines = static_cast<int64_t>(r.height) * whole_vectors(r.width);
  const int64_t around_lines = static_cast<int64_t>(side) * 2 * Vec::lanes;
  return (row > window ? row : window) + whole_vectors(r.width) + Vec::lanes + (map_lines > around_lines ? map_lines : around_lines) +
         Vec::lanes;
}

FASTPOSE_INLINE void zero_fill(float* p, int n) { memset(p, 0, bytes_of<float>(n)); }

// `radius` mirrored or zero pixels to the left and right of a row, and a vector of zeros behind.
FASTPOSE_INLINE void pad_row(const float* row, int width, int radius, bool reflect, float* padded) {
  memcpy(padded + radius, row, bytes_of<float>(width));
  for (int i = 1; i <= radius; ++i) {
    padded[radius - i] = reflect ? row[mirrored(-i, width)] : 0.f;
    padded[radius + width - 1 + i] = reflect ? row[mirrored(width - 1 + i, width)] : 0.f;
  }
  zero_fill(padded + 2 * radius + width, Vec::lanes);
}

// `count` vectors side by side, so that each tap is fetched once for all of them.
template <int count>
FASTPOSE_INLINE void row_pass(const HeatmapReading& r, const float* from, float* to) {
  Vec sum[count];
  for (int j = 0; j < count; ++j) sum[j] = load(from + j * Vec::lanes) * set(r.tap[0]);
  for (int i = 1; i < r.taps; ++i) {
    const Vec tap = set(r.tap[i]);
    for (int j = 0; j < count; ++j) sum[j] = fused(load(from + i + j * Vec::lanes), tap, sum[j]);
  }
  for (int j = 0; j < count; ++j) store(to + j * Vec::lanes, sum[j]);
}

// `line_at(y)` gives the line y of what the row pass made, also beyond the map. Stores the first n floats.
template <int count, class F>
FASTPOSE_INLINE void column_pass(const HeatmapReading& r, F line_at, int x, int y, float* to, int n) {
  const int radius = r.taps / 2;
  Vec sum[count];
  const float* middle = line_at(y) + x;
  for (int j = 0; j < count; ++j) sum[j] = load(middle + j * Vec::lanes) * set(r.tap[radius]);
  for (int i = 1; i <= radius; ++i) {
    const float *below = line_at(y + i) + x, *above = line_at(y - i) + x;
    const Vec tap = set(r.tap[radius + i]);
    for (int j = 0; j < count; ++j) sum[j] = fused(load(below + j * Vec::lanes) + load(above + j * Vec::lanes), tap, sum[j]);
  }
  for (int j = 0; j < count; ++j) {
    const int rest = n - j * Vec::lanes;
    if (rest >= Vec::lanes) store(to + j * Vec::lanes, sum[j]);
    else store_n(to + j * Vec::lanes, sum[j], rest);
  }
}

// Calls f(x, constant) for every x from 0 to width in steps of up to four vectors; constant.value is the number of vectors.
template <int n>
struct Vectors { static constexpr int value = n; };

template <class F>
FASTPOSE_INLINE void for_vectors(int width, F f) {
  int x = 0;
  for (; x + 3 * Vec::lanes < width; x += 4 * Vec::lanes) f(x, Vectors<4>());
  const int rest = width - x;
  if (rest > 2 * Vec::lanes) f(x, Vectors<3>());
  else if (rest > Vec::lanes) f(x, Vectors<2>());
  else if (rest > 0) f(x, Vectors<1>());
}

// Blurs a map; beyond its border are zeros, or the map mirrored about its outermost pixels.
FASTPOSE_INLINE void blur_map(const HeatmapReading& r, const float* map, bool reflect, const BlurScratch& scratch, float* blurred) {
  const int width = r.width, height = r.height, stride = whole_vectors(width);
  for (int y = 0; y < height; ++y) {
    pad_row(map + static_cast<int64_t>(y) * width, width, r.taps / 2, reflect, scratch.padded);
    float* line = scratch.lines + static_cast<int64_t>(y) * stride;
    for_vectors(width, [&](int x, auto count) { row_pass<decltype(count)::value>(r, scratch.padded + x, line + x); });
  }
  zero_fill(scratch.none, stride);
  const auto line_at = [&](int y) -> const float* {
    if (y < 0 || y >= height) {
      if (!reflect) return scratch.none;
      y = mirrored(y, height);
    }
    return scratch.lines + static_cast<int64_t>(y) * stride;
  };
  for (int y = 0; y < height; ++y) {
    float* to = blurred + static_cast<int64_t>(y) * width;
    for_vectors(width, [&](int x, auto count) { column_pass<decltype(count)::value>(r, line_at, x, y, to + x, width - x); });
  }
}

// Rows [0, side) of a window, blurred along x: one vector each at `from + i * stride`, to `to + i * pitch`. Five at a time, so that their
// chains of additions overlap; the last five may repeat the last row.
FASTPOSE_INLINE void window_rows(const HeatmapReading& r, int side, const float* from, int64_t stride, float* to, int pitch) {
  constexpr int kGroup = 5;
  for (int start = 0; start < side; start += kGroup) {
    const float* row[kGroup];
    Vec sum[kGroup];
    for (int j = 0; j < kGroup; ++j) {
      row[j] = from + min_of(start + j, side - 1) * stride;
      sum[j] = load(row[j]) * set(r.tap[0]);
    }
    for (int t = 1; t < r.taps; ++t) {
      const Vec tap = set(r.tap[t]);
      for (int j = 0; j < kGroup; ++j) sum[j] = fused(load(row[j] + t), tap, sum[j]);
    }
    for (int j = 0; j < kGroup; ++j) store(to + min_of(start + j, side - 1) * pitch, sum[j]);
  }
}

// What a window `side` columns wide, from column x on, maybe beyond the map, sees of the map's line y: `stride` floats, zeros where there
// is no map. Copied in whole vectors, of which zeros overwrite the rest (up to Vec::lanes - 1 behind the row, too): stores of some lanes
// only are slow on many processors.
FASTPOSE_INLINE void copy_window_row(const HeatmapReading& r, const float* map, int x, int y, int side, int64_t stride, float* row) {
  const bool within = y >= 0 && y < r.height;
  const int left = max_of(x, 0), right = min_of(x + side, r.width), n = within ? right - left : 0;
  const float* source = map + static_cast<int64_t>(y) * r.width + left;
  const float* end = map + static_cast<int64_t>(r.height) * r.width;
  int64_t at = 0;
  for (; at < left - x; at += Vec::lanes) store(row + at, zero());
  at = left - x;
  if (within && end - source >= n + Vec::lanes) {
    for (int64_t i = 0; i < n; i += Vec::lanes) store(row + at + i, load(source + i));
  } else {
    for (int64_t i = 0; i < n; ++i) row[at + i] = source[i];
  }
  for (at += n; at < stride; at += Vec::lanes) store(row + at, zero());
}

// The blurred pixels that the Newton step at (x, y) reads.
FASTPOSE_INLINE Around blur_around(const HeatmapReading& r, const float* map, int x, int y, const BlurScratch& scratch) {
  const int reach = step_reach(r.kind), radius = r.taps / 2, side = window_side(r), half = reach + radius;
  const int wide = whole_vectors(2 * reach + 1);
  const bool inside = x >= half && x + half < r.width && y >= half && y + half < r.height;
  const int64_t first = static_cast<int64_t>(y - half) * r.width + x - half;
  const float* from = map + first;
  int64_t stride = r.width;
  // What is read of the last row goes on behind the window, and must not go on behind the map.
  if (!inside || first + (side - 1) * stride + r.taps + wide > static_cast<int64_t>(r.height) * r.width) {
    stride = whole_vectors(side) + Vec::lanes;
    for (int i = 0; i < side; ++i) copy_window_row(r, map, x - half, y - half + i, side, stride, scratch.padded + i * stride);
    from = scratch.padded;
  }
  for (int j = 0; j < wide; j += Vec::lanes) window_rows(r, side, from + j, stride, scratch.lines + j, wide);
  float sums[5][2 * Vec::lanes];
  const auto line_at = [&](int i) { return scratch.lines + i * wide; };
  for (int i = 0; i <= 2 * reach; ++i)
    for (int j = 0; j < wide; j += Vec::lanes) column_pass<1>(r, line_at, j, i + radius, sums[i] + j, Vec::lanes);
  Around around;
  for (int dy = -reach; dy <= reach; ++dy)
    for (int dx = -reach; dx <= reach; ++dx) {
      // Beyond the border stand the outermost pixels, after the blur.
      const int column = inside ? dx : clamp(x + dx, 0, r.width - 1) - x, row = inside ? dy : clamp(y + dy, 0, r.height - 1) - y;
      around.v[2 + dy][2 + dx] = sums[reach + row][reach + column];
    }
  return around;
}

}  // namespace
}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
