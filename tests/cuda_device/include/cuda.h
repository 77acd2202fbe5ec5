// Stands in for the driver's header: what core/cuda_device.cu takes from it. machine.h says how it behaves.
#pragma once

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_DEVICE = 101, CUDA_ERROR_INVALID_CONTEXT = 201 };
using CUdevice = int;
using CUcontext = struct CUctx_st*;
