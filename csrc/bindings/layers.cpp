// Bindings of the layers: ops of training on the CPU, on maps whose channels lie last in memory. They are called with tensors only, and
// with every output; the caller sees to gradients.
#include "batch_norm_act/batch_norm_act.h"
#include "bindings/bindings.h"
#include "depthwise_conv/depthwise_conv.h"
#include "interleave/interleave.h"

namespace fastpose {
namespace {

constexpr uint8_t LAST = CHANNELS_LAST | IGNORE_GRAD;
constexpr Shape MAP = "B C H W";

constexpr Rule map(const char* name, uint8_t flags = 0) { return array(name, F32 | BF16, MAP, flags | LAST); }
constexpr Rule same_map(const char* name, uint8_t flags = 0) { return array(name, SAME, MAP, flags | LAST); }
constexpr Rule channels(const char* name) { return array(name, F32, "C", IGNORE_GRAD); }

void expect_cpu(const Call& call) {
  if (call.device() != kCpu) fail_value("x", "memory on the CPU", "CUDA");
}

void expect_values(const Arg& map) {
  if (map.numel() == 0) fail_value(map.name, "at least one value", "shape " + shape_text(map));
}

// Kept between calls: a fresh large block costs more than its use.
double* workspace(int64_t size) {
  thread_local std::vector<double> room;
  if (room.size() < static_cast<size_t>(size)) room.resize(static_cast<size_t>(size));
  return room.data();
}

// Whether all (the first may be None) are plain tensors on the CPU, at which nobody looks on. Python asks more closely where it says no.
bool plain_tensors(py::handle optional, const py::args& tensors) {
  if (!optional.is_none() && !is_plain_tensor(optional)) return false;
  for (py::handle tensor : tensors)
    if (!is_plain_tensor(tensor)) return false;
  return !watched();
}

// --- batch_norm_act ---------------------------------------------------------------------------------------------------------------
constexpr Rule kBatchNormAct[] = {
    map("x"),
    same_map("residual", OPTIONAL),
    channels("weight"),
    channels("bias"),
    output("running_mean", F32, "C"),
    output("running_var", F32, "C"),
    number("momentum"),
    number("eps"),
    flag("relu"),
    output("out", SAME, MAP, CHANNELS_LAST),
    output("stats", F32, "2 C"),  // mean and reciprocal deviation of each channel, from forward to backward
};

// Values of a channel; makes sure that there are enough.
int64_t rows_of(const Call& call) {
  expect_cpu(call);
  const Arg& x = call[0];
  const int64_t rows = x.shape[0] * x.shape[2] * x.shape[3];
  if (rows < 2 || x.shape[1] < 1) fail_value("x", "more than one value per channel", "shape " + shape_text(x));
  return rows;
}

double* batch_norm_workspace(int64_t rows, int64_t channels) { return workspace(batch_norm_blocks(rows, channels) * 2 * channels); }

py::object batch_norm_act(Way way, const Objects<11>& objects) {
  CallOf call(way, kBatchNormAct, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const int64_t rows = rows_of(call), channels = call.size('C');
  const BatchNormActArgs args{call[0], call[1], call[2], call[3], call[4], call[5], call[9], call[10], batch_norm_workspace(rows, channels),
                              call[0].dtype, call.flag(8), call.number(6), call.number(7), rows, channels};
  Computing computing;
  batch_norm_act_cpu(args);
  return py::none();
}

constexpr Rule kBatchNormActGrad[] = {
    map("x"),
    same_map("out", OPTIONAL),
    same_map("grad"),
    channels("weight"),
    channels("bias"),
    array("stats", F32, "2 C"),
    flag("relu"),
    output("grad_x", SAME, MAP, CHANNELS_LAST | OPTIONAL),
    output("grad_residual", SAME, MAP, CHANNELS_LAST | OPTIONAL),
    output("grad_weight", F32, "C"),
    output("grad_bias", F32, "C"),
};

py::object batch_norm_act_grad(Way way, const Objects<11>& objects) {
  CallOf call(way, kBatchNormActGrad, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  if (call[8] && !(call.flag(6) && call[1])) throw py::value_error("grad_residual: expected None without relu and out");
  const int64_t rows = rows_of(call), channels = call.size('C');
  const BatchNormActGradArgs args{call[0], call[1], call[2], call[3], call[4], call[5], call[7], call[8], call[9], call[10],
                                  batch_norm_workspace(rows, channels), call[0].dtype, call.flag(6), rows, channels};
  Computing computing;
  batch_norm_act_grad_cpu(args);
  return py::none();
}

// --- depthwise_conv ---------------------------------------------------------------------------------------------------------------
void expect_kernels(const Arg& weight) {
  const int64_t kernel = weight.shape[2];
  if ((kernel != 3 && kernel != 5) || weight.shape[3] != kernel)
    fail_value(weight.name, "kernels of 3 x 3 or 5 x 5", "shape " + shape_text(weight));
}

constexpr Rule kDepthwiseConvCheck[] = {map("x"), array("weight", F32, "C 1 K L", ANY_STRIDES | IGNORE_GRAD)};

// Raises what the gradient would, before anything is done.
py::object depthwise_conv_check(Way way, const Objects<2>& objects) {
  CallOf call(way, kDepthwiseConvCheck, objects);
  if (!call.inputs()) return py::none();
  expect_cpu(call);
  expect_values(call[0]);
  expect_kernels(call[1]);
  return py::none();
}

constexpr Rule kDepthwiseConvGrad[] = {
    map("x"),
    array("grad", SAME, "B C P Q", LAST),
    array("weight", SAME, "C 1 K L", IGNORE_GRAD),
    whole("stride"),
    output("grad_x", SAME, MAP, CHANNELS_LAST | OPTIONAL),
    output("grad_weight", F32, "C 1 K L", OPTIONAL),
};

py::object depthwise_conv_grad(Way way, const Objects<6>& objects) {
  CallOf call(way, kDepthwiseConvGrad, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &x = call[0], &weight = call[2];
  expect_cpu(call);
  expect_values(x);
  expect_kernels(weight);
  const int64_t stride = call.whole(3);
  if (stride != 1 && stride != 2) fail_value("stride", "1 or 2", std::to_string(stride));
  const int64_t rows = (x.shape[2] - 1) / stride + 1, columns = (x.shape[3] - 1) / stride + 1;
  if (call.size('P') != rows || call.size('Q') != columns)
    fail_value("grad", "maps of " + std::to_string(rows) + " x " + std::to_string(columns), "shape " + shape_text(call[1]));
  const int64_t batch = call.size('B'), channels = call.size('C'), kernel = call.size('K');
  const DepthwiseConvGradArgs args{x, call[1], weight, call[4], call[5], workspace(batch * kernel * kernel * channels), x.dtype,
                                   batch, call.size('H'), call.size('W'), channels, kernel, stride};
  Computing computing;
  depthwise_conv_grad_cpu(args);
  return py::none();
}

// --- interleave -------------------------------------------------------------------------------------------------------------------
// Elements from pixel to pixel of a map whose channels lie side by side: a map of its own, or some channels of one.
int64_t pitch_of(const Arg& a) {
  expect_values(a);
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
  if (!good) fail_value(a.name, "the channels last in memory, of the map or of one that it is part of", "other strides");
  return pitch;
}

constexpr uint8_t PART = ANY_STRIDES | IGNORE_GRAD;
constexpr Rule kInterleave[] = {
    array("first", F32 | BF16, MAP, PART),
    array("second", SAME, MAP, PART),
    array("weights", SAME, "B C", OPTIONAL | IGNORE_GRAD),
    output("out", SAME, "B 2C H W", CHANNELS_LAST),
};

py::object interleave(Way way, const Objects<4>& objects) {
  CallOf call(way, kInterleave, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &first = call[0], &second = call[1];
  expect_cpu(call);
  const InterleaveArgs args{first, second, call[2], call[3], pitch_of(first), pitch_of(second), first.dtype,
                            call.size('B'), call.size('H') * call.size('W'), call.size('C')};
  Computing computing;
  interleave_cpu(args);
  return py::none();
}

constexpr Rule kInterleaveGrad[] = {
    array("grad", F32 | BF16, "B 2C H W", LAST),
    array("second", SAME, MAP, OPTIONAL | PART),
    array("weights", SAME, "B C", OPTIONAL | IGNORE_GRAD),
    output("grad_first", SAME, MAP, CHANNELS_LAST),
    output("grad_second", SAME, MAP, CHANNELS_LAST),
    output("grad_weights", SAME, "B C", OPTIONAL),
};

py::object interleave_grad(Way way, const Objects<6>& objects) {
  CallOf call(way, kInterleaveGrad, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &grad = call[0], &second = call[1], &weights = call[2], &grad_weights = call[5];
  expect_cpu(call);
  expect_values(grad);
  if (second.present != weights.present || weights.present != grad_weights.present)
    throw py::value_error("weights: expected second, weights and grad_weights together, or none of them");
  const InterleaveGradArgs args{grad, second, weights, call[3], call[4], grad_weights, second ? pitch_of(second) : 0, grad.dtype,
                                call.size('B'), call.size('H') * call.size('W'), call.size('C')};
  Computing computing;
  interleave_grad_cpu(args);
  return py::none();
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("plain_tensors", &plain_tensors);
  bind_prepared(m, "batch_norm_act", &batch_norm_act);
  bind_prepared(m, "batch_norm_act_grad", &batch_norm_act_grad);
  bind_prepared(m, "depthwise_conv_check", &depthwise_conv_check);
  bind_prepared(m, "depthwise_conv_grad", &depthwise_conv_grad);
  bind_prepared(m, "interleave", &interleave);
  bind_prepared(m, "interleave_grad", &interleave_grad);
}

}  // namespace fastpose
