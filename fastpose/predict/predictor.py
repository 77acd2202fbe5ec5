"""Photos and boxes in, poses out: people of many photos packed into full batches, results in order, as a stream."""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import resources
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..codecs import ViewAverage, build_codec, build_views
from ..data.images import MAX_HELD_BYTES
from ..data.prefetch import Prefetch
from ..geometry import box_to_center_scale, crop_matrices, invert_matrices
from ..models import PoseModel, VisibilityHead, WeightsError, create_model, fuse_batchnorm, load_model
from ..ops import affine_crop
from ..spec import PoseSpec
from .detectors import run_detector
from .graphs import Clock, Eager, Graphs
from .inputs import TOLD, as_picture, check_boxes, is_picture
from .reading import Photo, pair, read, read_ahead, read_pairs_ahead
from .results import Poses

__all__ = ["CARRIED_MODEL", "Predictor", "load"]

Array = npt.NDArray[Any]

CARRIED_MODEL = "resnet18_slim_refined.lspet_160x160"
"""The model in the package, which `load` takes where no name is given."""

_CARRIED_FILE = "resnet18_slim_refined.safetensors"
_WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name_or_file: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Predictor:
    """A model, ready to predict.

    Args:
        name_or_file: A zoo name, or a file that `fastpose.save_model` wrote; by default the model that the package
            carries.
        device: "cpu", "cuda", "cuda:1", …; by default the GPU if there is one and the native core was built for it.
        dtype: float32 (the default: the network's published numbers), bfloat16 or float16. The half formats are
            worth trying on a GPU, and bfloat16 on CPUs with AMX or AVX512-BF16.

    Returns:
        The predictor.

    Raises:
        WeightsError: The file is missing, cut short or no model, or no weights are in reach for that name.
        ValueError: No model has that name, or the device cannot be used.
    """
    return Predictor(_find_model(name_or_file), device=device, dtype=dtype)


def carried_file() -> Path:
    """Where the carried model lies.

    Raises:
        WeightsError: The package is incomplete.
    """
    path = Path(str(resources.files("fastpose.models"))) / "carried" / _CARRIED_FILE
    if not path.is_file():
        raise WeightsError(f"{CARRIED_MODEL}: the package should hold {path}, and does not; reinstall it")
    return path


def _find_model(name_or_file: str | os.PathLike[str] | None) -> PoseModel:
    if name_or_file is None or name_or_file == CARRIED_MODEL:
        return load_model(carried_file())
    name = os.fspath(name_or_file)
    is_path = not isinstance(name_or_file, str) or os.sep in name or Path(name).suffix.lower() in _WEIGHT_FILES
    if is_path or Path(name).is_file():
        return load_model(name)
    return create_model(name, pretrained=True)


@dataclass
class _Job:
    """One photo on its way."""

    picture: torch.Tensor | None  # let go of once its last crop is under way
    path: Path | None
    size: tuple[int, int]
    boxes: Array
    box_scores: Array
    keypoints: Array
    scores: Array
    visibility: Array | None
    milliseconds: dict[str, float] = field(default_factory=dict)
    begun: int = 0  # people who are under way
    done: int = 0  # people whose results have been read


@dataclass
class _Batch:
    """People under way together."""

    parts: list[tuple[_Job, slice]]  # which people of which photos
    results: list[torch.Tensor | None]  # keypoints, scores, visibility, there when the clock has stopped
    clock: Clock
    held: list[Any]  # what the device still reads


