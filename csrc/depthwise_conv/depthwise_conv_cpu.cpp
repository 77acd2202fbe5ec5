#include "depthwise_conv/depthwise_conv.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

constexpr int64_t kLanes = 16;  // whole vectors of every level

FASTPOSE_INLINE int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// How rows lie in working memory: as float32, the columns of each phase (the even and the odd ones where the stride is 2) side by side,
// zeros before and after them. There, what one weight of the kernel meets is a run of memory, whatever the number of channels: element i
// of it belongs to the weight's channel i % period.
struct Layout {
  int64_t channels, pitch;  // pitch: floats from pixel to pixel
  int64_t period;           // a few pixels, so that it is a multiple of kLanes
  int64_t columns;          // output pixels of a row, rounded up to whole periods
  int64_t margin;           // pixels of zeros on either side
  int64_t row;              // floats of one phase of a row

  FASTPOSE_INLINE Layout(int64_t c, int64_t output_width, int64_t pad) : channels(c), margin(pad) {
    const int64_t pixels = c % 16 == 0 ? 1 : c % 8 == 0 ? 2 : c % 4 == 0 ? 4 : 1;
    pitch = pixels == 1 ? rounded_up(c, kLanes) : c;
    period = pixels * pitch;
    columns = rounded_up(output_width, pixels);
    row = rounded_up((columns + 2 * margin) * pitch, kLanes) + kLanes;  // pixels are written in whole vectors
  }
  FASTPOSE_INLINE int64_t start() const { return margin * pitch; }
};

// One row of `pixels` pixels → phases. Each is written in whole vectors, and what is too much is overwritten by the next one; `end` is
// the end of the memory that may be read.
template <class E>
FASTPOSE_INLINE void read_row(const Layout& layout, const typename E::Element* from, const typename E::Element* end, int64_t pixels,
                              int64_t phases, float* to) {
  const int64_t c = layout.channels;
  for (int64_t pixel = 0; pixel < pixels; ++pixel, from += c) {
    float* at = to + pixel % phases * layout.row + layout.start() + pixel / phases * layout.pitch;
    int64_t i = 0;
    for (; i < c && from + i + Vec::lanes <= end; i += Vec::lanes) store(at + i, E::load(from + i));
    for (; i < c; ++i) at[i] = E::get(from + i);
    if (pixel + phases >= pixels) memset(at + c, 0, sizeof(float) * kLanes);
  }
}

// Phases → a row of pixels, and nothing beyond it.
template <class E>
FASTPOSE_INLINE void write_row(const Layout& layout, const float* from, int64_t pixels, int64_t phases, typename E::Element* to) {
  const int64_t c = layout.channels;
  const typename E::Element* end = to + pixels * c;
  for (int64_t pixel = 0; pixel < pixels; ++pixel, to += c) {
    const float* at = from + pixel % phases * layout.row + layout.start() + pixel / phases * layout.pitch;
    int64_t i = 0;
    for (; i < c && to + i + Vec::lanes <= end; i += Vec::lanes) E::store(to + i, load(at + i));
    for (; i < c; ++i) E::put(to + i, at[i]);
  }
}

// sums[n] += grad * from[n], over a row; n counts kCount weights, which meet `from`.
template <int kCount>
FASTPOSE_INLINE void add_products(const Layout& layout, const float* grad, const float* const* from, float* sums) {
  const int64_t end = layout.columns * layout.pitch;
  for (int64_t i = 0; i < layout.period; i += Vec::lanes) {
    Vec sum[kCount];
    for (int n = 0; n < kCount; ++n) sum[n] = zero();
    for (int64_t at = i; at < end; at += layout.period) {
      const Vec g = load(grad + at);
      for (int n = 0; n < kCount; ++n) sum[n] = madd(g, load(from[n] + at), sum[n]);
    }
    for (int n = 0; n < kCount; ++n) store(sums + n * layout.period + i, load(sums + n * layout.period + i) + sum[n]);
  }
}

