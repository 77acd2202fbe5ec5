"""What ``fastpose info FILE`` says of a model file or a checkpoint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models import Match

__all__ = ["checkpoint_facts", "describe_matches", "file_facts"]

_MOST_NAMES = 6


def file_facts(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
    """What any file of weights has: its size, the types of its entries, and the text in its header."""
    types = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.numel())
    return {
        "file": str(path),
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "entries": {name: f"{count} {'entry' if count == 1 else 'entries'}" for name, count in types.most_common()},
        "metadata": {key: text for key, text in metadata.items() if not key.startswith("fastpose.")},
    }


def checkpoint_facts(path: Path, tensors: dict[str, Any], layout: str) -> dict[str, Any]:
    """What can be told of weights that do not say which network they are for; `layout`: whose names they have."""
    from ..models import find_matches, list_entries
    from ..models.experts import EXPERTS, count_experts

    parts = Counter(name.partition(".")[0] for name in tensors)
    matches = find_matches(tensors)
    published = [entry.name for entry in list_entries() if Path(entry.weights.get("url", "")).name == path.name]
    facts: dict[str, Any] = {
        "says which network": "no (and shapes do not tell how its maps are to be decoded): see what fits",
        "names of": layout or "this package (MMPose 1.x)",
        "parts": {name: f"{count} {'entry' if count == 1 else 'entries'}" for name, count in parts.most_common()},
        "published as": published,
        "fits": [f"{match.entry.name} ({match.num_keypoints} keypoints)" for match in matches],
    }
    if count := count_experts(tensors):
        known = [expert.name for expert in EXPERTS] if count == len(EXPERTS) else [f"0 to {count - 1}"]
        facts["experts (fastpose convert --expert)"] = known
    name = published[0] if published else matches[0].entry.name if matches else None
    if name is not None:
        other = not published and matches[0].num_keypoints != matches[0].entry.spec.num_keypoints
        option = f" --num-keypoints {matches[0].num_keypoints}" if other else ""
        model = "" if published else f" --model {name}"
        facts["convert"] = f"fastpose convert {path} {path.stem}.safetensors{model}{option}"
    return facts


def describe_matches(matches: list[Match]) -> str:
    """Which entries of the zoo a file fits, for an error that asks to choose one."""
    if not matches:
        return "its entries fit no network of the zoo"
    names = [match.entry.name for match in matches]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    first = matches[0]
    same = first.num_keypoints == first.entry.spec.num_keypoints
    keypoints = "" if same else f", with --num-keypoints {first.num_keypoints}"
    return f"its entries fit {', '.join(names[:_MOST_NAMES])}{more}{keypoints}"