class Predictor:
    """Finds the keypoints of the people in photos.

    The network is copied with its BatchNorms folded in; it is not changed by later training of `model`.

    Args:
        model: The network; its `spec` says everything else.
        device: As for `load`.
        dtype: As for `load`.

    Attributes:
        spec: The model's PoseSpec.
        name: The model's name.
        device: Where it runs.
        dtype: What it computes in.

    Raises:
        TypeError: No PoseModel.
        ValueError: The device cannot be used, or an unknown dtype.
    """

    def __init__(
        self,
        model: PoseModel,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        if not isinstance(model, PoseModel):
            raise TypeError(f"model: expected a PoseModel, got {type(model).__name__}")
        self.spec: PoseSpec = model.spec
        self.name = model.name
        self.device = _pick_device(device)
        self.dtype = _pick_dtype(dtype)
        network = fuse_batchnorm(model).to(device=self.device, dtype=self.dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        on_gpu = self.device.type == "cuda"
        self._network = Graphs(network, self.device, self.dtype) if on_gpu else Eager(network, self.device)
        self._mirror: Any = torch.tensor(self.spec.skeleton.flip_index, device=self.device)
        self._tells_visibility = isinstance(model.head, VisibilityHead)
        self._codec = build_codec(self.spec.codec, self.spec.input_size)
        self._told_whole_image = False

    def __repr__(self) -> str:
        return f"Predictor({self.name}, {self.device}, {str(self.dtype).removeprefix('torch.')})"

    def __call__(
        self,
        images: Any,
        boxes: Any = None,
        *,
        flip_test: bool | None = None,
        scales: Sequence[float] = (1.0,),
        rotations: Sequence[float] = (0.0,),
        batch_size: int | None = None,
    ) -> Any:
        """Keypoints of the people in one photo or in many.

        Args:
            images: A path; or pixels, uint8 [H, W, 3] in BGR order (NumPy array or tensor; [H, W] is grey); or several
                of these: [B, H, W, 3], a list, or any iterator, which is read as far as needed. Pixels are not copied:
                an iterator must not write over a photo before its `Poses` are out. Paths in a list are read by a few
                threads while the network works.
            boxes: Where the people are, xyxy px. For one photo [N, 4]; for several one such array each (a list, or an
                iterator beside an iterator). Or a detector for all of them: see `fastpose.predict.detectors`. None: the
                whole photo is the box, which is said once. An empty array: nobody is there.
            flip_test: Average with the mirrored crop: slower by half, a little better. By default as the spec says.
            scales: Average the heatmaps of a crop of each of these sizes; 1 is the spec's, 1.2 shows more around the
                person. Several cost as many times the time.
            rotations: Turn each of these crops by each of these angles, degrees.
            batch_size: Crops in one pass of the network, 64 on a GPU and 16 on a CPU by default. They are fewer where
                their photos fill half a gigabyte. A live stream that must not wait for the next photo wants 1.

        Returns:
            `Poses` for one photo, a list of them for several, an iterator of them for an iterator; in order.

        Raises:
            ImageError: A photo cannot be read.
            TypeError: Pixels that are not uint8, or no photo at all.
            ValueError: Pixels of another shape, or a box that is not finite, empty or outside its photo (the message
                names photo and row); a scale or an angle that cannot be used.
        """
        options = (flip_test, scales, rotations, batch_size)
        if is_picture(images):
            return next(self._open([(images, boxes)], True, *options))
        try:
            each_image = iter(images)
        except TypeError:
            raise TypeError(f"images: {TOLD}, or several of these, got {type(images).__name__}") from None
        several = isinstance(images, Sequence | np.ndarray | torch.Tensor)
        if several and hasattr(boxes, "__len__") and len(boxes) != len(images):
            raise ValueError(f"boxes: expected one array for each of {len(images)} photos, got {len(boxes)}")
        each = repeat(boxes) if boxes is None or callable(boxes) else boxes
        reading = read_ahead(images)
        results = self._open(pair(reading or each_image, each), several, *options, reading)
        return list(results) if several else results

    def stream(
        self,
        pairs: Iterable[tuple[Any, Any]],
        *,
        flip_test: bool | None = None,
        scales: Sequence[float] = (1.0,),
        rotations: Sequence[float] = (0.0,),
        batch_size: int | None = None,
    ) -> Iterator[Poses]:
        """The same for (photo, boxes) pairs, of which no more are drawn than one batch needs.

        Args:
            pairs: Each a photo and its boxes, a detector, or None, as for a call with one photo. Of a list, paths are
                read ahead, and a GPU is given the next batch before this one's results are out.
            flip_test: As for a call.
            scales: As for a call.
            rotations: As for a call.
            batch_size: As for a call.

        Yields:
            `Poses`, in order.
        """
        options = (flip_test, scales, rotations, batch_size)
        reading = read_pairs_ahead(pairs)
        return self._open(reading or pairs, isinstance(pairs, Sequence), *options, reading)

    def _open(
        self,
        pairs: Iterable[tuple[Any, Any]],
        all_there: bool,
        flip_test: bool | None,
        scales: Sequence[float],
        rotations: Sequence[float],
        batch_size: int | None,
        reading: Prefetch | None = None,
    ) -> Iterator[Poses]:
        """`stream`; results may wait until the next batch is under way where all photos are there anyway."""
        if batch_size is None:
            batch_size = 64 if self.device.type == "cuda" else 16
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        flip = self.spec.flip_test if flip_test is None else flip_test
        views = build_views(self.spec, scales, rotations)
        people = max(1, batch_size // len(views)) if views else batch_size
        return self._stream(iter(pairs), reading, self._network.ahead if all_there else 0, flip, views, people)

    def _stream(
        self,
        pairs: Iterator[tuple[Any, Any]],
        reading: Prefetch | None,
        ahead: int,
        flip: bool,
        views: ViewAverage | None,
        batch_size: int,
    ) -> Iterator[Poses]:
        jobs: deque[_Job] = deque()
        waiting: deque[_Job] = deque()
        under_way: deque[_Batch] = deque()
        people = 0
        with reading or nullcontext():
            for number, (image, boxes) in enumerate(pairs):
                job = self._start(image, boxes, number)
                jobs.append(job)
                if len(job.boxes):
                    waiting.append(job)
                    people += len(job.boxes)
                held = sum(job.picture.nbytes for job in jobs if job.picture is not None)
                while people >= batch_size or (people and held >= MAX_HELD_BYTES):
                    under_way.append(self._launch(_take(waiting, batch_size), flip, views, batch_size))
                    people = max(0, people - batch_size)
                while len(under_way) > ahead:
                    self._read(under_way.popleft())
                while jobs and jobs[0].done == len(jobs[0].boxes):
                    yield self._finish(jobs.popleft())
        if waiting:
            under_way.append(self._launch(_take(waiting, batch_size), flip, views, batch_size))
        for batch in under_way:
            self._read(batch)
        yield from (self._finish(job) for job in jobs)

    def _start(self, image: Any, boxes: Any, number: int) -> _Job:
        times = {}
        path = None
        image = read(image)
        if isinstance(image, Photo):
            path = image.path
            picture = torch.from_numpy(image.pixels)
            times["read"] = image.milliseconds
        else:
            picture = as_picture(image, f"image {number}")
        where = str(path) if path else f"image {number}"
        size = (int(picture.shape[0]), int(picture.shape[1]))
        box_scores = None
        if boxes is None:
            boxes = self._whole_image(size, where)
        elif callable(boxes):
            start = time.perf_counter()
            boxes, box_scores = run_detector(boxes, picture.cpu().numpy())
            times["detect"] = _since(start)
        boxes = check_boxes(boxes, size, where)
        people, joints = len(boxes), self.spec.num_keypoints
        return _Job(
            picture=self._network.send(picture) if people else None,
            path=path,
            size=size,
            boxes=boxes,
            box_scores=np.ones(people, np.float32) if box_scores is None else box_scores,
            keypoints=np.empty((people, joints, 2), np.float32),
            scores=np.empty((people, joints), np.float32),
            visibility=np.empty((people, joints), np.float32) if self._tells_visibility else None,
            milliseconds=times,
        )

    def _whole_image(self, size: tuple[int, int], where: str) -> Array:
        if not self._told_whole_image:
            self._told_whole_image = True
            warnings.warn(
                f"{where}: no boxes given, so the whole photo is taken for one person's box (said once)", stacklevel=5
            )
        return np.array([[0, 0, size[1], size[0]]], np.float32)

    @torch.inference_mode()
    def _launch(self, parts: list[tuple[_Job, slice]], flip: bool, views: ViewAverage | None, most: int) -> _Batch:
        """Predict a batch of people, of whom `most` fill one; on CUDA without waiting for it."""
        spec = self.spec
        boxes = np.concatenate([job.boxes[rows] for job, rows in parts])
        matrices = crop_matrices(
            *box_to_center_scale(boxes, spec.input_size, spec.padding), spec.input_size, udp=spec.udp
        )
        inverse = self._network.send(torch.from_numpy(invert_matrices(matrices)))
        pictures = [job.picture for job, _ in parts if job.picture is not None]
        image_index = np.repeat(np.arange(len(parts), dtype=np.int64), [rows.stop - rows.start for _, rows in parts])
        to_crop = matrices
        if views:
            to_crop, image_index = views.matrices(matrices), np.tile(image_index, len(views))
        count = len(to_crop)
        each = count // len(boxes) * (2 if flip else 1)
        with self._network.turn():
            clock = Clock(self.device)

            def fill(out: torch.Tensor | None) -> torch.Tensor:
                crops = self._crop(pictures, to_crop, image_index, flip, out)
                clock.lap("crop")
                return crops

            output, visibility = self._network.run(each * len(boxes), each * most, fill)
            output = output.float()
            clock.lap("network")
            maps, flipped = output[:count], output[count:] if flip else None
            if visibility is not None and flip:
                visibility = (visibility[:count] + visibility[count:, self._mirror]) / 2
            if views:
                maps, flipped = views.merge(maps, flipped, flip_shift=self.spec.flip_shift), None
                visibility = None if visibility is None else visibility.unflatten(0, (len(views), -1)).mean(0)
            points, scores = self._codec.decode(
                maps,
                flipped=flipped,
                flip_index=None if flipped is None else self._mirror,
                flip_shift=self.spec.flip_shift and flipped is not None,
                inverse=inverse,
            )
            found = (points, scores, None if visibility is None else visibility.float())
            results = [None if values is None else self._network.fetch(torch.as_tensor(values)) for values in found]
            clock.lap("decode")
        for job, _ in parts:
            if job.begun == len(job.boxes):
                job.picture = None
        return _Batch(parts, results, clock, [pictures, inverse])

    def _read(self, batch: _Batch) -> None:
        """Put the results of a batch into its jobs, as soon as they are there."""
        times = batch.clock.milliseconds()
        keypoints, scores, visibility = (None if values is None else values.numpy() for values in batch.results)
        assert keypoints is not None
        assert scores is not None
        start = 0
        for job, rows in batch.parts:
            stop = start + rows.stop - rows.start
            job.keypoints[rows], job.scores[rows] = keypoints[start:stop], scores[start:stop]
            if job.visibility is not None and visibility is not None:
                job.visibility[rows] = visibility[start:stop]
            for stage, spent in times.items():
                share = spent * (stop - start) / len(keypoints)
                job.milliseconds[stage] = job.milliseconds.get(stage, 0.0) + share
            job.done += stop - start
            start = stop

    def _crop(
        self,
        pictures: list[torch.Tensor],
        matrices: Array,
        image_index: Array,
        flip: bool,
        out: torch.Tensor | None,
    ) -> torch.Tensor:
        """Crops [M, 3, h, w], normalised, channels last in memory; with `flip`, [2M, 3, h, w], then mirrored ones."""
        count = len(matrices)
        crops = affine_crop(
            pictures,
            np.concatenate([matrices, matrices]) if flip else matrices,
            np.tile(image_index, 2) if flip else image_index,
            size=self.spec.input_size,
            mean=self.spec.mean,
            std=self.spec.std,
            swap_rb=self.spec.channel_order == "rgb",
            flip=np.arange(2 * count) >= count if flip else None,
            dtype=self.dtype,
            layout="nhwc",
            out=out,
        )
        return torch.as_tensor(crops).permute(0, 3, 1, 2)

    def _finish(self, job: _Job) -> Poses:
        return Poses(
            keypoints=job.keypoints,
            scores=job.scores,
            boxes=job.boxes,
            box_scores=job.box_scores,
            image_size=job.size,
            skeleton=self.spec.skeleton,
            milliseconds=job.milliseconds,
            path=job.path,
            visibility=job.visibility,
        )


def _take(waiting: deque[_Job], most: int) -> list[tuple[_Job, slice]]:
    """The next people, at most so many: which rows of which photos."""
    parts: list[tuple[_Job, slice]] = []
    while most and waiting:
        job = waiting[0]
        count = min(most, len(job.boxes) - job.begun)
        parts.append((job, slice(job.begun, job.begun + count)))
        job.begun += count
        most -= count
        if job.begun == len(job.boxes):
            waiting.popleft()
    return parts


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def _pick_device(device: str | torch.device | None) -> torch.device:
    if device is None or device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        from ..ops._native import C

        if C.with_cuda:
            return torch.device("cuda", torch.cuda.current_device())
        warnings.warn(
            "a GPU is there, but the native core was built without CUDA, so the CPU is used; reinstall with "
            "FASTPOSE_CUDA=on, or say device='cpu'",
            stacklevel=4,
        )
        return torch.device("cpu")
    try:
        return torch.empty(0, device=device).device  # "cuda" is the current one: from now on by its number
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from None


def _pick_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    chosen = _DTYPES.get(str(dtype).removeprefix("torch."))
    if chosen is None:
        raise ValueError(f"dtype: expected {', '.join(_DTYPES)}, got {dtype!r}")
    return chosen
