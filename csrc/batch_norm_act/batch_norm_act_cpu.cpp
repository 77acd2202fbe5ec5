#include "batch_norm_act/batch_norm_act.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// A few pixels side by side count as one row of more channels, so that whole vectors fit even where the channels are few or odd: channel i
// of such a row is channel i % channels of the map.
struct Folding {
  int64_t channels, pixels, width;

  FASTPOSE_INLINE explicit Folding(int64_t c) : channels(c), pixels(1) {
    constexpr int64_t kWidest = 1024, kAtLeast = 64, kLanes = 16;
    while ((c * pixels % kLanes != 0 && c * pixels * 2 <= kWidest) || c * pixels < kAtLeast) pixels *= 2;
    if (c * pixels % kLanes != 0 && c * pixels >= kAtLeast) pixels = 1;
    width = c * pixels;
  }
  // [channels] → [width]
  FASTPOSE_INLINE void repeat(const float* from, float* to) const {
    for (int64_t k = 0; k < pixels; ++k, to += channels) memcpy(to, from, bytes_of<float>(channels));
  }
  // What belongs to one channel of the map, added up: [width] → [channels]
  FASTPOSE_INLINE void add_up(const float* from, double* to) const {
    for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<double>(from[c]);
    for (int64_t k = 1; k < pixels; ++k)
      for (int64_t c = 0; c < channels; ++c) to[c] += static_cast<double>(from[k * channels + c]);
  }
};

template <int n>
struct Count { static constexpr int value = n; };

// Calls op.tile(Count<V>, offset, rows, i) for tiles of V vectors by some rows, beginning at element `offset` of the map and channel i of
// the row, and op.one(offset, i) for the elements that are left over. The tiles of a few rows follow each other while these are
// in the cache.
template <class Op>
FASTPOSE_INLINE void for_tiles(Op& op, const Folding& folding, int64_t first_pixel, int64_t pixels) {
  const int64_t width = folding.width, rows = pixels / folding.pixels, whole = width / Vec::lanes * Vec::lanes;
  const int64_t begin = first_pixel * folding.channels;
  const int64_t step = clamp<int64_t>(8192 / width, 8, 64);
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = min_of(step, rows - row), offset = begin + row * width;
    for (int64_t i = 0; i < whole;) {
      const int64_t left = (whole - i) / Vec::lanes, vectors = left == 5 ? 3 : min_of<int64_t>(left, 4);
      switch (vectors) {
        case 1: op.tile(Count<1>{}, offset + i, count, i); break;
        case 2: op.tile(Count<2>{}, offset + i, count, i); break;
        case 3: op.tile(Count<3>{}, offset + i, count, i); break;
        default: op.tile(Count<4>{}, offset + i, count, i);
      }
      i += vectors * Vec::lanes;
    }
    for (int64_t r = 0; r < count; ++r)
      for (int64_t i = whole; i < width; ++i) op.one(offset + r * width + i, i);
  }
  const int64_t rest = (pixels - rows * folding.pixels) * folding.channels;
  for (int64_t i = 0; i < rest; ++i) op.one(begin + rows * width + i, i);
}

// What the next tile at this place will want: rows are far apart, and the processor's own prefetching does not follow several arrays so.
template <int V, class T>
FASTPOSE_INLINE void prefetch(const T* p) {
  constexpr int kLine = 64 / sizeof(T);
  for (int i = 0; i < V * Vec::lanes; i += kLine) __builtin_prefetch(p + i);
}

// Sums of x - shift and of its square. With a shift near the mean, the difference of the two loses nothing that matters.
template <class E>
struct Sums {
  const typename E::Element* x;
  const float* shift;
  float *sum, *squares;
  int64_t width;

