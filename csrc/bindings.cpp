// Every binding of the native core, and nothing else: views, checks, GIL released, stream handed on.
//
// An op adds one `bind_OP` below and one line in PYBIND11_MODULE. A binding takes what fastpose/ops/OP.py has prepared (contiguous arrays,
// allocated outputs, plain numbers), checks all of it again in full, so that a wrong call cannot reach memory, fills OpArgs and launches.
#include "python_view.h"

#include "core/dispatch.h"
#include "core/parallel.h"

namespace fastpose {
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

}  // namespace
}  // namespace fastpose

PYBIND11_MODULE(_C, m) {
  using namespace fastpose;
  m.doc() = "Native core of fastpose; use fastpose.ops.";
  if (const char* reason = init_simd_level())
    throw py::import_error(std::string("FASTPOSE_SIMD cannot be used: ") + reason);
  m.attr("__version__") = FASTPOSE_VERSION;
  m.attr("with_cuda") = py::bool_(FASTPOSE_WITH_CUDA != 0);
  m.def("build_info", &build_info, "Version, compiler, SIMD level in use and supported, CUDA version, architectures and devices.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"), "Threads for calls from this Python thread where torch is not loaded; 0: default.");
  m.def("get_num_threads", &get_num_threads);
  m.def("use_exchange_api", &use_exchange_api, py::arg("enabled"), "For tests: whether tensors are read through DLPack's C exchange API.");
}
