"""PoseSpec: the one record that training, evaluation, prediction and export agree on.

It stands as JSON in the header of every checkpoint. Nothing downstream takes one of its values from anywhere else, so a
model file alone predicts correctly.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .skeletons import Skeleton

__all__ = ["ChannelOrder", "CodecKind", "CodecSpec", "PoseSpec"]

CodecKind = Literal["gaussian", "dark", "udp", "udp_combined", "megvii", "regression"]
ChannelOrder = Literal["rgb", "bgr"]
Size = tuple[int, int]


def _check_size(name: str, value: Any) -> Size:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(isinstance(side, int) for side in value):
        raise ValueError(f"{name}: expected (height, width) in whole pixels, got {value!r}")
    height, width = value
    if height < 1 or width < 1:
        raise ValueError(f"{name}: expected (height, width) of at least 1 pixel, got {value!r}")
    return int(height), int(width)


def _check_number(name: str, value: Any, *, above: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(value) or (above is not None and not value > above):
        least = "" if above is None else f" above {above:g}"
        raise ValueError(f"{name}: expected a number{least} that is finite, got {value!r}")
    return float(value)


def _check_choice(name: str, value: Any, kind: Any) -> None:
    if value not in get_args(kind):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(kind))}, got {value!r}")


def _check_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")


def _check_odd(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise ValueError(f"{name}: expected an odd whole number, got {value!r}")


def _check_keys(name: str, data: Any, cls: type) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{name}: expected an object, got {type(data).__name__}")
    fields = dataclasses.fields(cls)
    unknown = sorted(set(data) - {field.name for field in fields})
    if unknown:
        raise ValueError(f"{name}: unknown keys {', '.join(unknown)}")
    missing = [
        field.name
        for field in fields
        if field.name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{name}: missing keys {', '.join(missing)}")
    return data


@dataclass(frozen=True)
class CodecSpec:
    """How keypoints become a target and come back from a network's output.

    Attributes:
        kind: ``gaussian`` (MSRA: Gaussian around the nearest pixel, arg-max and a quarter of a pixel back), ``dark``
            (Zhang et al., CVPR 2020: Gaussian around the point itself, Taylor step on the logarithm), ``udp`` and
            ``udp_combined`` (Huang et al., CVPR 2020: Gaussian, or disc and offsets), ``megvii`` (Li et al., 2019:
            MSPN's blurred points), ``regression`` (coordinates divided by the input size; no heatmap).
        heatmap_size: (height, width) of the heatmap; None for regression.
        sigma: Standard deviation of the Gaussian, heatmap pixels (gaussian, dark, udp).
        kernel_size: Side of the blur that makes a target (megvii), heatmap pixels, odd.
        blur_kernel: Side of the blur before the Taylor step (dark, udp, udp_combined), heatmap pixels, odd.
        radius_factor: Radius of the disc as a fraction of the heatmap's longer side (udp_combined).

    Raises:
        ValueError: A value is of the wrong type or out of range; the message names it.
    """

    kind: CodecKind
    heatmap_size: Size | None = None
    sigma: float = 2.0
    kernel_size: int = 11
    blur_kernel: int = 11
    radius_factor: float = 0.0546875

    def __post_init__(self) -> None:
        _check_choice("codec.kind", self.kind, CodecKind)
        if (self.heatmap_size is None) != (self.kind == "regression"):
            expected = "none" if self.kind == "regression" else "(height, width)"
            raise ValueError(f"codec.heatmap_size: expected {expected} for {self.kind!r}, got {self.heatmap_size!r}")
        if self.heatmap_size is not None:
            object.__setattr__(self, "heatmap_size", _check_size("codec.heatmap_size", self.heatmap_size))
        object.__setattr__(self, "sigma", _check_number("codec.sigma", self.sigma, above=0))
        object.__setattr__(self, "radius_factor", _check_number("codec.radius_factor", self.radius_factor, above=0))
        _check_odd("codec.kernel_size", self.kernel_size)
        _check_odd("codec.blur_kernel", self.blur_kernel)

    def output_channels(self, num_keypoints: int) -> int:
        """Channels of the network's output: three a keypoint for udp_combined (disc, x and y offset), else one."""
        return num_keypoints * 3 if self.kind == "udp_combined" else num_keypoints


@dataclass(frozen=True)
class PoseSpec:
    """Everything about a pose model that is not a weight.

    Attributes:
        skeleton: What the K keypoints are.
        input_size: (height, width) of the network's input, pixels.
        codec: What the network's output means.
        padding: Factor on the box before it is cropped.
        udp: Crops follow the UDP pixel convention (see :mod:`fastpose.geometry`).
        channel_order: Order of the input's channels; photos are read as BGR.
        mean: Subtracted from the pixels (0..255), in ``channel_order``.
        std: Divides what is left, in ``channel_order``.
        flip_test: Prediction averages with the mirrored crop unless told otherwise.
        flip_shift: The mirrored heatmap is moved right by one pixel before averaging (ordinary crops of networks
            whose output is a fraction of the input's size; never with UDP).
        output_stages: How many stages the network returns; the last one predicts.

    Raises:
        ValueError: A value is of the wrong type or out of range; the message names it.
    """

    skeleton: Skeleton
    input_size: Size
    codec: CodecSpec
    padding: float = 1.25
    udp: bool = False
    channel_order: ChannelOrder = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    flip_test: bool = True
    flip_shift: bool = False
    output_stages: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.skeleton, Skeleton):
            raise ValueError(f"skeleton: expected a Skeleton, got {type(self.skeleton).__name__}")
        if not isinstance(self.codec, CodecSpec):
            raise ValueError(f"codec: expected a CodecSpec, got {type(self.codec).__name__}")
        object.__setattr__(self, "input_size", _check_size("input_size", self.input_size))
        object.__setattr__(self, "padding", _check_number("padding", self.padding, above=0))
        _check_choice("channel_order", self.channel_order, ChannelOrder)
        for name in ("udp", "flip_test", "flip_shift"):
            _check_bool(name, getattr(self, name))
        for name, above in (("mean", None), ("std", 0.0)):
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or len(values) != 3:
                raise ValueError(f"{name}: expected three numbers, got {values!r}")
            object.__setattr__(self, name, tuple(_check_number(name, value, above=above) for value in values))
        if isinstance(self.output_stages, bool) or not isinstance(self.output_stages, int) or self.output_stages < 1:
            raise ValueError(f"output_stages: expected a whole number of at least 1, got {self.output_stages!r}")

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self.skeleton.num_keypoints

    @property
    def output_channels(self) -> int:
        """Channels of one stage of the network's output."""
        return self.codec.output_channels(self.num_keypoints)

    def replace(self, **changes: Any) -> PoseSpec:
        """A copy with some values changed; a heatmap keeps its ratio to the input when only ``input_size`` changes.

        Raises:
            ValueError: The new input size does not divide by the ratio, or a value does not fit.
        """
        if "input_size" in changes and "codec" not in changes and self.codec.heatmap_size is not None:
            height, width = _check_size("input_size", changes["input_size"])
            sizes = []
            for new, old, heat in zip((height, width), self.input_size, self.codec.heatmap_size, strict=True):
                if new * heat % old:
                    raise ValueError(f"input_size: {height, width} gives no whole heatmap pixels at {heat}/{old}")
                sizes.append(new * heat // old)
            changes["codec"] = dataclasses.replace(self.codec, heatmap_size=(sizes[0], sizes[1]))
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Compact JSON; :meth:`from_json` gives an equal spec back."""
        data = dataclasses.asdict(self)
        data["skeleton"] = self.skeleton.to_dict()
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PoseSpec:
        """The spec that :meth:`to_json` wrote.

        Raises:
            ValueError: Not JSON, or a key is missing, unknown or of the wrong type; the message names it.
        """
        try:
            data = json.loads(text)
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"spec: not valid JSON ({error})") from error
        values = dict(_check_keys("spec", data, cls))
        values["skeleton"] = Skeleton.from_dict(values["skeleton"])
        values["codec"] = CodecSpec(**_check_keys("codec", values["codec"], CodecSpec))
        return cls(**values)
