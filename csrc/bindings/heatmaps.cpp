// Bindings of the heatmap ops and of their codec.
#include <cmath>

#include "bindings/bindings.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_encode/gaussian_taps.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_loss/heatmap_loss.h"

namespace fastpose {
namespace {

// A codec and the size of the network's input, in numbers: checked once, when it is made.
struct HeatmapCodec {
  CodecKind kind;
  int64_t height, width, input_height, input_width;
  HeatmapTarget target;
  HeatmapReading reading;  // into what MMPose reports

  bool is_udp() const { return kind == CodecKind::Udp || kind == CodecKind::UdpCombined; }
  // Pixels of the input in one of the heatmap, from centre to centre where the codec is of UDP.
  float scale(int64_t input, int64_t heatmap) const {
    return static_cast<float>(static_cast<double>(input - is_udp()) / static_cast<double>(heatmap - is_udp()));
  }

  // Into pixels of the crop, from which a matrix may lead to the photo. (What MMPose reports for UDP is a fraction of the crop times its
  // size.)
  HeatmapReading reading_in_crop() const {
    HeatmapReading r = reading;
    r.scale_x = scale(input_width, width);
    r.scale_y = scale(input_height, height);
    return r;
  }
};

[[noreturn]] void fail_codec(const std::string& expected, const std::string& came) { fail_value("codec", expected, came); }

template <class To>
void set_taps(To& to, int64_t taps) {
  if (taps < 1 || taps > kMaxTaps || taps % 2 == 0) fail_codec("an odd blur of at most 127 taps", std::to_string(taps));
  to.taps = static_cast<int32_t>(taps);
  gaussian_taps(to.taps, to.tap);
}

HeatmapCodec make_codec(int64_t kind, int64_t height, int64_t width, int64_t input_height, int64_t input_width, double sigma,
                        double radius_factor, int64_t kernel_size, int64_t blur_kernel) {
  if (kind < 0 || kind > static_cast<int64_t>(CodecKind::Megvii)) fail_codec("a kind from 0 to 4", std::to_string(kind));
  HeatmapCodec c{static_cast<CodecKind>(kind), height, width, input_height, input_width, {}, {}};
  for (int64_t side : {height, width, input_height, input_width})
    if (side < (c.is_udp() ? 2 : 1) || side > 16384) fail_codec("sides of 1 (Udp: 2) to 16384 pixels", std::to_string(side));
  if (!(sigma >= 1e-3) || !(sigma <= 1e6)) fail_codec("a sigma of 0.001 to 1000000 pixels", std::to_string(sigma));
  if (!(radius_factor >= 1e-6) || !(radius_factor <= 1e6)) fail_codec("a radius_factor of 1e-6 to 1e6", std::to_string(radius_factor));
  if (kernel_size < 1 || blur_kernel < 1 || blur_kernel > kMaxTaps) fail_codec("blurs of at least one tap", std::to_string(blur_kernel));
  HeatmapTarget& t = c.target;
  t.kind = c.kind;
  t.height = static_cast<int32_t>(height);
  t.width = static_cast<int32_t>(width);
  t.scale_x = c.scale(input_width, width);
  t.scale_y = c.scale(input_height, height);
  t.sigma = static_cast<float>(sigma);
  t.radius = radius_factor * static_cast<double>(height > width ? height : width);
  set_taps(t, c.kind == CodecKind::Megvii ? kernel_size : 1);
  HeatmapReading& r = c.reading;
  r.kind = c.kind;
  r.height = t.height;
  r.width = t.width;
  r.scale_x = c.is_udp() ? static_cast<float>(static_cast<double>(input_width) / static_cast<double>(width - 1)) : t.scale_x;
  r.scale_y = c.is_udp() ? static_cast<float>(static_cast<double>(input_height) / static_cast<double>(height - 1)) : t.scale_y;
  r.radius = static_cast<float>(t.radius);
  switch (c.kind) {
    case CodecKind::Gaussian: set_taps(r, 1); break;
    case CodecKind::Megvii: set_taps(r, kernel_size); break;
    case CodecKind::UdpCombined: set_taps(r, 2 * blur_kernel + 1); break;
    default: set_taps(r, blur_kernel);
  }
  return c;
}

// Maps are [B, EK, H, W]: E of a keypoint.
const HeatmapCodec& read_codec(Call& call, py::handle object) {
  const auto& codec = object.cast<const HeatmapCodec&>();
  call.say('E', codec.target.maps_per_keypoint());
  call.say('H', codec.height);
  call.say('W', codec.width);
  return codec;
}

// --- heatmap_encode ---------------------------------------------------------------------------------------------------------------
constexpr Rule kEncode[] = {
    array("keypoints", F32, "B K 2"),
    small("visible", F32, "B K"),
    small("joint_weights", F32, "K", OPTIONAL),
    output("out", F32, "B EK H W"),
    output("out_weights", F32, "B K"),
    other("codec"),
};

py::object heatmap_encode(Way way, const Objects<6>& objects) {
  CallOf call(way, kEncode, objects);
  const HeatmapCodec& codec = read_codec(call, objects[5]);
  if (!call.inputs() || !call.outputs()) return py::none();
  const HeatmapEncodeArgs args{call[0], call[1], call[2], call[3], call[4], call.size('B'), call.size('K'), codec.target};
  FASTPOSE_LAUNCH(heatmap_encode, args, call);
  return py::make_tuple(call.result(3), call.result(4));
}

// --- heatmap_decode ---------------------------------------------------------------------------------------------------------------
constexpr Rule kDecode[] = {
    array("heatmaps", F32 | F16 | BF16, "B EK H W"),
    array("flipped", SAME, "B EK H W", OPTIONAL),
    small("flip_index", I64, "K", OPTIONAL),
    flag("flip_shift"),
    small("inverse", F64, "B 2 3", OPTIONAL),
    output("out", F32, "B K 2"),
    output("out_scores", F32, "B K"),
    other("codec"),
};

py::object heatmap_decode(Way way, const Objects<8>& objects) {
  CallOf call(way, kDecode, objects);
  const HeatmapCodec& codec = read_codec(call, objects[7]);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &flipped = call[1], &flip_index = call[2], &inverse = call[4];
  if (flipped.present != flip_index.present)
    throw py::value_error("flip_index: expected [K] indices together with flipped, and none without it");
  expect_indices(flip_index, call.size('K'));
  expect_finite(inverse);
  const HeatmapDecodeArgs args{call[0], flipped, call[0].dtype,  flip_index,     call.flag(3), inverse,
                               call[5], call[6], call.size('B'), call.size('K'), inverse ? codec.reading_in_crop() : codec.reading};
  FASTPOSE_LAUNCH(heatmap_decode, args, call);
  return py::make_tuple(call.result(5), call.result(6));
}

// --- heatmap_loss -----------------------------------------------------------------------------------------------------------------
constexpr Rule kLoss[] = {
    array("predicted", F32 | F16 | BF16, "B EK H W"),
    array("keypoints", F32, "B K 2", OPTIONAL),
    small("weights", F32, "B K", OPTIONAL),
    array("target", SAME | F32, "B EK H W", OPTIONAL),
    whole("ohkm_topk", OPTIONAL),
    flag("with_gradient"),
    other("codec"),
};

// The loss and its gradient with respect to `predicted`, or None.
py::object heatmap_loss(Way way, const Objects<7>& objects) {
  CallOf call(way, kLoss, objects);
  const HeatmapCodec& codec = read_codec(call, objects[6]);
  const bool with_gradient = objects[5].ptr() == Py_True;
  if (with_gradient) call.ignore_grad();
  if (!call.inputs()) return py::none();
  const Arg &predicted = call[0], &keypoints = call[1], &target = call[3];
  if (keypoints.present == target.present)
    throw py::value_error("keypoints: expected either keypoints or target, got " + std::string(target ? "both" : "neither"));
  const int64_t batch = call.size('B'), count = call.size('K');
  if (call[4] && (call.whole(4) < 1 || call.whole(4) > count))
    fail_value("ohkm_topk", "1 to " + std::to_string(count) + " keypoints", std::to_string(call.whole(4)));
  const py::object loss = call.empty(nullptr, 0, DType::Float32);
  const py::object gradient = with_gradient ? call.empty(predicted.shape, predicted.ndim, predicted.dtype) : py::none();
  auto* const losses = static_cast<double*>(call.workspace(2 * batch * count * dtype_size(DType::Float64)));
  // An empty array has no memory, which would look like an absent argument.
  const HeatmapLossArgs args{predicted,
                             predicted.dtype,
                             keypoints,
                             batch * count == 0 ? nullptr : target.data,
                             target ? target.dtype : DType::Float32,
                             call[2],
                             static_cast<float*>(data_of(loss)),
                             with_gradient ? data_of(gradient) : nullptr,
                             losses,
                             batch,
                             count,
                             call[4] ? call.whole(4) : 0,
                             codec.target};
  FASTPOSE_LAUNCH(heatmap_loss, args, call);
  return py::make_tuple(loss, gradient);
}

constexpr Rule kScaleGradient[] = {
    array("gradient", F32 | F16 | BF16, "B C H W"),
    array("slope", F32, ""),
    output("out", SAME, "B C H W", IN_PLACE),
};

// gradient * slope into out, which may be the gradient: nothing is done then for a slope of 1.
py::object scale_gradient(Way way, const Objects<3>& objects) {
  CallOf call(way, kScaleGradient, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const ScaleGradientArgs args{call[0], call[0].dtype, call[1], call[2], call[0].numel()};
  FASTPOSE_LAUNCH(scale_gradient, args, call);
  return call.result(2);
}

}  // namespace

void bind_heatmaps(py::module_& m) {
  py::class_<HeatmapCodec>(m, "HeatmapCodec", "What fastpose/ops/_codec.py makes of a codec and an input size.").def(py::init(&make_codec));
  bind_op(m, "heatmap_encode", &heatmap_encode);
  bind_op(m, "heatmap_decode", &heatmap_decode);
  bind_op(m, "heatmap_loss", &heatmap_loss);
  bind_prepared(m, "scale_gradient", &scale_gradient);
}

}  // namespace fastpose
