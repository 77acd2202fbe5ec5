"""Networks small enough for tests, and the names that other programs give to the entries of such networks."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from fastpose.models import HeatmapHead, PoseModel
from fastpose.models.backbones.hrnet import HRNet
from fastpose.models.backbones.vit import VisionTransformer
from fastpose.models.necks import FeatureMapProcessor
from fastpose.models.zoo import default_spec
from fastpose.skeletons import get_skeleton

SIZE = (64, 48)
CHANNELS, DEPTH, HEADS, PART = 32, 2, 4, 8


def spec(skeleton="coco17", **changes):
    base = default_spec()
    return base.replace(skeleton=get_skeleton(skeleton), codec=base.codec.resized(base.input_size, SIZE),
                        input_size=SIZE, **changes)  # fmt: skip


def transformer(skeleton="coco17", *, simple=False, seed=0, **changes):
    """ViTPose with two blocks of 32 channels, every entry drawn."""
    torch.manual_seed(seed)
    backbone = VisionTransformer(SIZE, channels=CHANNELS, depth=DEPTH, heads=HEADS)
    ours = spec(skeleton, **{"udp": True, **changes})
    if simple:
        head = HeatmapHead(CHANNELS, ours.output_channels, deconv_channels=(), final_kernel=3)
        model = PoseModel(backbone, head, ours, neck=FeatureMapProcessor(scale=4, relu=True))
    else:
        model = PoseModel(backbone, HeatmapHead(CHANNELS, ours.output_channels, deconv_channels=(256, 256)), ours)
    return draw(model).eval()


def hrnet(seed=0):
    """HRNet with branches of 4, 8, 16 and 32 channels, every entry drawn."""
    torch.manual_seed(seed)
    return draw(PoseModel(HRNet((4, 8, 16, 32)), HeatmapHead(4, 17, deconv_channels=()), spec())).eval()


@torch.no_grad()
def draw(model):
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("var") else torch.randn_like(tensor) * 0.3)
    return model


def with_class_position(positions: Tensor) -> Tensor:
    """[1, N, C] → [1, 1 + N, C] as ViTPose keeps them: the first is added to all others."""
    first = torch.randn_like(positions[:, :1])
    return torch.cat((first, positions - first), 1)


def vitpose_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the repository of ViTPose saves them."""
    result = {}
    for name, tensor in state.items():
        name = name.replace("patch_embed.projection.", "patch_embed.proj.").replace(
            "backbone.ln1.", "backbone.last_norm."
        )
        name = re.sub(r"layers\.(\d+)\.ln([12])\.", r"blocks.\1.norm\2.", name)
        name = re.sub(r"layers\.(\d+)\.attn\.", r"blocks.\1.attn.", name)
        name = re.sub(r"layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1.", name)
        name = re.sub(r"layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2.", name)
        name = re.sub(r"^head\.", "keypoint_head.", name)
        result[name] = with_class_position(tensor) if name == "backbone.pos_embed" else tensor
    return result


def hugging_face_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As transformers' VitPoseForPoseEstimation saves them."""
    return hugging_face_from_vitpose(vitpose_names(state))


def hugging_face_from_vitpose(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, of a file of ViTPose's repository, experts and all."""
    result = {}
    for name, tensor in tensors.items():
        name = name.replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.")
        name = name.replace("pos_embed", "embeddings.position_embeddings").replace("last_norm.", "layernorm.")
        name = name.replace(".blocks.", ".encoder.layer.").replace(".norm1.", ".layernorm_before.")
        name = name.replace(".norm2.", ".layernorm_after.").replace(".attn.proj.", ".attention.output.dense.")
        for ours, theirs in (("deconv_layers.0", "deconv1"), ("deconv_layers.1", "batchnorm1"),
                             ("deconv_layers.3", "deconv2"), ("deconv_layers.4", "batchnorm2"),
                             ("final_layer", "conv")):  # fmt: skip
            name = name.replace(f"keypoint_head.{ours}.", f"head.{theirs}.")
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                result[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = rows.clone()
        else:
            result[name] = tensor
    return result


def repository_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the repositories of HRNet and of Simple Baselines save them: without names of the parts."""
    return {name.removeprefix("backbone.").removeprefix("head."): tensor for name, tensor in state.items()}


def with_experts(state: dict[str, Tensor], keypoints: tuple[int, ...], *, heads: bool = True) -> dict[str, Tensor]:
    """ViTPose++ of those data sets, in the names of ViTPose's repository; the first one is the network given.

    The last rows of each feed-forward layer's end become those of an expert, and others are drawn beside them.
    """
    result = {}
    for name, tensor in vitpose_names(state).items():
        if ".mlp.fc2." in name:
            result[name] = tensor[:-PART].clone()
            for number in range(len(keypoints)):
                own = tensor[-PART:] if number == 0 else torch.randn_like(tensor[-PART:])
                result[name.replace(".fc2.", f".experts.{number}.")] = own.clone()
        else:
            result[name] = tensor
        if heads and name.startswith("keypoint_head."):
            for number, count in enumerate(keypoints[1:]):
                shape = (count, *tensor.shape[1:]) if ".final_layer." in name else tensor.shape
                other = torch.rand(shape) + 0.5 if tensor.is_floating_point() else tensor.clone()
                result[name.replace("keypoint_head.", f"associate_keypoint_heads.{number}.")] = other
    return result


OFFICIAL = (17, 14, 16, 17, 17, 133)
"""Keypoints of the six data sets of the published ViTPose++ networks, in their order."""
