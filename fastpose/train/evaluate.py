"""A model's published metric on annotated people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..codecs import build_codec
from ..data.dataset import PoseDataset, Source
from ..data.loader import Loader
from ..data.records import PoseRecords
from ..geometry import box_to_center_scale, invert_matrices
from ..metrics.coco import coco_ap
from ..metrics.pck import LIMB_KEYPOINTS, lsp_pck
from ..metrics.scoring import coco_results
from ..models import PoseModel
from ..spec import PoseSpec

__all__ = ["Evaluator", "Predictions"]

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of N people.

    Attributes:
        keypoints: float32 [N, K, 2] (x, y), pixels of the photo; NaN where the photo cannot be read.
        scores: float32 [N, K]; 0 where the photo cannot be read.
    """

    keypoints: Array
    scores: Array


class Evaluator:
    """Annotated people that one model after another can be measured on; photos are decoded once.

    Args:
        records: The people; their boxes are cropped.
        metric: ``pck`` (PCK@0.2 of the 12 limbs by torso) or ``coco_ap``.
        annotations: COCO annotation file with the truth; ``coco_ap`` needs it.
        cache: Bytes of decoded photos to keep.
        batch_size: Crops in a step.
        workers: Threads that decode photos.

    Raises:
        ValueError: Nobody is in the records, or ``coco_ap`` has no annotations.
    """

    def __init__(
        self,
        records: PoseRecords,
        metric: str,
        *,
        annotations: Path | None = None,
        cache: int = 0,
        batch_size: int = 64,
        workers: int = 2,
    ) -> None:
        if metric == "coco_ap" and annotations is None:
            raise ValueError("eval.metric: coco_ap needs an annotation file, got people without one")
        sides = records.boxes[:, 2:] - records.boxes[:, :2]
        self.records = records.select(np.flatnonzero((sides > 0).all(1) & ~records.ignore))
        self.metric, self.annotations = metric, annotations
        self._dataset = PoseDataset([Source(self.records)], records.skeleton, cache=cache, labelled_only=False)
        self._batch_size, self._workers = batch_size, workers

    def __len__(self) -> int:
        return len(self.records)

    @property
    def failed(self) -> list[str]:
        """Photos that could not be read, each with the reason."""
        return list(self._dataset.photos.failed.values())

    @property
    def metric_name(self) -> str:
        """Key of the deciding figure in what :meth:`measure` returns."""
        return "AP" if self.metric == "coco_ap" else "PCK@0.2"

    def predict(
        self,
        model: PoseModel,
        *,
        spec: PoseSpec | None = None,
        flip_test: bool | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        on_batch: Callable[[int], None] | None = None,
    ) -> Predictions:
        """Keypoints of everybody.

        Args:
            model: The network; it is left in the mode it came in.
            spec: Instead of the model's own, e.g. at another input size.
            flip_test: Average with the mirrored crop; the model's setting where not given.
            autocast: Makes the context in which the network runs.
            on_batch: Called with the number of people after each batch.

        Returns:
            The predictions, one row a person.

        Raises:
            ValueError: Not one photo can be read.
        """
        spec = spec or model.spec
        flip = spec.flip_test if flip_test is None else flip_test
        codec = build_codec(spec.codec, spec.input_size)
        device = next(model.parameters()).device
        count = len(self.records)
        keypoints = np.full((count, spec.num_keypoints, 2), np.nan, np.float32)
        scores = np.zeros((count, spec.num_keypoints), np.float32)
        read = 0
        loader = Loader(self._dataset, spec, batch_size=self._batch_size, workers=self._workers)
        with _evaluation_mode(model), torch.inference_mode():
            for batch in loader.epoch():
                images = batch.images.to(device)
                with autocast():
                    output, _ = model.predict(images)
                    mirrored = model.predict(images.flip(3))[0].float() if flip else None
                points, confidence = codec.decode(
                    output.float(),
                    flipped=mirrored,
                    flip_index=spec.skeleton.flip_index if flip else None,
                    flip_shift=spec.flip_shift and flip,
                    inverse=torch.from_numpy(invert_matrices(batch.matrices)).to(device),
                )
                keypoints[batch.people] = torch.as_tensor(points).cpu().numpy()
                scores[batch.people] = torch.as_tensor(confidence).cpu().numpy()
                read += len(batch.people)
                if on_batch:
                    on_batch(len(batch.people))
        if self.failed and not read:
            raise ValueError(f"no photo can be read: {self.failed[0]}")
        return Predictions(keypoints, scores)

    def measure(self, predictions: Predictions, model: PoseModel) -> dict[str, float]:
        """The metric: ``PCK@0.2`` and each limb's share, or COCO's ten figures, between 0 and 1.

        Raises:
            ValueError: The keypoints are not those that the metric is about.
        """
        records = self.records
        if self.metric == "pck":
            result = lsp_pck(
                predictions.keypoints,
                records.keypoints,
                records.visible,
                records.skeleton,
                predicted_skeleton=model.spec.skeleton,
            )
            joints = zip(LIMB_KEYPOINTS, result.per_joint.tolist(), strict=True)
            return {"PCK@0.2": result.mean, **dict(joints)}
        if records.skeleton.keypoints != model.spec.skeleton.keypoints:
            raise ValueError(
                f"eval: coco_ap compares equal keypoints, got {model.spec.skeleton.name!r} for data of "
                f"{records.skeleton.name!r}"
            )
        read = np.isfinite(predictions.keypoints).all((1, 2))
        # Published figures suppress doubles by the area of the crop, not of the box.
        _, extents = box_to_center_scale(records.boxes[read], model.spec.input_size, model.spec.padding)
        results = coco_results(
            records.image_ids[records.image_index[read]],
            predictions.keypoints[read],
            predictions.scores[read],
            records.scores[read],
            extents.prod(1),
            records.skeleton.sigmas,
        )
        assert self.annotations is not None
        return coco_ap(self.annotations, results, sigmas=records.skeleton.sigmas)

    def __call__(self, model: PoseModel, **options: Any) -> dict[str, float]:
        """:meth:`predict`, then :meth:`measure`; options as for ``predict``."""
        return self.measure(self.predict(model, **options), model)


@contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
