#include "interleave/interleave.h"

#include "core/dispatch.h"
#include "core/elements.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// Pairs of elements. A pair of bfloat16 is one 32-bit lane with the first element in its low half; pairs of float32 are left to the
// compiler.
template <class E>
struct Pairs;

template <>
struct Pairs<BFloat16> {
  // Vectors write beyond the channels of a pixel, up to `end`; what is too much is overwritten by the next pixel.
  template <bool kWeighted>
  static FASTPOSE_INLINE void join(const uint16_t* first, const uint16_t* second, const float* weights, int64_t n, uint16_t* out,
                                   const uint16_t* first_end, const uint16_t* second_end, const uint16_t* end) {
    int64_t i = 0;
    for (; i < n && first + i + Vec::lanes <= first_end && second + i + Vec::lanes <= second_end && out + 2 * (i + Vec::lanes) <= end;
         i += Vec::lanes) {
      Vec b = load_bf16(second + i);
      if (kWeighted) {
        uint16_t rounded[Vec::lanes];
        store_bf16(rounded, b * load(weights + i));
        b = load_bf16(rounded);
      }
      istore(reinterpret_cast<int32_t*>(out + 2 * i), shift_right<16>(as_int(load_bf16(first + i))) | as_int(b));
    }
    for (; i < n; ++i) {
      out[2 * i] = first[i];
      out[2 * i + 1] = kWeighted ? bfloat16_bits(bfloat16_value(second[i]) * weights[i]) : second[i];
    }
  }
  template <bool kWeighted>
  static FASTPOSE_INLINE void part(const uint16_t* grad, const uint16_t* second, const float* weights, int64_t n, uint16_t* grad_first,
                                   uint16_t* grad_second, float* sums, const uint16_t* grad_end, const uint16_t* second_end,
                                   const uint16_t* first_end) {
    int64_t i = 0;
    const int64_t room = first_end - grad_first;  // the same for grad_second
    for (; i < n && grad + 2 * (i + Vec::lanes) <= grad_end && (!kWeighted || second + i + Vec::lanes <= second_end) &&
           i + Vec::lanes <= room;
         i += Vec::lanes) {
      const IVec pair = iload(reinterpret_cast<const int32_t*>(grad + 2 * i));
      const Vec a = as_float(shift_left<16>(pair));
      Vec b = as_float(shift_left<16>(shift_right<16>(pair)));
      store_bf16(grad_first + i, a);
      if (kWeighted) {
        store(sums + i, madd(b, load_bf16(second + i), load(sums + i)));
        b = b * load(weights + i);
      }
      store_bf16(grad_second + i, b);
    }
    for (; i < n; ++i) {
      grad_first[i] = grad[2 * i];
      const float b = bfloat16_value(grad[2 * i + 1]);
      if (kWeighted) sums[i] = madd(b, bfloat16_value(second[i]), sums[i]);
      grad_second[i] = kWeighted ? bfloat16_bits(b * weights[i]) : grad[2 * i + 1];
    }
  }
};

template <>
struct Pairs<Float32> {
  template <bool kWeighted>
  static FASTPOSE_INLINE void join(const float* __restrict__ first, const float* __restrict__ second, const float* __restrict__ weights,
                                   int64_t n, float* __restrict__ out, const float*, const float*, const float*) {
    for (int64_t i = 0; i < n; ++i) {
      out[2 * i] = first[i];
      out[2 * i + 1] = kWeighted ? second[i] * weights[i] : second[i];
    }
  }
  template <bool kWeighted>
  static FASTPOSE_INLINE void part(const float* __restrict__ grad, const float* __restrict__ second, const float* __restrict__ weights,
                                   int64_t n, float* __restrict__ grad_first, float* __restrict__ grad_second, float* __restrict__ sums,
                                   const float*, const float*, const float*) {
    for (int64_t i = 0; i < n; ++i) {
      const float b = grad[2 * i + 1];
      grad_first[i] = grad[2 * i];
      if (kWeighted) sums[i] = madd(b, second[i], sums[i]);
      grad_second[i] = kWeighted ? b * weights[i] : b;
    }
  }
};

// Whole vectors are read and written in the working memory.
FASTPOSE_INLINE int64_t room_for(int64_t channels) { return (channels + 15) / 16 * 16; }

