// Binding of box_nms.
#include "box_nms/box_nms.h"

#include "bindings/bindings.h"
#include "bindings/nms_result.h"

namespace fastpose {
namespace {

constexpr Rule kBoxNms[] = {
    array("boxes", F32 | F64, "N 4"),
    small("scores", F64, "N"),
    small("classes", I64, "N", OPTIONAL),
    small("image_index", I64, "N", OPTIONAL),
    number("threshold"),
    whole("method"),
    number("sigma"),
    number("min_score"),
    whole("most", OPTIONAL),
    flag("padded"),
    output("out", I64, "N", OPTIONAL),
    output("out_scores", F64, "N", OPTIONAL),
};

py::object box_nms(Way way, const Objects<12>& objects) {
  CallOf call(way, kBoxNms, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  const Arg& boxes = call[0];
  const int64_t n = call.size('N');
  const double threshold = call.number(4), sigma = call.number(6), min_score = call.number(7);
  const int64_t most = call[8] ? call.whole(8) : kNoLimit;
  const auto method = static_cast<BoxNmsMethod>(call.whole(5));
  const bool tried = way == Way::Try, soft = method != BoxNmsMethod::Hard;
  const DType score_dtype = soft && call.given_dtype(1) == DType::Float32 ? DType::Float32 : DType::Float64;
  if (tried && soft && call[11] && score_dtype != DType::Float64) return py::none();
  if (call.whole(5) < 0 || call.whole(5) > static_cast<int64_t>(BoxNmsMethod::Gaussian))
    fail_value("method", "0 (hard), 1 (linear) or 2 (gaussian)", std::to_string(call.whole(5)));
  if (!(threshold >= 0.0)) fail_value("threshold", "a number of 0 or above", std::to_string(threshold));
  if (!(sigma > 0.0)) fail_value("sigma", "a number above 0", std::to_string(sigma));
  if (min_score != min_score) fail_value("min_score", "a number", "nan");
  if (most < 1) fail_value("most", "1 or more", std::to_string(most));
  if (boxes.device != kCpu && n > kBoxNmsCudaLimit)
    fail_value("boxes", "at most " + std::to_string(kBoxNmsCudaLimit) + " boxes on CUDA", std::to_string(n));

  NmsResult result(call, 10, n);
  const BoxNmsArgs args{boxes,     call[1], call[2], call[3],        n,               boxes.dtype,  threshold,
                        method,    sigma,   min_score, most,         result.indices,  result.rescored, result.count,
                        boxes.device == kCpu ? nullptr : call.workspace(box_nms_workspace(n))};
  FASTPOSE_LAUNCH(box_nms, args, call);
  return tried ? result.of_tried(call.flag(9), soft, score_dtype) : result.of_prepared();
}

}  // namespace

void bind_box_nms(py::module_& m) { bind_op(m, "box_nms", &box_nms); }

}  // namespace fastpose
