// affine_crop on the CPU for crops that are turned, or averaged: row by row, each a line through the image.
//
// sample_row makes the samples of one line, border and edges included; mean_row averages several lines for antialiasing; crop_turned writes
// the rows of a crop.
#pragma once

#include "affine_crop/affine_crop_block.h"
#include "affine_crop/affine_crop_math.h"
#include "affine_crop/affine_crop_output.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

constexpr double kMargin = 1.0 / 1024;  // the vector code works this far inside the image: more than its rounding can move a position
constexpr double kMaxStep = 16.0;       // ... which holds for at most this many source px per output px

struct Span {
  int64_t begin, end;
  FASTPOSE_INLINE bool empty() const { return begin >= end; }
};

// What a crop is taken from.
struct Source {
  CropImage image;  // uint8
  int64_t ahead;    // bytes from a source pixel to where the row kRowsAhead further on will look
  bool replicate;
  float border[3];  // source order

  FASTPOSE_INLINE Source(const AffineCropArgs& args, const CropImage& from, const CropMap& map) : image(from), replicate(args.replicate) {
    for (int c = 0; c < 3; ++c) border[c] = static_cast<float>(args.border[c]);
    ahead = static_cast<int64_t>(clamp(map.e, -kMaxStep, kMaxStep) * kRowsAhead) * image.row_stride +
            static_cast<int64_t>(clamp(map.b, -kMaxStep, kMaxStep) * kRowsAhead) * 3;
  }
};

// Column x looks at (s + a x, t + d x).
struct Line {
  double a, d, s, t;

  // The row through (x, y) of a crop.
  FASTPOSE_INLINE Line(const CropMap& map, double x, double y)
      : a(map.a), d(map.d), s(map.a * x + (map.b * y + map.c)), t(map.d * x + (map.e * y + map.f)) {}
  FASTPOSE_INLINE double source_x(int64_t x) const { return s + a * static_cast<double>(x); }
  FASTPOSE_INLINE double source_y(int64_t x) const { return t + d * static_cast<double>(x); }
};

// Samples of a row, by source channel.
struct Samples {
  float* channel[3];
  int64_t padded;  // columns that there is memory for

  // Columns for `width` of them and the vectors that begin among them.
  static FASTPOSE_INLINE int64_t columns(int64_t width) { return (width / Vec::lanes + 2) * Vec::lanes; }
  FASTPOSE_INLINE Samples(float* memory, int64_t width) : padded(columns(width)) {
    for (int c = 0; c < 3; ++c) channel[c] = memory + c * padded;
  }
  FASTPOSE_INLINE void fill(Span span, const float* value) const {
    for (int c = 0; c < 3; ++c)
      for (int64_t x = span.begin; x < span.end; ++x) channel[c][x] = value[c];
  }
};

// The columns of `within` where low <= start + step x <= high. True at both ends, hence (a line being monotonic) in between.
FASTPOSE_INLINE Span columns_between(double start, double step, double low, double high, Span within) {
  if (step == 0) {
    if (start >= low && start <= high) return within;
    return {within.begin, within.begin};
  }
  double first = (low - start) / step, last = (high - start) / step;
  if (step < 0) {
    const double t = first;
    first = last;
    last = t;
  }
  const double b = static_cast<double>(within.begin), e = static_cast<double>(within.end);
  if (!(first < e && last >= b)) return {within.begin, within.begin};
  Span s = within;
  if (first > b) s.begin = static_cast<int64_t>(first);
  if (last < e - 1) s.end = static_cast<int64_t>(last) + 2 < within.end ? static_cast<int64_t>(last) + 2 : within.end;
  const auto inside = [&](int64_t x) {
    const double v = start + step * static_cast<double>(x);
    return v >= low && v <= high;
  };
  while (s.begin < s.end && !inside(s.begin)) ++s.begin;
  while (s.begin < s.end && !inside(s.end - 1)) --s.end;
  return s;
}

