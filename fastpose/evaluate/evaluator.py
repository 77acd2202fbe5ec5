"""A model's published metric on annotated people."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..data.dataset import PoseDataset, Source, can_be_cropped
from ..data.labels import match_keypoints
from ..data.loader import Batch, Loader
from ..data.records import PoseRecords
from ..engines import build_engine
from ..geometry import box_to_center_scale
from ..inference import Crop, Estimator, Pending
from ..metrics import METRICS, Metric, PoseResults, Scores, Truth
from ..metrics.results import by_name
from ..metrics.scoring import NmsMode, ScoreMode, rank_poses
from ..metrics.truth import positions
from ..models import PoseModel
from ..spec import PoseSpec
from ..views import ViewAverage
from ..world import World
from .truth import default_metric, read_annotated, truth_of_records

__all__ = ["Evaluator", "Predictions"]

Array = NDArray[Any]
_Part = tuple[Array, Array, Array | None, Array, list[str]]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of N people.

    Attributes:
        keypoints: float32 [N, K, 2] (x, y), pixels of the photo; NaN where the photo cannot be read.
        scores: float32 [N, K]; 0 where the photo cannot be read.
        read: bool [N], whether the photo can be read.
        visibility: float32 [N, K], probability that a keypoint can be seen; None where the network does not say.
    """

    keypoints: Array
    scores: Array
    read: Array
    visibility: Array | None = None

    def rows(self) -> NDArray[np.int64]:
        """[R] the people whose photo can be read.

        Raises:
            ValueError: A value of theirs is not finite.
        """
        read = np.flatnonzero(self.read)
        fine = np.isfinite(self.keypoints[read]).all((1, 2)) & np.isfinite(self.scores[read]).all(1)
        if not fine.all():
            raise ValueError(
                f"eval: the model predicts values that are not finite, for {int((~fine).sum())} of {len(read)} people"
            )
        return read


