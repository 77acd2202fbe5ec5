"""The fused ops.

Those of poses take NumPy arrays and give NumPy arrays, or take tensors and give tensors, on the CPU and on CUDA. The
layers of networks (`batch_norm_act`, `depthwise_conv`, `interleave`) take tensors on the CPU.

`fastpose.ops.reference` holds the same functions in plain torch. docs/ops.md tells what each is for.
"""

from __future__ import annotations

from .affine_crop import affine_crop
from .batch_norm_act import batch_norm_act
from .box_nms import box_nms
from .depthwise_conv import depthwise_conv
from .heatmap_decode import heatmap_decode
from .heatmap_encode import heatmap_encode
from .heatmap_loss import heatmap_loss
from .interleave import interleave
from .oks import oks
from .oks_nms import oks_nms
from .simcc_decode import simcc_decode
from .simcc_encode import simcc_encode
from .simcc_loss import simcc_loss

__all__ = [
    "affine_crop",
    "batch_norm_act",
    "box_nms",
    "depthwise_conv",
    "heatmap_decode",
    "heatmap_encode",
    "heatmap_loss",
    "interleave",
    "oks",
    "oks_nms",
    "simcc_decode",
    "simcc_encode",
    "simcc_loss",
]
