"""How other programs name the entries of their files of weights: one table, `LAYOUTS`, and what may stand around them.

A file is known by the names of its entries alone. Each layout lists names that all of its files have, its signs, and
what every other name becomes; a name that it does not list stays as it is, so that a strict load says so. Whoever
teaches this package another program's files adds a row here and a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["LAYOUTS", "STATE_DICTS", "Layout", "LayoutError", "find_layout", "rename", "strip_wrappers"]

Tensors = dict[str, Tensor]

# Keys under which training programs put the weights in what they save; averaged ones first. MMEngine's
# `ema_state_dict` is not among them: its `state_dict` holds the average, and that the other weights.
STATE_DICTS = (
    *("state_dict_ema", "model_ema", "ema_model", "ema", "state_dict", "model_state_dict", "model"),
    *("module", "net"),
)
# What wraps a network puts its own name before all of the network's: torch's DataParallel, DDP and AveragedModel,
# torch.compile, Lightning's and other people's modules.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "ema_model.")
# Entries of wrappers that are no weights: counters of torch's AveragedModel, MMEngine's averages and ema-pytorch.
_COUNTERS = {"n_averaged", "steps", "step", "initted"}
_NUMBER = r"\d{1,4}"


class LayoutError(ValueError):
    """The entries of a file contradict the layout that their names are of."""


class Layout(NamedTuple):
    """One program's names.

    Attributes:
        name: What messages call it; "" for this package's own names, which are MMPose 1.x's.
        signs: Patterns, each of which the whole name of at least one entry matches.
        names: Patterns of whole names and what they become (as of `re.Match.expand`; None: left out). The first that
            matches counts.
        finish: What remains to be done with the tensors under their new names.
        spec: Fields of a `PoseSpec` whose values those files were trained with, where it is not those of the zoo's
            entries.
    """

    name: str
    signs: tuple[str, ...] = ()
    names: tuple[tuple[str, str | None], ...] = ()
    finish: Callable[[Tensors], Tensors] | None = None
    spec: Mapping[str, Any] = MappingProxyType({})


def strip_wrappers(tensors: Mapping[str, Tensor]) -> Tensors:
    """Take the names of wrappers off, in whatever order they stand, and leave their counters out.

    Args:
        tensors: By name, as in a file.

    Raises:
        LayoutError: Two entries would have the same name.
    """
    result = dict(tensors)
    # Beside the average, ema-pytorch keeps the network that it follows.
    if any(name.startswith("online_model.") for name in result):
        averaged = {name: tensor for name, tensor in result.items() if name.startswith("ema_model.")}
        result = averaged or result
    while result:
        weights = {name: t for name, t in result.items() if not (name in _COUNTERS and t.numel() == 1)}
        prefix = next((p for p in _WRAPPERS if weights and all(name.startswith(p) for name in weights)), None)
        if prefix is None:
            break
        result = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    # A part that was compiled by itself.
    return _renamed(result, {name: name.replace("._orig_mod.", ".") for name in result})


def find_layout(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout that a file's entries are of, without wrappers (see `strip_wrappers`); `OWN` where none is known."""
    return next((layout for layout in LAYOUTS if _has_signs(layout, tensors)), OWN)


def rename(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensors:
    """Give the entries of a file this package's names.

    Args:
        layout: What `find_layout` gives for them.
        tensors: By name, without wrappers.

    Returns:
        By this package's names; what the layout does not know keeps its name.

    Raises:
        LayoutError: Two entries would have the same name, or tensors that belong together do not fit each other.
    """
    patterns = [(re.compile(pattern), template) for pattern, template in (*layout.names, *OWN.names)]
    names: dict[str, str | None] = {}
    for name in tensors:
        found = ((pattern.fullmatch(name), template) for pattern, template in patterns)
        match, template = next(((match, template) for match, template in found if match), (None, None))
        names[name] = name if match is None else None if template is None else match.expand(template)
    renamed = _renamed(tensors, names)
    return layout.finish(renamed) if layout.finish else renamed


def _has_signs(layout: Layout, tensors: Mapping[str, Tensor]) -> bool:
    return all(any(re.fullmatch(sign, name) for name in tensors) for sign in layout.signs)


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str | None]) -> Tensors:
    result: Tensors = {}
    for name, tensor in tensors.items():
        new = names[name]
        if new in result:
            raise LayoutError(f"two entries stand for {new}: {name} is one of them")
        if new is not None:
            result[new] = tensor
    return result


