// In place of csrc/core/dispatch.h where an AVX level is compiled alone.
#if defined(FASTPOSE_SIMD_avx2) || defined(FASTPOSE_SIMD_avx512)

#include "affine_crop/affine_crop.h"
#include "batch_norm_act/batch_norm_act.h"
#include "box_nms/box_nms.h"
#include "depthwise_conv/depthwise_conv.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_encode/heatmap_encode.h"
#include "heatmap_loss/heatmap_loss.h"
#include "interleave/interleave.h"
#include "oks/oks.h"
#include "oks_nms/oks_nms.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_encode/simcc_encode.h"
#include "simcc_loss/simcc_loss.h"

namespace fastpose {

#define FORWARD(FUNCTION, ARGS)                                   \
  namespace FASTPOSE_SIMD_NS { void FUNCTION(const ARGS&); }      \
  void FUNCTION(const ARGS& args) { FASTPOSE_SIMD_NS::FUNCTION(args); }

FORWARD(affine_crop_cpu, AffineCropArgs)
FORWARD(affine_crop_backward_cpu, AffineCropBackwardArgs)
FORWARD(box_nms_cpu, BoxNmsArgs)
FORWARD(heatmap_encode_cpu, HeatmapEncodeArgs)
FORWARD(heatmap_decode_cpu, HeatmapDecodeArgs)
FORWARD(heatmap_loss_cpu, HeatmapLossArgs)
FORWARD(oks_cpu, OksArgs)
FORWARD(oks_nms_cpu, OksNmsArgs)
FORWARD(simcc_decode_cpu, SimccDecodeArgs)
FORWARD(simcc_encode_cpu, SimccEncodeArgs)
FORWARD(simcc_loss_cpu, SimccLossArgs)
FORWARD(batch_norm_act_cpu, BatchNormActArgs)
FORWARD(batch_norm_act_grad_cpu, BatchNormActGradArgs)
FORWARD(depthwise_conv_grad_cpu, DepthwiseConvGradArgs)
FORWARD(interleave_cpu, InterleaveArgs)
FORWARD(interleave_grad_cpu, InterleaveGradArgs)

}  // namespace fastpose

#endif