  template <int V>
  FASTPOSE_INLINE void tile(Count<V>, int64_t offset, int64_t rows, int64_t i) {
    Vec centre[V], s[V], q[V];
    for (int v = 0; v < V; ++v) centre[v] = load(shift + i + v * Vec::lanes), s[v] = q[v] = zero();
    const auto* p = x + offset;
    const int64_t ahead = rows * width;
    for (int64_t r = 0; r < rows; ++r, p += width) {
      prefetch<V>(p + ahead);
      for (int v = 0; v < V; ++v) {
        const Vec d = E::load(p + v * Vec::lanes) - centre[v];
        s[v] += d;
        q[v] = madd(d, d, q[v]);
      }
    }
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + v * Vec::lanes;
      store(sum + at, load(sum + at) + s[v]);
      store(squares + at, load(squares + at) + q[v]);
    }
  }
  FASTPOSE_INLINE void one(int64_t offset, int64_t i) {
    const float d = E::get(x + offset) - shift[i];
    sum[i] += d;
    squares[i] = madd(d, d, squares[i]);
  }
};

// act((x - mean) * scale + bias + residual)
template <class E, bool kRelu, bool kResidual>
struct Apply {
  const typename E::Element *x, *residual;
  typename E::Element* out;
  const float *mean, *scale, *bias;
  int64_t width;

  template <int V>
  FASTPOSE_INLINE void tile(Count<V>, int64_t offset, int64_t rows, int64_t i) {
    Vec m[V], a[V], b[V];
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + v * Vec::lanes;
      m[v] = load(mean + at), a[v] = load(scale + at), b[v] = load(bias + at);
    }
    const int64_t ahead = rows * width;
    for (int64_t r = 0; r < rows; ++r, offset += width) {
      prefetch<V>(x + offset + ahead);
      if (kResidual) prefetch<V>(residual + offset + ahead);
      for (int v = 0; v < V; ++v) {
        const int64_t at = offset + v * Vec::lanes;
        Vec y = madd(E::load(x + at) - m[v], a[v], b[v]);
        if (kResidual) y = y + E::load(residual + at);
        if (kRelu) y = max(zero(), y);
        E::store(out + at, y);
      }
    }
  }
  FASTPOSE_INLINE void one(int64_t offset, int64_t i) {
    float y = madd(E::get(x + offset) - mean[i], scale[i], bias[i]);
    if (kResidual) y += E::get(residual + offset);
    if (kRelu) y = y <= 0.f ? 0.f : y;
    E::put(out + offset, y);
  }
};

// How it is known where ReLU let the value pass: there is none, its input is made again from x as the forward pass made it, or its output
// lies there.
enum class Relu { None, FromX, FromOut };

// The gradient with respect to what entered ReLU, `centred` being x - mean. As torch does it, NaN lets it pass.
template <class E, Relu kRelu>
FASTPOSE_INLINE Vec slope(const typename E::Element* grad, const typename E::Element* out, Vec centred, Vec scale, Vec bias) {
  const Vec g = E::load(grad);
  if (kRelu == Relu::None) return g;
  return select((kRelu == Relu::FromX ? madd(centred, scale, bias) : E::load(out)) <= zero(), zero(), g);
}
template <class E, Relu kRelu>
FASTPOSE_INLINE float slope(const typename E::Element* grad, const typename E::Element* out, float centred, float scale, float bias) {
  const float g = E::get(grad);
  if (kRelu == Relu::None) return g;
  return (kRelu == Relu::FromX ? madd(centred, scale, bias) : E::get(out)) <= 0.f ? 0.f : g;
}

// Sums of that gradient and of its product with x - mean; it is written out where it is the gradient of the residual.
template <class E, Relu kRelu, bool kWrite>
struct GradSums {
  const typename E::Element *x, *out, *grad;
  typename E::Element* grad_residual;
  const float *mean, *scale, *bias;
  float *sum, *products;
  int64_t width;

