// Bindings of the layers: ops of training on the CPU, on maps whose channels lie last in memory.
#include <vector>

#include "batch_norm_act/batch_norm_act.h"
#include "depthwise_conv/depthwise_conv.h"
#include "interleave/interleave.h"
#include "python_view.h"

namespace fastpose {
namespace {

// A view of a tensor whatever becomes of its gradient, which the caller sees to.
Arg map_view(py::handle object, const char* name) { return view(object, name, true); }

// [B, C, h, w] with the channels side by side and the pixels one after another.
bool channels_last(const Arg& a) {
  int64_t expected = 1;
  for (int i : {1, 3, 2, 0}) {
    if (a.shape[i] != 1 && a.stride[i] != expected) return a.numel() == 0;
    expected *= a.shape[i];
  }
  return true;
}

void expect_like(const Arg& a, const Arg& x) {
  expect_device(a, x);
  expect_dtype(a, {x.dtype});
  expect_shape(a, {x.shape[0], x.shape[1], x.shape[2], x.shape[3]}, "that of x");
  if (!channels_last(a)) fail_value(a, "the channels last in memory", "other strides for shape " + shape_text(a));
}

void expect_map(const Arg& x) {
  expect_dtype(x, {DType::Float32, DType::BFloat16});
  expect_shape(x, {-1, -1, -1, -1}, "[B, C, h, w]");
  if (x.device != kCpu) fail_value(x, "memory on the CPU", "CUDA");
  expect_like(x, x);
}

void expect_channels(const Arg& a, const Arg& x) {
  expect_device(a, x);
  expect_dtype(a, {DType::Float32});
  expect_shape(a, {x.shape[1]}, "[C]");
  expect_contiguous(a);
}

// Mean and reciprocal deviation of each channel, from forward to backward.
void expect_stats(const Arg& a, const Arg& x) {
  expect_device(a, x);
  expect_dtype(a, {DType::Float32});
  expect_shape(a, {2, x.shape[1]}, "[2, C]");
  expect_contiguous(a);
}

// Kept between calls: a fresh large block costs more than its use.
double* workspace(int64_t size) {
  thread_local std::vector<double> room;
  if (room.size() < static_cast<size_t>(size)) room.resize(static_cast<size_t>(size));
  return room.data();
}

// The gate of the layers. Python's asks more closely where it is shut.
bool plain_tensors(py::handle optional, const py::args& tensors) {
  if (!optional.is_none() && !is_plain_tensor(optional)) return false;
  for (py::handle tensor : tensors)
    if (!is_plain_tensor(tensor)) return false;
  return !watched();
}

// --- batch_norm_act ------------------------------------------------------------------------------------------------------------

void batch_norm_act(py::handle x_object, py::handle residual_object, py::handle weight_object, py::handle bias_object,
                    py::handle running_mean_object, py::handle running_var_object, double momentum, double eps, bool relu,
                    py::handle out_object, py::handle stats_object) {
  const Arg x = map_view(x_object, "x"), weight = map_view(weight_object, "weight"), bias = map_view(bias_object, "bias");
  const Arg running_mean = view_out(running_mean_object, "running_mean"), running_var = view_out(running_var_object, "running_var");
  const Arg out = view_out(out_object, "out"), stats = view_out(stats_object, "stats");
  expect_map(x);
  BatchNormActArgs args{};
  if (!residual_object.is_none()) {
    const Arg residual = map_view(residual_object, "residual");
    expect_like(residual, x);
    args.residual = residual.data;
  }
  for (const Arg* a : {&weight, &bias, &running_mean, &running_var}) expect_channels(*a, x);
  expect_like(out, x);
  expect_stats(stats, x);
  args.rows = x.shape[0] * x.shape[2] * x.shape[3];
  args.channels = x.shape[1];
  if (args.rows < 2 || args.channels < 1) fail_value(x, "more than one value per channel", "shape " + shape_text(x));
  args.x = x.data;
  args.weight = weight.as<float>();
  args.bias = bias.as<float>();
  args.running_mean = running_mean.as<float>();
  args.running_var = running_var.as<float>();
  args.out = out.data;
  args.stats = stats.as<float>();
  args.workspace = workspace(batch_norm_blocks(args.rows, args.channels) * 2 * args.channels);
  args.dtype = x.dtype;
  args.relu = relu;
  args.momentum = momentum;
  args.eps = eps;
  Computing computing;
  batch_norm_act_cpu(args);
}

void batch_norm_act_grad(py::handle x_object, py::handle out_object, py::handle grad_object, py::handle weight_object,
                         py::handle bias_object, py::handle stats_object, bool relu, py::handle grad_x_object,
                         py::handle grad_residual_object, py::handle grad_weight_object, py::handle grad_bias_object) {
  const Arg x = map_view(x_object, "x"), grad = map_view(grad_object, "grad"), stats = map_view(stats_object, "stats");
  const Arg weight = map_view(weight_object, "weight"), bias = map_view(bias_object, "bias");
  const Arg grad_weight = view_out(grad_weight_object, "grad_weight"), grad_bias = view_out(grad_bias_object, "grad_bias");
  expect_map(x);
  BatchNormActGradArgs args{};
  const auto map_or_none = [&](py::handle object, const char* name, bool output) -> void* {
    if (object.is_none()) return nullptr;
    const Arg a = output ? view_out(object, name) : map_view(object, name);
    expect_like(a, x);
    return a.data;
  };
  args.out = map_or_none(out_object, "out", false);
  args.grad_x = map_or_none(grad_x_object, "grad_x", true);
  args.grad_residual = map_or_none(grad_residual_object, "grad_residual", true);
  expect_like(grad, x);
  for (const Arg* a : {&weight, &bias, &grad_weight, &grad_bias}) expect_channels(*a, x);
  expect_stats(stats, x);
  if (args.grad_residual != nullptr && (!relu || args.out == nullptr))
    throw py::value_error("grad_residual: expected None without relu and out");
  args.rows = x.shape[0] * x.shape[2] * x.shape[3];
  args.channels = x.shape[1];
  if (args.rows < 2 || args.channels < 1) fail_value(x, "more than one value per channel", "shape " + shape_text(x));
  args.x = x.data;
  args.grad = grad.data;
  args.weight = weight.as<float>();
  args.bias = bias.as<float>();
  args.stats = stats.as<float>();
  args.grad_weight = grad_weight.as<float>();
  args.grad_bias = grad_bias.as<float>();
  args.workspace = workspace(batch_norm_blocks(args.rows, args.channels) * 2 * args.channels);
  args.dtype = x.dtype;
  args.relu = relu;
  Computing computing;
  batch_norm_act_grad_cpu(args);
}

// --- depthwise_conv ------------------------------------------------------------------------------------------------------------
// The side of the kernels [C, 1, k, k], which are of that dtype.
int64_t expect_kernels(const Arg& weight, const Arg& x, DType dtype) {
  expect_dtype(weight, {dtype});
  expect_shape(weight, {x.shape[1], 1, -1, -1}, "[C, 1, k, k]");
  const int64_t kernel = weight.shape[2];
  if ((kernel != 3 && kernel != 5) || weight.shape[3] != kernel)
    fail_value(weight, "kernels of 3 x 3 or 5 x 5", "shape " + shape_text(weight));
  expect_device(weight, x);
  return kernel;
}

void depthwise_conv_check(py::handle x_object, py::handle weight_object) {
  const Arg x = map_view(x_object, "x"), weight = map_view(weight_object, "weight");
  expect_map(x);
  if (x.numel() == 0) fail_value(x, "at least one value", "shape " + shape_text(x));
  expect_kernels(weight, x, DType::Float32);
}

void depthwise_conv_grad(py::handle x_object, py::handle grad_object, py::handle weight_object, int64_t stride,
                         py::handle grad_x_object, py::handle grad_weight_object) {
  const Arg x = map_view(x_object, "x"), grad = map_view(grad_object, "grad"), weight = map_view(weight_object, "weight");
  expect_map(x);
  DepthwiseConvGradArgs args{};
  args.batch = x.shape[0];
  args.channels = x.shape[1];
  args.height = x.shape[2];
  args.width = x.shape[3];
  args.stride = stride;
  if (x.numel() == 0) fail_value(x, "at least one value", "shape " + shape_text(x));
  if (stride != 1 && stride != 2) throw py::value_error("stride: expected 1 or 2, got " + std::to_string(stride));
  args.kernel = expect_kernels(weight, x, x.dtype);
  expect_contiguous(weight);
  expect_dtype(grad, {x.dtype});
  expect_shape(grad, {x.shape[0], x.shape[1], (args.height - 1) / stride + 1, (args.width - 1) / stride + 1}, "that of the output");
  if (!channels_last(grad)) fail_value(grad, "the channels last in memory", "other strides for shape " + shape_text(grad));
  expect_device(grad, x);
  if (!grad_x_object.is_none()) {
    const Arg grad_x = view_out(grad_x_object, "grad_x");
    expect_like(grad_x, x);
    args.grad_x = grad_x.data;
  }
  if (!grad_weight_object.is_none()) {
    const Arg grad_weight = view_out(grad_weight_object, "grad_weight");
    expect_dtype(grad_weight, {DType::Float32});
    expect_shape(grad_weight, {weight.shape[0], 1, weight.shape[2], weight.shape[3]}, "that of weight");
    expect_contiguous(grad_weight);
    expect_device(grad_weight, x);
    args.grad_weight = grad_weight.as<float>();
  }
  args.x = x.data;
  args.grad = grad.data;
  args.weight = weight.data;
  args.dtype = x.dtype;
  args.workspace = workspace(args.batch * args.kernel * args.kernel * args.channels);
  Computing computing;
  depthwise_conv_grad_cpu(args);
}

// --- interleave ----------------------------------------------------------------------------------------------------------------
// Elements from pixel to pixel of a map whose channels lie side by side: a map of its own, or some channels of one.
int64_t expect_pixels(const Arg& a, const Arg& like) {
  expect_dtype(a, {DType::Float32, DType::BFloat16});
  expect_shape(a, {-1, -1, -1, -1}, "[B, C, h, w]");
  expect_dtype(a, {like.dtype});
  expect_shape(a, {like.shape[0], like.shape[1], like.shape[2], like.shape[3]}, "that of the other map");
  if (a.device != kCpu) fail_value(a, "memory on the CPU", "CUDA");
  if (a.numel() == 0) fail_value(a, "at least one value", "shape " + shape_text(a));
  int64_t pitch = a.shape[1], pixels = 1;
  for (int i : {3, 2, 0}) {  // the first of these that has a step says how far apart pixels are
    if (a.shape[i] == 1) continue;
    pitch = a.stride[i];
    break;
  }
  bool good = pitch >= a.shape[1] && (a.shape[1] == 1 || a.stride[1] == 1);
  for (int i : {3, 2, 0}) {
    good = good && (a.shape[i] == 1 || a.stride[i] == pitch * pixels);
    pixels *= a.shape[i];
  }
  if (!good) fail_value(a, "the channels last in memory, of the map or of one that it is part of", "other strides");
  return pitch;
}

void expect_weights(const Arg& weights, const Arg& map) {
  expect_dtype(weights, {map.dtype});
  expect_shape(weights, {map.shape[0], map.shape[1]}, "[B, C]");
  expect_contiguous(weights);
  expect_device(weights, map);
}

// Both halves together: [B, 2 C, h, w].
void expect_joined(const Arg& joined, const Arg& part) {
  expect_dtype(joined, {part.dtype});
  expect_shape(joined, {part.shape[0], 2 * part.shape[1], part.shape[2], part.shape[3]}, "[B, 2 C, h, w]");
  expect_device(joined, part);
  if (!channels_last(joined)) fail_value(joined, "the channels last in memory", "other strides for shape " + shape_text(joined));
}

void interleave(py::handle first_object, py::handle second_object, py::handle weights_object, py::handle out_object) {
  const Arg first = map_view(first_object, "first"), second = map_view(second_object, "second"), out = view_out(out_object, "out");
  InterleaveArgs args{};
  args.first_pitch = expect_pixels(first, first);
  args.second_pitch = expect_pixels(second, first);
  if (!weights_object.is_none()) {
    const Arg weights = map_view(weights_object, "weights");
    expect_weights(weights, first);
    args.weights = weights.data;
  }
  expect_joined(out, first);
  args.first = first.data;
  args.second = second.data;
  args.out = out.data;
  args.dtype = first.dtype;
  args.batch = first.shape[0];
  args.channels = first.shape[1];
  args.pixels = first.shape[2] * first.shape[3];
  Computing computing;
  interleave_cpu(args);
}

void interleave_grad(py::handle grad_object, py::handle second_object, py::handle weights_object, py::handle grad_first_object,
                     py::handle grad_second_object, py::handle grad_weights_object) {
  const Arg grad = map_view(grad_object, "grad");
  const Arg grad_first = view_out(grad_first_object, "grad_first"), grad_second = view_out(grad_second_object, "grad_second");
  expect_map(grad_first);
  expect_like(grad_second, grad_first);
  expect_joined(grad, grad_first);
  if (grad.numel() == 0) fail_value(grad, "at least one value", "shape " + shape_text(grad));
  InterleaveGradArgs args{};
  if (!weights_object.is_none()) {
    const Arg second = map_view(second_object, "second"), weights = map_view(weights_object, "weights");
    const Arg grad_weights = view_out(grad_weights_object, "grad_weights");
    args.second_pitch = expect_pixels(second, grad_first);
    expect_weights(weights, grad_first);
    expect_weights(grad_weights, grad_first);
    args.second = second.data;
    args.weights = weights.data;
    args.grad_weights = grad_weights.data;
  }
  args.grad = grad.data;
  args.grad_first = grad_first.data;
  args.grad_second = grad_second.data;
  args.dtype = grad.dtype;
  args.batch = grad_first.shape[0];
  args.channels = grad_first.shape[1];
  args.pixels = grad_first.shape[2] * grad_first.shape[3];
  Computing computing;
  interleave_grad_cpu(args);
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("plain_tensors", &plain_tensors, "Whether all (the first may be None) are plain tensors on the CPU, at which nobody looks on.");
  m.def("batch_norm_act", &batch_norm_act, py::arg("x"), py::arg("residual"), py::arg("weight"), py::arg("bias"), py::arg("running_mean"),
        py::arg("running_var"), py::arg("momentum"), py::arg("eps"), py::arg("relu"), py::arg("out"), py::arg("stats"));
  m.def("batch_norm_act_grad", &batch_norm_act_grad, py::arg("x"), py::arg("out"), py::arg("grad"), py::arg("weight"), py::arg("bias"),
        py::arg("stats"), py::arg("relu"), py::arg("grad_x"), py::arg("grad_residual"), py::arg("grad_weight"), py::arg("grad_bias"));
  m.def("depthwise_conv_check", &depthwise_conv_check, py::arg("x"), py::arg("weight"), "Raises what the gradient would, before anything is done.");
  m.def("depthwise_conv_grad", &depthwise_conv_grad, py::arg("x"), py::arg("grad"), py::arg("weight"), py::arg("stride"), py::arg("grad_x"),
        py::arg("grad_weight"));
  m.def("interleave", &interleave, py::arg("first"), py::arg("second"), py::arg("weights"), py::arg("out"));
  m.def("interleave_grad", &interleave_grad, py::arg("grad"), py::arg("second"), py::arg("weights"), py::arg("grad_first"),
        py::arg("grad_second"), py::arg("grad_weights"));
}

}  // namespace fastpose
