// The bindings of the ops, a file each or so; module.cpp calls them.
#pragma once

#include "bindings/call.h"

namespace fastpose {

void bind_affine_crop(py::module_& m);
void bind_assign(py::module_& m);
void bind_box_nms(py::module_& m);
void bind_heatmaps(py::module_& m);
void bind_layers(py::module_& m);
void bind_oks(py::module_& m);
void bind_simcc(py::module_& m);

}  // namespace fastpose
