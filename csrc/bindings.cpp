// Every binding of the native core (those of the heatmap ops in bindings_heatmap.cpp), and nothing else: views, checks, GIL released, stream handed on.
//
// An op adds one `bind_OP` below and one line in PYBIND11_MODULE. A binding takes what fastpose/ops/OP.py has prepared (contiguous arrays,
// allocated outputs, plain numbers), checks all of it again in full, so that a wrong call cannot reach memory, fills OpArgs and launches.
#include <cstdlib>

#include "bindings_heatmap.h"
#include "eager.h"

#include "core/dispatch.h"
#include "core/host_device.h"
#include "core/parallel.h"
#include "oks/oks.h"
#include "oks_nms/oks_nms.h"

namespace fastpose {

void bind_affine_crop(py::module_& m);  // bindings_affine_crop.cpp
void bind_layers(py::module_& m);       // bindings_layers.cpp

namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = FASTPOSE_VERSION;
  info["compiler"] = __VERSION__;
  info["simd"] = simd_level_name(simd_level());
  py::list levels;
  for (SimdLevel level : {SimdLevel::Baseline, SimdLevel::Sse2, SimdLevel::Avx2, SimdLevel::Avx512})
    if (simd_supported(level)) levels.append(simd_level_name(level));
  info["simd_supported"] = levels;
#if FASTPOSE_WITH_CUDA
  info["cuda"] = FASTPOSE_CUDA_VERSION;
  info["cuda_archs"] = FASTPOSE_CUDA_ARCH_LIST;
  info["cuda_devices"] = cuda_device_count();
#else
  info["cuda"] = py::none();
  info["cuda_archs"] = "";
  info["cuda_devices"] = 0;
#endif
  return info;
}

// Poses of oks and oks_nms: [people, keypoints, 2 or more]; -1 takes any number.
void expect_poses(const Arg& poses, int64_t people, int64_t keypoints) {
  expect_shape(poses, {people, keypoints, -1}, "[N, K, 2 or 3]");
  if (poses.shape[2] != 2 && poses.shape[2] != 3) fail_value(poses, "2 or 3 numbers a keypoint", shape_text(poses));
}

// On the CPU only: reading them from CUDA would wait for the device.
void expect_sigmas(const Arg& sigmas) {
  if (sigmas.device != kCpu) return;
  for (int64_t k = 0; k < sigmas.numel(); ++k) {
    const double sigma = sigmas.as<double>()[k];
    if (!(sigma > 0.0) || !is_finite(sigma)) fail_value(sigmas, "finite numbers above 0", std::to_string(sigma));
  }
}

// --- oks -----------------------------------------------------------------------------------------------------------------------
void oks_of(const Arg& a, const Arg& b, const Arg& area_a, const Arg& sigma, const Arg& counted, const Arg& area_b, const Arg& result,
            int64_t stream) {
  expect_dtype(a, {DType::Float32, DType::Float64});
  expect_poses(a, -1, -1);
  expect_dtype(b, {a.dtype});
  expect_poses(b, -1, a.shape[1]);
  expect_shape(area_a, {a.shape[0]}, "[N]");
  expect_shape(sigma, {a.shape[1]}, "[K]");
  expect_dtype(area_a, {DType::Float64});
  expect_dtype(sigma, {DType::Float64});
  if (counted) {
    expect_dtype(counted, {DType::UInt8, DType::Bool});
    expect_shape(counted, {a.shape[0], a.shape[1]}, "[N, K]");
  }
  if (area_b) {
    expect_dtype(area_b, {DType::Float64});
    expect_shape(area_b, {b.shape[0]}, "[M]");
  }
  expect_dtype(result, {a.dtype});
  expect_shape(result, {a.shape[0], b.shape[0]}, "[N, M]");
  for (const Arg* arg : {&a, &b, &area_a, &sigma, &counted, &area_b, &result}) {
    if (!*arg) continue;
    expect_contiguous(*arg);
    expect_device(*arg, a);
  }
  expect_sigmas(sigma);
  OksArgs args{};
  args.poses_a = a.data;
  args.poses_b = b.data;
  args.areas_a = area_a.as<double>();
  args.areas_b = area_b ? area_b.as<double>() : nullptr;
  args.sigmas = sigma.as<double>();
  args.visible = counted ? counted.as<uint8_t>() : nullptr;
  args.out = result.data;
  args.poses_n = a.shape[0];
  args.poses_m = b.shape[0];
  args.keypoints = a.shape[1];
  args.channels_a = a.shape[2];
  args.channels_b = b.shape[2];
  args.dtype = a.dtype;
  FASTPOSE_LAUNCH(oks, args, a, stream);
}

void oks(py::handle poses_a, py::handle poses_b, py::handle areas, py::handle sigmas, py::handle visible, py::handle areas_b,
         py::handle out, int64_t stream) {
  oks_of(view(poses_a, "poses_a"), view(poses_b, "poses_b"), view(areas, "areas"), view(sigmas, "sigmas"),
         view_or_none(visible, "visible"), view_or_none(areas_b, "areas_b"), view_out(out, "out"), stream);
}

