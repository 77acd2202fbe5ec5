// Bindings of the ops of coordinate vectors and of their codec.
#include <cmath>

#include "bindings/bindings.h"
#include "heatmap_encode/gaussian_taps.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_loss/simcc_loss.h"

namespace fastpose {
namespace {

constexpr float kVisibilityBeta = 150.f;

// A codec and the size of the network's input, in numbers: checked once, when it is made.
struct SimccCodec {
  SimccLabel label;
  SimccAxis axis_x, axis_y;
  bool visibility;
};

// Of the blur before the refinement: the next odd number below.
int64_t blur_taps(double sigma) {
  const auto taps = static_cast<int64_t>(std::floor((sigma * 20 - 7) / 3));
  return taps < 1 ? 1 : taps - (taps % 2 == 0);
}

SimccAxis make_axis(int64_t size, double sigma, bool dark) {
  SimccAxis axis{};
  axis.size = static_cast<int32_t>(size);
  axis.sharpness = kVisibilityBeta * static_cast<float>(sigma);
  if (!dark) return axis;
  const int64_t taps = blur_taps(sigma);
  if (taps > kMaxTaps) fail_value("codec", "a sigma whose blur has at most 127 taps", std::to_string(sigma));
  axis.taps = static_cast<int32_t>(taps);
  gaussian_taps(axis.taps, axis.tap);
  return axis;
}

SimccCodec make_codec(int64_t width, int64_t height, double ratio, double sigma_x, double sigma_y, bool gaussian, bool normalized,
                      double smoothing, bool dark, bool visibility) {
  for (int64_t size : {width, height})
    if (size < 1 || size > 1 << 20) fail_value("codec", "vectors of 1 to 1048576 bins", std::to_string(size));
  for (double sigma : {sigma_x, sigma_y})
    if (!(sigma >= 1e-3) || !(sigma <= 1e6)) fail_value("codec", "a sigma of 0.001 to 1000000 bins", std::to_string(sigma));
  if (!(ratio >= 1e-6) || !(ratio <= 1e6)) fail_value("codec", "a split_ratio of 1e-6 to 1e6", std::to_string(ratio));
  const SimccLabel label{static_cast<int32_t>(width), static_cast<int32_t>(height), static_cast<float>(ratio), static_cast<float>(sigma_x),
                         static_cast<float>(sigma_y), gaussian, normalized, static_cast<float>(smoothing)};
  return {label, make_axis(width, sigma_x, dark), make_axis(height, sigma_y, dark), visibility};
}

// Vectors are [B, K, W] and [B, K, H].
const SimccCodec& read_codec(Call& call, py::handle object) {
  const auto& codec = object.cast<const SimccCodec&>();
  call.say('W', codec.label.width);
  call.say('H', codec.label.height);
  return codec;
}

// --- simcc_encode -----------------------------------------------------------------------------------------------------------------
constexpr Rule kEncode[] = {
    array("keypoints", F32, "B K 2"),
    small("visible", F32, "B K"),
    small("joint_weights", F32, "K", OPTIONAL),
    output("out_x", F32, "B K W"),
    output("out_y", F32, "B K H"),
    output("out_weights", F32, "B K"),
    other("codec"),
};

py::object simcc_encode(Way way, const Objects<7>& objects) {
  CallOf call(way, kEncode, objects);
  const SimccCodec& codec = read_codec(call, objects[6]);
  if (!call.inputs() || !call.outputs()) return py::none();
  const SimccEncodeArgs args{call[0], call[1], call[2], call[3], call[4], call[5], call.size('B'), call.size('K'), codec.label};
  FASTPOSE_LAUNCH(simcc_encode, args, call);
  return py::make_tuple(call.result(3), call.result(4), call.result(5));
}

// --- simcc_decode -----------------------------------------------------------------------------------------------------------------
constexpr Rule kDecode[] = {
    array("x", F32 | F16 | BF16, "B K W"),
    array("y", SAME, "B K H"),
    array("flipped[0]", SAME, "B K W", OPTIONAL),
    array("flipped[1]", SAME, "B K H", OPTIONAL),
    small("flip_index", I64, "K", OPTIONAL),
    small("inverse", F64, "B 2 3", OPTIONAL),
    output("out", F32, "B K 2"),
    output("out_scores", F32, "B K"),
    other("codec"),
};

void expect_indices(const Arg& indices, int64_t count) {
  if (!indices || indices.device != kCpu) return;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t index = indices.as<int64_t>()[k];
    if (index < 0 || index >= count) fail_value(indices.name, "indices from 0 to " + std::to_string(count - 1), std::to_string(index));
  }
}

py::object simcc_decode(Way way, const Objects<9>& objects) {
  CallOf call(way, kDecode, objects);
  const SimccCodec& codec = read_codec(call, objects[8]);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &flipped_x = call[2], &flipped_y = call[3], &flip_index = call[4], &inverse = call[5];
  if (flipped_x.present != flip_index.present || flipped_x.present != flipped_y.present)
    throw py::value_error("flip_index: expected [K] indices together with flipped, and none without it");
  expect_indices(flip_index, call.size('K'));
  const int64_t people[] = {call.size('B'), call.size('K')};
  py::object visibility = codec.visibility ? call.empty(people, 2, DType::Float32) : py::none();
  const SimccDecodeArgs args{call[0],   call[1],   flipped_x, flipped_y, call[0].dtype,
                             flip_index, inverse,  call[6],   call[7],   codec.visibility ? static_cast<float*>(data_of(visibility)) : nullptr,
                             people[0], people[1], 1.f / codec.label.ratio, codec.axis_x,  codec.axis_y};
  FASTPOSE_LAUNCH(simcc_decode, args, call);
  return py::make_tuple(call.result(6), call.result(7), visibility);
}

// --- simcc_loss -------------------------------------------------------------------------------------------------------------------
constexpr Rule kLoss[] = {
    array("predicted[0]", F32 | F16 | BF16, "B K W"),
    array("predicted[1]", SAME, "B K H"),
    array("keypoints", F32, "B K 2"),
    small("weights", F32, "B K"),
    small("keypoint_weights", F32, "K", OPTIONAL),
    number("beta"),
    flag("label_softmax"),
    number("label_beta"),
    flag("with_gradient"),
    other("codec"),
};

// The loss and its gradients with respect to the two, or None.
py::object simcc_loss(Way way, const Objects<10>& objects) {
  CallOf call(way, kLoss, objects);
  const SimccCodec& codec = read_codec(call, objects[9]);
  const bool with_gradient = objects[8].ptr() == Py_True;
  if (with_gradient) call.ignore_grad();
  if (!call.inputs()) return py::none();
  const Arg &x = call[0], &y = call[1];
  const int64_t batch = call.size('B'), count = call.size('K');
  const py::object loss = call.empty(nullptr, 0, DType::Float32);
  const py::object gradient_x = with_gradient ? call.empty(x.shape, x.ndim, x.dtype) : py::none();
  const py::object gradient_y = with_gradient ? call.empty(y.shape, y.ndim, x.dtype) : py::none();
  auto* const losses = static_cast<double*>(call.workspace(batch * count * dtype_size(DType::Float64)));
  const SimccLossArgs args{x,
                           y,
                           x.dtype,
                           call[2],
                           call[3],
                           call[4],
                           static_cast<float*>(data_of(loss)),
                           with_gradient ? data_of(gradient_x) : nullptr,
                           with_gradient ? data_of(gradient_y) : nullptr,
                           losses,
                           batch,
                           count,
                           codec.label,
                           static_cast<float>(call.number(5)),
                           call.flag(6),
                           static_cast<float>(call.number(7))};
  FASTPOSE_LAUNCH(simcc_loss, args, call);
  return py::make_tuple(loss, gradient_x, gradient_y);
}

}  // namespace

void bind_simcc(py::module_& m) {
  py::class_<SimccCodec>(m, "SimccCodec", "What fastpose/ops/_codec.py makes of a codec of vectors and an input size.").def(py::init(&make_codec));
  bind_op(m, "simcc_encode", &simcc_encode);
  bind_op(m, "simcc_decode", &simcc_decode);
  bind_op(m, "simcc_loss", &simcc_loss);
}

}  // namespace fastpose
