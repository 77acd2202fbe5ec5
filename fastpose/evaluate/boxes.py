"""The people that a detector finds on the photos of a data set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import PhotoStore
from ..data.prefetch import Prefetch
from ..data.records import PoseRecords
from ..detection import BatchDetector, Detections, Detector, run_detector
from ..detection.detections import detector_error
from ..metrics import BoxResults
from ..world import World

__all__ = ["FoundPeople", "best_of_photos", "box_results", "detect_people"]

Array = NDArray[Any]
_Photo = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """What a detector has found on the photos of a data set.

    Attributes:
        records: The boxes as people on these photos, by photo and falling score.
        failed: Photos that could not be read, each with the reason.
    """

    records: PoseRecords
    failed: list[str]


def detect_people(
    detector: BatchDetector | Detector,
    photos: PoseRecords,
    *,
    least: float = 0.01,
    most: int = 100,
    person_class: int = 0,
    batch_size: int = 8,
    workers: int | None = None,
    on_photos: Callable[[int], None] | None = None,
) -> FoundPeople:
    """Ask a detector for the people on the photos of a data set, also those of whom it is not sure.

    Where torch.distributed runs, each process looks at its part of the photos and all of them get all boxes.

    Args:
        detector: Any; one that takes many photos at once is given as many.
        photos: Whose photos; the people of these records are not used.
        least: Least score of a box, for a detector that takes one: average precision wants unsure boxes, too.
        most: Boxes of a photo, those with the highest scores.
        person_class: Where boxes have classes, those of another one are left out.
        batch_size: Photos in a step.
        workers: Threads that read photos; a few where not given.
        on_photos: Called with the number of photos after each step of this process.

    Returns:
        The boxes, cut to their photos. Those without width or height there, or with a value that is not finite, are
        counted in the records' ``skipped``.

    Raises:
        TypeError: The detector gives nothing.
        ValueError: Not one photo can be read, or the detector gives what is no box.
        RuntimeError: The detector fails.

    Example:
        >>> from fastpose.data.synthetic import synthetic_records
        >>> from fastpose.evaluate import truth_of_boxes
        >>> from fastpose.metrics import score_boxes
        >>> people = synthetic_records(4, size=(64, 64))
        >>> found = detect_people(lambda photo: [[10, 10, 50, 60, 0.9]], people).records
        >>> round(score_boxes(truth_of_boxes(people), box_results(found)).figures(None)["AP50"], 3)
        0.505
    """
    world = World()
    own = np.array_split(np.arange(len(photos.image_paths)), world.size)[world.rank].tolist()
    store = PhotoStore(photos.image_paths, 0, photos.image_sizes)
    rows: list[Array] = [np.empty((0, 6))]  # photo, x1, y1, x2, y2, score
    unusable = 0
    under_way: deque[tuple[list[tuple[int, _Photo]], int, Callable[[], list[Detections]]]] = deque()

    def take_in() -> None:
        nonlocal unusable
        batch, count, read = under_way.popleft()
        for (number, photo), found in zip(batch, read(), strict=True):
            kept, lost = _usable(found, photo, person_class, most)
            rows.append(np.column_stack([np.full(len(kept), number), kept]))
            unusable += lost
        if on_photos:
            on_photos(count)

    with Prefetch(store.read, own, size=lambda photo: 0 if photo is None else photo.nbytes, workers=workers) as ahead:
        numbered = zip(own, ahead, strict=True)
        while step := list(islice(numbered, batch_size)):
            batch = [(number, photo) for number, photo in step if photo is not None]
            under_way.append((batch, len(step), _begin(detector, [photo for _, photo in batch], least)))
            if len(under_way) > 1:  # a GPU computes this step while the last one is read
                take_in()
        while under_way:
            take_in()
    parts = world.gather((np.concatenate(rows), unusable, list(store.failed.values())))
    table = np.concatenate([part[0] for part in parts])
    failed = list(dict.fromkeys(reason for part in parts for reason in part[2]))
    if failed and len(failed) == len(photos.image_paths):
        raise ValueError(f"no photo can be read: {failed[0]}")
    lost = sum(part[1] for part in parts)
    skipped = {"unusable box": lost} if lost else {}
    return FoundPeople(photos.with_boxes(table[:, 0], table[:, 1:5], table[:, 5], skipped=skipped), failed)


def _begin(
    detector: BatchDetector | Detector, images: Sequence[_Photo], least: float
) -> Callable[[], list[Detections]]:
    """What gives the people of each photo, best first or not."""
    if not isinstance(detector, BatchDetector):
        found = [run_detector(detector, image) for image in images]
        return lambda: found
    if not images:
        return list
    with _named_errors():
        pending = detector.submit(images, least)

    def read() -> list[Detections]:
        with _named_errors():
            return pending.read()

    return read


@contextmanager
def _named_errors() -> Iterator[None]:
    """Errors of a detector say who it was."""
    try:
        yield
    except Exception as error:
        raise detector_error(error) from error


def _usable(found: Detections, photo: _Photo, person_class: int, most: int) -> tuple[Array, int]:
    """Boxes and scores [N, 5] of people within the photo, best first, and how many boxes are none."""
    if found.classes is not None:
        found = found[found.classes == person_class]
    height, width = photo.shape[:2]
    boxes = np.clip(found.boxes.astype(np.float64), 0, [width, height, width, height])
    fine = np.isfinite(found.boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    scores = np.ones(len(found)) if found.scores is None else found.scores.astype(np.float64)
    best = np.flatnonzero(fine)[np.argsort(-scores[fine], kind="stable")][:most]
    return np.column_stack([boxes[best], scores[best]]), int((~fine).sum())


def best_of_photos(found: PoseRecords, most: int) -> PoseRecords:
    """The boxes of the highest scores of each photo, so many at most; in their order."""
    order = np.lexsort((-found.scores, found.image_index))
    photo = found.image_index[order]
    rank = np.arange(len(order)) - np.searchsorted(photo, photo)
    return found.select(np.sort(order[rank < most]))


def box_results(found: PoseRecords) -> BoxResults:
    """The boxes of records, as a metric takes them.

    Args:
        found: From :func:`detect_people`, or read from a file of detections.

    Returns:
        The boxes with their scores, in the order of the records.
    """
    boxes = found.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return BoxResults(found.image_ids[found.image_index], boxes, found.scores.astype(np.float64))
