// Bindings of the ops of coordinate vectors and of their codec.
#include <algorithm>
#include <cmath>

#include "bindings/bindings.h"
#include "heatmap_encode/gaussian_taps.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_loss/simcc_loss.h"

namespace fastpose {
namespace {

constexpr int64_t kMostBins = 32768;
constexpr double kMostSigma = 4096, kVisibilityBeta = 150;  // RTMW's

// A codec and the size of the network's input, in numbers: checked once, when it is made.
struct SimccCodec {
  bool visibility;
  SimccTarget target;
  SimccReading reading;
};

[[noreturn]] void fail_codec(const std::string& expected, const std::string& came) { fail_value("codec", expected, came); }

SimccCodec make_codec(int64_t bins_x, int64_t bins_y, double split_ratio, bool gaussian, double sigma_x, double sigma_y,
                      double label_smoothing, bool normalized, int64_t taps_x, int64_t taps_y, bool visibility) {
  if (!(split_ratio > 0) || !std::isfinite(split_ratio)) fail_codec("a split_ratio above 0", std::to_string(split_ratio));
  if (!(label_smoothing >= 0 && label_smoothing <= 1)) fail_codec("a label_smoothing from 0 to 1", std::to_string(label_smoothing));
  SimccCodec c{};
  c.visibility = visibility;
  const int64_t bins[2] = {bins_x, bins_y}, taps[2] = {taps_x, taps_y};
  const double sigma[2] = {sigma_x, sigma_y};
  c.target.split_ratio = c.reading.split_ratio = static_cast<float>(split_ratio);
  c.target.gaussian = gaussian;
  for (int axis = 0; axis < 2; ++axis) {
    if (bins[axis] < 1 || bins[axis] > kMostBins) fail_codec("1 to 32768 bins", std::to_string(bins[axis]));
    if (!(sigma[axis] >= 1e-3 && sigma[axis] <= kMostSigma)) fail_codec("a sigma of 0.001 to 4096 bins", std::to_string(sigma[axis]));
    if (taps[axis] < 0 || taps[axis] > kMaxTaps || (taps[axis] > 0 && taps[axis] % 2 == 0))
      fail_codec("an odd blur of at most 127 taps", std::to_string(taps[axis]));
    SimccTarget& t = c.target;
    t.bins[axis] = c.reading.bins[axis] = static_cast<int32_t>(bins[axis]);
    t.sigma[axis] = static_cast<float>(sigma[axis]);
    t.reach[axis] = gaussian ? static_cast<float>(3 * sigma[axis]) : 0.f;
    const double height = normalized ? 1 / (sigma[axis] * std::sqrt(2 * 3.14159265358979323846)) : 1.0;
    t.peak[axis] = static_cast<float>(gaussian ? height : 1 - label_smoothing);
    t.rest[axis] = gaussian || bins[axis] == 1 ? 0.f : static_cast<float>(label_smoothing / static_cast<double>(bins[axis] - 1));
    c.reading.sharpness[axis] = static_cast<float>(kVisibilityBeta * sigma[axis]);
    c.reading.taps[axis] = static_cast<int32_t>(taps[axis]);
    if (taps[axis] > 0) gaussian_taps(c.reading.taps[axis], c.reading.tap[axis]);
  }
  return c;
}

// Vectors are [B, K, X] and [B, K, Y].
const SimccCodec& read_codec(Call& call, py::handle object) {
  const auto& codec = object.cast<const SimccCodec&>();
  call.say('X', codec.target.bins[0]);
  call.say('Y', codec.target.bins[1]);
  return codec;
}

// --- simcc_encode -----------------------------------------------------------------------------------------------------------------
constexpr Rule kEncode[] = {
    array("keypoints", F32, "B K 2"),
    small("visible", F32, "B K"),
    small("joint_weights", F32, "K", OPTIONAL),
    output("out[0]", F32, "B K X"),
    output("out[1]", F32, "B K Y"),
    output("out_weights", F32, "B K"),
    other("codec"),
};

py::object simcc_encode(Way way, const Objects<7>& objects) {
  CallOf call(way, kEncode, objects);
  const SimccCodec& codec = read_codec(call, objects[6]);
  if (!call.inputs() || !call.outputs()) return py::none();
  const SimccEncodeArgs args{call[0], call[1], call[2], {call[3], call[4]}, call[5], call.size('B'), call.size('K'), codec.target};
  FASTPOSE_LAUNCH(simcc_encode, args, call);
  return py::make_tuple(call.result(3), call.result(4), call.result(5));
}

// --- simcc_decode -----------------------------------------------------------------------------------------------------------------
constexpr Rule kDecode[] = {
    array("x", F32 | F16 | BF16, "B K X"),
    array("y", SAME, "B K Y"),
    array("flipped[0]", SAME, "B K X", OPTIONAL),
    array("flipped[1]", SAME, "B K Y", OPTIONAL),
    small("flip_index", I64, "K", OPTIONAL),
    small("inverse", F64, "B 2 3", OPTIONAL),
    output("out", F32, "B K 2"),
    output("out_scores", F32, "B K"),
    output("out_visibility", F32, "B K", OPTIONAL),
    other("codec"),
};

// Keypoints, scores, and visibility or None.
py::object simcc_decode(Way way, const Objects<10>& objects) {
  CallOf call(way, kDecode, objects);
  const SimccCodec& codec = read_codec(call, objects[9]);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &x = call[0], &y = call[1], &flipped_x = call[2], &flipped_y = call[3], &flip_index = call[4], &inverse = call[5];
  if (flipped_x.present != flipped_y.present || flipped_x.present != flip_index.present)
    throw py::value_error("flip_index: expected [K] indices together with flipped, and none without it");
  expect_indices(flip_index, call.size('K'));
  expect_finite(inverse);
  if (call[8] && !codec.visibility) fail_value("out_visibility", "None, as the codec does not tell visibility", "an array");
  py::object visibility = py::none();
  if (call[8]) visibility = call.result(8);
  else if (codec.visibility) visibility = call.empty(call[7].shape, call[7].ndim, DType::Float32);
  float* const told = call[8] ? call[8].as<float>() : codec.visibility ? static_cast<float*>(data_of(visibility)) : nullptr;
  const SimccDecodeArgs args{{x, y},  {flipped_x, flipped_y}, x.dtype, flip_index, inverse, call[6], call[7], told, call.size('B'), call.size('K'),
                             codec.reading};
  FASTPOSE_LAUNCH(simcc_decode, args, call);
  return py::make_tuple(call.result(6), call.result(7), visibility);
}

// --- simcc_loss -------------------------------------------------------------------------------------------------------------------
constexpr Rule kLoss[] = {
    array("predicted[0]", F32 | F16 | BF16, "B K X"),
    array("predicted[1]", SAME, "B K Y", IGNORE_GRAD),
    array("keypoints", F32, "B K 2"),
    small("weights", F32, "B K", OPTIONAL),
    small("keypoint_weights", F32, "K", OPTIONAL),
    number("beta"),
    flag("label_softmax"),
    number("label_beta"),
    flag("with_gradient"),
    other("codec"),
};

void expect_positive(const char* name, double value, double most) {
  if (!(value > 0 && value <= most)) fail_value(name, "a number above 0, up to " + std::to_string(most), std::to_string(value));
}

// Labels times label_beta are of this much at most: their exponentials are then normal floats.
constexpr double kMostExponent = 80;

// The loss and its gradients with respect to `predicted`, or None.
py::object simcc_loss(Way way, const Objects<10>& objects) {
  CallOf call(way, kLoss, objects);
  const SimccCodec& codec = read_codec(call, objects[9]);
  const bool with_gradient = objects[8].ptr() == Py_True;
  if (with_gradient) call.ignore_grad();
  if (!call.inputs()) return py::none();
  expect_positive("beta", call.number(5), 1e6);
  const SimccTarget& t = codec.target;
  const float highest = std::max({t.peak[0], t.peak[1], t.rest[0], t.rest[1]});
  expect_positive("label_beta", call.number(7), kMostExponent / static_cast<double>(highest));
  const Arg &x = call[0], &y = call[1];
  const int64_t batch = call.size('B'), count = call.size('K');
  const py::object loss = call.empty(nullptr, 0, DType::Float32);
  py::object gradients[2] = {py::none(), py::none()};
  if (with_gradient) {
    gradients[0] = call.empty(x.shape, x.ndim, x.dtype);
    gradients[1] = call.empty(y.shape, y.ndim, y.dtype);
  }
  auto* const losses = static_cast<double*>(call.workspace(2 * batch * count * dtype_size(DType::Float64)));
  const SimccLossArgs args{{x, y},
                           x.dtype,
                           call[2],
                           call[3],
                           call[4],
                           static_cast<float*>(data_of(loss)),
                           {with_gradient ? data_of(gradients[0]) : nullptr, with_gradient ? data_of(gradients[1]) : nullptr},
                           losses,
                           batch,
                           count,
                           static_cast<float>(call.number(5)),
                           call.flag(6),
                           static_cast<float>(call.number(7)),
                           codec.target};
  FASTPOSE_LAUNCH(simcc_loss, args, call);
  return py::make_tuple(loss, gradients[0], gradients[1]);
}

}  // namespace

void bind_simcc(py::module_& m) {
  py::class_<SimccCodec>(m, "SimccCodec", "What fastpose/ops/_codec.py makes of a codec and an input size.").def(py::init(&make_codec));
  bind_op(m, "simcc_encode", &simcc_encode);
  bind_op(m, "simcc_decode", &simcc_decode);
  bind_op(m, "simcc_loss", &simcc_loss);
}

}  // namespace fastpose
