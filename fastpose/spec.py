"""PoseSpec: the one record that training, evaluation, prediction and export agree on.

It stands as JSON in the header of every checkpoint. Nothing downstream takes one of its values from anywhere else, so a
model file alone predicts correctly.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .checks import Size, check_bool, check_choice, check_keys, check_number, check_size
from .codecs import CODECS, Codec, build_codec, codec_parameters
from .files import parse_json
from .skeletons import Skeleton

__all__ = ["ChannelOrder", "PoseSpec"]

ChannelOrder = Literal["rgb", "bgr"]

# Fields of older files: of a codec those of all kinds stood there, and the shift of the mirrored map beside it.
_OLD_CODEC_FIELDS = {"heatmap_size", "sigma", "kernel_size", "blur_kernel", "radius_factor"}
_OLD_FIELDS = {"flip_shift"}


@dataclass(frozen=True)
class PoseSpec:
    """Everything about a pose model that is not a weight.

    Attributes:
        skeleton: What the K keypoints are.
        input_size: (height, width) of the network's input, pixels.
        codec: What the network's output means (see `fastpose.codecs`).
        padding: Factor on the box before it is cropped.
        udp: Crops follow the UDP pixel convention (see :mod:`fastpose.geometry`).
        channel_order: Order of the input's channels; photos are read as BGR.
        mean: Subtracted from the pixels (0..255), in ``channel_order``.
        std: Divides what is left, in ``channel_order``.
        flip_test: Prediction averages with the mirrored crop unless told otherwise (see `mirrors`).
        output_stages: How many stages the network returns; the last one predicts.

    Raises:
        ValueError: A value is of the wrong type or out of range; the message names it.
    """

    skeleton: Skeleton
    input_size: Size
    codec: Codec
    padding: float = 1.25
    udp: bool = False
    channel_order: ChannelOrder = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    flip_test: bool = True
    output_stages: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.skeleton, Skeleton):
            raise ValueError(f"skeleton: expected a Skeleton, got {type(self.skeleton).__name__}")
        if not isinstance(self.codec, tuple(CODECS.values())):
            raise ValueError(f"codec: expected a codec of fastpose.codecs, got {type(self.codec).__name__}")
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        self.codec.check(self.input_size)
        object.__setattr__(self, "padding", check_number("padding", self.padding, above=0))
        check_choice("channel_order", self.channel_order, get_args(ChannelOrder))
        for name in ("udp", "flip_test"):
            check_bool(name, getattr(self, name))
        for name, above in (("mean", None), ("std", 0.0)):
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or len(values) != 3:
                raise ValueError(f"{name}: expected three numbers, got {values!r}")
            object.__setattr__(self, name, tuple(check_number(name, value, above=above) for value in values))
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

    def mirrors(self, asked: bool | None = None) -> bool:
        """Whether a prediction averages with the mirrored crop.

        Args:
            asked: What the user wants; None is ``flip_test``, or False where nobody knows which keypoints change places
                in a mirror.

        Raises:
            ValueError: It is asked for, and nobody knows which keypoints change places.
        """
        if asked and not self.skeleton.mirror_known:
            raise ValueError(f"flip_test: {self.skeleton.name}: {self.skeleton.warnings[0]}")
        return self.flip_test and self.skeleton.mirror_known if asked is None else asked

    def replace(self, **changes: Any) -> PoseSpec:
        """A copy with some values changed; a heatmap keeps its ratio to the input when only ``input_size`` changes.

        Raises:
            ValueError: The new input size does not divide by the ratio, or a value does not fit.
        """
        if "input_size" in changes and "codec" not in changes:
            changes["codec"] = self.codec.resized(self.input_size, check_size("input_size", changes["input_size"]))
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Compact JSON; :meth:`from_json` gives an equal spec back."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["skeleton"], data["codec"] = self.skeleton.to_dict(), codec_parameters(self.codec)
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PoseSpec:
        """The spec that :meth:`to_json` wrote.

        Raises:
            ValueError: Not JSON, or a key is missing, unknown or of the wrong type; the message names it.
        """
        data = parse_json(text, "spec")
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if key not in _OLD_FIELDS}
        values = dict(check_keys("spec", data, cls))
        values["skeleton"] = Skeleton.from_dict(values["skeleton"])
        values["codec"] = _codec(values["codec"])
        return cls(**values)


def _codec(data: Any) -> Codec:
    if not isinstance(data, dict):
        raise ValueError(f"codec: expected an object, got {type(data).__name__}")
    values = dict(data)
    kind = values.pop("kind", None)
    check_choice("codec.kind", kind, tuple(CODECS))
    own = {field.name for field in dataclasses.fields(CODECS[kind])}  # type: ignore[arg-type]
    return build_codec(
        kind, **{key: value for key, value in values.items() if key in own or key not in _OLD_CODEC_FIELDS}
    )
