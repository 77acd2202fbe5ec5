"""Where the people of photos are: as it was given, or found by a detector that is asked about many photos at once."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..checks import check_choice, check_number
from ..data.images import MAX_HELD_BYTES
from ..data.prefetch import Prefetch
from ..detection import (
    CARRIED_DETECTOR,
    BatchDetector,
    Detections,
    Detector,
    PendingDetections,
    as_detections,
    find_detector,
    run_detector,
)
from ..detection.detections import detector_error, with_scores
from ..engines import Clock, Engine, Transfer, make_transfer
from .inputs import as_picture, check_boxes, clean_boxes, is_picture
from .people import People
from .reading import Photo, name_of, read, read_ahead

__all__ = ["Boxes", "FindOptions", "Image", "OnError", "PeopleFinder", "find_people"]

Image = Any
"""One photo: a path, a file's bytes, a PIL image, or pixels (see `Predictor.__call__`)."""
Boxes = Detections | npt.NDArray[Any] | torch.Tensor | Sequence[Any] | Detector | Literal["whole"] | None
"""Where the people of a photo are (see `Predictor.__call__`)."""
OnError = Literal["raise", "skip"]

_MOST_PHOTOS = 16  # that a detector is asked about at once
_ROOM = MAX_HELD_BYTES // 2  # bytes of these, as those of the batch before may be under way


@dataclass(frozen=True)
class FindOptions:
    """How people are looked for: see `PredictOptions` for what is not described here.

    Attributes:
        photos: That a detector is asked about at once, at most.
        ahead: Batches of photos that may be under way while those of the next one are prepared.
        longest: Seconds that a photo of a stream waits for others; None where all photos are there.
    """

    photos: int = _MOST_PHOTOS
    ahead: int = 0
    longest: float | None = None
    on_error: OnError = "raise"
    detect_threshold: float | None = None
    box_threshold: float = 0.0
    max_people: int | None = None
    min_size: float = 0.0
    person_class: int = 0
    rgb: bool = False
    urls: bool = False
    keep_images: bool = False

    def __post_init__(self) -> None:
        check_choice("on_error", self.on_error, ("raise", "skip"))
        if self.photos < 1:
            raise ValueError(f"batch_size: expected at least 1, got {self.photos}")
        object.__setattr__(self, "photos", min(self.photos, _MOST_PHOTOS))
        if self.detect_threshold is not None and not 0 <= check_number("detect_threshold", self.detect_threshold) <= 1:
            raise ValueError(f"detect_threshold: expected 0 to 1, got {self.detect_threshold}")
        if self.max_people is not None and self.max_people < 1:
            raise ValueError(f"max_people: expected at least 1, got {self.max_people}")
        if check_number("min_size", self.min_size) < 0:
            raise ValueError(f"min_size: expected pixels, at least 0, got {self.min_size}")


@dataclass
class _Question:
    """What a detector was asked about."""

    photos: list[People]
    clock: Clock
    pending: PendingDetections | None = None
    error: Exception | None = None


@dataclass
class _Batch:
    """Photos in their order, and what is to be answered before they are out."""

    photos: deque[People]
    questions: deque[_Question]