// Poses of one argument, of which the others take the number.
int64_t people_of(const Arg& poses) { return poses.ndim > 0 ? poses.shape[0] : 0; }

py::object oks_eager(py::handle poses_a, py::handle poses_b, py::handle areas, py::handle sigmas, py::handle visible, py::handle areas_b,
                     py::object out) {
  Gate gate;
  const Arg a = gate.array(poses_a, "poses_a"), b = gate.array(poses_b, "poses_b");
  const Arg area_a = gate.doubles(areas, "areas"), sigma = gate.doubles(sigmas, "sigmas");
  const Arg counted = gate.array_or_none(visible, "visible"), area_b = gate.doubles_or_none(areas_b, "areas_b");
  if (counted && counted.dtype != DType::Bool && counted.dtype != DType::UInt8) return py::none();
  const Arg result = gate.output(out, "out", {people_of(a), people_of(b)}, a.dtype);
  if (!gate) return py::none();
  oks_of(a, b, area_a, sigma, counted, area_b, result, 0);
  return out;
}

void bind_oks(py::module_& m) {
  m.def("oks", &oks, py::arg("poses_a"), py::arg("poses_b"), py::arg("areas"), py::arg("sigmas"), py::arg("visible"),
        py::arg("areas_b"), py::arg("out"), py::arg("stream"));
  m.def("oks_eager", &oks_eager, py::arg("poses_a"), py::arg("poses_b"), py::arg("areas"), py::arg("sigmas"), py::arg("visible"),
        py::arg("areas_b"), py::arg("out"), kEagerDoc);
}

// --- oks_nms -------------------------------------------------------------------------------------------------------------------
struct NmsOptions {
  double threshold;
  bool soft;
  int64_t max_per_image;
};

void oks_nms_of(const Arg& pose, const Arg& score, const Arg& area, const Arg& sigma, const Arg& image, const NmsOptions& options,
                const Arg& kept, const Arg& final, const Arg& number, const Arg& space, int64_t stream) {
  expect_dtype(pose, {DType::Float32, DType::Float64});
  expect_poses(pose, -1, -1);
  const int64_t n = pose.shape[0];
  for (const Arg* arg : {&score, &area, &final}) {
    expect_dtype(*arg, {DType::Float64});
    expect_shape(*arg, {n}, "[N]");
  }
  expect_dtype(sigma, {DType::Float64});
  expect_shape(sigma, {pose.shape[1]}, "[K]");
  if (image) {
    expect_dtype(image, {DType::Int64});
    expect_shape(image, {n}, "[N]");
  }
  expect_dtype(kept, {DType::Int64});
  expect_shape(kept, {n}, "[N]");
  expect_dtype(number, {DType::Int64});
  expect_shape(number, {1}, "[1]");
  for (const Arg* arg : {&pose, &score, &area, &sigma, &image, &kept, &final, &number, &space}) {
    if (!*arg) continue;
    expect_contiguous(*arg);
    expect_device(*arg, pose);
  }
  expect_sigmas(sigma);
  const double threshold = options.threshold;
  if (!(options.soft ? threshold > 0.0 : threshold >= 0.0))
    throw py::value_error("threshold: expected a number " + std::string(options.soft ? "above 0" : "of 0 or above") + ", got " +
                          std::to_string(threshold));
  if (options.max_per_image < 1)
    throw py::value_error("max_per_image: expected 1 or more, got " + std::to_string(options.max_per_image));
  if (pose.device != kCpu) {
    if (n > kOksNmsCudaLimit)
      fail_value(pose, "at most " + std::to_string(kOksNmsCudaLimit) + " poses on CUDA", std::to_string(n));
    if (!space || space.numel() * dtype_size(space.dtype) < oks_nms_workspace(n))
      throw py::value_error("workspace: expected " + std::to_string(oks_nms_workspace(n)) + " bytes");
  }
  OksNmsArgs args{};
  args.poses = pose.data;
  args.scores = score.as<double>();
  args.areas = area.as<double>();
  args.sigmas = sigma.as<double>();
  args.image_index = image ? image.as<int64_t>() : nullptr;
  args.poses_n = n;
  args.keypoints = pose.shape[1];
  args.channels = pose.shape[2];
  args.dtype = pose.dtype;
  args.threshold = threshold;
  args.soft = options.soft;
  args.max_per_image = options.max_per_image;
  args.indices = kept.as<int64_t>();
  args.rescored = final.as<double>();
  args.count = number.as<int64_t>();
  args.workspace = space ? space.data : nullptr;
  FASTPOSE_LAUNCH(oks_nms, args, pose, stream);
}

