// Bindings of the layers: ops of training on the CPU, on maps whose channels lie last in memory. They are called with tensors only, and with
// every output; the caller sees to gradients.
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

template <class Args>
void fill_batch_norm(Args& args, const Call& call) {
  expect_cpu(call);
  const Arg& x = call[0];
  args.rows = x.shape[0] * x.shape[2] * x.shape[3];
  args.channels = x.shape[1];
  if (args.rows < 2 || args.channels < 1) fail_value("x", "more than one value per channel", "shape " + shape_text(x));
  args.x = x.data;
  args.dtype = x.dtype;
  args.workspace = workspace(batch_norm_blocks(args.rows, args.channels) * 2 * args.channels);
}

py::object batch_norm_act(Way way, const Objects<11>& objects) {
  CallOf call(way, kBatchNormAct, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  BatchNormActArgs args{};
  fill_batch_norm(args, call);
  args.residual = call[1].data;
  args.weight = call[2].as<float>();
  args.bias = call[3].as<float>();
  args.running_mean = call[4].as<float>();
  args.running_var = call[5].as<float>();
  args.momentum = call.number(6);
  args.eps = call.number(7);
  args.relu = call.flag(8);
  args.out = call[9].data;
  args.stats = call[10].as<float>();
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
  BatchNormActGradArgs args{};
  fill_batch_norm(args, call);
  args.out = call[1].data;
  args.grad = call[2].data;
  args.weight = call[3].as<float>();
  args.bias = call[4].as<float>();
  args.stats = call[5].as<float>();
  args.relu = call.flag(6);
  args.grad_x = call[7].data;
  args.grad_residual = call[8].data;
  args.grad_weight = call[9].as<float>();
  args.grad_bias = call[10].as<float>();
  if (call[8] && !(args.relu && call[1])) throw py::value_error("grad_residual: expected None without relu and out");
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
  DepthwiseConvGradArgs args{};
  args.x = x.data;
  args.grad = call[1].data;
  args.weight = weight.data;
  args.grad_x = call[4].data;
  args.grad_weight = call[5].as<float>();
  args.dtype = x.dtype;
  args.batch = x.shape[0];
  args.channels = x.shape[1];
  args.height = x.shape[2];
  args.width = x.shape[3];
  args.stride = stride;
  args.kernel = weight.shape[2];
  args.workspace = workspace(args.batch * args.kernel * args.kernel * args.channels);
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
  InterleaveArgs args{};
  args.first = first.data;
  args.second = second.data;
  args.first_pitch = pitch_of(first);
  args.second_pitch = pitch_of(second);
  args.weights = call[2].data;
  args.out = call[3].data;
  args.dtype = first.dtype;
  args.batch = first.shape[0];
  args.channels = first.shape[1];
  args.pixels = first.shape[2] * first.shape[3];
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
  InterleaveGradArgs args{};
  args.grad = grad.data;
  args.second = second.data;
  args.second_pitch = second ? pitch_of(second) : 0;
  args.weights = weights.data;
  args.grad_first = call[3].data;
  args.grad_second = call[4].data;
  args.grad_weights = grad_weights.data;
  args.dtype = grad.dtype;
  args.batch = grad.shape[0];
  args.channels = call.size('C');
  args.pixels = grad.shape[2] * grad.shape[3];
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