// to = sum of weights[n] * from[n], over a row.
template <int kCount>
FASTPOSE_INLINE void combine(const Layout& layout, const float* const* weights, const float* const* from, float* to) {
  const int64_t end = layout.columns * layout.pitch;
  for (int64_t i = 0; i < layout.period; i += Vec::lanes) {
    Vec w[kCount];
    for (int n = 0; n < kCount; ++n) w[n] = load(weights[n] + i);
    for (int64_t at = i; at < end; at += layout.period) {
      Vec sum = load(from[0] + at) * w[0];
      for (int n = 1; n < kCount; ++n) sum = madd(load(from[n] + at), w[n], sum);
      store(to + at, sum);
    }
  }
}

FASTPOSE_INLINE void combine(int count, const Layout& layout, const float* const* weights, const float* const* from, float* to) {
  switch (count) {  // rows times columns of the kernel that meet one phase
    case 1: return combine<1>(layout, weights, from, to);
    case 2: return combine<2>(layout, weights, from, to);
    case 4: return combine<4>(layout, weights, from, to);
    case 6: return combine<6>(layout, weights, from, to);
    case 9: return combine<9>(layout, weights, from, to);
    default: return combine<25>(layout, weights, from, to);
  }
}

// The gradients of one image after another, row by row; the rows that are still wanted lie in rings.
template <class E, int kKernel>
class Gradient {
 public:
  using Element = typename E::Element;
  static constexpr int kPad = kKernel / 2, kTaps = kKernel * kKernel;

  FASTPOSE_INLINE explicit Gradient(const DepthwiseConvGradArgs& a)
      : args(a), stride(static_cast<int>(a.stride)), out_height((a.height - 1) / a.stride + 1), out_width((a.width - 1) / a.stride + 1),
        layout(a.channels, out_width, kPad) {
    const int64_t rows = kKernel * (stride + 1) + 1 + stride;
    const int64_t floats = rows * layout.row + 2 * kTaps * layout.period;
    maps = thread_scratch(floats);
    memset(maps, 0, bytes_of<float>(floats));
    grads = maps + kKernel * stride * layout.row;
    nothing = grads + kKernel * layout.row;
    result = nothing + layout.row;
    weights = result + stride * layout.row;
    sums = weights + kTaps * layout.period;
    const auto* weight = static_cast<const Element*>(a.weight);
    for (int tap = 0; tap < kTaps; ++tap)
      for (int64_t i = 0; i < layout.period; ++i)
        if (i % layout.pitch < a.channels) weights[tap * layout.period + i] = E::get(weight + i % layout.pitch * kTaps + tap);
  }

  FASTPOSE_INLINE void image(int64_t number) {
    const int64_t h = args.height, w = args.width, c = args.channels;
    const auto *x = static_cast<const Element*>(args.x), *grad = static_cast<const Element*>(args.grad);
    const Element *x_end = x + args.batch * h * w * c, *grad_end = grad + args.batch * out_height * out_width * c;
    x += number * h * w * c;
    grad += number * out_height * out_width * c;
    memset(sums, 0, bytes_of<float>(kTaps * layout.period));
    int64_t read = 0, written = 0;
    for (int64_t row = 0; row < out_height; ++row) {
      read_row<E>(layout, grad + row * out_width * c, grad_end, out_width, 1, grad_row(row));
      if (args.grad_weight != nullptr) {
        for (; read < h && read < row * stride + kKernel - kPad; ++read)
          read_row<E>(layout, x + read * w * c, x_end, w, stride, map_row(read));
        add_weights(row);
      }
      if (args.grad_x == nullptr) continue;
      // An input row is complete with the last output row that it takes part in.
      const int64_t complete = row + 1 < out_height ? (row + 1) * stride - kPad : h;
      for (; written < complete; ++written) {
        make_row(written);
        write_row<E>(layout, result, w, stride, static_cast<Element*>(args.grad_x) + (number * h + written) * w * c);
      }
    }
    if (args.grad_weight == nullptr) return;
    for (int tap = 0; tap < kTaps; ++tap) {
      double* to = args.workspace + (number * kTaps + tap) * c;
      const float* from = sums + tap * layout.period;
      for (int64_t i = 0; i < c; ++i) to[i] = static_cast<double>(from[i]);
      for (int64_t at = layout.pitch; at < layout.period; at += layout.pitch)
        for (int64_t i = 0; i < c; ++i) to[i] += static_cast<double>(from[at + i]);
    }
  }

