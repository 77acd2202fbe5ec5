// The layers: batch_norm_act, depthwise_conv and interleave, each with its gradient in the same trial.
#include "batch_norm_act/batch_norm_act.h"
#include "depthwise_conv/depthwise_conv.h"
#include "fuzz.h"
#include "interleave/interleave.h"

namespace fuzz {
namespace {

using fastpose::DType;

AnyArray filled(Bytes& in, DType dtype, int64_t count) {
  AnyArray array(in, dtype, count);
  array.fill(numbers(in, -3.0, 3.0));
  return array;
}

Array<float> channels_of(Bytes& in, int64_t count) {
  Array<float> array(in, count);
  fill(array, numbers(in, -2.0, 2.0, true));
  return array;
}

int64_t few_or_many(Bytes& in) { return in.flag() ? in.between(1, 40) : in.pick<int64_t>({1, 3, 16, 20, 64, 67, 160, 333}); }

}  // namespace

void batch_norm_act(Bytes& in) {
  const DType dtype = in.pick<DType>({DType::Float32, DType::BFloat16});
  const int64_t channels = few_or_many(in), rows = in.between(2, in.flag() ? 700 : 70), size = rows * channels;
  const AnyArray x = filled(in, dtype, size), grad = filled(in, dtype, size), residual = filled(in, dtype, size);
  const Array<float> weight = channels_of(in, channels), bias = channels_of(in, channels);
  const bool relu = in.flag(), with_residual = in.flag(), for_x = in.byte() % 4 != 0;
  const size_t workspace = static_cast<size_t>(fastpose::batch_norm_blocks(rows, channels) * 2 * channels);
  Trial trial;
  trial.same_levels = false;  // the order of additions follows the lanes
  trial.outputs = {{dtype, size},           {DType::Float32, 2 * channels}, {DType::Float32, channels}, {DType::Float32, channels},
                   {dtype, for_x ? size : 0}, {dtype, relu && with_residual ? size : 0}, {DType::Float32, channels}, {DType::Float32, channels}};
  trial.run = [&](void* const* outputs) {
    std::vector<double> room(workspace);
    auto *mean = static_cast<float*>(outputs[2]), *variance = static_cast<float*>(outputs[3]);
    for (int64_t c = 0; c < channels; ++c) mean[c] = 0.f, variance[c] = 1.f;
    fastpose::BatchNormActArgs forward{x.data(), with_residual ? residual.data() : nullptr, weight.data(), bias.data(), mean, variance,
                                       outputs[0], static_cast<float*>(outputs[1]), room.data(), dtype, relu, 0.1, 1e-5, rows, channels};
    fastpose::batch_norm_act_cpu(forward);
    fastpose::BatchNormActGradArgs backward{x.data(), relu && with_residual ? outputs[0] : nullptr, grad.data(), weight.data(), bias.data(),
                                            forward.stats, for_x ? outputs[4] : nullptr, relu && with_residual ? outputs[5] : nullptr,
                                            static_cast<float*>(outputs[6]), static_cast<float*>(outputs[7]), room.data(), dtype, relu, rows,
                                            channels};
    fastpose::batch_norm_act_grad_cpu(backward);
  };
  trial.check = [&](void* const* outputs) {
    if (!relu) return;
    for (int64_t i = 0; i < size; ++i) {
      const double y = value_of(outputs[0], dtype, i);
      FUZZ_CHECK(!(y < 0.0), "%.9g after ReLU", y);
    }
  };
  run_trial(in, trial);
}

void depthwise_conv(Bytes& in) {
  fastpose::DepthwiseConvGradArgs args{};
  args.dtype = in.pick<DType>({DType::Float32, DType::BFloat16});
  args.batch = in.between(1, 3);
  args.channels = few_or_many(in);
  args.height = in.between(1, 9);
  args.width = in.between(1, 12);
  args.kernel = in.pick<int64_t>({3, 5});
  args.stride = in.between(1, 2);
  const int64_t taps = args.kernel * args.kernel, size = args.batch * args.height * args.width * args.channels;
  const int64_t out_size = args.batch * ((args.height - 1) / args.stride + 1) * ((args.width - 1) / args.stride + 1) * args.channels;
  const AnyArray x = filled(in, args.dtype, size), grad = filled(in, args.dtype, out_size);
  const AnyArray weight = filled(in, args.dtype, taps * args.channels);
  args.x = x.data();
  args.grad = grad.data();
  args.weight = weight.data();
  const bool for_x = in.byte() % 4 != 0, for_weight = !for_x || in.byte() % 4 != 0;
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{args.dtype, for_x ? size : 0}, {DType::Float32, for_weight ? taps * args.channels : 0}};
  trial.run = [&](void* const* outputs) {
    std::vector<double> room(static_cast<size_t>(args.batch * taps * args.channels));
    fastpose::DepthwiseConvGradArgs mine = args;
    mine.grad_x = for_x ? outputs[0] : nullptr;
    mine.grad_weight = for_weight ? static_cast<float*>(outputs[1]) : nullptr;
    mine.workspace = room.data();
    fastpose::depthwise_conv_grad_cpu(mine);
  };
  trial.check = [](void* const*) {};
  run_trial(in, trial);
}

void interleave(Bytes& in) {
  const DType dtype = in.pick<DType>({DType::Float32, DType::BFloat16});
  const int64_t batch = in.between(1, 3), channels = few_or_many(in), pixels = in.between(1, 100), size = batch * pixels * channels;
  const int64_t first_pitch = channels + in.between(0, 40), second_pitch = channels + in.between(0, 40);
  // The last pixel has no others behind it.
  const AnyArray first = filled(in, dtype, (batch * pixels - 1) * first_pitch + channels);
  const AnyArray second = filled(in, dtype, (batch * pixels - 1) * second_pitch + channels);
  const AnyArray weights = filled(in, dtype, batch * channels), grad = filled(in, dtype, 2 * size);
  const bool weighted = in.flag();
  const void* factors = weighted ? weights.data() : nullptr;
  Trial trial;
  trial.same_levels = false;
  trial.outputs = {{dtype, 2 * size}, {dtype, size}, {dtype, size}, {dtype, weighted ? batch * channels : 0}};
  trial.run = [&](void* const* outputs) {
    fastpose::interleave_cpu({first.data(), second.data(), factors, outputs[0], first_pitch, second_pitch, dtype, batch, pixels, channels});
    fastpose::interleave_grad_cpu({grad.data(), weighted ? second.data() : nullptr, factors, outputs[1], outputs[2],
                                   weighted ? outputs[3] : nullptr, second_pitch, dtype, batch, pixels, channels});
  };
  trial.check = [&](void* const* outputs) {
    for (int64_t i = 0; i < size; ++i) {
      const double wanted = value_of(first.data(), dtype, i / channels * first_pitch + i % channels);
      const double got = value_of(outputs[0], dtype, 2 * i), slope = value_of(grad.data(), dtype, 2 * i);
      FUZZ_CHECK(got == wanted || wanted != wanted, "element %d is %.9g, not %.9g", static_cast<int>(2 * i), got, wanted);
      FUZZ_CHECK(slope != slope || value_of(outputs[1], dtype, i) == slope, "gradient %d", static_cast<int>(i));
    }
  };
  run_trial(in, trial);
}

}  // namespace fuzz
