"""The ops, plainly in torch: the oracle for the native kernels, and the fallback for whoever asks for it by name.

Tensors in, tensors out, on any device; computed in float64 where the input is float64.
"""

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