def _split_final_layers(tensors: Tensors) -> Tensors:
    """Where a head has convolutions before the last one, MMPose 0.x holds all of them as final_layer.N."""
    pattern = re.compile(rf"head\.final_layer\.({_NUMBER})\.(\w+)")
    matches = {name: match for name in tensors if (match := pattern.fullmatch(name))}
    last = max((int(match[1]) for match in matches.values()), default=0)

    def new_name(name: str) -> str:
        if name not in matches:
            return name
        number, parameter = matches[name].groups()
        return f"head.final_layer.{parameter}" if int(number) == last else f"head.conv_layers.{number}.{parameter}"

    return _renamed(tensors, {name: new_name(name) for name in tensors})


def _add_class_position(tensors: Tensors) -> Tensors:
    """ViTPose adds the position of a class token, which it does not have, to those of all patches."""
    name = "backbone.pos_embed"
    if name in tensors:
        positions = tensors[name]
        if positions.ndim != 3 or positions.shape[1] < 2:
            raise LayoutError(f"{name}: expected [1, 1 + patches, channels], got {tuple(positions.shape)}")
        tensors[name] = positions[:, 1:] + positions[:, :1]
    return tensors


def _join_attention(tensors: Tensors) -> Tensors:
    """Query, key and value are three layers there, and one here."""
    parts = ("query", "key", "value")
    pattern = re.compile(rf"(backbone\.layers\.{_NUMBER}\.attn)\.({'|'.join(parts)})\.(weight|bias)")
    result: Tensors = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        if match is None:
            result[name] = tensor
            continue
        stem, part, parameter = match.groups()
        three = [tensors.get(f"{stem}.{part}.{parameter}") for part in parts]
        layers = [layer for layer in three if layer is not None]
        if len(layers) < len(parts) or len({(layer.shape, layer.dtype) for layer in layers}) > 1 or not tensor.ndim:
            shapes = ", ".join("none" if layer is None else str(tuple(layer.shape)) for layer in three)
            raise LayoutError(f"{stem}: expected {parameter} of query, key and value of one shape, got {shapes}")
        if f"{stem}.qkv.{parameter}" in tensors:
            raise LayoutError(f"{stem}: expected query, key and value or qkv, got both")
        if part == parts[0]:
            result[f"{stem}.qkv.{parameter}"] = torch.cat(layers)
    return _add_class_position(result)


OWN = Layout(name="", names=((r"data_preprocessor\..*", None),))
"""This package's names, which are those of MMPose 1.x."""

_MMPOSE_0 = (
    (r"keypoint_head\.loss\.(.*)", r"head.loss_module.\1"),
    (r"keypoint_head\.(.*)", r"head.\1"),
)
_BLOCK = rf"backbone\.blocks\.({_NUMBER})\."
_HF = r"(?:backbone\.)?"  # VitPoseBackbone alone is saved without the word
_HF_BLOCK = rf"{_HF}encoder\.layer\.({_NUMBER})\."