class Evaluator:
    """Annotated people that one model after another can be measured on; photos are decoded once.

    Where torch.distributed runs, each process predicts its part of the people and all of them get everybody's
    predictions; so every process has to call :meth:`predict`, and the figures are those of one process.

    Args:
        records: The people; their boxes are cropped.
        metric: A name of :data:`fastpose.metrics.METRICS`; the data set's own where not given.
        annotations: Annotation file with the truth, where it says more than the records (crowds, ignored regions).
        cache: Bytes of decoded photos to keep.
        batch_size: Crops in a step.
        workers: Threads that decode photos; by default as many as suit the network's device.
        score_mode: What a pose's score is made of; see :func:`fastpose.metrics.score_poses`.
        nms: How doubles are suppressed; see :func:`fastpose.metrics.rank_poses`.
        nms_threshold: From which similarity on.
        sigmas: [K] of the OKS; by default the data's.
        use_area: Take the annotated areas for the OKS; otherwise 0.53 of the annotated box.
        category: Name or id of the category that was read, where the annotations have several with keypoints.
        people: The annotated people, where the boxes of the records are those of a detector (see
            :func:`fastpose.evaluate.detect_people`).

    Attributes:
        records: The people that can be cropped.
        metric: The metric.
        skeleton: What the data's keypoints are, with the sigmas of the OKS.
        sigmas_known: Whether these are anybody's: false where 0.079 each stands in for unknown ones.
        skipped: Entries of the annotation file that are not among them, by reason.
        failed: Photos that could not be read in the last prediction, each with the reason.

    Raises:
        ValueError: Nobody is in the records, or there is no such metric.
    """

    def __init__(
        self,
        records: PoseRecords,
        metric: str | None = None,
        *,
        annotations: str | Path | None = None,
        cache: int = 0,
        batch_size: int = 64,
        workers: int | None = None,
        score_mode: ScoreMode = "bbox_keypoint",
        nms: NmsMode = "oks_nms",
        nms_threshold: float = 0.9,
        sigmas: ArrayLike | None = None,
        use_area: bool = True,
        category: int | str | None = None,
        people: PoseRecords | None = None,
    ) -> None:
        name = metric or default_metric(records)
        if name not in METRICS:
            raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
        self.metric: Metric = METRICS[name]
        lacking = [point for point in self.metric.keypoints or () if point not in records.skeleton.keypoints]
        if lacking:
            raise ValueError(
                f"metric: {name} needs {', '.join(lacking)}, which the data's {records.skeleton.name!r} has not"
            )
        fine = can_be_cropped(records.boxes)
        self.skipped = dict(records.skipped)
        if not fine.all():
            self.skipped["empty box"] = self.skipped.get("empty box", 0) + int((~fine).sum())
        self.records = records.select(np.flatnonzero(fine & ~records.ignore))
        if not len(self.records):
            raise ValueError(f"data: nobody to measure on in {records.source or 'the records'}")
        self.failed: list[str] = []
        values = np.asarray(records.skeleton.sigmas if sigmas is None else sigmas, np.float64)
        if values.shape != (records.skeleton.num_keypoints,) or not (values > 0).all():
            raise ValueError(
                f"sigmas: expected {records.skeleton.num_keypoints} numbers above 0 ({records.skeleton.name}), got "
                f"{values.tolist()}"
            )
        self.sigmas_known = sigmas is not None or records.skeleton.sigmas_known
        self.skeleton = dataclasses.replace(records.skeleton, sigmas=tuple(values.tolist()))
        self.score_mode, self.nms, self.nms_threshold, self.use_area = score_mode, nms, nms_threshold, use_area
        self._everybody = records if people is None else people
        self._annotations, self._category = annotations, category
        self._cache, self._batch_size, self._workers = cache, batch_size, workers

    def __len__(self) -> int:
        return len(self.records)

    @property
    def metric_name(self) -> str:
        """Key of the deciding figure in what :meth:`measure` returns."""
        return self.metric.figure

    @cached_property
    def truth(self) -> Truth:
        """The annotated people, as the metric takes them."""
        if self.metric.ranks_poses:
            truth = read_annotated(self._annotations, self._everybody, self.metric.optional, self._category)
            if not self.records.visible.any():  # found boxes, of which nobody says what animal is in them
                truth = truth.of_one_category()
        else:
            truth = truth_of_records(self.records)
        truth = dataclasses.replace(truth, skeleton=self.skeleton)
        return truth if self.use_area else truth.with_box_areas()

    @cached_property
    def own(self) -> NDArray[np.int64]:
        """Positions of the people that this process predicts: neighbours, which share photos."""
        return np.array_split(np.arange(len(self.records)), self._world.size)[self._world.rank]

    @cached_property
    def _world(self) -> World:
        return World()

    @cached_property
    def _dataset(self) -> PoseDataset | None:
        if not len(self.own):  # more processes than people
            return None
        source = Source(self.records.select(self.own))
        return PoseDataset([source], self.records.skeleton, cache=self._cache, labelled_only=False)

    def predict(
        self,
        model: PoseModel,
        *,
        spec: PoseSpec | None = None,
        flip_test: bool | None = None,
        views: ViewAverage | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        on_batch: Callable[[int], None] | None = None,
    ) -> Predictions:
        """Keypoints of everybody.

        Args:
            model: The network; a copy of it runs, as in a `fastpose.Predictor`.
            spec: Instead of the model's own, e.g. at another input size.
            flip_test: Average with the mirrored crop; the model's setting where not given.
            views: Average over these crops of each person (see :func:`fastpose.views.build_views`).
            autocast: Makes the context in which the network runs.
            on_batch: Called with the number of people after each batch of this process.

        Returns:
            The predictions, one row a person.

        Raises:
            ValueError: Not one photo can be read.
        """
        spec = spec or model.spec
        flip = spec.mirrors(flip_test)
        parameter = next(model.parameters())
        engine = build_engine(model, "eager", device=parameter.device, dtype=parameter.dtype)
        estimator = Estimator(engine, spec)
        shape = (len(self.own), spec.num_keypoints)
        keypoints, scores = np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.float32)
        visibility = np.zeros(shape, np.float32) if model.tells_visibility else None
        read = np.zeros(len(self.own), bool)
        under_way: deque[tuple[NDArray[np.int64], Pending]] = deque()

        def take_in() -> None:
            people, pending = under_way.popleft()
            found = pending.read()
            keypoints[people], scores[people], read[people] = found.keypoints, found.scores, True
            if visibility is not None:
                visibility[people] = found.visibility
            if on_batch:
                on_batch(len(people))

        for batch in self._batches(spec, views, parameter.device):
            with autocast():
                crops = _crops(batch, engine.dtype)
                under_way.append((batch.people, estimator.submit(crops, batch.matrices, flip=flip, views=views)))
            while len(under_way) > engine.ahead:
                take_in()
        while under_way:
            take_in()
        failed = list(self._dataset.photos.failed.values()) if self._dataset else []
        part: _Part = (keypoints, scores, visibility, read, failed)
        parts = self._world.gather(part)
        keypoints, scores, read = (np.concatenate([part[i] for part in parts]) for i in (0, 1, 3))
        visible = None if visibility is None else np.concatenate([part[2] for part in parts if part[2] is not None])
        self.failed = list(dict.fromkeys(reason for part in parts for reason in part[4]))
        if self.failed and not read.any():
            raise ValueError(f"no photo can be read: {self.failed[0]}")
        return Predictions(keypoints, scores, read, visible)

    def _batches(self, spec: PoseSpec, views: ViewAverage | None, device: torch.device) -> Iterable[Batch]:
        """The people of this process, their crops on the device."""
        if self._dataset is None:
            return ()
        people = max(1, self._batch_size // len(views)) if views else self._batch_size
        loader = Loader(self._dataset, spec, batch_size=people, workers=self._workers, views=views, device=device)
        return loader.epoch()

    def results(self, predictions: Predictions, spec: PoseSpec) -> PoseResults:
        """The predictions of the data's keypoints in its order, found by name.

        For average precision they are scored and doubles are suppressed, as published figures are made. Other metrics
        compare people one by one: then each result has the ``id`` of its person.

        Args:
            predictions: From :meth:`predict`.
            spec: That of the model: its keypoints may be more than the data's.

        Returns:
            The poses; people whose photo cannot be read have none.

        Raises:
            ValueError: The model lacks keypoints that the metric is about, or predicts a value that is not finite.
        """
        records, names = self.records, self.skeleton.keypoints
        lacking = [name for name in self.metric.keypoints or names if name not in spec.skeleton.keypoints]
        if lacking:
            raise ValueError(
                f"eval: {self.metric.name} needs {', '.join(lacking)}, which {spec.skeleton.name!r} has not (the data "
                f"are {records.skeleton.name!r})"
            )
        read = predictions.rows()
        own = spec.skeleton.keypoints
        keypoints, scores = by_name(predictions.keypoints[read], predictions.scores[read], own, names)
        results = rank_poses(
            records.image_ids[records.image_index[read]],
            keypoints,
            scores,
            records.scores[read],
            self.areas(spec)[read],
            self.skeleton.sigmas,
            category_ids=self._categories(read),
            score_mode=self.score_mode,
            nms=self.nms if self.metric.ranks_poses else "none",
            nms_threshold=self.nms_threshold,
        )
        return results if self.metric.ranks_poses else dataclasses.replace(results, ids=records.ids[read])

    def _categories(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """[R] the annotated category of each of these people, where average precision is over several."""
        if not self.metric.ranks_poses or not self.records.visible.any() or len(self.truth.category_ids) == 1:
            return None
        order = np.argsort(self.truth.ids)
        place = positions(self.truth.ids[order], self.records.ids[rows])
        if (place < 0).any():
            lost = self.records.ids[rows][np.argmax(place < 0)]
            raise ValueError(f"annotations: {self.truth.source} has no annotation {lost}, which the records have")
        return np.asarray(self.truth.category_ids[self.truth.category[order[place]]])

    def areas(self, spec: PoseSpec) -> NDArray[np.float32]:
        """[N] square pixels by which doubles are suppressed: in published figures of the crop, not of the box."""
        _, extents = box_to_center_scale(self.records.boxes, spec.input_size, spec.padding)
        return np.asarray(extents.prod(1))

    def check(self, spec: PoseSpec) -> None:
        """Measure the truth itself, as if a network of this spec had predicted it: what fails then always does.

        Raises:
            ValueError: The network lacks keypoints that the metric is about, or the annotations what it needs.
        """
        records = self.records
        truth, _ = match_keypoints(records.keypoints, records.visible > 0, records.skeleton, spec.skeleton)
        everybody = Predictions(truth, np.ones(truth.shape[:2], np.float32), np.ones(len(records), bool))
        try:
            figure = self.score(self.results(everybody, spec)).figures(None)[self.metric_name]
        except ValueError as error:
            raise ValueError(f"eval.metric: {self.metric.name} cannot be measured ({error})") from None
        if not figure >= 0:
            raise ValueError(
                f"eval.metric: {self.metric.name} has nothing to measure in {records.source or 'the records'}"
            )

    def score(self, results: PoseResults) -> Scores:
        """Measure results, from :meth:`results` or from a file.

        Raises:
            ValueError: One is not what the metric asks for, or the annotations lack something that it needs.
        """
        return self.metric.score(self.truth, results)

    def measure(self, predictions: Predictions, model: PoseModel, *, spec: PoseSpec | None = None) -> dict[str, float]:
        """The metric's figures, the deciding one (:attr:`metric_name`) among them.

        Raises:
            ValueError: The keypoints are not those that the metric is about.
        """
        return self.score(self.results(predictions, spec or model.spec)).figures(None)

    def __call__(self, model: PoseModel, **options: Any) -> dict[str, float]:
        """:meth:`predict`, then :meth:`measure`, once for all processes; options as for ``predict``."""
        predictions = self.predict(model, **options)
        return self._world.from_main(lambda: self.measure(predictions, model, spec=options.get("spec")))


def _crops(batch: Batch, dtype: torch.dtype) -> Crop:
    """The crops of a batch in a network's dtype, and mirrored ones behind them if these are wanted."""

    def crop(_: Array, flip: bool, out: Tensor | None) -> Tensor:
        assert out is None  # an engine that puts crops into memory of its own has them made there
        images = batch.images.to(dtype)
        return torch.cat([images, images.flip(3)]) if flip else images

    return crop
