// Bindings that stand in a file of their own; called by bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace fastpose {

void bind_heatmap_ops(pybind11::module_& m);

}  // namespace fastpose