LAYOUTS = (
    Layout(
        name="ViTPose's repository",
        signs=(r"backbone\.patch_embed\.proj\.weight", r"backbone\.blocks\.0\.mlp\.fc1\.weight"),
        names=(
            (r"backbone\.cls_token", None),  # of the pre-training; unused
            (r"backbone\.patch_embed\.proj\.(weight|bias)", r"backbone.patch_embed.projection.\1"),
            (rf"{_BLOCK}norm([12])\.(weight|bias)", r"backbone.layers.\1.ln\2.\3"),
            (rf"{_BLOCK}attn\.(qkv|proj)\.(weight|bias)", r"backbone.layers.\1.attn.\2.\3"),
            (rf"{_BLOCK}mlp\.fc1\.(weight|bias)", r"backbone.layers.\1.ffn.layers.0.0.\2"),
            (rf"{_BLOCK}mlp\.fc2\.(weight|bias)", r"backbone.layers.\1.ffn.layers.1.\2"),
            (rf"{_BLOCK}mlp\.experts\.({_NUMBER})\.(weight|bias)", r"backbone.layers.\1.ffn.experts.\2.\3"),
            (r"backbone\.last_norm\.(weight|bias)", r"backbone.ln1.\1"),
            (rf"associate_keypoint_heads\.({_NUMBER})\.(.*)", r"associate_heads.\1.\2"),
            *_MMPOSE_0,
        ),
        finish=_add_class_position,
    ),
    Layout(
        name="Hugging Face's ViTPose",
        signs=(
            rf"{_HF}embeddings\.patch_embeddings\.projection\.weight",
            rf"{_HF}encoder\.layer\.0\.layernorm_before\.weight",
            rf"{_HF}encoder\.layer\.0\.mlp\.fc1\.weight",
        ),
        names=(
            (rf"{_HF}embeddings\.patch_embeddings\.projection\.(weight|bias)", r"backbone.patch_embed.projection.\1"),
            (rf"{_HF}embeddings\.position_embeddings", r"backbone.pos_embed"),
            (rf"{_HF_BLOCK}layernorm_before\.(weight|bias)", r"backbone.layers.\1.ln1.\2"),
            (rf"{_HF_BLOCK}layernorm_after\.(weight|bias)", r"backbone.layers.\1.ln2.\2"),
            (
                rf"{_HF_BLOCK}attention\.attention\.(query|key|value)\.(weight|bias)",
                r"backbone.layers.\1.attn.\2.\3",
            ),
            (rf"{_HF_BLOCK}attention\.output\.dense\.(weight|bias)", r"backbone.layers.\1.attn.proj.\2"),
            (rf"{_HF_BLOCK}mlp\.fc1\.(weight|bias)", r"backbone.layers.\1.ffn.layers.0.0.\2"),
            (rf"{_HF_BLOCK}mlp\.fc2\.(weight|bias)", r"backbone.layers.\1.ffn.layers.1.\2"),
            (rf"{_HF_BLOCK}mlp\.experts\.({_NUMBER})\.(weight|bias)", r"backbone.layers.\1.ffn.experts.\2.\3"),
            (rf"{_HF}layernorm\.(weight|bias)", r"backbone.ln1.\1"),
            (r"head\.deconv1\.(.*)", r"head.deconv_layers.0.\1"),
            (r"head\.batchnorm1\.(.*)", r"head.deconv_layers.1.\1"),
            (r"head\.deconv2\.(.*)", r"head.deconv_layers.3.\1"),
            (r"head\.batchnorm2\.(.*)", r"head.deconv_layers.4.\1"),
            (r"head\.conv\.(.*)", r"head.final_layer.\1"),
        ),
        finish=_join_attention,
    ),
    Layout(
        name="HRNet's repository",
        signs=(r"conv2\.weight", r"transition1\.0\.0\.weight", r"stage4\.0\..*", r"final_layer\.weight"),
        names=(
            (r"(?:conv[12]|bn[12]|layer1|transition[123]|stage[234])\..*", r"backbone.\g<0>"),
            (r"final_layer\..*", r"head.\g<0>"),
        ),
    ),
    Layout(
        name="Simple Baselines' repository",
        signs=(r"conv1\.weight", r"layer4\.0\..*", r"deconv_layers\.0\.weight", r"final_layer\.weight"),
        names=(
            (r"(?:conv1|bn1|layer[1-4])\..*", r"backbone.\g<0>"),
            (r"(?:deconv_layers|final_layer)\..*", r"head.\g<0>"),
        ),
        # Photos went in as OpenCV reads them, with the mean and deviation of red first.
        spec=MappingProxyType({"channel_order": "bgr"}),
    ),
    Layout(name="MMPose 0.x", signs=(r"keypoint_head\..*",), names=_MMPOSE_0, finish=_split_final_layers),
)
"""All layouts but this package's own; the first whose signs a file has is the file's."""
