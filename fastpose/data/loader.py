"""Batches for training and evaluation, made ahead in a background thread.

Threads, not processes: decoding (OpenCV) and cropping (the native core) release the interpreter's lock, and what is
left is vectorised over the batch. So photos are decoded once into one memory, nothing is copied between processes, and
there is no worker that can die. For a GPU, crops are made there (``data.sending``).
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ops import affine_crop
from ..spec import PoseSpec
from ..views import ViewAverage
from .augment import Augmentation, Crops, draw_seeds, draw_table, make_crops, plain_crops
from .dataset import PoseDataset
from .images import MAX_HELD_BYTES
from .pixels import PixelChanges, change_pixels
from .prefetch import Prefetch
from .sending import make_sender

__all__ = ["Batch", "Loader"]

# Batches made ahead: enough to bridge a slow photo, few enough to stay small.
_AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """M crops.

    Attributes:
        images: float32 [M, 3, h, w], normalised as the spec says, channels last in memory. Of V views [V * M, 3, h, w]:
            everybody in the first view, then in the second, …. Tensors are on the loader's device.
        keypoints: float32 [M, K, 2] (x, y), pixels of the crop.
        weights: float32 [M, K], 0 where there is no label.
        annotated: bool [M, K], whether the person's data set labels this keypoint at all.
        matrices: float64 [M, 2, 3], photo → crop.
        people: int64 [M], positions in the data set.
    """

    images: Tensor
    keypoints: Tensor
    weights: Tensor
    annotated: Tensor
    matrices: NDArray[np.float64]
    people: NDArray[np.int64]


class Loader:
    """Makes the batches of an epoch; the same ones whenever it is asked for the same epoch.

    Args:
        dataset: The people.
        spec: Of the model: padding, UDP, channel order, mean and std.
        batch_size: M.
        input_size: (height, width) of the crops; the spec's where not given.
        augmentation: None: everybody once, in order, cropped as for prediction. Otherwise shuffled, repeated and
            changed at random, and a last batch that is not full is left out.
        seed: Of order and augmentation.
        workers: Threads that decode photos, at least one; by default as many as suit the device.
        device: Where the tensors of a batch are wanted. For CUDA, photos are sent as bytes, no more of each than its
            crops show, and cropped there on a stream of their own; the stream that is current when a batch is taken
            waits for it.
        reduce: Decode JPEGs at 1/2, 1/4 or 1/8 where that still has a pixel for each pixel of the crop. Photos are then
            decoded for every crop and not kept, so that a crop is the same whatever else there is in memory.
        part: (rank, size) of several processes that share every batch of a training: of each ``size * M`` crops that
            follow one another in the epoch, this loader makes the M at place ``rank``. All crops of one batch together
            are those of a single process with batches of ``size * M``.
        views: Crops of each person beside the ordinary one, for an evaluation.

    A photo that cannot be read is left out of an epoch, and tried again in the next; ``dataset.photos.failed`` names
    those of the last one.
    """

    def __init__(
        self,
        dataset: PoseDataset,
        spec: PoseSpec,
        *,
        batch_size: int,
        input_size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        workers: int | None = None,
        device: torch.device | str = "cpu",
        reduce: bool = False,
        part: tuple[int, int] = (0, 1),
        views: ViewAverage | None = None,
    ) -> None:
        self.dataset, self.spec, self.batch_size = dataset, spec, batch_size
        self.input_size = input_size or spec.input_size
        self.augmentation, self.seed = augmentation, seed
        self._sender = make_sender(torch.device(device))
        self.workers = max(1, self._sender.threads if workers is None else workers)
        self.reduce, (self.rank, self.size) = reduce, part
        self.views = views
        self._largest = 0  # bytes of a decoded photo so far

    def __len__(self) -> int:
        if self.augmentation is None:
            return -(-len(self.dataset) // self.batch_size)
        return max(1, self.dataset.epoch_length // (self.batch_size * self.size))

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch.

        Args:
            epoch: Its number, which decides order and augmentation.
            start: Number of the first batch wanted (after an interruption).

        Yields:
            Batches. One whose photos can all not be read is left out of an evaluation; in a training it comes without
            crops (M = 0), so that batches of one number belong together in all processes.
        """
        self.dataset.photos.failed.clear()
        ready: queue.Queue[Any] = queue.Queue(_AHEAD)
        stop = threading.Event()

        def hand_over(item: Any) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def produce() -> None:
            try:
                with ThreadPoolExecutor(self.workers) as pool, self._sender.making():
                    for batch in self._batches(epoch, start, pool):
                        if not hand_over((batch, self._sender.mark())):
                            return
                hand_over(None)
            except BaseException as error:  # handed to the consumer, which raises it
                hand_over(error)

        thread = threading.Thread(target=produce, name="fastpose-loader", daemon=True)

        def end() -> None:
            stop.set()
            thread.join()

        thread.start()
        # A script may end in the middle of an epoch; a thread that came back from the native core then would abort it.
        atexit.register(end)
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                batch, made = item
                self._sender.wait(made, (batch.images, batch.keypoints, batch.weights, batch.annotated))
                yield batch
        finally:
            end()
            atexit.unregister(end)

    def _batches(self, epoch: int, start: int, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        if self.augmentation is None:
            order, table, seeds = np.arange(len(self.dataset)), None, None
        else:
            order = self.dataset.epoch_order(self.seed, epoch)
            table = draw_table(self.seed, epoch, len(order))
            seeds = draw_seeds(self.seed, epoch, len(order))
        for number in range(start, len(self)):
            first = (number * self.size + self.rank) * self.batch_size
            rows = slice(first, first + self.batch_size)
            draws = None if table is None else table[rows]
            batch = self._batch(order[rows], draws, None if seeds is None else seeds[rows], pool)
            if len(batch.people) or self.augmentation is not None:
                yield batch

    def _batch(self, people: NDArray[np.int64], draws: Any, seeds: Any, pool: ThreadPoolExecutor) -> Batch:
        if not len(people):
            return self._nobody()
        data, crops = self.dataset, self._draw(people, draws)
        changes = None if self.augmentation is None else self.augmentation.pixels
        made, shown = [], []
        for photos, rows, index, matrices in self._read(data.photo[people], crops.matrices, pool):
            part = replace(crops[rows], matrices=matrices)
            if part.frames is not None:
                steps = np.linalg.norm(matrices[:, 0, :2], axis=1) / np.linalg.norm(crops.matrices[rows, 0, :2], axis=1)
                photos, index, part = _framed(photos, index, part, steps)
            if changes is None:
                pixels = self._crop(photos, *self._all_views(part, index))
            else:
                pixels = self._changed(photos, part, index, changes, seeds[rows], pool)
            made.append(pixels.unflatten(0, (-1, len(rows))))  # [V, m, h, w, 3]
            shown.append(rows)
        if not made:
            return self._nobody()
        pixels, kept = made[0], shown[0]
        if len(made) > 1:
            order = np.argsort(np.concatenate(shown))
            pixels, kept = torch.cat(made, 1)[:, torch.from_numpy(order)], np.concatenate(shown)[order]
        people, crops = people[kept], crops[kept]
        annotated = data.annotated[people]
        mirror = list(data.skeleton.flip_index)
        annotated = np.where(crops.flipped[:, None], annotated[:, mirror], annotated)
        labels = [self._sender.send(torch.from_numpy(x)) for x in (crops.keypoints, crops.weights, annotated)]
        images = pixels.flatten(0, 1).permute(0, 3, 1, 2).to(self._sender.device)
        return Batch(images, labels[0], labels[1], labels[2], crops.matrices, people)

    def _draw(self, people: NDArray[np.int64], draws: Any) -> Crops:
        """What the crops show; ``draws`` is None where nothing is random."""
        data = self.dataset
        boxes, keypoints, weights = data.boxes[people], data.keypoints[people], data.weights[people]
        if self.augmentation is None:
            return plain_crops(boxes, keypoints, weights, self.spec, self.input_size)
        return make_crops(boxes, keypoints, weights, draws, self.spec, self.augmentation, self.input_size)

    def _read(
        self, photo: NDArray[np.int64], matrices: NDArray[np.float64], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[list[Any], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Decode each photo once.

        Args:
            photo: [M], numbers of the crops' photos.
            matrices: [M, 2, 3], whole photo → crop.
            pool: Threads that decode.

        Yields:
            Photos, as many as may be held at once (the list is emptied afterwards); which crops [m] are of these; the
            place in the list of each one's photo, [m]; and its matrix [m, 2, 3] from the photo as it was decoded.
            Photos that cannot be read are left out.
        """
        store = self.dataset.photos
        wanted = np.stack([photo, _coarsest_steps(matrices) if self.reduce else np.ones_like(photo)], axis=1)
        wanted, number = np.unique(wanted, axis=0, return_inverse=True)
        number = number.reshape(-1)
        keys = wanted.tolist()

        def read(key: list[int]) -> tuple[Any, NDArray[np.float64]] | None:
            if self.reduce:
                return store.read_reduced(*key)
            whole = store.read(key[0])
            return None if whole is None else (whole, np.eye(2, 3))

        ready = not self.reduce and all(store.is_ready(key[0]) for key in keys)
        place = np.full(len(keys), -1)  # in the list
        photos: list[Any] = []
        origins: list[NDArray[np.float64]] = []
        held = 0
        results: Iterable[Any] = map(read, keys)
        if not ready:
            options: dict[str, Any] = {"pool": pool, "workers": self.workers, "largest": self._largest}
            results = Prefetch(read, keys, size=_bytes, room=MAX_HELD_BYTES, most=len(keys), **options)
        for key, found in enumerate(results):
            if found is not None:
                place[key] = len(photos)
                photos.append(found[0])
                origins.append(found[1])
                held += found[0].nbytes
                self._largest = max(self._largest, found[0].nbytes)
            if photos and (held >= MAX_HELD_BYTES or key == len(keys) - 1):
                rows = np.flatnonzero(place[number] >= 0)
                index = place[number[rows]]
                yield photos, rows, index, _after(matrices[rows], np.stack(origins)[index])
                photos.clear()
                origins.clear()
                place[:], held = -1, 0

    def _nobody(self) -> Batch:
        """A batch of no crops."""
        labels = (0, self.dataset.skeleton.num_keypoints)
        device = self._sender.device
        return Batch(
            torch.empty((0, 3, *self.input_size), device=device),
            torch.empty((*labels, 2), device=device),
            torch.empty(labels, device=device),
            torch.empty(labels, dtype=torch.bool, device=device),
            np.empty((0, 2, 3)),
            np.empty(0, np.int64),
        )

    def _all_views(self, crops: Crops, index: NDArray[np.int64]) -> tuple[Crops, NDArray[np.int64]]:
        """The crops of every view, and each one's photo."""
        if self.views is None:
            return crops, index
        return replace(crops, matrices=self.views.matrices(crops.matrices)), np.tile(index, len(self.views))

    def _crop(self, photos: list[Any], crops: Crops, index: NDArray[np.int64]) -> Tensor:
        """Crops ready for the network: float32 [M, h, w, 3], where they are made."""
        pictures, matrices = self._sender.send_photos(photos, crops.matrices, index, self.input_size)
        return affine_crop(
            pictures,
            matrices,
            index,
            size=self.input_size,
            mean=self.spec.mean,
            std=self.spec.std,
            swap_rb=self.spec.channel_order == "rgb",
            gain=crops.gain,
            offset=crops.offset,
            layout="nhwc",
            out=torch.empty((len(index), *self.input_size, 3), device=self._sender.crops_on),
        )

    def _changed(
        self,
        photos: list[Any],
        crops: Crops,
        index: NDArray[np.int64],
        changes: PixelChanges,
        seeds: NDArray[np.int64],
        pool: ThreadPoolExecutor,
    ) -> Tensor:
        """As :meth:`_crop`, with a stop at 8-bit pixels that are changed at random by several threads."""
        rgb = self.spec.channel_order == "rgb"
        plain = affine_crop(
            photos,
            crops.matrices,
            index,
            size=self.input_size,
            swap_rb=rgb,
            gain=crops.gain,
            offset=crops.offset,
            layout="nhwc",
            out=np.empty((len(index), *self.input_size, 3), np.uint8),
        )
        list(pool.map(lambda crop, seed: change_pixels(crop, seed, changes, rgb=rgb), plain, seeds.tolist()))
        return affine_crop(
            self._sender.send_crops(plain),
            np.tile(np.eye(2, 3), (len(index), 1, 1)),
            size=self.input_size,
            mean=self.spec.mean,
            std=self.spec.std,
            layout="nhwc",
            out=torch.empty((len(index), *self.input_size, 3), device=self._sender.crops_on),
        )


def _bytes(found: tuple[Any, NDArray[np.float64]] | None) -> int:
    return 0 if found is None else found[0].nbytes


def _after(matrices: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices [M, 2, 3] that do what ``first`` does, and then ``matrices``."""
    linear = matrices[:, :, :2]
    both = linear @ first
    both[:, :, 2] += matrices[:, :, 2]
    return both


def _framed(
    photos: list[Any], index: NDArray[np.int64], crops: Crops, steps: NDArray[np.float64]
) -> tuple[list[Any], NDArray[np.int64], Crops]:
    """Photos that end where the crops' frames say: views of the photos, behind them in the list.

    Args:
        photos: As they were decoded.
        index: [m], the place in the list of each crop's photo.
        crops: With frames, in pixels of the whole photo.
        steps: [m] pixels of the whole photo for one of the decoded one.

    Returns:
        Photos, index and crops, whose matrices are of those photos.
    """
    assert crops.frames is not None
    pictures, index, matrices = list(photos), index.copy(), crops.matrices.copy()
    for row, (place, frame) in enumerate(zip(index.tolist(), np.ceil(crops.frames / steps[:, None]), strict=True)):
        height, width = photos[place].shape[:2]
        x0, y0, x1, y1 = np.clip(frame, 0, (width, height, width, height)).astype(int).tolist()
        if (x0, y0, x1, y1) == (0, 0, width, height) or x0 >= x1 or y0 >= y1:
            continue
        index[row] = len(pictures)
        pictures.append(photos[place][y0:y1, x0:x1])
        matrices[row, :, 2] += matrices[row, :, :2] @ (x0, y0)
    return pictures, index, replace(crops, matrices=matrices)


def _coarsest_steps(matrices: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many pixels of the photo, 1, 2, 4 or 8, may become one before the crop [M, 2, 3] shows less: int64 [M]."""
    pixels = 1 / np.linalg.norm(matrices[:, :, :2], axis=2).max(1)  # of the photo for one of the crop
    steps: NDArray[np.int64] = 2 ** np.clip(np.floor(np.log2(pixels)), 0, 3).astype(np.int64)
    return steps
