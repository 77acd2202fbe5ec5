"""Codecs: keypoints to a network's target, and its output back to keypoints. A file each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..checks import check_choice, check_keys
from .codec import Codec
from .dark import Dark
from .gaussian import Gaussian
from .integral import Integral
from .megvii import Megvii
from .regression import Regression
from .simcc import SimCC
from .udp import Udp
from .udp_combined import UdpCombined

__all__ = [
    "CODECS",
    "Codec",
    "Dark",
    "Gaussian",
    "Integral",
    "Megvii",
    "Regression",
    "SimCC",
    "Udp",
    "UdpCombined",
    "build_codec",
    "change_codec",
    "codec_parameters",
]

CODECS: Mapping[str, type[Codec]] = {
    codec.kind: codec for codec in (Gaussian, Dark, Udp, UdpCombined, Megvii, Regression, SimCC, Integral)
}
"""The codecs by name."""


def build_codec(kind: str, **parameters: Any) -> Codec:
    """The codec of that name.

    Args:
        kind: A name of `CODECS`.
        parameters: Fields of its class.

    Returns:
        The codec.

    Raises:
        ValueError: No codec has that name, or a parameter is unknown, missing, of the wrong type or out of range; the
            message names it.

    Example:
        >>> build_codec("dark", heatmap_size=(64, 48))
        Dark(heatmap_size=(64, 48), sigma=2.0, blur_kernel=11)
    """
    check_choice("codec.kind", kind, tuple(CODECS))
    return CODECS[kind](**check_keys("codec", parameters, CODECS[kind]))


def codec_parameters(codec: Codec) -> dict[str, Any]:
    """What `build_codec` makes an equal codec of: its kind and its fields, as plain data."""
    return {"kind": codec.kind, **dataclasses.asdict(codec)}  # type: ignore[call-overload]


def change_codec(codec: Codec, **changes: Any) -> Codec:
    """A copy with some parameters changed; with another ``kind``, what both have in common is kept.

    Args:
        codec: The codec.
        changes: ``kind`` and parameters of the result.

    Returns:
        The new codec.

    Raises:
        ValueError: As `build_codec`.
    """
    kind = changes.pop("kind", codec.kind)
    check_choice("codec.kind", kind, tuple(CODECS))
    fields = {field.name for field in dataclasses.fields(CODECS[kind])}  # type: ignore[arg-type]
    kept = {key: value for key, value in codec_parameters(codec).items() if key in fields}
    return build_codec(kind, **{**kept, **changes})
