// The bindings of the three heatmap ops, which share their codec parameters; as in bindings.cpp.
#include "bindings_heatmap.h"

#include <cmath>

#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_encode/gaussian_taps.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_loss/heatmap_loss.h"
#include "eager.h"

namespace fastpose {
namespace {

// What fastpose/ops/_codec.py makes of a CodecSpec and an input size.
struct Codec {
  CodecKind kind;
  int64_t height, width, input_height, input_width;
  double sigma, radius_factor;
  int64_t kernel_size, blur_kernel;
};

using CodecTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, double, double, int64_t, int64_t>;

[[noreturn]] void fail_codec(const std::string& expected, const std::string& came) {
  throw py::value_error("codec: expected " + expected + ", got " + came);
}

void check_taps(int64_t taps) {
  if (taps < 1 || taps > kMaxTaps || taps % 2 == 0) fail_codec("an odd blur of at most 127 taps", std::to_string(taps));
}

Codec codec_from(const CodecTuple& values) {
  Codec c;
  int64_t kind;
  std::tie(kind, c.height, c.width, c.input_height, c.input_width, c.sigma, c.radius_factor, c.kernel_size, c.blur_kernel) = values;
  if (kind < 0 || kind > static_cast<int64_t>(CodecKind::Megvii)) fail_codec("a kind from 0 to 4", std::to_string(kind));
  c.kind = static_cast<CodecKind>(kind);
  const bool udp = c.kind == CodecKind::Udp || c.kind == CodecKind::UdpCombined;
  for (int64_t side : {c.height, c.width, c.input_height, c.input_width})
    if (side < (udp ? 2 : 1) || side > 16384) fail_codec("sides of 1 (Udp: 2) to 16384 pixels", std::to_string(side));
  if (!(c.sigma >= 1e-3) || !(c.sigma <= 1e6)) fail_codec("a sigma of 0.001 to 1000000 pixels", std::to_string(c.sigma));
  if (!(c.radius_factor >= 1e-6) || !(c.radius_factor <= 1e6)) fail_codec("a radius_factor of 1e-6 to 1e6", std::to_string(c.radius_factor));
  check_taps(c.kernel_size);
  check_taps(c.blur_kernel);
  return c;
}

int64_t maps_of(const Codec& c) { return c.kind == CodecKind::UdpCombined ? 3 : 1; }

double disc_radius(const Codec& c) { return c.radius_factor * static_cast<double>(c.height > c.width ? c.height : c.width); }

float pixel_scale(const Codec& c, int64_t input, int64_t heatmap) {
  const bool udp = c.kind == CodecKind::Udp || c.kind == CodecKind::UdpCombined;
  return static_cast<float>(static_cast<double>(input - udp) / static_cast<double>(heatmap - udp));
}

HeatmapTarget target_of(const Codec& c) {
  HeatmapTarget t;
  t.kind = c.kind;
  t.height = static_cast<int32_t>(c.height);
  t.width = static_cast<int32_t>(c.width);
  t.scale_x = pixel_scale(c, c.input_width, c.width);
  t.scale_y = pixel_scale(c, c.input_height, c.height);
  t.sigma = static_cast<float>(c.sigma);
  t.radius = disc_radius(c);
  t.taps = c.kind == CodecKind::Megvii ? static_cast<int32_t>(c.kernel_size) : 1;
  gaussian_taps(t.taps, t.tap);
  return t;
}

HeatmapReading reading_of(const Codec& c, bool to_crop_pixels) {
  HeatmapReading r;
  r.kind = c.kind;
  r.height = static_cast<int32_t>(c.height);
  r.width = static_cast<int32_t>(c.width);
  r.scale_x = pixel_scale(c, c.input_width, c.width);
  r.scale_y = pixel_scale(c, c.input_height, c.height);
  if (!to_crop_pixels && (c.kind == CodecKind::Udp || c.kind == CodecKind::UdpCombined)) {
    // A fraction of the crop times its size: what MMPose reports.
    r.scale_x = static_cast<float>(static_cast<double>(c.input_width) / static_cast<double>(c.width - 1));
    r.scale_y = static_cast<float>(static_cast<double>(c.input_height) / static_cast<double>(c.height - 1));
  }
  r.radius = static_cast<float>(disc_radius(c));
  switch (c.kind) {
    case CodecKind::Gaussian: r.taps = 1; break;
    case CodecKind::Megvii: r.taps = static_cast<int32_t>(c.kernel_size); break;
    case CodecKind::UdpCombined: r.taps = static_cast<int32_t>(2 * c.blur_kernel + 1); break;
    default: r.taps = static_cast<int32_t>(c.blur_kernel);
  }
  check_taps(r.taps);
  gaussian_taps(r.taps, r.tap);
  return r;
}

// Arrays that every heatmap op takes: [B, K, 2] and [B, K] float32 beside the maps.
void expect_maps(const Arg& maps, int64_t batch, int64_t channels, const Codec& c) {
  expect_shape(maps, {batch, channels, c.height, c.width}, "[B, K (udp_combined: 3K), height, width]");
  expect_contiguous(maps);
}

void expect_floats(const Arg& a, std::initializer_list<int64_t> shape, const char* legend, const Arg& where) {
  expect_dtype(a, {DType::Float32});
  expect_shape(a, shape, legend);
  expect_contiguous(a);
  expect_device(a, where);
}

// --- heatmap_encode --------------------------------------------------------------------------------------------------------------
void heatmap_encode_of(const Codec& c, const Arg& points, const Arg& levels, const Arg& factors, const Arg& maps, const Arg& weights,
                       int64_t stream) {
  expect_floats(points, {-1, -1, 2}, "[B, K, 2]", points);
  HeatmapEncodeArgs args;
  args.batch = points.shape[0];
  args.keypoints_k = points.shape[1];
  args.target = target_of(c);
  expect_floats(levels, {args.batch, args.keypoints_k}, "[B, K]", points);
  if (factors) expect_floats(factors, {args.keypoints_k}, "[K]", points);
  expect_dtype(maps, {DType::Float32});
  expect_maps(maps, args.batch, args.keypoints_k * args.target.maps_per_keypoint(), c);
  expect_device(maps, points);
  expect_floats(weights, {args.batch, args.keypoints_k}, "[B, K]", points);
  args.keypoints = points.as<float>();
  args.visible = levels.as<float>();
  args.joint_weights = factors ? factors.as<float>() : nullptr;
  args.heatmaps = maps.as<float>();
  args.weights = weights.as<float>();
  FASTPOSE_LAUNCH(heatmap_encode, args, points, stream);
}

void heatmap_encode(py::handle keypoints, py::handle visible, py::handle joint_weights, py::handle out, py::handle out_weights,
                    const CodecTuple& codec, int64_t stream) {
  const Codec c = codec_from(codec);
  heatmap_encode_of(c, view(keypoints, "keypoints"), view(visible, "visible"), view_or_none(joint_weights, "joint_weights"),
                    view_out(out, "out"), view_out(out_weights, "out_weights"), stream);
}

py::object heatmap_encode_eager(py::handle keypoints, py::handle visible, py::handle joint_weights, py::object out, py::object out_weights,
                                const CodecTuple& codec) {
  const Codec c = codec_from(codec);
  Gate gate;
  const Arg points = gate.array(keypoints, "keypoints", DType::Float32), levels = gate.floats(visible, "visible");
  const Arg factors = gate.floats_or_none(joint_weights, "joint_weights");
  if (!gate || points.ndim != 3) return py::none();
  const int64_t batch = points.shape[0], count = points.shape[1];
  const Arg maps = gate.output(out, "out", {batch, count * maps_of(c), c.height, c.width}, DType::Float32);
  const Arg weights = gate.output(out_weights, "out_weights", {batch, count}, DType::Float32);
  if (!gate) return py::none();
  heatmap_encode_of(c, points, levels, factors, maps, weights, 0);
  return py::make_tuple(out, out_weights);
}

// --- heatmap_decode --------------------------------------------------------------------------------------------------------------
struct FlipArgs {
  const Arg& mirrored;
  const Arg& pairs;
  bool shift;
};

void heatmap_decode_of(const Codec& c, const Arg& maps, const FlipArgs& flip, const Arg& matrices, const Arg& points, const Arg& scores,
                       int64_t stream) {
  HeatmapDecodeArgs args;
  args.reading = reading_of(c, static_cast<bool>(matrices));
  expect_dtype(maps, {DType::Float32, DType::Float16, DType::BFloat16});
  expect_maps(maps, -1, -1, c);
  const int64_t each = args.reading.maps_per_keypoint();
  if (maps.shape[1] % each != 0) fail_value(maps, "a multiple of 3 channels for udp_combined", shape_text(maps));
  args.batch = maps.shape[0];
  args.keypoints_k = maps.shape[1] / each;
  const Arg &mirrored = flip.mirrored, &pairs = flip.pairs;
  if (static_cast<bool>(mirrored) != static_cast<bool>(pairs))
    throw py::value_error("flip_index: expected [K] indices together with flipped, and none without it");
  if (mirrored) {
    expect_dtype(mirrored, {maps.dtype});
    expect_maps(mirrored, args.batch, maps.shape[1], c);
    expect_device(mirrored, maps);
    expect_dtype(pairs, {DType::Int64});
    expect_shape(pairs, {args.keypoints_k}, "[K]");
    expect_contiguous(pairs);
    expect_device(pairs, maps);
    if (maps.device == kCpu)  // on CUDA the kernel takes the nearest keypoint
      for (int64_t k = 0; k < args.keypoints_k; ++k)
        if (pairs.as<int64_t>()[k] < 0 || pairs.as<int64_t>()[k] >= args.keypoints_k)
          fail_value(pairs, "indices from 0 to " + std::to_string(args.keypoints_k - 1), std::to_string(pairs.as<int64_t>()[k]));
  }
  if (matrices) {
    expect_dtype(matrices, {DType::Float64});
    expect_shape(matrices, {args.batch, 2, 3}, "[B, 2, 3]");
    expect_contiguous(matrices);
    expect_device(matrices, maps);
    if (maps.device == kCpu)
      for (int64_t i = 0; i < matrices.numel(); ++i)
        if (!std::isfinite(matrices.as<double>()[i])) fail_value(matrices, "finite numbers", std::to_string(matrices.as<double>()[i]));
  }
  expect_floats(points, {args.batch, args.keypoints_k, 2}, "[B, K, 2]", maps);
  expect_floats(scores, {args.batch, args.keypoints_k}, "[B, K]", maps);
  args.heatmaps = maps.data;
  args.flipped = mirrored ? mirrored.data : nullptr;
  args.dtype = maps.dtype;
  args.flip_index = pairs ? pairs.as<int64_t>() : nullptr;
  args.flip_shift = flip.shift;
  args.inverse = matrices ? matrices.as<double>() : nullptr;
  args.keypoints = points.as<float>();
  args.scores = scores.as<float>();
  FASTPOSE_LAUNCH(heatmap_decode, args, maps, stream);
}

void heatmap_decode(py::handle heatmaps, py::handle flipped, py::handle flip_index, bool flip_shift, py::handle inverse, py::handle out,
                    py::handle out_scores, const CodecTuple& codec, int64_t stream) {
  const Codec c = codec_from(codec);
  const Arg mirrored = view_or_none(flipped, "flipped"), pairs = view_or_none(flip_index, "flip_index");
  heatmap_decode_of(c, view(heatmaps, "heatmaps"), {mirrored, pairs, flip_shift}, view_or_none(inverse, "inverse"), view_out(out, "out"),
                    view_out(out_scores, "out_scores"), stream);
}

py::object heatmap_decode_eager(py::handle heatmaps, py::handle flipped, py::handle flip_index, py::handle flip_shift, py::handle inverse,
                                py::object out, py::object out_scores, const CodecTuple& codec) {
  const Codec c = codec_from(codec);
  Gate gate;
  const Arg maps = gate.array(heatmaps, "heatmaps"), mirrored = gate.array_or_none(flipped, "flipped");
  const Arg pairs = gate.integers_or_none(flip_index, "flip_index"), matrices = gate.doubles_or_none(inverse, "inverse");
  const bool shift = gate.flag(flip_shift);
  if (!gate || maps.ndim != 4) return py::none();
  const int64_t batch = maps.shape[0], count = maps.shape[1] / maps_of(c);
  const Arg points = gate.output(out, "out", {batch, count, 2}, DType::Float32);
  const Arg scores = gate.output(out_scores, "out_scores", {batch, count}, DType::Float32);
  if (!gate) return py::none();
  heatmap_decode_of(c, maps, {mirrored, pairs, shift}, matrices, points, scores, 0);
  return py::make_tuple(out, out_scores);
}

// --- heatmap_loss ----------------------------------------------------------------------------------------------------------------
struct LossArrays {
  const Arg& predicted;
  const Arg& keypoints;
  const Arg& weights;
  const Arg& target;
};

void heatmap_loss_of(const Codec& c, const LossArrays& arrays, int64_t topk, const Arg& loss, const Arg& gradient, const Arg& space,
                     int64_t stream) {
  const Arg &maps = arrays.predicted, &points = arrays.keypoints, &factors = arrays.weights, &given = arrays.target;
  HeatmapLossArgs args;
  args.codec = target_of(c);
  expect_dtype(maps, {DType::Float32, DType::Float16, DType::BFloat16});
  expect_maps(maps, -1, -1, c);
  const int64_t each = args.codec.maps_per_keypoint();
  if (maps.shape[1] % each != 0) fail_value(maps, "a multiple of 3 channels for udp_combined", shape_text(maps));
  args.batch = maps.shape[0];
  args.keypoints_k = maps.shape[1] / each;
  if (static_cast<bool>(points) == static_cast<bool>(given))
    throw py::value_error("keypoints: expected either keypoints or target, got " + std::string(points ? "both" : "neither"));
  if (points) expect_floats(points, {args.batch, args.keypoints_k, 2}, "[B, K, 2]", maps);
  if (given) {
    expect_dtype(given, {maps.dtype, DType::Float32});
    expect_maps(given, args.batch, maps.shape[1], c);
    expect_device(given, maps);
  }
  if (factors) expect_floats(factors, {args.batch, args.keypoints_k}, "[B, K]", maps);
  if (topk < 0 || topk > args.keypoints_k)
    throw py::value_error("ohkm_topk: expected 1 to " + std::to_string(args.keypoints_k) + " keypoints, got " + std::to_string(topk));
  expect_floats(loss, {}, "[]", maps);
  expect_dtype(space, {DType::Float64});
  expect_shape(space, {2, args.batch, args.keypoints_k}, "[2, B, K]");
  expect_contiguous(space);
  expect_device(space, maps);
  if (gradient) {
    expect_dtype(gradient, {maps.dtype});
    expect_maps(gradient, args.batch, maps.shape[1], c);
    expect_device(gradient, maps);
  }
  args.predicted = maps.data;
  args.dtype = maps.dtype;
  args.keypoints = points ? points.as<float>() : nullptr;
  args.target = given ? given.data : nullptr;
  args.target_dtype = given ? given.dtype : DType::Float32;
  args.weights = factors ? factors.as<float>() : nullptr;
  args.loss = loss.as<float>();
  args.gradient = gradient ? gradient.data : nullptr;
  args.losses = space.as<double>();
  args.topk = topk;
  // An empty array has no memory, which would look like an absent argument.
  if (args.batch * args.keypoints_k == 0) args.target = nullptr;
  FASTPOSE_LAUNCH(heatmap_loss, args, maps, stream);
}

void heatmap_loss(py::handle predicted, py::handle keypoints, py::handle weights, py::handle target, int64_t topk, py::handle out,
                  py::handle out_gradient, py::handle workspace, const CodecTuple& codec, int64_t stream) {
  const Codec c = codec_from(codec);
  const Arg maps = view(predicted, "predicted"), points = view_or_none(keypoints, "keypoints");
  const Arg factors = view_or_none(weights, "weights"), given = view_or_none(target, "target");
  heatmap_loss_of(c, {maps, points, factors, given}, topk, view_out(out, "out"),
                  out_gradient.is_none() ? Arg() : view_out(out_gradient, "out_gradient"), view_out(workspace, "workspace"), stream);
}

// With a gradient: the loss and its gradient with respect to `predicted`, which may require one.
py::object heatmap_loss_eager(py::handle predicted, py::handle keypoints, py::handle weights, py::handle target, py::handle topk,
                              bool with_gradient, const CodecTuple& codec) {
  const Codec c = codec_from(codec);
  Gate gate;
  const Arg maps = gate.array(predicted, "predicted", with_gradient), points = gate.array_or_none(keypoints, "keypoints", DType::Float32);
  const Arg factors = gate.floats_or_none(weights, "weights"), given = gate.array_or_none(target, "target");
  const int64_t hardest = topk.is_none() ? 0 : gate.integer(topk);
  if (!gate || maps.ndim != 4 || maps.dtype == DType::Float64 || (!topk.is_none() && hardest < 1)) return py::none();
  py::object value = py::none(), slopes = py::none();
  const Arg loss = gate.output(value, "out", {}, DType::Float32);
  const Arg space = gate.scratch("workspace", DType::Float64, {2, maps.shape[0], maps.shape[1] / maps_of(c)});
  Arg gradient;
  if (with_gradient)
    gradient = gate.output(slopes, "out_gradient", {maps.shape[0], maps.shape[1], maps.shape[2], maps.shape[3]}, maps.dtype);
  if (!gate) return py::none();
  heatmap_loss_of(c, {maps, points, factors, given}, hardest, loss, gradient, space, 0);
  if (!with_gradient) return value;
  return py::make_tuple(value, slopes);
}

void scale_gradient(py::handle gradient, py::handle slope, py::handle out, int64_t stream) {
  const Arg maps = view(gradient, "gradient"), factor = view(slope, "slope"), scaled = view_out(out, "out");
  expect_dtype(maps, {DType::Float32, DType::Float16, DType::BFloat16});
  expect_shape(maps, {-1, -1, -1, -1}, "[B, K (udp_combined: 3K), height, width]");
  expect_contiguous(maps);
  expect_floats(factor, {}, "[]", maps);
  expect_dtype(scaled, {maps.dtype});
  expect_shape(scaled, {maps.shape[0], maps.shape[1], maps.shape[2], maps.shape[3]}, "of the gradient");
  expect_contiguous(scaled);
  expect_device(scaled, maps);
  const ScaleGradientArgs args{maps.data, maps.dtype, factor.as<float>(), scaled.data, maps.numel()};
  FASTPOSE_LAUNCH(scale_gradient, args, maps, stream);
}

}  // namespace

void bind_heatmap_ops(py::module_& m) {
  m.def("heatmap_encode", &heatmap_encode, py::arg("keypoints"), py::arg("visible"), py::arg("joint_weights"), py::arg("out"),
        py::arg("out_weights"), py::arg("codec"), py::arg("stream"));
  m.def("heatmap_decode", &heatmap_decode, py::arg("heatmaps"), py::arg("flipped"), py::arg("flip_index"), py::arg("flip_shift"),
        py::arg("inverse"), py::arg("out"), py::arg("out_scores"), py::arg("codec"), py::arg("stream"));
  m.def("heatmap_loss", &heatmap_loss, py::arg("predicted"), py::arg("keypoints"), py::arg("weights"), py::arg("target"),
        py::arg("topk"), py::arg("out"), py::arg("out_gradient"), py::arg("workspace"), py::arg("codec"), py::arg("stream"));
  m.def("heatmap_encode_eager", &heatmap_encode_eager, py::arg("keypoints"), py::arg("visible"), py::arg("joint_weights"), py::arg("out"),
        py::arg("out_weights"), py::arg("codec"), kEagerDoc);
  m.def("heatmap_decode_eager", &heatmap_decode_eager, py::arg("heatmaps"), py::arg("flipped"), py::arg("flip_index"),
        py::arg("flip_shift"), py::arg("inverse"), py::arg("out"), py::arg("out_scores"), py::arg("codec"), kEagerDoc);
  m.def("heatmap_loss_eager", &heatmap_loss_eager, py::arg("predicted"), py::arg("keypoints"), py::arg("weights"), py::arg("target"),
        py::arg("ohkm_topk"), py::arg("with_gradient"), py::arg("codec"), kEagerDoc);
  m.def("scale_gradient", &scale_gradient, py::arg("gradient"), py::arg("slope"), py::arg("out"), py::arg("stream"),
        "gradient * slope into out, which may be the gradient: nothing is done then for a slope of 1.");
}

}  // namespace fastpose