 private:
  const DepthwiseConvGradArgs& args;
  const int stride;
  const int64_t out_height, out_width;
  const Layout layout;
  float *maps, *grads;  // rings of kKernel rows: of x, each of as many phases as the stride, and of the gradient
  float* nothing;       // a row of zeros
  float* result;        // a row of the gradient of x, in phases
  float *weights, *sums;  // [kTaps, period]

  FASTPOSE_INLINE float* map_row(int64_t row) const { return maps + row % kKernel * stride * layout.row; }
  FASTPOSE_INLINE float* grad_row(int64_t row) const { return grads + row % kKernel * layout.row; }
  // Output column j meets column stride * j + column - kPad of the input through this column of the kernel: of that phase, shifted by that.
  FASTPOSE_INLINE int phase(int column) const { return (column + kPad) % stride; }  // kPad is subtracted, but 2 kPad is a multiple
  FASTPOSE_INLINE int64_t shift(int column) const { return (column - kPad - phase(column)) / stride * layout.pitch; }

  FASTPOSE_INLINE void add_weights(int64_t row) {
    const float* grad = grad_row(row) + layout.start();
    const float* from[kTaps];
    for (int y = 0; y < kKernel; ++y) {
      const int64_t at = row * stride + y - kPad;
      for (int x = 0; x < kKernel; ++x)
        from[y * kKernel + x] =
            (at >= 0 && at < args.height ? map_row(at) + phase(x) * layout.row : nothing) + layout.start() + shift(x);
    }
    if (kKernel == 3) return add_products<kTaps>(layout, grad, from, sums);
    for (int y = 0; y < kKernel; ++y)  // as many sums as there are registers for
      add_products<kKernel>(layout, grad, from + y * kKernel, sums + y * kKernel * layout.period);
  }

  FASTPOSE_INLINE void make_row(int64_t row) {
    for (int part = 0; part < stride; ++part) {
      const float *from[kTaps], *by[kTaps];
      int count = 0;
      for (int y = static_cast<int>((row + kPad) % stride); y < kKernel; y += stride) {
        const int64_t at = row + kPad - y < 0 ? -1 : (row + kPad - y) / stride;
        const float* grad = (at >= 0 && at < out_height ? grad_row(at) : nothing) + layout.start();
        for (int x = 0; x < kKernel; ++x) {
          if (phase(x) != part) continue;
          from[count] = grad - shift(x);
          by[count++] = weights + (y * kKernel + x) * layout.period;
        }
      }
      combine(count, layout, by, from, result + part * layout.row + layout.start());
    }
  }
};

template <class E, int kKernel>
FASTPOSE_INLINE void run(const DepthwiseConvGradArgs& args) {
  parallel_for(args.batch, 1, [&](int64_t begin, int64_t end) {
    Gradient<E, kKernel> gradient(args);
    for (int64_t i = begin; i < end; ++i) gradient.image(i);
  });
  if (args.grad_weight == nullptr) return;
  constexpr int64_t kTaps = kKernel * kKernel;
  for (int64_t tap = 0; tap < kTaps; ++tap)
    for (int64_t c = 0; c < args.channels; ++c) {
      double sum = 0.0;
      for (int64_t i = 0; i < args.batch; ++i) sum += args.workspace[(i * kTaps + tap) * args.channels + c];
      args.grad_weight[c * kTaps + tap] = static_cast<float>(sum);
    }
}

template <class E>
FASTPOSE_INLINE void run_kernel(const DepthwiseConvGradArgs& args) {
  if (args.kernel == 3) return run<E, 3>(args);
  run<E, 5>(args);
}

}  // namespace

void depthwise_conv_grad_cpu(const DepthwiseConvGradArgs& args) {
  if (args.dtype == DType::BFloat16) return run_kernel<BFloat16>(args);
  run_kernel<Float32>(args);
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(depthwise_conv_grad_cpu, DepthwiseConvGradArgs)

}  // namespace fastpose