// Lanes' distance from the block's first column, as source px steps.
struct Steps {
  Vec a, d;
  FASTPOSE_INLINE Steps(const Line& line, Vec lane)
      : a(set(static_cast<float>(line.a)) * lane), d(set(static_cast<float>(line.d)) * lane) {}
};

// A vector of columns from x on, all four taps of each inside the image. Positions are a double for the block and floats within it.
template <bool kLevel>  // d is 0 but for rounding: the block looks at one pair of source rows
FASTPOSE_INLINE void sample_block(const Source& source, const Line& line, int64_t x, const Steps& steps, const Samples& samples) {
  const double sx = line.source_x(x), sy = line.source_y(x);
  const int64_t ix = static_cast<int64_t>(sx), iy = static_cast<int64_t>(sy);  // both positive
  const int64_t stride = source.image.row_stride;
  const uint8_t* base = static_cast<const uint8_t*>(source.image.data) + iy * stride + ix * 3;
  const Vec px = set(static_cast<float>(sx - static_cast<double>(ix))) + steps.a;
  const Vec floor_x = floor(px);
  const Vec wx = px - floor_x;
  IVec at = to_int(floor_x) * iset(3);
  Vec wy = set(static_cast<float>(sy - static_cast<double>(iy)));
  if (!kLevel) {
    const Vec py = wy + steps.d;
    const Vec floor_y = floor(py);
    wy = py - floor_y;
    at = at + to_int(floor_y) * iset(static_cast<int32_t>(stride));
  }
  prefetch(base, source.ahead);
  prefetch(base, source.ahead + Vec::lanes * 3);
  Vec value[3];
  blend_block(base, base + stride, at, wx, wy, value);
  for (int c = 0; c < 3; ++c) store(samples.channel[c] + x, value[c]);
}

template <bool kLevel>
FASTPOSE_INLINE void sample_inside(const Source& source, const Line& line, Span span, const Samples& samples) {
  const Steps steps(line, iota());
  int64_t x = span.begin;
  for (; x + Vec::lanes <= span.end; x += Vec::lanes) sample_block<kLevel>(source, line, x, steps, samples);
  if (x < span.end) {  // the lanes beyond the end repeat the last column
    const Vec last = set(static_cast<float>(span.end - x - 1));
    sample_block<kLevel>(source, line, x, Steps(line, min(iota(), last)), samples);
  }
}

// Pixel by pixel: around the image's edge.
FASTPOSE_INLINE void sample_edge(const Source& source, const Line& line, Span span, const Samples& samples) {
  for (int64_t x = span.begin; x < span.end; ++x) {
    float value[3];
    crop_sample<float, uint8_t>(source.image, line.source_x(x), line.source_y(x), source.replicate, source.border, value);
    for (int c = 0; c < 3; ++c) samples.channel[c][x] = value[c];
  }
}

// Which columns of a row see what: beyond `touched` only border; within `inside` all four taps are pixels.
struct Parts {
  Span touched, inside;
};

FASTPOSE_INLINE bool touches_last_row(const Source& source, const Line& line, Span span) {
  const double limit = static_cast<double>(source.image.height) - 2 - kMargin;
  return line.source_y(span.begin) >= limit || line.source_y(span.end - 1) >= limit;
}

