"""What a larger detector says at every place of a picture, for a smaller one with the same places to learn.

Dense teaching says far more of a picture than its few boxes do, and of any cut or mosaic of photos; the boxes that are
known say where the teacher must not be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detector_loss import pair_ious
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 0.03  # score from which on a place says where its box is


@dataclass
class Taught:
    """What a teacher says of pictures: scores [B, A], boxes [B, A, 4], and the maps of each level [B, C, h, w]."""

    scores: Tensor
    boxes: Tensor
    features: list[Tensor]


class DenseTeacher:
    """A network of ONNX Runtime, cut off where every place still has its score and its box.

    Args:
        file: RTMDet for persons as MMDeploy exports it; pictures and places are those of `PersonNet`.
        scores: Name of the values [B, A, 1] in the graph, 0 to 1.
        boxes: Name of the values [B, A, 4], xyxy in pixels of the picture.
        features: Names of the maps [B, C, h, w] that its head sees, one a level; there may be none.
    """

    def __init__(self, file: Path, scores: str, boxes: str, features: Sequence[str] = ()) -> None:
        import onnx
        import onnxruntime

        whole = onnx.load(str(file))
        self._input = whole.graph.input[0].name
        part = onnx.utils.Extractor(whole).extract_model([self._input], [scores, boxes, *features])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, pictures: Tensor) -> Taught:
        """What it says of normalised pictures [B, 3, h, w]."""
        # One by one: several at once take longer on a CPU.
        found = [self._session.run(None, {self._input: picture[None]}) for picture in pictures.contiguous().numpy()]
        scores, boxes, *features = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True))
        return Taught(scores[..., 0], boxes, features)


def believed(scores: Tensor, boxes: Tensor, known: list[NDArray[np.float32]]) -> Tensor:
    """The scores [B, A] where the middle of a place's box [B, A, 4] lies in a known box, else 0.

    Args:
        scores: [B, A].
        boxes: [B, A, 4].
        known: Of each picture, boxes [N, 4] of people, and of what may be people.
    """
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    kept = torch.zeros_like(scores)
    for picture, rows in enumerate(known):
        if not len(rows):
            continue
        left, upper, right, lower = torch.from_numpy(np.asarray(rows, np.float32))[:, :4, None].unbind(1)
        x, y = middles[picture].unbind(1)
        covered = ((x >= left) & (x <= right) & (y >= upper) & (y <= lower)).any(0)
        kept[picture] = torch.where(covered, scores[picture], 0.0)
    return kept


def distillation_loss(logits: Tensor, predicted: Tensor, scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Quality focal loss of the scores and generalised IoU loss of the boxes, at every place: two scalars.

    Args:
        logits: [B, A], the pupil's.
        predicted: [B, A, 4], the pupil's boxes.
        scores: [B, A], the teacher's.
        boxes: [B, A, 4], the teacher's boxes.
    """
    focus = (logits.detach().sigmoid() - scores).square()
    entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    total = scores.sum().clamp(min=1.0)
    sure = scores >= _LEAST
    _, giou = pair_ious(predicted[sure], boxes[sure])
    weights = scores[sure]
    return (focus * entropy).sum() / total, ((1 - giou) * weights).sum() / weights.sum().clamp(min=1.0)


class FeatureLoss(nn.Module):
    """How unlike the maps that two heads see are: one less their correlation, channel by channel.

    The pupil's maps are mixed first, as its channels are others and fewer (Cao et al., "PKD: General Distillation
    Framework for Object Detectors via Pearson Correlation Coefficient", NeurIPS 2022).

    Args:
        width: Channels of the pupil's maps.
        wide: Channels of the teacher's.
        levels: How many maps there are.
    """

    def __init__(self, width: int, wide: int, levels: int) -> None:
        super().__init__()
        self.mixes = nn.ModuleList(nn.Conv2d(width, wide, 1) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """A scalar: the mean over levels and channels, from 0 to 2."""
        unlike = [
            1 - (_standardised(mix(x.float())) * _standardised(feature)).mean()
            for mix, x, feature in zip(self.mixes, maps, features, strict=True)
        ]
        return torch.stack(unlike).mean()


def _standardised(maps: Tensor) -> Tensor:
    """Mean 0 and deviation 1 in every channel of [B, C, h, w], over the batch."""
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    return centred / centred.square().mean((0, 2, 3), keepdim=True).add(1e-6).sqrt()
