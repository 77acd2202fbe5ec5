// The module fastpose._C: what is known of the build, and every binding.
#include <cstdlib>

#include "bindings/bindings.h"
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
  for (SimdLevel level : kSimdLevels)
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

void take_simd_level(const std::string& name) {
  if (const char* reason = set_simd_level(name.c_str())) throw py::value_error("simd level " + name + ": " + reason);
}

}  // namespace
}  // namespace fastpose

// What the core remembers is safe without the GIL.
PYBIND11_MODULE(core, m, pybind11::mod_gil_not_used()) {
  using namespace fastpose;
  m.doc() = "Native core of fastpose; use fastpose.ops.";
  if (const char* reason = set_simd_level(std::getenv("FASTPOSE_SIMD")))
    throw py::import_error("FASTPOSE_SIMD=" + std::string(std::getenv("FASTPOSE_SIMD")) + " cannot be used: " + reason);
  m.attr("__version__") = FASTPOSE_VERSION;
  m.attr("with_cuda") = py::bool_(FASTPOSE_WITH_CUDA != 0);
  m.def("build_info", &build_info, "Version, compiler, SIMD level in use and supported, CUDA version, architectures and devices.");
  m.def("set_num_threads", &set_num_threads, "Threads for calls from this Python thread where torch is not loaded; 0: default.");
  m.def("get_num_threads", &get_num_threads);
  m.def("watched", &watched, "Whether tracing, a dispatch mode or forward-mode AD has a say in what becomes of plain tensors.");
  m.def("set_simd_level", &take_simd_level, "For tests: sse2, avx2, avx512, neon; an empty name takes the best.");
  m.def("allow_simd_vbmi", &allow_simd_vbmi, "For tests: whether AVX-512 kernels may use VBMI where the processor has it.");
  m.def("use_exchange_api", &use_exchange_api, "For tests: whether tensors are read through DLPack's C exchange API.");
  m.def("fail_without_cuda", &fail_without_cuda, "For tests: the error that a CUDA tensor gives in a build without CUDA.");
  bind_affine_crop(m);
  bind_assign(m);
  bind_box_nms(m);
  bind_oks(m);
  bind_heatmaps(m);
  bind_layers(m);
  bind_simcc(m);
}

// Before Python 3.12 a subinterpreter is let in, where pybind11 waits for ever.
extern "C" PYBIND11_EXPORT PyObject* PyInit__C() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit_core();
  PyErr_SetString(PyExc_ImportError, "fastpose._C: expected the main interpreter, got a subinterpreter, in which NumPy and torch do not work");
  return nullptr;
}