  template <int V>
  FASTPOSE_INLINE void tile(Count<V>, int64_t offset, int64_t rows, int64_t i) {
    Vec m[V], a[V], b[V], s[V], q[V];
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + v * Vec::lanes;
      m[v] = load(mean + at), a[v] = load(scale + at), b[v] = load(bias + at), s[v] = q[v] = zero();
    }
    const int64_t ahead = rows * width;
    for (int64_t r = 0; r < rows; ++r, offset += width) {
      prefetch<V>(x + offset + ahead);
      prefetch<V>(grad + offset + ahead);
      if (kRelu == Relu::FromOut) prefetch<V>(out + offset + ahead);
      for (int v = 0; v < V; ++v) {
        const int64_t at = offset + v * Vec::lanes;
        const Vec centred = E::load(x + at) - m[v];
        const Vec g = slope<E, kRelu>(grad + at, out + at, centred, a[v], b[v]);
        if (kWrite) E::store(grad_residual + at, g);
        s[v] += g;
        q[v] = madd(g, centred, q[v]);
      }
    }
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + v * Vec::lanes;
      store(sum + at, load(sum + at) + s[v]);
      store(products + at, load(products + at) + q[v]);
    }
  }
  FASTPOSE_INLINE void one(int64_t offset, int64_t i) {
    const float centred = E::get(x + offset) - mean[i];
    const float g = slope<E, kRelu>(grad + offset, out + offset, centred, scale[i], bias[i]);
    if (kWrite) E::put(grad_residual + offset, g);
    sum[i] += g;
    products[i] = madd(g, centred, products[i]);
  }
};

// The gradient with respect to x: gradient * scale + (x - mean) * tilt + offset.
template <class E, Relu kRelu>
struct GradApply {
  const typename E::Element *x, *out, *grad;
  typename E::Element* grad_x;
  const float *mean, *scale, *bias, *tilt, *constant;
  int64_t width;

  template <int V>
  FASTPOSE_INLINE void tile(Count<V>, int64_t offset, int64_t rows, int64_t i) {
    Vec m[V], a[V], b[V], t[V], c[V];
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + v * Vec::lanes;
      m[v] = load(mean + at), a[v] = load(scale + at), b[v] = load(bias + at), t[v] = load(tilt + at), c[v] = load(constant + at);
    }
    const int64_t ahead = rows * width;
    for (int64_t r = 0; r < rows; ++r, offset += width) {
      prefetch<V>(x + offset + ahead);
      prefetch<V>(grad + offset + ahead);
      if (kRelu == Relu::FromOut) prefetch<V>(out + offset + ahead);
      for (int v = 0; v < V; ++v) {
        const int64_t at = offset + v * Vec::lanes;
        const Vec centred = E::load(x + at) - m[v];
        const Vec g = slope<E, kRelu>(grad + at, out + at, centred, a[v], b[v]);
        E::store(grad_x + at, madd(g, a[v], madd(centred, t[v], c[v])));
      }
    }
  }
  FASTPOSE_INLINE void one(int64_t offset, int64_t i) {
    const float centred = E::get(x + offset) - mean[i];
    const float g = slope<E, kRelu>(grad + offset, out + offset, centred, scale[i], bias[i]);
    E::put(grad_x + offset, madd(g, scale[i], madd(centred, tilt[i], constant[i])));
  }
};

// Calls f(block, first pixel, pixels) for all blocks, several threads at once. The last ones first: what the pass before read last is still
// in the cache.
template <class F>
FASTPOSE_INLINE void for_blocks_backwards(int64_t rows, int64_t channels, F f) {
  const int64_t each = batch_norm_block_rows(channels), blocks = batch_norm_blocks(rows, channels);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = blocks - 1 - i;
      f(block, block * each, min_of(each, rows - block * each));
    }
  });
}

// Of up to 8 pixels here and there among them.
template <class E>
FASTPOSE_INLINE void mean_of_some(const typename E::Element* x, int64_t pixels, int64_t channels, float* mean) {
  const int64_t count = min_of<int64_t>(pixels, 8), step = pixels / count * channels;
  const float share = 1.f / static_cast<float>(count);
  int64_t c = 0;
  for (; c + Vec::lanes <= channels; c += Vec::lanes) {
    Vec sum = zero();
    for (int64_t i = 0; i < count; ++i) sum += E::load(x + i * step + c) * set(share);
    store(mean + c, sum);
  }
  for (; c < channels; ++c) {
    mean[c] = 0.f;
    for (int64_t i = 0; i < count; ++i) mean[c] += E::get(x + i * step + c) * share;
  }
}