FASTPOSE_INLINE Parts parts_of(const Source& source, const Line& line, int64_t width) {
  const CropImage& image = source.image;
  const double w = static_cast<double>(image.width), h = static_cast<double>(image.height);
  const Span row{0, width};
  const int64_t reach = image.row_stride * Vec::lanes * static_cast<int64_t>(kMaxStep);
  constexpr int64_t kFar = int64_t{1} << 30;
  const bool short_steps = fabs(line.a) <= kMaxStep && fabs(line.d) <= kMaxStep && reach < kFar && reach > -kFar;
  const bool overlapping = image.row_stride < image.width * 3;  // or running upwards: behind the first row in memory may be nothing
  const auto well_inside = [&](int64_t x) {
    const double sx = line.source_x(x), sy = line.source_y(x);
    return sx >= kMargin && sx <= w - 2 - kMargin && sy >= kMargin && sy <= h - 2 - kMargin;
  };
  if (short_steps && !overlapping && well_inside(0) && well_inside(width - 1)) return {row, row};

  Parts parts{row, {0, 0}};
  if (!source.replicate) {
    parts.touched = columns_between(line.s, line.a, -1 - kMargin, w + kMargin, parts.touched);
    parts.touched = columns_between(line.t, line.d, -1 - kMargin, h + kMargin, parts.touched);
  }
  if (short_steps) {
    parts.inside = columns_between(line.s, line.a, kMargin, w - 1 - kMargin, parts.touched);
    parts.inside = columns_between(line.t, line.d, kMargin, h - 1 - kMargin, parts.inside);
    // The last row in memory has nothing behind it: stay one pixel away from its end.
    if (kOverread > 0 && !parts.inside.empty() && (overlapping || touches_last_row(source, line, parts.inside)))
      parts.inside = columns_between(line.s, line.a, kMargin, w - 2 - kMargin, parts.inside);
  }
  if (parts.inside.empty()) parts.inside = {parts.touched.begin, parts.touched.begin};
  return parts;
}

// The samples of a row, from left to right: what a part stores beyond its end, the next one overwrites.
FASTPOSE_INLINE void sample_row(const Source& source, const Line& line, int64_t width, const Samples& samples) {
  const Parts parts = parts_of(source, line, width);
  samples.fill({0, parts.touched.begin}, source.border);
  sample_edge(source, line, {parts.touched.begin, parts.inside.begin}, samples);
  if (!parts.inside.empty()) {
    if (fabs(line.d) * static_cast<double>(width) < 1e-6) sample_inside<true>(source, line, parts.inside, samples);
    else sample_inside<false>(source, line, parts.inside, samples);
  }
  sample_edge(source, line, {parts.inside.end, parts.touched.end}, samples);
  samples.fill({parts.touched.end, width}, source.border);
}

// The means of the samples under the pixels of row y.
FASTPOSE_INLINE void mean_row(const Source& source, const CropMap& map, double y, int64_t width, const Samples& samples,
                              const Samples& means) {
  memset(means.channel[0], 0, 3 * sizeof(float) * static_cast<size_t>(means.padded));
  for (int j = 0; j < map.sub_y; ++j) {
    for (int i = 0; i < map.sub_x; ++i) {
      sample_row(source, Line(map, sub_position(i, map.sub_x), y + sub_position(j, map.sub_y)), width, samples);
      for (int c = 0; c < 3; ++c) {
        float* sum = means.channel[c];
        for (int64_t x = 0; x < width; x += Vec::lanes) store(sum + x, load(sum + x) + load(samples.channel[c] + x));
      }
    }
  }
  const Vec share = set(1.f / static_cast<float>(map.sub_x * map.sub_y));
  for (int c = 0; c < 3; ++c)
    for (int64_t x = 0; x < width; x += Vec::lanes) store(means.channel[c] + x, load(means.channel[c] + x) * share);
}

// Rows [rows.begin, rows.end) of a crop of any kind.
template <class Output>
FASTPOSE_INLINE void crop_turned(const AffineCropArgs& args, const CropMap& map, const CropImage& image, bool colour, Output& output,
                                 Span rows) {
  const Source source(args, image, map);
  const int64_t floats = 3 * Samples::columns(args.width);
  float* memory = thread_scratch(2 * floats);
  const Samples samples(memory, args.width), means(memory + floats, args.width);
  const bool single = map.sub_x == 1 && map.sub_y == 1;
  const Samples& row = single ? samples : means;
  for (int64_t y = rows.begin; y < rows.end; ++y) {
    if (single) sample_row(source, Line(map, 0, static_cast<double>(y)), args.width, samples);
    else mean_row(source, map, static_cast<double>(y), args.width, samples, means);
    output.write_row(y, [&](int c, int64_t x) {
      const Vec sample = load(row.channel[c] + x);
      return output.normalised(c, colour ? output.coloured(c, sample) : sample);
    });
  }
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
