// Binding of assign.
#include "assign/assign.h"

#include "bindings/bindings.h"
#include "core/host_device.h"

namespace fastpose {
namespace {

constexpr Rule kAssign[] = {
    array("costs", F32 | F64, "N M"),
    number("most"),
    output("column_of", I64, "N"),
};

py::object assign(Way way, const Objects<3>& objects) {
  CallOf call(way, kAssign, objects);
  if (!call.inputs() || !call.outputs()) return py::none();
  if (call.device() != kCpu) fail_value("costs", "memory on the CPU", "CUDA");
  if (!is_finite(call.number(1))) fail_value("most", "a finite number", std::to_string(call.number(1)));
  Computing computing;
  const AssignArgs args{call[0], call[2], call.size('N'), call.size('M'), call.number(1), call[0].dtype};
  if (!assign_cpu(args)) fail_value("costs", "numbers and infinity", "NaN or minus infinity");
  return call.result(2);
}

}  // namespace

void bind_assign(py::module_& m) { bind_prepared(m, "assign", &assign); }

}  // namespace fastpose