// Mean and sum of squared deviations of every block, into the workspace.
template <class E>
FASTPOSE_INLINE void block_statistics(const BatchNormActArgs& args) {
  const Folding folding(args.channels);
  const int64_t width = folding.width, channels = args.channels;
  const auto* x = static_cast<const typename E::Element*>(args.x);
  for_blocks_backwards(args.rows, channels, [&](int64_t block, int64_t first, int64_t pixels) {
    float* shift = thread_scratch(3 * width);
    Sums<E> sums{x, shift, shift + width, shift + 2 * width, width};
    mean_of_some<E>(x + first * channels, pixels, channels, shift);
    for (int64_t i = channels; i < width; ++i) shift[i] = shift[i - channels];
    memset(sums.sum, 0, bytes_of<float>(2 * width));
    for_tiles(sums, folding, first, pixels);
    double *mean = args.workspace + block * 2 * channels, *squares = mean + channels;
    folding.add_up(sums.sum, mean);
    folding.add_up(sums.squares, squares);
    const double n = static_cast<double>(pixels);
    for (int64_t c = 0; c < channels; ++c) {
      const double difference = mean[c] / n;
      squares[c] = max_of(squares[c] - mean[c] * difference, 0.0);
      mean[c] = static_cast<double>(shift[c]) + difference;
    }
  });
}

// Chan, Golub & LeVeque: means and squared deviations of two parts together, in the order of the blocks.
FASTPOSE_INLINE void put_together(double* workspace, int64_t rows, int64_t channels) {
  const int64_t each = batch_norm_block_rows(channels), blocks = batch_norm_blocks(rows, channels);
  double *mean = workspace, *squares = workspace + channels;
  for (int64_t block = 1; block < blocks; ++block) {
    const double seen = static_cast<double>(block * each), n = static_cast<double>(min_of(each, rows - block * each));
    const double share = n / (seen + n), cross = seen * share;
    const double *other = workspace + block * 2 * channels, *other_squares = other + channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double difference = other[c] - mean[c];
      mean[c] += difference * share;
      squares[c] += other_squares[c] + difference * difference * cross;
    }
  }
}

template <class E, bool kRelu, bool kResidual>
FASTPOSE_INLINE void apply(const BatchNormActArgs& args) {
  const Folding folding(args.channels);
  const int64_t width = folding.width, channels = args.channels;
  for_blocks_backwards(args.rows, channels, [&](int64_t, int64_t first, int64_t pixels) {
    float *mean = thread_scratch(3 * width), *scale = mean + width, *bias = scale + width;
    for (int64_t c = 0; c < channels; ++c) scale[c] = args.weight[c] * args.stats[channels + c];
    folding.repeat(args.stats, mean);
    folding.repeat(args.bias, bias);
    for (int64_t i = channels; i < width; ++i) scale[i] = scale[i - channels];
    Apply<E, kRelu, kResidual> op{static_cast<const typename E::Element*>(args.x), static_cast<const typename E::Element*>(args.residual),
                                  static_cast<typename E::Element*>(args.out), mean, scale, bias, width};
    for_tiles(op, folding, first, pixels);
  });
}

template <class E>
FASTPOSE_INLINE void forward(const BatchNormActArgs& args) {
  const int64_t channels = args.channels;
  block_statistics<E>(args);
  put_together(args.workspace, args.rows, channels);
  const double n = static_cast<double>(args.rows);
  for (int64_t c = 0; c < channels; ++c) {
    const double mean = args.workspace[c], squares = args.workspace[channels + c];
    args.stats[c] = static_cast<float>(mean);
    args.stats[channels + c] = static_cast<float>(1.0 / std::sqrt(squares / n + args.eps));
    const double kept = 1.0 - args.momentum;
    args.running_mean[c] = static_cast<float>(kept * static_cast<double>(args.running_mean[c]) + args.momentum * mean);
    args.running_var[c] = static_cast<float>(kept * static_cast<double>(args.running_var[c]) + args.momentum * (squares / (n - 1.0)));
  }
  if (args.residual != nullptr) args.relu ? apply<E, true, true>(args) : apply<E, false, true>(args);
  else args.relu ? apply<E, true, false>(args) : apply<E, false, false>(args);
}

