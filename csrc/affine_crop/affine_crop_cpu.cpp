#include "affine_crop/affine_crop_across.h"
#include "affine_crop/affine_crop_block.h"
#include "affine_crop/affine_crop_math.h"
#include "affine_crop/affine_crop_sink.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

constexpr double kMargin = 1.0 / 1024;  // the vector code works this far inside the image: more than its rounding can move a position
constexpr int64_t kRowsAhead = 2;      // memory is asked for this many crop rows before it is needed: no prefetcher guesses these strides
constexpr double kMaxStep = 16.0;       // ... which holds for at most this many source px per output px

struct Span {
  int64_t begin, end;
  FASTPOSE_INLINE bool empty() const { return begin >= end; }
};

// One row of a crop as a line through a uint8 image: column x looks at (s + a x, t + d x).
struct Line {
  CropImage image;
  double a, d, s, t;
  int64_t ahead;    // bytes from a source pixel to where the row kRowsAhead further on will look
  bool replicate;
  float border[3];  // source order
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
struct Steps { Vec a, d; };

// L columns from x on, all four taps of each inside the image. Positions are a double for the block and floats within it.
template <bool kLevel>  // d is 0 but for rounding: the block looks at one pair of source rows
FASTPOSE_INLINE void sample_block(const Line& line, int64_t x, const Steps& steps, Vec* value) {
  const double sx = line.s + line.a * static_cast<double>(x), sy = line.t + line.d * static_cast<double>(x);
  const int64_t ix = static_cast<int64_t>(sx), iy = static_cast<int64_t>(sy);  // both positive
  const int64_t stride = line.image.row_stride;
  const uint8_t* base = static_cast<const uint8_t*>(line.image.data) + iy * stride + ix * 3;
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
  prefetch(base, line.ahead);
  prefetch(base, line.ahead + L * 3);
  blend_block(base, base + stride, at, wx, wy, value);
}

template <bool kLevel, class Sink>
FASTPOSE_INLINE void sample_span(const Line& line, Span span, Sink& sink) {
  Steps steps{set(static_cast<float>(line.a)) * iota(), set(static_cast<float>(line.d)) * iota()};
  Vec value[3];
  int64_t x = span.begin;
  for (; x + L <= span.end; x += L) {
    sample_block<kLevel>(line, x, steps, value);
    sink.block(x, value, L);
  }
  if (x < span.end) {  // the lanes beyond the end repeat the last column
    const int n = static_cast<int>(span.end - x);
    const Vec lane = min(iota(), set(static_cast<float>(n - 1)));
    steps = {set(static_cast<float>(line.a)) * lane, set(static_cast<float>(line.d)) * lane};
    sample_block<kLevel>(line, x, steps, value);
    sink.block(x, value, n);
  }
}

FASTPOSE_INLINE bool touches_last_row(const Line& line, Span span) {
  const double limit = static_cast<double>(line.image.height) - 2 - kMargin;
  return line.t + line.d * static_cast<double>(span.begin) >= limit || line.t + line.d * static_cast<double>(span.end - 1) >= limit;
}

// A row of samples, in three parts: outside the image, around its edge, inside.
template <class Sink>
FASTPOSE_INLINE void sample_line(const Line& line, Span columns, Sink& sink) {
  const double w = static_cast<double>(line.image.width), h = static_cast<double>(line.image.height);
  Span touched = columns, inside = columns;  // beyond the one only border, within the other all four taps are pixels
  const int64_t reach = line.image.row_stride * L * static_cast<int64_t>(kMaxStep);
  const bool short_steps =
      fabs(line.a) <= kMaxStep && fabs(line.d) <= kMaxStep && reach < (int64_t{1} << 30) && reach > -(int64_t{1} << 30);
  const auto well_inside = [&](int64_t x) {
    const double sx = line.s + line.a * static_cast<double>(x), sy = line.t + line.d * static_cast<double>(x);
    return sx >= kMargin && sx <= w - 2 - kMargin && sy >= kMargin && sy <= h - 2 - kMargin;
  };
  if (!(short_steps && line.image.row_stride >= line.image.width * 3 && well_inside(columns.begin) && well_inside(columns.end - 1))) {
    if (!line.replicate) {
      touched = columns_between(line.s, line.a, -1 - kMargin, w + kMargin, touched);
      touched = columns_between(line.t, line.d, -1 - kMargin, h + kMargin, touched);
    }
    inside = {touched.begin, touched.begin};
    if (short_steps) {
      inside = columns_between(line.s, line.a, kMargin, w - 1 - kMargin, touched);
      inside = columns_between(line.t, line.d, kMargin, h - 1 - kMargin, inside);
      // The last row in memory has nothing behind it: stay one pixel away from its end.
      if (kOverread > 0 && !inside.empty() && (line.image.row_stride < line.image.width * 3 || touches_last_row(line, inside)))
        inside = columns_between(line.s, line.a, kMargin, w - 2 - kMargin, inside);
      if (inside.empty()) inside = {touched.begin, touched.begin};
    }
  }
  const auto edge = [&](int64_t begin, int64_t end) {
    for (int64_t x = begin; x < end; ++x) {
      float value[3];
      const double column = static_cast<double>(x);
      crop_sample<float, uint8_t>(line.image, line.s + line.a * column, line.t + line.d * column, line.replicate, line.border, value);
      sink.pixel(x, value);
    }
  };
  sink.fill(columns.begin, touched.begin, line.border);
  edge(touched.begin, inside.begin);
  if (!inside.empty()) {
    if (fabs(line.d) * static_cast<double>(columns.end) < 1e-6) sample_span<true>(line, inside, sink);
    else sample_span<false>(line, inside, sink);
  }
  edge(inside.end, touched.end);
  sink.fill(touched.end, columns.end, line.border);
}

FASTPOSE_INLINE Line line_of(const CropMap& map, double x, double y) {
  Line line;
  line.a = map.a;
  line.d = map.d;
  line.s = map.a * x + (map.b * y + map.c);
  line.t = map.d * x + (map.e * y + map.f);
  return line;
}

template <class Sink>
void crop_row(Line line, const CropMap& map, double y, int64_t width, Sink& out) {
  const auto place = [&](double x_shift, double yy) {
    const Line at = line_of(map, x_shift, yy);
    line.a = at.a;
    line.d = at.d;
    line.s = at.s;
    line.t = at.t;
  };
  if (map.sub_x == 1 && map.sub_y == 1) {
    place(0, y);
    sample_line(line, {0, width}, out);
    return;
  }
  SumSink sums;
  const Vec share = set(1.f / static_cast<float>(map.sub_x * map.sub_y));
  for (int64_t first = 0; first < width; first += kTile) {
    const Span columns{first, first + kTile < width ? first + kTile : width};
    sums.first = first;
    memset(sums.sum, 0, sizeof(sums.sum));
    for (int j = 0; j < map.sub_y; ++j) {
      for (int i = 0; i < map.sub_x; ++i) {
        place(sub_position(i, map.sub_x), y + sub_position(j, map.sub_y));
        sample_line(line, columns, sums);
      }
    }
    for (int64_t x = columns.begin; x < columns.end; x += L) {
      const int n = columns.end - x < L ? static_cast<int>(columns.end - x) : L;
      Vec value[3];
      for (int c = 0; c < 3; ++c) value[c] = load(&sums.sum[c][x - first]) * share;  // kTile is a multiple of L
      out.block(x, value, n);
    }
  }
}

// Calls f(m, first_row, end_row) for each crop that rows [begin, end) of all crops' rows touch.
template <class F>
FASTPOSE_INLINE void each_crop(int64_t begin, int64_t end, int64_t height, F f) {
  while (begin < end) {
    const int64_t m = begin / height, first = begin - m * height;
    const int64_t count = end - begin < height - first ? end - begin : height - first;
    f(m, first, first + count);
    begin += count;
  }
}

template <class T>
FASTPOSE_INLINE CropColour<T> colour_of(const AffineCropArgs& args, int64_t m) {
  return crop_colour<T>(args, args.gain != nullptr ? args.gain + m * 3 : nullptr, args.offset != nullptr ? args.offset + m * 3 : nullptr);
}

FASTPOSE_INLINE CropMap map_of(const AffineCropArgs& args, int64_t m) {
  CropMap map;
  crop_map(args.matrices + m * 6, args.flip != nullptr && args.flip[m], args.width, args.antialias, map);
  return map;
}

// Whether rows and columns of the crop are rows and columns of the image (but for rounding): then it is sampled row by row.
FASTPOSE_INLINE bool is_upright(const AffineCropArgs& args, const CropMap& map, const CropImage& image) {
  return map.sub_x == 1 && map.sub_y == 1 && fabs(map.d) * static_cast<double>(args.width) < 1e-6 &&
         fabs(map.b) * static_cast<double>(args.height) < 1e-6 && image.width >= kNarrowest && image.width <= kWidest;
}

// Rows [first, last) of an upright crop: each source row is blended horizontally once, and serves all crop rows that look at it.
template <class Sink, class Begin>
FASTPOSE_INLINE void crop_upright(const AffineCropArgs& args, const CropMap& map, const CropImage& image, const CropColour<float>& colour,
                                  const float* border, Sink& sink, Begin begin_row, int64_t first, int64_t last) {
  float scale[3], shift[3];
  for (int c = 0; c < 3; ++c) {
    const int o = crop_source_channel(args.swap_rb, c);
    scale[c] = colour.active ? 1.f : colour.scale[o];
    shift[c] = colour.active ? 0.f : colour.shift[o];
  }
  begin_row(first);
  const Columns columns = plan_columns(image, args.width, sink.uneven(0), map.a, map.c, args.replicate, border, scale, shift);
  const double h = static_cast<double>(image.height);
  const int64_t ahead = (map.e < 0 ? -kRowsAhead : kRowsAhead) * image.row_stride;
  int64_t held[2] = {-1, -1};  // source rows in columns.row
  const auto row_of = [&](int64_t y) {
    if (y < 0 || y >= image.height) return static_cast<const float*>(columns.border);
    float* row = columns.row[y & 1];
    if (held[y & 1] != y) {
      held[y & 1] = y;
      across_row(columns, image, static_cast<const uint8_t*>(image.data) + y * image.row_stride, ahead, row);
    }
    return static_cast<const float*>(row);
  };
  for (int64_t y = first; y < last; ++y) {
    double sy = map.e * static_cast<double>(y) + map.f;
    if (args.replicate) sy = sy > 0 ? (sy < h - 1 ? sy : h - 1) : 0;  // as crop_taps
    const float* top = columns.border;
    const float* bottom = columns.border;
    float weight = 0;
    if (sy > -1 && sy < h) {
      const int64_t above = sy < 0 ? -1 : static_cast<int64_t>(sy);
      weight = static_cast<float>(sy - static_cast<double>(above));
      top = row_of(above);
      bottom = args.replicate && above + 1 >= image.height ? top : row_of(above + 1);
    }
    begin_row(y);
    sink.between(top, bottom, columns.padded, set(weight), args.width);
  }
}

// uint8 images, vectors.
template <class O, bool kInterleaved>
void crop_bytes(const AffineCropArgs& args) {
  parallel_for(args.num_crops * args.height, 16, [&](int64_t begin, int64_t end) {
    each_crop(begin, end, args.height, [&](int64_t m, int64_t first, int64_t last) {
      const CropMap map = map_of(args, m);
      const CropColour<float> colour = colour_of<float>(args, m);
      Line line{};
      line.image = args.images[args.image_index[m]];
      line.replicate = args.replicate;
      for (int c = 0; c < 3; ++c) line.border[c] = static_cast<float>(args.border[c]);
      line.ahead = static_cast<int64_t>(clamp(map.e, -kMaxStep, kMaxStep) * kRowsAhead) * line.image.row_stride +
                   static_cast<int64_t>(clamp(map.b, -kMaxStep, kMaxStep) * kRowsAhead) * 3;
      OutputSink<O, kInterleaved> sink;
      sink.step = kInterleaved ? 3 : 1;
      sink.colour = &colour;
      sink.ahead = args.width * sink.step * kRowsAhead * static_cast<int64_t>(sizeof(O));
      const auto begin_row = [&](int64_t y) {
        for (int c = 0; c < 3; ++c) {
          sink.output_channel[c] = crop_source_channel(args.swap_rb, c);  // its own inverse
          sink.row[c] = static_cast<O*>(args.out) + crop_out_index(args, m, sink.output_channel[c], y, 0);
        }
      };
      if (is_upright(args, map, line.image))
        return crop_upright(args, map, line.image, colour, line.border, sink, begin_row, first, last);
      for (int64_t y = first; y < last; ++y) {
        begin_row(y);
        crop_row(line, map, static_cast<double>(y), args.width, sink);
      }
    });
  });
}

// Any images, scalars: float images, and float64 wherever it is asked for.
template <class T, class P, class O>
void crop_scalars(const AffineCropArgs& args) {
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  parallel_for(args.num_crops * args.height, 4, [&](int64_t begin, int64_t end) {
    each_crop(begin, end, args.height, [&](int64_t m, int64_t first, int64_t last) {
      const CropMap map = map_of(args, m);
      const CropColour<T> colour = colour_of<T>(args, m);
      const CropImage image = args.images[args.image_index[m]];
      for (int64_t y = first; y < last; ++y) {
        for (int64_t x = 0; x < args.width; ++x) {
          T value[3];
          crop_pixel<T, P>(image, map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
          for (int c = 0; c < 3; ++c) {
            const T v = crop_value(colour, c, value[crop_source_channel(args.swap_rb, c)]);
            crop_store(static_cast<O*>(args.out) + crop_out_index(args, m, c, y, x), v);
          }
        }
      }
    });
  });
}

template <class T, class P>
FASTPOSE_INLINE void crop_floats(const AffineCropArgs& args) {
  switch (args.out_dtype) {
    case DType::UInt8: return crop_scalars<T, P, uint8_t>(args);
    case DType::Float16: return crop_scalars<T, P, Half>(args);
    case DType::BFloat16: return crop_scalars<T, P, Brain>(args);
    case DType::Float64: return crop_scalars<double, P, double>(args);
    default: return crop_scalars<T, P, float>(args);
  }
}

// Adds weight * gradient to the pixels under one sample.
template <class T>
FASTPOSE_INLINE void scatter(const CropImage& grad, double sx, double sy, bool replicate, const T* g) {
  const Taps<T> t = crop_taps<T>(sx, sy, static_cast<int32_t>(grad.height), static_cast<int32_t>(grad.width), replicate);
  if (t.outside) return;
  T* data = const_cast<T*>(static_cast<const T*>(grad.data));
  for (int j = 0; j < 2; ++j) {
    for (int i = 0; i < 2; ++i) {
      if (t.x[i] < 0 || t.y[j] < 0) continue;
      const T weight = (i ? t.fx : T(1) - t.fx) * (j ? t.fy : T(1) - t.fy);
      T* p = data + t.y[j] * grad.row_stride + t.x[i] * 3;
      for (int c = 0; c < 3; ++c) p[c] += weight * g[c];
    }
  }
}

template <class T>
void crop_backward(const AffineCropBackwardArgs& all) {
  const AffineCropArgs& args = all.forward;
  T border[3];
  for (int c = 0; c < 3; ++c) border[c] = static_cast<T>(args.border[c]);
  const T* grad_out = static_cast<const T*>(all.grad_out);
  // One image at a time by one thread, its crops in order: the same sum for any number of threads.
  parallel_for(args.num_images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t m = 0; m < args.num_crops; ++m) {
      const int64_t index = args.image_index[m];
      if (index < begin || index >= end) continue;
      const CropMap map = map_of(args, m);
      const CropColour<T> colour = colour_of<T>(args, m);
      const CropImage grad = all.grad_images[index], image = args.images[index];
      const T share = T(1) / static_cast<T>(map.sub_x * map.sub_y);
      for (int64_t y = 0; y < args.height; ++y) {
        for (int64_t x = 0; x < args.width; ++x) {
          T value[3] = {T(0), T(0), T(0)}, g[3];
          if (colour.active)
            crop_pixel<T, T>(image, map, static_cast<double>(x), static_cast<double>(y), args.replicate, border, value);
          for (int c = 0; c < 3; ++c) {
            const int o = crop_source_channel(args.swap_rb, c);
            g[c] = grad_out[crop_out_index(args, m, o, y, x)] * crop_slope(colour, o, value[c]) * share;
          }
          for (int j = 0; j < map.sub_y; ++j) {
            const double yy = static_cast<double>(y) + sub_position(j, map.sub_y);
            for (int i = 0; i < map.sub_x; ++i) {
              const double xx = static_cast<double>(x) + sub_position(i, map.sub_x);
              scatter(grad, map.a * xx + (map.b * yy + map.c), map.d * xx + (map.e * yy + map.f), args.replicate, g);
            }
          }
        }
      }
    }
  });
}

}  // namespace

void affine_crop_cpu(const AffineCropArgs& args) {
  if (args.image_dtype == DType::Float32) return crop_floats<float, float>(args);
  if (args.image_dtype == DType::Float64) return crop_floats<double, double>(args);
  switch (args.out_dtype) {
    case DType::UInt8: return args.nhwc ? crop_bytes<uint8_t, true>(args) : crop_bytes<uint8_t, false>(args);
    case DType::Float16: return args.nhwc ? crop_bytes<Half, true>(args) : crop_bytes<Half, false>(args);
    case DType::BFloat16: return args.nhwc ? crop_bytes<Brain, true>(args) : crop_bytes<Brain, false>(args);
    case DType::Float64: return crop_scalars<double, uint8_t, double>(args);
    default: return args.nhwc ? crop_bytes<float, true>(args) : crop_bytes<float, false>(args);
  }
}

void affine_crop_backward_cpu(const AffineCropBackwardArgs& args) {
  if (args.forward.image_dtype == DType::Float64) return crop_backward<double>(args);
  crop_backward<float>(args);
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(affine_crop_cpu, AffineCropArgs)
FASTPOSE_DISPATCH(affine_crop_backward_cpu, AffineCropBackwardArgs)

}  // namespace fastpose
