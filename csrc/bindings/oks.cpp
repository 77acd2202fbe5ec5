// Bindings of oks and oks_nms.
#include "oks/oks.h"

#include "bindings/bindings.h"
#include "bindings/nms_result.h"
#include "core/host_device.h"
#include "oks_nms/oks_nms.h"

namespace fastpose {
namespace {

void expect_coordinates(const Arg& poses) {
  if (poses.shape[2] != 2 && poses.shape[2] != 3) fail_value(poses.name, "2 or 3 numbers a keypoint", shape_text(poses));
}

// On the CPU only: reading them from CUDA would wait for the device.
void expect_sigmas(const Arg& sigmas) {
  if (sigmas.device != kCpu) return;
  for (int64_t k = 0; k < sigmas.numel(); ++k) {
    const double sigma = sigmas.as<double>()[k];
    if (!(sigma > 0.0) || !is_finite(sigma)) fail_value(sigmas.name, "finite numbers above 0", std::to_string(sigma));
  }
}

constexpr Rule kOks[] = {
    array("poses_a", F32 | F64, "N K C"),
    array("poses_b", SAME, "M K D"),
    small("areas", F64, "N"),
    small("sigmas", F64, "K"),
    array("visible", U8 | BOOL, "N K", OPTIONAL),
    small("areas_b", F64, "M", OPTIONAL),
    output("out", SAME, "N M"),
};

py::object oks(Way way, const Objects<7>& objects) {
  CallOf call(way, kOks, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  expect_coordinates(call[0]);
  expect_coordinates(call[1]);
  expect_sigmas(call[3]);
  const OksArgs args{call[0],        call[1],        call[2],        call[5],        call[3],        call[4],      call[6],
                     call.size('N'), call.size('M'), call.size('K'), call.size('C'), call.size('D'), call[0].dtype};
  FASTPOSE_LAUNCH(oks, args, call);
  return call.result(6);
}

constexpr Rule kOksNms[] = {
    array("poses", F32 | F64, "N K C"),
    small("scores", F64, "N"),
    small("areas", F64, "N"),
    small("sigmas", F64, "K"),
    number("threshold"),
    small("image_index", I64, "N", OPTIONAL),
    flag("soft"),
    whole("max_per_image", OPTIONAL),
    flag("padded"),
    output("out", I64, "N", OPTIONAL),
    output("out_scores", F64, "N", OPTIONAL),
};

py::object oks_nms(Way way, const Objects<11>& objects) {
  CallOf call(way, kOksNms, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg &poses = call[0], &sigmas = call[3];
  const int64_t n = call.size('N');
  const double threshold = call.number(4);
  const bool soft = call.flag(6), padded = call.flag(8), tried = way == Way::Try;
  const int64_t most = call[7] ? call.whole(7) : kNoLimit;
  const DType score_dtype = soft && call.given_dtype(1) == DType::Float32 ? DType::Float32 : DType::Float64;
  if (tried && soft && call[10] && score_dtype != DType::Float64) return py::none();
  expect_coordinates(poses);
  expect_sigmas(sigmas);
  if (!(soft ? threshold > 0.0 : threshold >= 0.0))
    fail_value("threshold", soft ? "a number above 0" : "a number of 0 or above", std::to_string(threshold));
  if (most < 1) fail_value("max_per_image", "1 or more", std::to_string(most));
  if (poses.device != kCpu && n > kOksNmsCudaLimit)
    fail_value("poses", "at most " + std::to_string(kOksNmsCudaLimit) + " poses on CUDA", std::to_string(n));

  NmsResult result(call, 9, n);
  const OksNmsArgs args{
      poses, call[1], call[2], sigmas, call[5], n, call.size('K'), call.size('C'), poses.dtype, threshold, soft, most,
      result.indices, result.rescored, result.count, poses.device == kCpu ? nullptr : call.workspace(oks_nms_workspace(n))};
  FASTPOSE_LAUNCH(oks_nms, args, call);
  return tried ? result.of_tried(padded, soft, score_dtype) : result.of_prepared();
}

}  // namespace

void bind_oks(py::module_& m) {
  bind_op(m, "oks", &oks);
  bind_op(m, "oks_nms", &oks_nms);
}

}  // namespace fastpose