template <class E, Relu kRelu, bool kWrite>
FASTPOSE_INLINE void backward(const BatchNormActGradArgs& args) {
  using Element = typename E::Element;
  const Folding folding(args.channels);
  const int64_t width = folding.width, channels = args.channels, blocks = batch_norm_blocks(args.rows, channels);
  const Element *x = static_cast<const Element*>(args.x), *out = static_cast<const Element*>(args.out);
  const Element* grad = static_cast<const Element*>(args.grad);
  Element* grad_residual = static_cast<Element*>(args.grad_residual);
  const float *mean = args.stats, *inverse = args.stats + channels;
  const auto prepare = [&](float* to) {  // [3, width]: mean, scale, bias, as the forward pass had them
    folding.repeat(mean, to);
    for (int64_t i = 0; i < channels; ++i) to[width + i] = args.weight[i] * inverse[i];
    for (int64_t i = channels; i < width; ++i) to[width + i] = to[width + i - channels];
    folding.repeat(args.bias, to + 2 * width);
  };
  for_blocks_backwards(args.rows, channels, [&](int64_t block, int64_t first, int64_t pixels) {
    float* at = thread_scratch(5 * width);
    prepare(at);
    memset(at + 3 * width, 0, bytes_of<float>(2 * width));
    GradSums<E, kRelu, kWrite> op{x, out, grad, grad_residual, at, at + width, at + 2 * width, at + 3 * width, at + 4 * width, width};
    for_tiles(op, folding, first, pixels);
    double* sums = args.workspace + block * 2 * channels;
    folding.add_up(op.sum, sums);
    folding.add_up(op.products, sums + channels);
  });
  for (int64_t block = 1; block < blocks; ++block)
    for (int64_t i = 0; i < 2 * channels; ++i) args.workspace[i] += args.workspace[block * 2 * channels + i];
  for (int64_t c = 0; c < channels; ++c) {
    args.grad_bias[c] = static_cast<float>(args.workspace[c]);
    args.grad_weight[c] = static_cast<float>(args.workspace[channels + c] * static_cast<double>(inverse[c]));
  }
  if (args.grad_x == nullptr) return;
  for_blocks_backwards(args.rows, channels, [&](int64_t, int64_t first, int64_t pixels) {
    float* at = thread_scratch(5 * width);
    prepare(at);
    float *tilt = at + 3 * width, *constant = tilt + width;
    const double n = static_cast<double>(args.rows);
    for (int64_t c = 0; c < channels; ++c) {
      const double scale = static_cast<double>(at[width + c]), rate = static_cast<double>(inverse[c]);
      tilt[c] = static_cast<float>(-scale * rate * rate * args.workspace[channels + c] / n);
      constant[c] = static_cast<float>(-scale * args.workspace[c] / n);
    }
    for (int64_t i = channels; i < width; ++i) tilt[i] = tilt[i - channels], constant[i] = constant[i - channels];
    // What passed ReLU lies there, if it was written out.
    GradApply<E, kWrite ? Relu::None : kRelu> op{x, out, kWrite ? grad_residual : grad, static_cast<Element*>(args.grad_x),
                                                 at, at + width, at + 2 * width, tilt, constant, width};
    for_tiles(op, folding, first, pixels);
  });
}

template <class E>
FASTPOSE_INLINE void backward_of(const BatchNormActGradArgs& args) {
  if (!args.relu) return backward<E, Relu::None, false>(args);
  if (args.out == nullptr) return backward<E, Relu::FromX, false>(args);
  if (args.grad_residual == nullptr) return backward<E, Relu::FromOut, false>(args);
  backward<E, Relu::FromOut, true>(args);
}

}  // namespace

void batch_norm_act_cpu(const BatchNormActArgs& args) {
  if (args.dtype == DType::BFloat16) return forward<BFloat16>(args);
  forward<Float32>(args);
}

void batch_norm_act_grad_cpu(const BatchNormActGradArgs& args) {
  if (args.dtype == DType::BFloat16) return backward_of<BFloat16>(args);
  backward_of<Float32>(args);
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(batch_norm_act_cpu, BatchNormActArgs)
FASTPOSE_DISPATCH(batch_norm_act_grad_cpu, BatchNormActGradArgs)

}  // namespace fastpose
