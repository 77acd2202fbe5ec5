"""Backbone, neck and head of a row of the table → architecture and its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .node import Node


@dataclass
class Network:
    """What a row of the table is here.

    Attributes:
        architecture: name of the function.
        channels: of the map that the head takes.
        options: of the architecture, as the table says them; those that are its defaults are not written later.
        deconvs: channels of the head's deconvolutions unless an option says otherwise; None where it has none.
        deconv_groups: groups of each.
        neck: what stands between backbone and head.
    """

    architecture: str
    channels: int
    options: dict[str, Any] = field(default_factory=dict)
    deconvs: tuple[int, ...] | None = (256, 256, 256)
    deconv_groups: int = 1
    neck: dict[str, Any] | None = None


def _residual(prefix: str) -> Callable[[Node], Network]:
    def read(backbone: Node) -> Network:
        return Network(f"{prefix}{backbone.take('depth')}", 2048)

    return read


def _same(place: str, value: Any, expected: Any) -> None:
    if value != expected:
        raise ValueError(f"{place}: expected {expected}, got {value}")


def _hrnet(backbone: Node) -> Network:
    extra = dict(backbone.take("extra"))
    width = extra["stage2"]["num_channels"][0]
    several = extra["stage4"].get("multiscale_output", False)
    if several:
        _same("upsample", extra.pop("upsample"), {"mode": "bilinear", "align_corners": False})
        extra["stage4"] = {key: value for key, value in extra["stage4"].items() if key != "multiscale_output"}
    stages = {"stage1": {"num_modules": 1, "num_branches": 1, "block": "BOTTLENECK", "num_blocks": [4]}}
    stages["stage1"]["num_channels"] = [64]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        stages[f"stage{stage}"] = {
            "num_modules": modules,
            "num_branches": stage,
            "block": "BASIC",
            "num_blocks": [4] * stage,
            "num_channels": [width << branch for branch in range(stage)],
        }
    _same("HRNet.extra", extra, stages)
    if several:
        neck = {"type": "FeatureMapProcessor", "concat": True}
        return Network(f"hrnetv2_w{width}", 15 * width, deconvs=(), neck=neck)
    return Network(f"hrnet_w{width}", width, deconvs=())


def _hrformer(backbone: Node) -> Network:
    extra = dict(backbone.take("extra"))
    name, width, heads = {32: ("small", 32, 1), 78: ("base", 78, 2)}[extra["stage2"]["num_channels"][0]]
    drop_path = extra.pop("drop_path_rate")
    # Stage 1 consists of bottlenecks: heads and ratios of multilayer perceptrons say nothing there.
    attention = ("num_heads", "mlp_ratios", "num_mlp_ratios")
    extra["stage1"] = {key: value for key, value in extra["stage1"].items() if key not in attention}
    stages: dict[str, Any] = {"with_rpe": True}
    stages["stage1"] = {"num_modules": 1, "num_branches": 1, "block": "BOTTLENECK", "num_blocks": [2]}
    stages["stage1"]["num_channels"] = [64]
    for stage, modules in ((2, 1), (3, 4), (4, 2)):
        stages[f"stage{stage}"] = {
            "num_modules": modules,
            "num_branches": stage,
            "block": "HRFORMERBLOCK",
            "num_blocks": [2] * stage,
            "num_channels": [width << branch for branch in range(stage)],
            "num_heads": [heads << branch for branch in range(stage)],
            "mlp_ratios": [4] * stage,
            "window_sizes": [7] * stage,
        }
    _same("HRFormer.extra", extra, stages)
    return Network(f"hrformer_{name}", width, {"drop_path": drop_path}, deconvs=())


def _litehrnet(backbone: Node) -> Network:
    extra = backbone.take("extra")
    modules = extra["stages_spec"]["num_modules"]
    expected = {
        "stem": {"stem_channels": 32, "out_channels": 32, "expand_ratio": 1},
        "num_stages": 3,
        "stages_spec": {
            "num_modules": modules,
            "num_branches": [2, 3, 4],
            "num_blocks": [2] * 3,
            "module_type": ["LITE"] * 3,
            "with_fuse": [True] * 3,
            "reduce_ratios": [8] * 3,
            "num_channels": [[40, 80], [40, 80, 160], [40, 80, 160, 320]],
        },
        "with_head": True,
    }
    _same("LiteHRNet.extra", extra, expected)
    return Network({(2, 4, 2): "litehrnet18", (3, 8, 3): "litehrnet30"}[tuple(modules)], 40, deconvs=())


def _vit(backbone: Node) -> Network:
    arch = backbone.take("arch")
    if isinstance(arch, dict):
        _same("arch", arch, {"embed_dims": 384, "num_layers": 12, "num_heads": 12, "feedforward_channels": 1536})
        arch = "small"
    backbone.expect(img_size=[256, 192], patch_size=16, patch_cfg={"padding": 2}, qkv_bias=True)
    # The older name of "give a map, no class token".
    backbone.expect(with_cls_token=False, out_type="featmap", output_cls_token=False)
    channels = {"small": 384, "base": 768, "large": 1024, "huge": 1280}[arch]
    return Network(f"vitpose_{arch}", channels, {"drop_path": backbone.take("drop_path_rate")}, deconvs=None)


def _swin(backbone: Node) -> Network:
    width = backbone.take("embed_dims")
    name, depth, heads = {96: ("tiny", 6, 3), 128: ("base", 18, 4), 192: ("large", 18, 6)}[width]
    backbone.expect(depths=[2, 2, depth, 2], num_heads=[heads << stage for stage in range(4)])
    backbone.expect(mlp_ratio=4, qkv_bias=True, qk_scale=None, drop_rate=0.0, attn_drop_rate=0.0, patch_norm=True)
    backbone.expect(out_indices=[3], with_cp=False)
    backbone.ignore("convert_weights")  # how ImageNet weights are read
    options = {"window_size": backbone.take("window_size"), "drop_path": backbone.take("drop_path_rate")}
    return Network(f"swin_{name}", 8 * width, options)


def _pvt(architecture: str) -> Callable[[Node], Network]:
    def read(backbone: Node) -> Network:
        backbone.expect(embed_dims=64, num_layers=[3, 4, 6, 3])
        # All four maps come out of the backbone; the neck picks the last.
        return Network(architecture, 512, neck={"type": "FeatureMapProcessor", "select_index": 3})

    return read


_CSPNEXT = {(0.167, 0.375): "tiny", (0.33, 0.5): "s", (0.67, 0.75): "m", (1.0, 1.0): "l", (1.33, 1.25): "x"}


def _cspnext(backbone: Node) -> Network:
    backbone.expect(_scope_="mmdet", arch="P5", expand_ratio=0.5, channel_attention=True)
    backbone.expect(act_cfg={"type": "SiLU"})
    size = backbone.take("deepen_factor"), backbone.take("widen_factor")
    network = Network(f"cspnext_{_CSPNEXT[size]}", int(1024 * size[1]))
    if backbone.take("out_indices", None) is None:  # the maps of three stages, for a neck
        widths = [int(width * size[1]) for width in (256, 512, 1024)]
        network.neck = {
            "type": "CSPNeXtPAFPN",
            "in_channels": widths,
            "out_channels": None,
            "out_indices": [1, 2],
            "num_csp_blocks": 2,
            "expand_ratio": 0.5,
            "act_cfg": {"type": "SiLU", "inplace": True},
        }
    return network


def _multi_stage(architectures: dict[tuple[int, ...], str]) -> Callable[[Node], Network]:
    def read(backbone: Node) -> Network:
        backbone.expect(unit_channels=256, num_units=4, num_steps=4)
        name = architectures[tuple(backbone.take("num_blocks"))]
        return Network(name, 256, {"stages": backbone.take("num_stages")}, deconvs=None)

    return read


def _hourglass(backbone: Node) -> Network:
    return Network("hourglass52", 256, {"stacks": backbone.take("num_stacks")}, deconvs=None)


def _cpm(backbone: Node) -> Network:
    backbone.expect(feat_channels=128)
    return Network("cpm", backbone.take("out_channels"), {"stages": backbone.take("num_stages")}, deconvs=None)


def _plain(architecture: str, channels: int, **expected: Any) -> Callable[[Node], Network]:
    def read(backbone: Node) -> Network:
        backbone.expect(**expected)
        return Network(architecture, channels)

    return read


def _vipnas(architecture: str, channels: int, deconvs: int, groups: int, **expected: Any) -> Callable[[Node], Network]:
    def read(backbone: Node) -> Network:
        backbone.expect(**expected)
        return Network(architecture, channels, deconvs=(deconvs,) * 3, deconv_groups=groups)

    return read


# Backbone type → file of entries, and its reader.
FAMILIES: dict[str, tuple[str, Callable[[Node], Network]]] = {
    "AlexNet": ("alexnet", _plain("alexnet", 256, num_classes=-1)),
    "CPM": ("cpm", _cpm),
    "CSPNeXt": ("cspnext", _cspnext),
    "HRFormer": ("hrformer", _hrformer),
    "HRNet": ("hrnet", _hrnet),
    "HourglassNet": ("hourglass", _hourglass),
    "LiteHRNet": ("litehrnet", _litehrnet),
    "MSPN": ("mspn", _multi_stage({(3, 4, 6, 3): "mspn50"})),
    "MobileNetV2": ("mobilenetv2", _plain("mobilenetv2", 1280, widen_factor=1.0, out_indices=[7])),
    "PyramidVisionTransformer": ("pvt", _pvt("pvt_small")),
    "PyramidVisionTransformerV2": ("pvt", _pvt("pvtv2_b2")),
    "RSN": ("rsn", _multi_stage({(2, 2, 2, 2): "rsn18", (3, 4, 6, 3): "rsn50"})),
    "ResNeSt": ("resnest", _residual("resnest")),
    "ResNeXt": ("resnext", _residual("resnext")),
    "ResNet": ("resnet", _residual("resnet")),
    "ResNetV1d": ("resnetv1d", _residual("resnetv1d")),
    "SCNet": ("scnet", _residual("scnet")),
    "SEResNet": ("seresnet", _residual("seresnet")),
    "ShuffleNetV1": ("shufflenet", _plain("shufflenetv1", 960, groups=3)),
    "ShuffleNetV2": ("shufflenet", _plain("shufflenetv2", 1024, widen_factor=1.0)),
    "SwinTransformer": ("swin", _swin),
    "VGG": ("vgg", _plain("vgg16_bn", 512, depth=16)),
    "ViPNAS_MobileNetV3": ("vipnas", _vipnas("vipnas_mobilenetv3", 160, 160, 160)),
    "ViPNAS_ResNet": ("vipnas", _vipnas("vipnas_resnet50", 608, 144, 16, depth=50)),
    "mmcls.VisionTransformer": ("vitpose", _vit),
    "mmpretrain.VisionTransformer": ("vitpose", _vit),
}


def _heatmap_head(head: Node, network: Network, neck: Node) -> int:
    if network.deconvs is None:
        return _vit_head(head, network, neck)
    deconvs = head.take("deconv_out_channels", network.deconvs) or ()
    groups = head.take("deconv_num_groups", [network.deconv_groups] * len(deconvs))
    if tuple(deconvs) != network.deconvs:
        network.options["deconv_channels"] = list(deconvs)
    _same("deconv_num_groups", groups, [network.deconv_groups] * len(deconvs))
    head.expect(deconv_kernel_sizes=[4] * len(deconvs))
    if network.architecture.startswith("hrnetv2"):
        head.require(conv_out_channels=[network.channels], conv_kernel_sizes=[1])
    neck.require(**(network.neck or {}))
    return 1


def _size(head: Node, network: Network) -> None:
    """Where a head says the sizes of its maps and bins again: weights would not fit if the spec had others."""
    head.ignore("input_size", "in_featuremap_size")
    head.expect(simcc_split_ratio=2.0)


def _simcc_head(head: Node, network: Network, neck: Node) -> int:
    _size(head, network)
    deconvs = head.take("deconv_out_channels", network.deconvs) or ()
    groups = head.take("deconv_num_groups", [network.deconv_groups] * len(deconvs))
    if tuple(deconvs) != network.deconvs:
        network.options["deconv_channels"] = list(deconvs)
    if deconvs:
        head.expect(deconv_type="vipnas" if network.deconv_groups > 1 else "heatmap")
        _same("deconv_num_groups", groups, [network.deconv_groups] * len(deconvs))
    network.options["head"] = "simcc"
    return 1


_GATED = {
    "hidden_dims": 256, "s": 128, "expansion_factor": 2, "dropout_rate": 0.0, "drop_path": 0.0, "act_fn": "SiLU",
    "use_rel_bias": False, "pos_enc": False,
}  # fmt: skip


def _rtm_head(stem: str) -> Callable[[Node, Network, Node], int]:
    def read(head: Node, network: Network, neck: Node) -> int:
        _size(head, network)
        head.require(final_layer_kernel_size=7, gau_cfg=_GATED)
        neck.ignore("norm_cfg")
        neck.require(**(network.neck or {}))
        network.architecture = network.architecture.replace("cspnext", stem)
        return 1

    return read


def _dsnt_head(head: Node, network: Network, neck: Node) -> int:
    _size(head, network)
    debias, beta = head.take("debias", False), head.take("beta", 1.0)
    _same("beta", beta, 10.0 if debias else 1.0)
    network.options["head"] = "debiased_integral" if debias else "integral"
    return 1


def _vit_head(head: Node, network: Network, neck: Node) -> int:
    simple = not head.take("deconv_out_channels")
    network.options["simple"] = simple
    if simple:
        head.require(deconv_kernel_sizes=[], final_layer={"kernel_size": 3, "padding": 1})
        neck.require(type="FeatureMapProcessor", scale_factor=4.0, apply_relu=True)
    else:
        head.expect(deconv_kernel_sizes=[4, 4])
    return 1


def _cpm_head(head: Node, network: Network, neck: Node) -> int:
    stages = head.take("num_stages")
    _same("num_stages of the head", stages, network.options.get("stages") or network.options["stacks"])
    head.expect(deconv_out_channels=None)
    if network.architecture == "cpm":
        head.expect(final_layer=None)  # the backbone's maps are the head's
    return stages


def _mspn_head(head: Node, network: Network, neck: Node) -> int:
    _same("num_stages of the head", head.take("num_stages"), network.options["stages"])
    head.expect(unit_channels=256, num_units=4, norm_cfg={"type": "BN"}, out_shape=[64, 48])
    return 4 * network.options["stages"]


def _regression_head(kind: str) -> Callable[[Node, Network, Node], int]:
    def read(head: Node, network: Network, neck: Node) -> int:
        network.options["head"] = kind
        neck.require(type="GlobalAveragePooling")
        return 1

    return read


def _visibility_head(head: Node, network: Network, neck: Node) -> int:
    network.options["head"] = "visibility"
    return 1


# Head type → its reader, which adds to the options and says how many output stages there are.
_HEADS: dict[str, Callable[[Node, Network, Node], int]] = {
    "HeatmapHead": _heatmap_head,
    "ViPNASHead": _heatmap_head,
    "CPMHead": _cpm_head,
    "DSNTHead": _dsnt_head,
    "MSPNHead": _mspn_head,
    "RLEHead": _regression_head("rle"),
    "RTMCCHead": _rtm_head("rtmpose"),
    "RTMWHead": _rtm_head("rtmw"),
    "RegressionHead": _regression_head("regression"),
    "SimCCHead": _simcc_head,
    "VisPredictHead": _visibility_head,
}


@dataclass
class Training:
    """What the head says about targets and loss.

    Attributes:
        decoder: the codec, once more.
        loss: one configuration, or one an output stage.
        levels: of a multi-level codec, the one of each output stage.
    """

    decoder: dict[str, Any]
    loss: dict[str, Any] | list[dict[str, Any]]
    levels: list[int] | None


def read_model(model: Node, keypoints: int, channels: int) -> tuple[str, Network, int, Training]:
    """The network of a row.

    Args:
        model: the row's `model`; its `backbone`, `neck` and `head` are read.
        keypoints: of the skeleton.
        channels: that the codec wants of a heatmap head.

    Returns:
        File of entries, network, number of output stages, and what the head says about its training.
    """
    backbone, neck, head = model.node("backbone"), model.node("neck"), model.node("head")
    family, read = FAMILIES[backbone.take("type")]
    backbone.ignore("init_cfg", "norm_cfg")  # ImageNet weights; BatchNorm, synchronised or not
    backbone.expect(in_channels=3)
    network = read(backbone)
    backbone.done()
    kind = head.take("type")
    maps = head  # the head that makes maps
    if kind == "VisPredictHead":
        maps = head.node("pose_cfg")
        maps.require(type="HeatmapHead", loss={"type": "KeypointMSELoss", "use_target_weight": True})
    if kind in ("RLEHead", "RegressionHead", "DSNTHead"):
        head.require(num_joints=keypoints)
    else:
        maps.require(out_channels=channels)
    if kind != "MSPNHead":
        maps.require(in_channels=network.channels)
    stages = _HEADS[kind](head, network, neck)
    training = Training(maps.take("decoder"), head.take("loss"), head.take("level_indices", None))
    for node in (head, maps, neck):
        node.done()
    if kind in ("RTMCCHead", "RTMWHead"):
        family = network.architecture.split("_")[0]
    return family, network, stages, training