class PeopleFinder:
    """Opens photos, and has their people found where nobody says where they are.

    Detectors that take many photos (`BatchDetector`) get up to 16 of any sizes at once, and on a GPU those of the next
    batch before the answers to this one are needed; any other is asked about each photo.

    Args:
        transfer: Brings photos to where crops are made.
        options: See `FindOptions`.
    """

    def __init__(self, transfer: Engine | Transfer, options: FindOptions) -> None:
        self._transfer, self._options = transfer, options

    def stream(
        self, pairs: Iterator[tuple[Image, Boxes]], reading: Prefetch | None = None
    ) -> Generator[People, None, None]:
        """The people of photos, in order.

        Args:
            pairs: Photos, and for each its boxes, a detector, or "whole".
            reading: What reads them ahead of their turn; closed when the last one is drawn.

        Yields:
            The people; of a photo that cannot be used an error, where such are skipped.
        """
        under_way: deque[_Batch] = deque()
        batch: deque[People] = deque()  # that waits for others; of the first one the people are not known
        with reading or nullcontext():
            for number, (image, boxes) in enumerate(pairs):
                batch.append(self._start(image, boxes, f"image {number}"))
                if self._is_full(batch):
                    under_way.append(self._ask(batch))
                    batch = deque()
                while under_way and (len(under_way) > self._options.ahead or not under_way[0].questions):
                    yield from self._answered(under_way.popleft())
        under_way.append(self._ask(batch))
        while under_way:
            yield from self._answered(under_way.popleft())

    def _is_full(self, batch: deque[People]) -> bool:
        """Whether the photos should not wait for others, who may never come."""
        first, longest = batch[0], self._options.longest
        return (
            first.detector is None
            or len(batch) >= self._options.photos
            or sum(people.bytes for people in batch) >= _ROOM
            or (longest is not None and time.perf_counter() - first.started >= longest)
        )

    def _start(self, image: Image, boxes: Boxes, name: str) -> People:
        """The photo with its people, or with the detector that is to be asked; or an error."""
        try:
            people = self._open(image, name)
            self._look(people, boxes)
        except (OSError, TypeError, ValueError) as error:  # ImageError is one
            if self._options.on_error == "raise":
                raise
            return People(_nobody(), None, (0, 0), name_of(image), name, error=str(error))
        return people

    def _open(self, image: Image, name: str) -> People:
        times: dict[str, float] = {}
        path = None
        image = read(image, name, urls=self._options.urls)
        if isinstance(image, Photo):
            path, times["read"] = image.path, image.milliseconds
            pixels = torch.from_numpy(image.pixels)
        else:
            pixels = as_picture(image, name, rgb=self._options.rgb)
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        kept = pixels.cpu().numpy() if self._options.keep_images else None
        return People(_nobody(), pixels, size, path, str(path) if path else name, times, image=kept)

    def _look(self, people: People, boxes: Boxes) -> None:
        """Find out where the people are, or who is to be asked."""
        assert people.pixels is not None
        if isinstance(boxes, BatchDetector):
            people.detector = boxes
            if boxes.device == self._transfer.device:
                people.pixels = self._transfer.send(people.pixels)
        elif callable(boxes):
            start = time.perf_counter()
            try:
                found = run_detector(boxes, people.pixels.cpu().numpy())
            except Exception as error:
                self._fail(people, error, error.__cause__)
                return
            people.milliseconds["detect"] = (time.perf_counter() - start) * 1e3
            self._take_found(people, found)
        else:
            self._take(people, self._given(people, boxes))

    def _given(self, people: People, boxes: Any) -> Detections:
        """Boxes that were given with the photo."""
        where, size, options = people.where, people.image_size, self._options
        if isinstance(boxes, str):
            if boxes != "whole":
                raise ValueError(f'{where}: boxes: expected boxes, a detector or "whole", got {boxes!r}')
            return Detections(np.array([[0, 0, size[1], size[0]]], np.float32))
        try:
            given = self._chosen(as_detections(boxes))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from None
        if options.on_error == "raise":
            check_boxes(given.boxes, size, where)
            return given
        clean = clean_boxes(given.boxes, size, where)
        people.dropped = tuple(clean.dropped)
        return given[clean.rows]

    def _take_found(self, people: People, found: Detections) -> None:
        """Take what a detector found; boxes that cannot be used are never the end of a run."""
        clean = clean_boxes(found.boxes, people.image_size, people.where, found=True)
        people.dropped = tuple(clean.dropped)
        found = found[clean.rows]
        if self._options.detect_threshold is not None and found.scores is not None:
            found = found[found.scores >= self._options.detect_threshold]
        self._take(people, self._chosen(found))

    def _chosen(self, found: Detections) -> Detections:
        """Those of the class and the score that is asked for."""
        if found.classes is not None:
            found = found[found.classes == self._options.person_class]
        if found.scores is not None and self._options.box_threshold > 0:
            found = found[found.scores >= self._options.box_threshold]
        return found

    def _take(self, people: People, found: Detections) -> None:
        """These are the photo's people: the large ones, and no more than are asked for."""
        options = self._options
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        if options.min_size:
            large = sides.max(1, initial=0) >= options.min_size
            found, sides = found[large], sides[large]
        if options.max_people is not None and len(found) > options.max_people:
            scores = np.ones(len(found)) if found.scores is None else found.scores
            best = np.lexsort((-sides.prod(1), -scores))[: options.max_people]
            found = found[np.sort(best)]
        people.detections, people.detector = found, None
        people.pixels = self._transfer.send(people.pixels) if len(found) and people.pixels is not None else None

    def _ask(self, photos: deque[People]) -> _Batch:
        """Ask each detector about its photos; on a GPU without waiting for answers."""
        by_detector: dict[int, list[People]] = {}
        for people in photos:
            if people.detector is not None:
                by_detector.setdefault(id(people.detector), []).append(people)
        return _Batch(photos, deque(map(self._submit, by_detector.values())))

    def _submit(self, photos: list[People]) -> _Question:
        """Ask their detector about some photos."""
        detector = photos[0].detector
        assert detector is not None
        # What was sent is there within a turn.
        with self._transfer.turn() if detector.device == self._transfer.device else nullcontext():
            question = _Question(photos, Clock(detector.device))
            try:
                pixels = [people.pixels for people in photos if people.pixels is not None]
                question.pending = detector.submit(pixels, self._options.detect_threshold)
            except Exception as error:
                question.error = error
            question.clock.lap("detect")
        return question

    def _answered(self, batch: _Batch) -> Iterator[People]:
        """The photos of a batch, each let go of when it is out."""
        while batch.questions:
            self._read(batch.questions.popleft())
        while batch.photos:
            yield batch.photos.popleft()

    def _read(self, question: _Question) -> None:
        """Give photos their people; where the detector fails on all at once, it is asked about each alone."""
        photos = question.photos
        try:
            answers, spent = _answers(question)
        except Exception as error:
            if len(photos) == 1:
                self._fail(photos[0], detector_error(error), error)
            else:
                for people in photos:
                    self._read(self._submit([people]))
            return
        for people, found in zip(photos, answers, strict=True):
            people.milliseconds["detect"] = spent / len(photos)
            self._take_found(people, found)

    def _fail(self, people: People, error: Exception, cause: BaseException | None) -> None:
        """A detector could not do anything with a photo."""
        message = f"{people.where}: {error}"
        if self._options.on_error == "raise":
            raise type(error)(message) from cause
        people.error, people.pixels, people.detector = message, None, None