template <class E>
FASTPOSE_INLINE void read_weights(const void* weights, int64_t image, int64_t channels, float* to) {
  const auto* from = static_cast<const typename E::Element*>(weights) + image * channels;
  for (int64_t i = 0; i < channels; ++i) to[i] = E::get(from + i);
  for (int64_t i = channels; i < room_for(channels); ++i) to[i] = 0.f;
}

template <class E, bool kWeighted>
FASTPOSE_INLINE void forward(const InterleaveArgs& args) {
  using Element = typename E::Element;
  const int64_t c = args.channels;
  parallel_for(args.batch, 1, [&](int64_t begin, int64_t end) {
    float* weights = thread_scratch(room_for(c));
    for (int64_t image = begin; image < end; ++image) {
      if (kWeighted) read_weights<E>(args.weights, image, c, weights);
      const auto* first = static_cast<const Element*>(args.first) + image * args.pixels * args.first_pitch;
      const auto* second = static_cast<const Element*>(args.second) + image * args.pixels * args.second_pitch;
      auto* out = static_cast<Element*>(args.out) + image * args.pixels * 2 * c;
      const Element *first_end = first + (args.pixels - 1) * args.first_pitch + c, *end_of_out = out + args.pixels * 2 * c;
      const Element* second_end = second + (args.pixels - 1) * args.second_pitch + c;
      for (int64_t pixel = 0; pixel < args.pixels; ++pixel) {
        Pairs<E>::template join<kWeighted>(first, second, weights, c, out, first_end, second_end, end_of_out);
        first += args.first_pitch;
        second += args.second_pitch;
        out += 2 * c;
      }
    }
  });
}

template <class E, bool kWeighted>
FASTPOSE_INLINE void backward(const InterleaveGradArgs& args) {
  using Element = typename E::Element;
  const int64_t c = args.channels, room = room_for(c);
  parallel_for(args.batch, 1, [&](int64_t begin, int64_t end) {
    // Sums of a row of pixels, and of all rows: thousands of numbers are not added one by one to a float.
    float *weights = thread_scratch(3 * room), *sums = weights + room, *total = sums + room;
    for (int64_t image = begin; image < end; ++image) {
      if (kWeighted) read_weights<E>(args.weights, image, c, weights);
      memset(sums, 0, bytes_of<float>(2 * room));
      const auto* grad = static_cast<const Element*>(args.grad) + image * args.pixels * 2 * c;
      const auto* second = kWeighted ? static_cast<const Element*>(args.second) + image * args.pixels * args.second_pitch : nullptr;
      auto* grad_first = static_cast<Element*>(args.grad_first) + image * args.pixels * c;
      auto* grad_second = static_cast<Element*>(args.grad_second) + image * args.pixels * c;
      const Element *grad_end = grad + args.pixels * 2 * c, *first_end = grad_first + args.pixels * c;
      const Element* second_end = kWeighted ? second + (args.pixels - 1) * args.second_pitch + c : nullptr;
      for (int64_t pixel = 0; pixel < args.pixels; ++pixel) {
        Pairs<E>::template part<kWeighted>(grad, second, weights, c, grad_first, grad_second, sums, grad_end, second_end, first_end);
        grad += 2 * c;
        if (kWeighted) second += args.second_pitch;
        grad_first += c;
        grad_second += c;
        if (kWeighted && (pixel % 64 == 63 || pixel + 1 == args.pixels)) {
          for (int64_t i = 0; i < c; ++i) total[i] += sums[i];
          memset(sums, 0, bytes_of<float>(room));
        }
      }
      if (!kWeighted) continue;
      auto* to = static_cast<Element*>(args.grad_weights) + image * c;
      for (int64_t i = 0; i < c; ++i) E::put(to + i, total[i]);
    }
  });
}

}  // namespace

void interleave_cpu(const InterleaveArgs& args) {
  const bool weighted = args.weights != nullptr;
  if (args.dtype == DType::BFloat16) return weighted ? forward<BFloat16, true>(args) : forward<BFloat16, false>(args);
  weighted ? forward<Float32, true>(args) : forward<Float32, false>(args);
}

void interleave_grad_cpu(const InterleaveGradArgs& args) {
  const bool weighted = args.weights != nullptr;
  if (args.dtype == DType::BFloat16) return weighted ? backward<BFloat16, true>(args) : backward<BFloat16, false>(args);
  weighted ? backward<Float32, true>(args) : backward<Float32, false>(args);
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(interleave_cpu, InterleaveArgs)
FASTPOSE_DISPATCH(interleave_grad_cpu, InterleaveGradArgs)

}  // namespace fastpose