void oks_nms(py::handle poses, py::handle scores, py::handle areas, py::handle sigmas, py::handle image_index, double threshold,
             bool soft, int64_t max_per_image, py::handle indices, py::handle rescored, py::handle count, py::handle workspace,
             int64_t stream) {
  oks_nms_of(view(poses, "poses"), view(scores, "scores"), view(areas, "areas"), view(sigmas, "sigmas"),
             view_or_none(image_index, "image_index"), {threshold, soft, max_per_image}, view_out(indices, "out"),
             view_out(rescored, "out_scores"), view_out(count, "count"), view_or_none(workspace, "workspace"), stream);
}
py::object oks_nms_eager(py::handle poses, py::handle scores, py::handle areas, py::handle sigmas, py::handle threshold,
                         py::handle image_index, py::handle soft, py::handle max_per_image, py::handle padded, py::object out,
                         py::object out_scores) {
  Gate gate;
  const Arg pose = gate.array(poses, "poses"), score = gate.doubles(scores, "scores"), area = gate.doubles(areas, "areas");
  const Arg sigma = gate.doubles(sigmas, "sigmas"), image = gate.integers_or_none(image_index, "image_index");
  const NmsOptions options{gate.number(threshold), gate.flag(soft),
                           max_per_image.is_none() ? int64_t{1} << 62 : gate.integer(max_per_image)};
  const bool all = gate.flag(padded);
  const int64_t n = people_of(pose);
  const DType score_dtype = options.soft ? gate.dtype_of(scores) : DType::Float64;  // what is lowered keeps its dtype
  if (options.soft && !out_scores.is_none() && score_dtype != DType::Float64) return py::none();
  const Arg kept = out.is_none() ? gate.scratch("out", DType::Int64, {n}) : gate.output(out, "out", {n}, DType::Int64);
  const Arg final = out_scores.is_none() ? gate.scratch("out_scores", DType::Float64, {n})
                                         : gate.output(out_scores, "out_scores", {n}, DType::Float64);
  const Arg count = gate.scratch("count", DType::Int64, {1});
  if (!gate) return py::none();
  oks_nms_of(pose, score, area, sigma, image, options, kept, final, count, Arg(), 0);
  const int64_t places = all ? n : *count.as<int64_t>();
  if (out.is_none()) out = gate.copy(kept, places, DType::Int64);
  else if (!all) out = first_of(out, places);
  if (!options.soft) return out;
  if (out_scores.is_none()) out_scores = gate.copy(final, places, score_dtype);
  else if (!all) out_scores = first_of(out_scores, places);
  return py::make_tuple(out, out_scores);
}

void bind_oks_nms(py::module_& m) {
  m.def("oks_nms", &oks_nms, py::arg("poses"), py::arg("scores"), py::arg("areas"), py::arg("sigmas"), py::arg("image_index"),
        py::arg("threshold"), py::arg("soft"), py::arg("max_per_image"), py::arg("indices"), py::arg("rescored"),
        py::arg("count"), py::arg("workspace"), py::arg("stream"));
  m.def("oks_nms_eager", &oks_nms_eager, py::arg("poses"), py::arg("scores"), py::arg("areas"), py::arg("sigmas"), py::arg("threshold"),
        py::arg("image_index"), py::arg("soft"), py::arg("max_per_image"), py::arg("padded"), py::arg("out"), py::arg("out_scores"),
        kEagerDoc);
  m.def("oks_nms_workspace", &oks_nms_workspace, py::arg("poses_n"), "Bytes that oks_nms needs on CUDA.");
  m.attr("OKS_NMS_CUDA_LIMIT") = kOksNmsCudaLimit;
}

}  // namespace
}  // namespace fastpose

PYBIND11_MODULE(_C, m) {
  using namespace fastpose;
  m.doc() = "Native core of fastpose; use fastpose.ops.";
  if (const char* reason = set_simd_level(std::getenv("FASTPOSE_SIMD")))
    throw py::import_error("FASTPOSE_SIMD=" + std::string(std::getenv("FASTPOSE_SIMD")) + " cannot be used: " + reason);
  m.attr("__version__") = FASTPOSE_VERSION;
  m.attr("with_cuda") = py::bool_(FASTPOSE_WITH_CUDA != 0);
  m.def("build_info", &build_info, "Version, compiler, SIMD level in use and supported, CUDA version, architectures and devices.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"), "Threads for calls from this Python thread where torch is not loaded; 0: default.");
  m.def(
      "set_simd_level",
      [](const std::string& name) {
        if (const char* reason = set_simd_level(name.c_str())) throw py::value_error("simd level " + name + ": " + reason);
      },
      py::arg("name"), "For tests: sse2, avx2, avx512; an empty name takes the best.");
  m.def("get_num_threads", &get_num_threads);
  m.def("fail_without_cuda", &fail_without_cuda, py::arg("op"), "For tests: the error that a CUDA tensor gives in a build without CUDA.");
  m.def("watched", &watched, "Whether tracing, a dispatch mode or forward-mode AD has a say in what becomes of plain tensors.");
  m.def("use_exchange_api", &use_exchange_api, py::arg("enabled"), "For tests: whether tensors are read through DLPack's C exchange API.");
  m.def("allow_simd_vbmi", &allow_simd_vbmi, py::arg("allowed"), "For tests: whether AVX-512 kernels may use VBMI where the processor has it.");
  bind_affine_crop(m);
  bind_oks(m);
  bind_oks_nms(m);
  bind_heatmap_ops(m);
  bind_layers(m);
}