def _answers(question: _Question) -> tuple[list[Detections], float]:
    """What was found in each photo, and the milliseconds that it took; waits for it."""
    if question.error is not None:
        raise question.error
    assert question.pending is not None
    spent = question.clock.milliseconds()["detect"]
    start = time.perf_counter()
    found = [with_scores(one) for one in question.pending.read()]
    if len(found) != len(question.photos):
        raise ValueError(f"expected the people of {len(question.photos)} photos, got those of {len(found)}")
    return found, spent + (time.perf_counter() - start) * 1e3


def _nobody() -> Detections:
    return Detections(np.empty((0, 4), np.float32))


def find_people(
    images: Image | Iterable[Image],
    detector: str | os.PathLike[str] | Detector = CARRIED_DETECTOR,
    *,
    device: str | torch.device | None = None,
    batch_size: int = _MOST_PHOTOS,
    max_wait: float = 0.5,
    **options: Any,
) -> Iterator[People]:
    """The boxes of the people of photos, without their keypoints.

    Args:
        images: A photo, or several, each as `Predictor` takes it; paths in a list are read ahead.
        detector: What `fastpose.detection.find_detector` takes.
        device: Where a detector that is named runs; see `find_detector`.
        batch_size: Photos that it is asked about at once, at most; never more than 16.
        max_wait: Seconds that an iterator's photo waits at most for others, whenever a further one comes.
        options: Of `PredictOptions`: on_error, detect_threshold, max_people, min_size, person_class, rgb, urls,
            keep_images.

    Yields:
        The people of each photo, in order.

    Raises:
        ImageError: A photo cannot be read.
        TypeError: Pixels that are not uint8, or no photo at all.
        ValueError: Pixels of another shape; an option that cannot be used; no detector has that name.
        WeightsError: The file of the detector cannot be used.
        RuntimeError: The detector failed on a photo (the message names it).

    Example:
        >>> import numpy as np
        >>> [people] = find_people([np.zeros((90, 120, 3), np.uint8)], lambda photo: [[10, 10, 60, 80, 0.75]])
        >>> people.detections.boxes.tolist(), people.detections.scores.tolist()
        ([[10.0, 10.0, 60.0, 80.0]], [0.75])
    """
    asked = find_detector(detector, device=device)
    transfer = make_transfer(asked.device if isinstance(asked, BatchDetector) else torch.device("cpu"))
    photos = [images] if is_picture(images) else images
    all_there = isinstance(photos, Sequence | np.ndarray | torch.Tensor)
    chosen = FindOptions(
        photos=batch_size,
        ahead=transfer.ahead if all_there else 0,
        longest=None if all_there else max_wait,
        **options,
    )
    reading = read_ahead(photos, urls=chosen.urls)
    finder = PeopleFinder(transfer, chosen)
    with closing(finder.stream(zip(reading or photos, repeat(asked)), reading)) as found:
        for people in found:
            people.pixels = None
            yield people
