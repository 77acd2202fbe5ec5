"""Photos and boxes in, poses out: people of many photos packed into full batches, results in order, as a stream."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypedDict, cast, overload

import numpy as np
import numpy.typing as npt
import torch

from ..data.images import MAX_HELD_BYTES
from ..data.prefetch import Prefetch
from ..detection import CARRIED_DETECTOR, Detector, find_detector
from ..devices import pick_device, pick_dtype
from ..engines import Engine, build_engine
from ..geometry import box_to_center_scale, crop_matrices
from ..inference import Estimator, Pending
from ..models import PoseModel, find_model
from ..ops import affine_crop, oks_nms
from ..spec import PoseSpec
from ..video import Video, open_video
from ..views import ViewAverage, build_views
from .finder import Boxes, FindOptions, Image, OnError, PeopleFinder
from .inputs import TOLD, is_picture
from .jobs import Job, Jobs, Part
from .reading import pair, read_ahead, read_pairs_ahead
from .results import Poses
from .video import FollowOptions, Smoothing, follow, frames_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["PredictOptions", "Predictor", "load"]


def load(
    name_or_file: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    engine: str = "auto",
    detector: str | os.PathLike[str] | Detector | None = None,
) -> Predictor:
    """A model, ready to predict.

    Args:
        name_or_file: A zoo name, or a file that `fastpose.save_model` wrote; by default the model that the package
            carries.
        device: "cpu", "cuda", "cuda:1", …; by default the GPU if there is one and the native core was built for it.
        dtype: float32 (the default: the network's published numbers), bfloat16, float16 (worth trying on a GPU), or
            ``auto``: bfloat16 on a CPU with AMX, where it is two to three times as fast, else float32. The carried
            detector computes in it, too.
        engine: How the network runs: ``eager``, ``compiled`` (`torch.compile`), ``cuda_graphs``, or ``auto``: graphs
            on a GPU, else eager.
        detector: Who finds the people of photos that come without boxes: what `fastpose.detection.find_detector` takes,
            on the same device. By default the detector that the package carries.

    Returns:
        The predictor.

    Raises:
        WeightsError: The file is missing, cut short or no model, or no weights are in reach for that name.
        ValueError: No model or detector has that name, or the device or the engine cannot be used.

    Example:
        >>> import numpy as np
        >>> predictor = load(device="cpu")
        >>> poses = predictor(np.zeros((240, 320, 3), np.uint8), boxes=[[40, 20, 200, 220]])
        >>> poses.keypoints.shape
        (1, 17, 2)
    """
    return Predictor(find_model(name_or_file), device=device, dtype=dtype, engine=engine, detector=detector)


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of a `Predictor`'s calls.

    Attributes:
        flip_test: Average with the mirrored crop: slower by half, a little better. By default as the spec says.
        scales: Average the heatmaps of a crop of each of these sizes; 1 is the spec's, 1.2 shows more around the
            person. Several cost as many times the time.
        rotations: Turn each of these crops by each of these angles, degrees.
        batch_size: Crops in one pass of the network, 64 on a GPU and 16 on a CPU by default. They are fewer where
            their photos fill half a gigabyte. A live stream that must not wait for the next photo wants 1. A detector
            is asked about as many photos at once, up to 16.
        on_error: What a photo that cannot be read, or boxes that cannot be used, mean: "raise", or "skip": its
            `Poses` are empty and `Poses.error` says why, and boxes that cannot be used are left out and named in
            `Poses.dropped`. Boxes of a detector that cannot be used are always left out.
        detect_threshold: Least score of a box that a detector finds; by default as the detector says.
        box_threshold: Boxes with a lower score are left out, whoever gave them.
        max_people: Of more people than that in a photo those with the highest scores are taken, and of equal ones
            (boxes without scores) the largest; by default everybody.
        min_size: People whose box is smaller are left out: the longer side of it, in pixels of the photo.
        person_class: Where boxes have classes, those of another one are left out.
        nms_threshold: Of people whose boxes have scores and whose OKS is above this, the surest stays (as for
            published figures); None: all stay. Boxes without scores are all kept, in their order.
        rgb: The channels of given pixels stand in the order red, green, blue.
        urls: Photos may be addresses on the web, which are fetched.
        keep_images: Let the poses keep their photo (`Poses.image`), for drawing; its memory stays as long as they do.
        max_wait: Seconds that an iterator's photo and its people wait at most for others to fill a batch, whenever a
            further photo comes.
    """

    flip_test: bool | None
    scales: Sequence[float]
    rotations: Sequence[float]
    batch_size: int | None
    on_error: OnError
    detect_threshold: float | None
    box_threshold: float
    max_people: int | None
    min_size: float
    person_class: int
    nms_threshold: float | None
    rgb: bool
    urls: bool
    keep_images: bool
    max_wait: float


@dataclass(frozen=True)
class _Options:
    """What holds for all photos of a call."""

    flip: bool
    views: ViewAverage | None
    people: int  # in a full batch
    ahead: int  # batches that may be under way while photos of the next one are prepared
    longest: float | None  # seconds that the people of a stream wait for others; None where all photos are there
    nms_threshold: float | None
    finding: FindOptions


@dataclass
class _Batch:
    """People under way together."""

    parts: list[Part]
    pending: Pending


class Predictor:
    """Finds the keypoints of the people in photos.

    The network is copied with its BatchNorms folded in; it is not changed by later training of `model`.

    Args:
        model: The network; its `spec` says everything else.
        device: As for `load`.
        dtype: As for `load`.
        engine: As for `load`.
        detector: As for `load`.

    Attributes:
        spec: The model's PoseSpec.
        name: The model's name.
        device: Where it runs.
        dtype: What it computes in.

    Raises:
        TypeError: No PoseModel, or no detector.
        ValueError: The device or the engine cannot be used, or an unknown dtype or detector.
    """

    def __init__(
        self,
        model: PoseModel,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        engine: str = "auto",
        detector: str | os.PathLike[str] | Detector | None = None,
    ) -> None:
        if not isinstance(model, PoseModel):
            raise TypeError(f"model: expected a PoseModel, got {type(model).__name__}")
        self.spec: PoseSpec = model.spec
        self.name = model.name
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self._estimator = Estimator(build_engine(model, engine, device=self.device, dtype=self.dtype), self.spec)
        self._tells_visibility = model.tells_visibility
        self._detector = None if detector is None else find_detector(detector, device=self.device, dtype=self.dtype)

    @property
    def engine(self) -> Engine:
        """What runs the network; its `name` says how."""
        return self._estimator.engine

    @property
    def detector(self) -> Detector:
        """Finds the people of photos that come without boxes. The carried one is read when the first such photo comes.

        It finds people: a model of anything else wants a detector of its own, or boxes.
        """
        if self._detector is None:
            self._detector = find_detector(CARRIED_DETECTOR, device=self.device, dtype=self.dtype)
        return self._detector

    def __repr__(self) -> str:
        return f"Predictor({self.name}, {self.device}, {str(self.dtype).removeprefix('torch.')}, {self.engine.name})"

    @overload
    def __call__(
        self, images: str | bytes | os.PathLike[str], boxes: Boxes = ..., **options: Unpack[PredictOptions]
    ) -> Poses: ...

    @overload
    def __call__(
        self, images: Sequence[Image], boxes: Boxes | Sequence[Boxes] = ..., **options: Unpack[PredictOptions]
    ) -> list[Poses]: ...

    @overload
    def __call__(
        self, images: Iterator[Image], boxes: Boxes | Iterable[Boxes] = ..., **options: Unpack[PredictOptions]
    ) -> Iterator[Poses]: ...

    @overload
    def __call__(self, images: Any, boxes: Any = ..., **options: Unpack[PredictOptions]) -> Any: ...

    def __call__(
        self,
        images: Any,
        boxes: Any = None,
        **options: Unpack[PredictOptions],
    ) -> Any:
        """Keypoints of the people in one photo or in many.

        Args:
            images: One photo: a path; the bytes of a file; a PIL image; or pixels, uint8 [H, W, 3] in BGR order (NumPy
                array or tensor; [H, W] is grey). Or several of these: [B, H, W, 3], a list, or any iterator, which is
                read as far as needed. Pixels are not copied: an iterator must not write over a photo before its
                `Poses` are out. Paths in a list are read by a few threads while the network works.
            boxes: Where the people are. For one photo boxes [N, 4] xyxy px, [N, 5] with scores or [N, 6] with scores
                and classes, a pair of boxes and scores, or `Detections`; for several photos one of these each (a list,
                or an iterator beside an iterator). Or a detector for all of them: a function that is asked about each
                photo, or a `fastpose.detection.BatchDetector`, which is asked about many at once. None: `detector` is
                asked. "whole": each photo is one person. Empty: nobody is there.
            options: See `PredictOptions`: flip_test, scales, rotations, batch_size, on_error, detect_threshold,
                box_threshold, max_people, min_size, person_class, nms_threshold, rgb, urls, keep_images, max_wait.

        Returns:
            `Poses` for one photo, a list of them for several, an iterator of them for an iterator; in order.

        Raises:
            ImageError: A photo cannot be read.
            TypeError: Pixels that are not uint8, or no photo at all.
            ValueError: Pixels of another shape, or a box that is not finite, empty or outside its photo (the message
                names photo and row); a scale or an angle that cannot be used.
            RuntimeError: The detector failed on a photo (the message names it).
        """
        one = is_picture(images)
        several = not one and isinstance(images, Sequence | np.ndarray | torch.Tensor)
        chosen = self._options(all_there=one or several, **options)
        if one:
            return next(self._stream(iter([(images, boxes)]), None, chosen))
        try:
            each_image = iter(images)
        except TypeError:
            raise TypeError(f"images: {TOLD}, or several of these, got {type(images).__name__}") from None
        same = boxes is None or callable(boxes) or isinstance(boxes, str)
        if several and not same and hasattr(boxes, "__len__") and len(boxes) != len(images):
            raise ValueError(f"boxes: expected one array for each of {len(images)} photos, got {len(boxes)}")
        reading = read_ahead(images, urls=chosen.finding.urls)
        pairs = pair(reading or each_image, repeat(boxes) if same else boxes)
        results = self._stream(pairs, reading, chosen)
        return list(results) if several else results

    def stream(
        self,
        pairs: Iterable[tuple[Image, Boxes]],
        **options: Unpack[PredictOptions],
    ) -> Iterator[Poses]:
        """The same for (photo, boxes) pairs, of which no more are drawn than one batch needs.

        Args:
            pairs: Each a photo and its boxes, a detector, "whole" or None, as `__call__` takes them for one photo. Of a
                list, paths are read ahead, and a GPU is given the next batch before this one's results are out.
            options: As for `__call__`.

        Yields:
            `Poses`, in order.
        """
        chosen = self._options(all_there=isinstance(pairs, Sequence), **options)
        reading = read_pairs_ahead(pairs, urls=chosen.finding.urls)
        return self._stream(reading or iter(pairs), reading, chosen)

    def video(
        self,
        source: str | os.PathLike[str] | Video | Iterable[Any],
        boxes: Boxes = None,
        *,
        track: bool = True,
        detect_every: int = 1,
        smooth: Smoothing = None,
        flow: bool = False,
        fps: float | None = None,
        live: bool | None = None,
        timeout: float = 10.0,
        reconnect: int = 3,
        **options: Unpack[PredictOptions],
    ) -> Iterator[Poses]:
        """The people of a video, frame by frame, each with the number of who it is.

        Args:
            source: What `fastpose.open_video` takes, a `fastpose.video.Video`, or an iterable of frames: `Frame`
                objects, or pixels, uint8 [H, W, 3] in BGR order.
            boxes: None: `detector` finds people; or another detector; or "whole": each frame is one person.
            track: Say who is who from frame to frame, see `fastpose.tracking.PoseTracker`.
            detect_every: Frames from one look of the detector to the next. Between them people are looked for where
                their tracks should be by then; when one is lost, the detector looks at the next frame already.
            smooth: Make the keypoints of each track steady: "live" as frames come, by what was before (`LiveSmoother`);
                "offline" when the last frame is known, without a lag, short gaps filled (`smooth_offline`): all results
                wait in memory, about a kilobyte a person and frame. None: as they are found.
            flow: Tell by optical flow, too, where people are by the next frame (Xiao et al., "Simple Baselines", ECCV
                2018): for quick movement and low frame rates.
            fps: Frames per second of a folder or an iterable, 25 by default.
            live: As for `open_video`, like the next two. Frames that happen as they come wait for no others.
            timeout: Seconds without a frame after which a stream has stalled.
            reconnect: How often it is opened again.
            options: See `PredictOptions`.

        Yields:
            `Poses` in order, with `frame`, `time` and, where people are followed, `track_ids`: -1 of who has no track
            (yet). With `detect_every` 1, frames and people of a file are done in batches.

        Raises:
            ValueError: An option cannot be used, or does not fit another.
            VideoError: The source cannot be read.

        Example:
            >>> import numpy as np, fastpose
            >>> still = [np.full((48, 64, 3), 90, np.uint8)] * 3
            >>> [(poses.frame, poses.time, len(poses)) for poses in fastpose.load().video(still, fps=10)]
            [(0, 0.0, 0), (1, 0.1, 0), (2, 0.2, 0)]
        """
        opened = None
        if isinstance(source, str | os.PathLike):
            opened = source = open_video(source, fps=fps, live=live, timeout=timeout, reconnect=reconnect)
        live = source.live if isinstance(source, Video) else bool(live)
        following = FollowOptions(track, detect_every, smooth, flow, live)
        with opened or nullcontext():
            yield from follow(self, frames_of(source, fps or 25.0), boxes, following, **options)

    def _options(
        self,
        *,
        all_there: bool,
        flip_test: bool | None = None,
        scales: Sequence[float] = (1.0,),
        rotations: Sequence[float] = (0.0,),
        batch_size: int | None = None,
        nms_threshold: float | None = 0.9,
        max_wait: float = 0.5,
        **finding: Any,
    ) -> _Options:
        if batch_size is None:
            batch_size = 64 if self.device.type == "cuda" else 16
        views = build_views(self.spec, scales, rotations)
        ahead = self.engine.ahead if all_there else 0
        longest = None if all_there else max_wait
        return _Options(
            flip=self.spec.mirrors(flip_test),
            views=views,
            people=max(1, batch_size // len(views)) if views else batch_size,
            ahead=ahead,
            longest=longest,
            nms_threshold=nms_threshold,
            finding=FindOptions(photos=batch_size, ahead=ahead, longest=longest, **finding),
        )

    def _stream(
        self, pairs: Iterator[tuple[Image, Boxes]], reading: Prefetch | None, options: _Options
    ) -> Iterator[Poses]:
        jobs = Jobs()
        under_way: deque[_Batch] = deque()
        finder = PeopleFinder(self.engine, options.finding)
        asking = ((image, self.detector if boxes is None else boxes) for image, boxes in pairs)
        with closing(finder.stream(asking, reading)) as photos:
            for people in photos:
                jobs.add(Job.of(people, self.spec.skeleton, tells_visibility=self._tells_visibility))
                while jobs.people >= options.people or (
                    jobs.people and (jobs.bytes >= MAX_HELD_BYTES or jobs.is_late(options.longest))
                ):
                    under_way.append(self._launch(jobs, options))
                # Photos that are kept until their results are out fill the memory, too.
                while len(under_way) > (options.ahead if jobs.bytes < MAX_HELD_BYTES else 0):
                    self._read(under_way.popleft())
                for job in jobs.finished():
                    yield self._finish(job, options)
        while jobs.people:
            under_way.append(self._launch(jobs, options))
        for batch in under_way:
            self._read(batch)
        for job in jobs.finished():
            yield self._finish(job, options)

    def _launch(self, jobs: Jobs, options: _Options) -> _Batch:
        """Have the next people's keypoints found; on CUDA without waiting for them."""
        spec, parts = self.spec, jobs.take(options.people)
        boxes = np.concatenate([job.detections.boxes[rows] for job, rows in parts])
        center, scale = box_to_center_scale(boxes, spec.input_size, spec.padding)
        matrices = crop_matrices(center, scale, spec.input_size, udp=spec.udp)
        pixels = [cast(torch.Tensor, job.pixels) for job, _ in parts]
        index = np.repeat(np.arange(len(parts), dtype=np.int64), [rows.stop - rows.start for _, rows in parts])

        def crop(to_crop: npt.NDArray[np.float64], flip: bool, out: torch.Tensor | None) -> torch.Tensor:
            count = len(to_crop)
            crops = affine_crop(
                pixels,
                np.concatenate([to_crop, to_crop]) if flip else to_crop,
                np.tile(index, (2 if flip else 1) * count // len(index)),
                size=spec.input_size,
                mean=spec.mean,
                std=spec.std,
                swap_rb=spec.channel_order == "rgb",
                flip=np.arange(2 * count) >= count if flip else None,
                dtype=self.dtype,
                layout="nhwc",
                out=out,
            )
            return torch.as_tensor(crops).permute(0, 3, 1, 2)

        pending = self._estimator.submit(
            crop, matrices, flip=options.flip, views=options.views, most=options.people, held=pixels
        )
        jobs.release(parts)
        return _Batch(parts, pending)

    def _read(self, batch: _Batch) -> None:
        """Put the results of a batch into its jobs, as soon as they are there."""
        estimates = batch.pending.read()
        start = 0
        for job, rows in batch.parts:
            stop = start + rows.stop - rows.start
            job.take(rows, estimates, slice(start, stop))
            start = stop

    def _finish(self, job: Job, options: _Options) -> Poses:
        """The photo's poses, those whose boxes have scores without doubles."""
        poses = job.poses
        if options.nms_threshold is None or job.detections.scores is None or len(poses) < 2:
            return poses
        # Published figures suppress doubles by the area of the crop, not of the box.
        _, extents = box_to_center_scale(poses.boxes, self.spec.input_size, self.spec.padding)
        kept = oks_nms(
            poses.numpy(), poses.person_scores, extents.prod(1), self.spec.skeleton.sigmas, options.nms_threshold
        )
        return poses[np.sort(kept)]
