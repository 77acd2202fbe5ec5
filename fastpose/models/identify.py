"""Which of the zoo's networks a file of weights belongs to, told by the names and shapes of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .experts import count_experts, fold_expert
from .factory import create_model
from .layouts import LayoutError
from .zoo import ZooEntry, list_entries

__all__ = ["Match", "find_matches"]

# What training does not change, and so does not count as parameters.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
_COUNTER = _BUFFERS[2]
_NEAR = 0.1
"""Relative difference of the parameters beyond which an entry is not built: other keypoints change the last layers."""


class Match(NamedTuple):
    """A zoo entry whose network has the entries of a file.

    Attributes:
        entry: The zoo's.
        num_keypoints: K of the file.
    """

    entry: ZooEntry
    num_keypoints: int


def find_matches(tensors: Mapping[str, Tensor]) -> list[Match]:
    """Zoo entries whose network these weights fit, perhaps with another number of keypoints.

    Entries that differ in nothing but how they were trained or are decoded (Gaussian or DARK, say) all fit; shapes do
    not tell these apart.

    Args:
        tensors: What `read_checkpoint` gives.

    Returns:
        First the entries with the file's number of keypoints, in the order of the zoo, then the others.
    """
    if count_experts(tensors):  # all of them are of the same network, but for the number of keypoints
        try:
            tensors = fold_expert(tensors, 0)
        except LayoutError:
            return []
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    parameters = sum(tensor.numel() for name, tensor in tensors.items() if name.rpartition(".")[2] not in _BUFFERS)
    fitting: dict[tuple[object, ...], int | None] = {}
    found = []
    for entry in list_entries():
        if abs(entry.parameters - parameters) > _NEAR * max(entry.parameters, parameters):
            continue
        # Another input size changes no more than tables of positions, which are fitted as they are loaded.
        network = (entry.architecture, repr(sorted(entry.arguments.items())), entry.spec.codec.kind)
        if network not in fitting:
            fitting[network] = _keypoints(entry, shapes)
        count = fitting[network]
        if count is not None:
            found.append(Match(entry, count))
    return sorted(found, key=lambda match: match.entry.spec.num_keypoints != match.num_keypoints)


def _keypoints(entry: ZooEntry, shapes: Mapping[str, torch.Size]) -> int | None:
    """K with which the entry's network has these names and shapes; None where no K does."""
    usual = entry.spec.num_keypoints
    expected = _shapes(entry, usual)
    if not any(name.endswith(_COUNTER) for name in shapes):  # files of before torch 0.4.1
        expected = {name: shape for name, shape in expected.items() if not name.endswith(_COUNTER)}
    if expected.keys() != shapes.keys():
        return None
    other = [name for name, shape in expected.items() if shape != shapes[name]]
    if not other:
        return usual
    # What depends on the keypoints has a multiple of K rows, so one of these entries says K, and the others confirm it.
    name = other[0]
    if not expected[name] or shapes[name][1:] != expected[name][1:] or expected[name][0] % usual:
        return None
    rows_each = expected[name][0] // usual
    count, rest = divmod(shapes[name][0], rows_each)
    if not count or rest:
        return None
    confirmed = _shapes(entry, count)
    return count if all(confirmed[name] == shape for name, shape in shapes.items()) else None


def _shapes(entry: ZooEntry, num_keypoints: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = create_model(entry.name, num_keypoints=num_keypoints)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
