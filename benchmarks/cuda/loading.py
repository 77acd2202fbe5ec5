"""A training step with the loader, from JPEG files on, beside the same step on one batch that lies on the GPU."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import torch

from fastpose.data import write_coco
from fastpose.data.augment import Augmentation
from fastpose.data.dataset import PoseDataset, Source
from fastpose.data.loader import Batch, Loader
from fastpose.data.photos import load_image
from fastpose.data.prefetch import processors
from fastpose.data.records import PathTable, PoseRecords
from fastpose.data.synthetic import synthetic_records
from fastpose.models import PoseModel, create_model
from fastpose.ops import heatmap_loss

from ..training_side import Side
from .timing import Clock, quartiles

RESIDENT = "one batch, again and again"
LOADER = "fastpose's loader"
DECODING = "fastpose's loader, every photo decoded each time"
ON_CPU = "crops made on the CPU and sent as float32"
ALONE = "fastpose's loader, alone"
BENCHMARK = "one batch, again and again, torch.backends.cudnn.benchmark"
TRAIN = "fastpose train"
TRAIN_RESIDENT = "fastpose train, one batch again and again"

_REPEATS = 64  # of everybody in an epoch, so that epochs seldom end


def loading(clock: Clock, *, dry: bool, only: str) -> Iterator[dict[str, Any]]:
    """Steps with and without the loader; yields what the JSON file says about each network."""
    with tempfile.TemporaryDirectory() as folder:
        records = None
        for name, batch in (("mobilenetv2", 2),) if dry else (("resnet50", 64), ("hrnet_w32", 64)):
            size = (64, 64) if dry else (256, 192)
            case = f"training with the loader: {name} {size[0]}×{size[1]} bfloat16 autocast, batch {batch}"
            if only in case:
                records = records or _photos(Path(folder), dry=dry)
                yield _Steps(name, batch, size, records, clock, 2 if dry else 16).report(case, dry=dry)


def _photos(folder: Path, *, dry: bool) -> PoseRecords:
    """Two people each on JPEG files of 640×480 pixels."""
    count, size = (2, (96, 128)) if dry else (128, (480, 640))
    scenes = synthetic_records(count, seed=0, size=size, people=2)

    def write(number: int) -> Path:
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), load_image(scenes.image_paths[number]), [cv2.IMWRITE_JPEG_QUALITY, 90])
        return path

    with ThreadPoolExecutor(processors()) as pool:
        paths = list(pool.map(write, range(count)))
    return dataclasses.replace(scenes, image_paths=PathTable(paths))


class _Pinning(Loader):
    """Batches in pinned host memory, if there is a GPU."""

    def _batch(self, *arguments: Any) -> Batch:
        batch = super()._batch(*arguments)
        return _changed(batch, torch.Tensor.pin_memory) if torch.cuda.is_available() else batch


def _changed(batch: Batch, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    names = ("images", "keypoints", "weights", "annotated")
    return dataclasses.replace(batch, **{name: change(getattr(batch, name)) for name in names})


class _Steps:
    """Optimizer steps of one network on one data set; nothing in them waits for the device."""

    def __init__(
        self, name: str, batch: int, size: tuple[int, int], records: PoseRecords, clock: Clock, steps: int
    ) -> None:
        self._name, self._batch, self._records, self._clock, self._steps = name, batch, records, clock, steps
        self._workers = processors()
        model: Any = create_model(name, input_size=size).to(clock.device)
        self._model: PoseModel = model.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(self._model.parameters(), 1e-6, fused=clock.on_gpu)
        self._warm = 1 if steps < 4 else 6  # the loader's lead is used up, and cuDNN has chosen

    def report(self, case: str, *, dry: bool) -> dict[str, Any]:
        """Times everybody in turns."""
        kept = self._batches(self._loader(self._clock.device, cache=1 << 34))
        lying = next(kept)
        host = self._batches(self._loader(torch.device("cpu"), cache=1 << 34, kind=_Pinning))
        sources: dict[str, tuple[Callable[[], Batch], bool]] = {
            RESIDENT: (lambda: lying, True),
            LOADER: (lambda: next(kept), True),
            ON_CPU: (lambda: self._sent(next(host)), True),
            ALONE: (lambda: next(kept), False),
        }
        decoding = self._batches(self._loader(self._clock.device, cache=0))
        sources[DECODING] = (lambda: next(decoding), True)
        sources[f"{DECODING}, alone"] = (lambda: next(decoding), False)
        found: dict[str, list[float]] = {name: [] for name in sources}
        with closing(kept), closing(host), closing(decoding):
            for _ in range(1 if dry else 3):
                names = list(sources)
                self._clock.random.shuffle(names)
                for name in names:
                    found[name].append(self._time(*sources[name]))
        # Last, as what cuDNN has chosen so stays chosen.
        before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        try:
            found[BENCHMARK] = [self._time(*sources[RESIDENT]) for _ in found[RESIDENT]]
        finally:
            torch.backends.cudnn.benchmark = before
        missing: dict[str, dict[str, str]] = {"absent": {}, "failed": {}}
        for name, resident in {TRAIN_RESIDENT: True, TRAIN: False}.items():
            try:
                found[name] = self._train(resident=resident, dry=dry)
            except (ImportError, RuntimeError) as error:  # a bare machine may lack what reads recipes
                last = str(error).strip().splitlines()[-1]
                missing["absent" if "No module named" in last else "failed"][name] = last
        contenders: dict[str, Any] = {}
        for name, seconds in found.items():
            middle = sorted(seconds)[len(seconds) // 2]
            contenders[name] = {"us": quartiles(seconds), "people_per_second": round(self._batch / middle, 1)}
        for entry in contenders.values():
            ratio = entry["people_per_second"] / contenders[RESIDENT]["people_per_second"]
            entry["of_resident"] = round(ratio, 4)
        about = {"case": case, "people": self._batch, "workers": self._workers, "contenders": contenders}
        return about | {kind: names for kind, names in missing.items() if names}

    def _loader(self, device: torch.device, cache: int, kind: type[Loader] = Loader) -> Loader:
        dataset = PoseDataset([Source(self._records, repeats=_REPEATS)], self._records.skeleton, cache=cache)
        options: dict[str, Any] = {"augmentation": Augmentation(), "workers": self._workers, "device": device}
        return kind(dataset, self._model.spec, batch_size=self._batch, **options)

    @staticmethod
    def _batches(loader: Loader) -> Iterator[Batch]:
        number = 0
        while True:
            yield from loader.epoch(number)
            number += 1

    def _sent(self, batch: Batch) -> Batch:
        """From pinned memory to the device."""
        return _changed(batch, lambda tensor: tensor.to(self._clock.device, non_blocking=True))

    def _time(self, take: Callable[[], Batch], work: bool) -> float:
        """Seconds of a step."""
        step = self._step if work else (lambda batch: None)
        for _ in range(self._warm):
            step(take())
        self._clock.wait()

        def steps() -> None:
            for _ in range(self._steps):
                step(take())
            self._clock.wait()

        return Clock(torch.device("cpu")).elapsed(steps) / self._steps  # by the wall

    def _step(self, batch: Batch) -> None:
        spec = self._model.spec
        with torch.autocast(self._clock.device.type, dtype=torch.bfloat16):
            maps: Any = self._model(batch.images).last
        heatmap_loss(maps.float(), batch.keypoints, batch.weights, spec.codec, spec.input_size).backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _train(self, *, resident: bool, dry: bool) -> list[float]:
        """Seconds of a step of the command, in a process of its own."""
        from ..training import Contender

        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
            file = Path(folder) / "people.json"
            write_coco(self._records, file)
            side = Side(
                "fastpose",
                f"{self._name}.coco_256x192",
                str(file),
                folder,
                self._batch,
                threads=self._workers,
                precision="bfloat16",
                workers=self._workers,
                resident=resident,
                repeats=_REPEATS,
                warm=self._warm,
            )
            contender = Contender(side, errors)
            try:
                contender.turn(self._warm)  # on a GPU choosing algorithms takes longer than one step
                return [contender.turn(self._steps)["wall"] for _ in range(1 if dry else 3)]
            finally:
                contender.end()
