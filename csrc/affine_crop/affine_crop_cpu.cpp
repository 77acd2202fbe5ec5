#include "affine_crop/affine_crop_block.h"
#include "affine_crop/affine_crop_math.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

constexpr int L = Vec::lanes;
constexpr int64_t kTile = 256;         // columns of a row buffer: three of them stay in the first cache
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

// A hint, which may point anywhere.
FASTPOSE_INLINE void prefetch(const void* p, int64_t bytes) { __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<intptr_t>(p) + bytes)); }

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
  Span touched = columns;  // beyond it only border
  if (!line.replicate) {
    touched = columns_between(line.s, line.a, -1 - kMargin, w + kMargin, touched);
    touched = columns_between(line.t, line.d, -1 - kMargin, h + kMargin, touched);
  }
  Span inside{touched.begin, touched.begin};
  const int64_t reach = line.image.row_stride * L * static_cast<int64_t>(kMaxStep);
  if (fabs(line.a) <= kMaxStep && fabs(line.d) <= kMaxStep && reach < (int64_t{1} << 30) && reach > -(int64_t{1} << 30)) {
    inside = columns_between(line.s, line.a, kMargin, w - 1 - kMargin, touched);
    inside = columns_between(line.t, line.d, kMargin, h - 1 - kMargin, inside);
    // The last row in memory has nothing behind it: stay one pixel away from its end.
    if (kOverread > 0 && !inside.empty() && (line.image.row_stride < line.image.width * 3 || touches_last_row(line, inside)))
      inside = columns_between(line.s, line.a, kMargin, w - 2 - kMargin, inside);
    if (inside.empty()) inside = {touched.begin, touched.begin};
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

// --- where samples go ---------------------------------------------------------------------------------------------------------
FASTPOSE_INLINE void store_full(float* p, Vec v) { store(p, v); }
FASTPOSE_INLINE void store_full(Half* p, Vec v) { store_f16(&p->bits, v); }
FASTPOSE_INLINE void store_full(Brain* p, Vec v) { store_bf16(&p->bits, v); }
FASTPOSE_INLINE void store_full(uint8_t* p, Vec v) { store_u8(p, v); }

// Colour and normalisation of one row, by source channel, then one output row: three planes, or interleaved pixels.
template <class O, bool kInterleaved>
struct OutputSink {
  O* row[3];  // by source channel: element of column 0
  int64_t step;   // elements from one column to the next: 1 or 3
  int64_t ahead;  // bytes to the row kRowsAhead further on
  int output_channel[3];
  const CropColour<float>* colour;

  FASTPOSE_INLINE Vec value(int c, Vec v) const {
    const int o = output_channel[c];
    if (colour->active)
      v = max(min(madd(v, set(colour->gain[o]), set(colour->offset[o])), set(255.f)), set(0.f));
    return madd(v, set(colour->scale[o]), set(colour->shift[o]));
  }
  FASTPOSE_INLINE void block(int64_t x, const Vec* v, int n) const {
    for (int c = 0; c < 3; ++c) {
      prefetch(row[c] + x * step, ahead);
      const Vec y = value(c, v[c]);
      if (!kInterleaved && n == L) {
        store_full(row[c] + x, y);
      } else {
        O lane[L];
        store_full(lane, y);
        for (int i = 0; i < n; ++i) row[c][(x + i) * step] = lane[i];
      }
    }
  }
  FASTPOSE_INLINE void pixel(int64_t x, const float* v) const {
    for (int c = 0; c < 3; ++c) crop_store(row[c] + x * step, crop_value(*colour, output_channel[c], v[c]));
  }
  FASTPOSE_INLINE void fill(int64_t begin, int64_t end, const float* v) const {
    if (begin >= end) return;
    for (int c = 0; c < 3; ++c) {
      O constant;
      crop_store(&constant, crop_value(*colour, output_channel[c], v[c]));
      for (int64_t x = begin; x < end; ++x) row[c][x * step] = constant;
    }
  }
};

// Sums of samples under a tile of a row, for antialiasing.
struct SumSink {
  int64_t first;
  float sum[3][kTile];

  FASTPOSE_INLINE void block(int64_t x, const Vec* v, int n) {
    for (int c = 0; c < 3; ++c) {
      float* p = &sum[c][x - first];
      if (n == L) store(p, load(p) + v[c]);
      else store_n(p, load_n(p, n) + v[c], n);
    }
  }
  FASTPOSE_INLINE void pixel(int64_t x, const float* v) {
    for (int c = 0; c < 3; ++c) sum[c][x - first] += v[c];
  }
  FASTPOSE_INLINE void fill(int64_t begin, int64_t end, const float* v) {
    for (int c = 0; c < 3; ++c)
      for (int64_t x = begin; x < end; ++x) sum[c][x - first] += v[c];
  }
};

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
      for (int64_t y = first; y < last; ++y) {
        for (int c = 0; c < 3; ++c) {
          sink.output_channel[c] = crop_source_channel(args.swap_rb, c);  // its own inverse
          sink.row[c] = static_cast<O*>(args.out) + crop_out_index(args, m, sink.output_channel[c], y, 0);
        }
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
  const Taps<T> t = crop_taps<T>(sx, sy, grad.height, grad.width, replicate);
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
