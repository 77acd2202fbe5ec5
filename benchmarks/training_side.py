"""One side of `python -m benchmarks.training`, in a process of its own: it does steps in turns, as it is told.

A process each, because what one side does to its process (threads, memory allocation) must not help the other. The
parent writes a number of steps; the side does them, answers with the seconds that they took, and waits. It never
leaves its own training loop for that: what counts the steps is called from inside of it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

PIPELINE = ("LoadImage", "GetBBoxCenterScale", "RandomFlip", "RandomHalfBody", "RandomBBoxTransform", "TopdownAffine",
            "GenerateTarget", "PackPoseInputs")  # fmt: skip


@dataclass(frozen=True)
class Side:
    """What a process does.

    Attributes:
        kind: ``mmpose`` or ``fastpose``: training steps; ``mmpose loader`` or ``fastpose loader``: batches alone.
        entry: The zoo entry of the network.
        annotations: COCO-style file.
        photos: The folder that its file names are relative to.
        batch: Crops in a step.
        threads: Of torch and OpenCV, and cores that the process may use.
        precision: FastPose: as in a recipe. MMPose trains in float32.
        workers: MMPose's loader processes, FastPose's loader threads.
        resident: FastPose: one batch in memory, again and again, instead of the loader.
        cache_gb: FastPose: as in a recipe.
        reduce: FastPose: as in a recipe.
        repeats: FastPose: as in a recipe, of the one source.
        targets: FastPose's loader: heatmaps too, which the loss makes otherwise.
        normalised: MMPose's loader: through the data preprocessor too, which the network calls otherwise.
        warm: Steps before the first turn; -1: an epoch.
    """

    kind: str
    entry: str
    annotations: str
    photos: str
    batch: int = 16
    threads: int = 1
    precision: str = "float32"
    workers: int = 0
    resident: bool = False
    cache_gb: float | None = None
    reduce: bool = False
    repeats: float = 1.0
    targets: bool = False
    normalised: bool = False
    warm: int = 2

    def command(self) -> list[str]:
        """Starts it."""
        return [sys.executable, "-m", "benchmarks.training_side", json.dumps(asdict(self))]


class Turns:
    """Counts steps; when a turn is over, answers and waits for the next one."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what the loops print goes to the errors

    def begin(self, steps: int) -> None:
        """So many steps follow."""
        self._left, self._wall, self._cpu = steps, time.perf_counter(), time.process_time()

    def step(self) -> None:
        """A step is done."""
        self._left -= 1
        if self._left > 0:
            return
        seconds = {"wall": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}
        print(json.dumps(seconds), file=self._answers, flush=True)
        line = sys.stdin.readline()
        if not line:  # the parent has all that it wanted
            os._exit(0)
        self.begin(int(line))


def main() -> None:
    """Start the side that the argument describes."""
    turns = Turns()
    side = Side(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-side.threads :])
    import cv2
    import torch

    torch.set_num_threads(side.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    run = {
        "mmpose": _mmpose,
        "fastpose": _fastpose,
        "mmpose loader": _mmpose_loader,
        "fastpose loader": _fastpose_loader,
    }[side.kind]
    run(side, turns)


def _fastpose(side: Side, turns: Turns) -> None:
    """`fastpose train ENTRY`, with its log as the counter."""
    from fastpose.train import loop
    from fastpose.train.recipe import load_recipe

    turns.begin(side.warm)

    class CountingLog(loop.RunLog):
        def step(self, **figures: Any) -> None:
            super().step(**figures)
            turns.step()

    class ResidentLoader(loop.Loader):
        def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Any]:
            batches = super().epoch(epoch, start)
            batch = next(batches)
            batches.close()  # type: ignore[attr-defined]
            for _ in range(start, len(self)):
                yield batch

    loop.RunLog = CountingLog  # type: ignore[misc]
    if side.resident:
        loop.Loader = ResidentLoader  # type: ignore[misc]
    loop.train(load_recipe(side.entry, _overrides(side)), Path(tempfile.mkdtemp()))


def _overrides(side: Side) -> list[str]:
    return [
        f"data.root={side.photos}",
        f"data.train.0.annotations={side.annotations}",
        f"data.train.0.repeats={side.repeats:g}",
        f"data.workers={side.workers}",
        f"data.cache_gb={'null' if side.cache_gb is None else side.cache_gb}",
        f"data.reduce={str(side.reduce).lower()}",
        f"train.batch_size={side.batch}",
        f"train.precision={side.precision}",
    ]


def _fastpose_loader(side: Side, turns: Turns) -> NoReturn:
    """The loader of `fastpose train ENTRY` by itself."""
    import torch

    from fastpose.data.loader import Loader
    from fastpose.models import create_model
    from fastpose.ops import heatmap_encode
    from fastpose.train.memory import keep_memory
    from fastpose.train.recipe import load_recipe
    from fastpose.train.sources import build_data

    keep_memory()  # as train() does
    recipe = load_recipe(side.entry, _overrides(side))
    spec = create_model(side.entry).spec
    codec = spec.codec
    loader = Loader(
        build_data(recipe, spec, lambda _: None),
        spec,
        batch_size=side.batch,
        augmentation=recipe.augment,
        workers=side.workers,
        reduce=side.reduce,
    )
    assert codec.heatmap_size is not None
    out = torch.empty((side.batch, spec.num_keypoints, *codec.heatmap_size))
    turns.begin(len(loader) if side.warm < 0 else side.warm)
    epoch = 0
    while True:
        for batch in loader.epoch(epoch):
            if side.targets:
                heatmap_encode(batch.keypoints, batch.weights, codec, spec.input_size, out=out)
            turns.step()
        epoch += 1


def _mmpose_config(side: Side) -> Any:
    """MMPose's own configuration of the entry, on the given people, without validation and checkpoints."""
    from fastpose.models import find_entry

    from .peers import mmpose

    entry = find_entry(side.entry)
    assert entry is not None
    folder = Path(str(mmpose("mmpose").__path__[0])) / ".mim" / "configs"
    (path,) = folder.glob(f"body_2d_keypoint/*/*/{entry.alias}.py")
    os.chdir(folder.parent)  # some name their meta information by a relative path
    config = mmpose("mmengine.config").Config.fromfile(path)
    config.model.backbone.init_cfg = None
    config.work_dir = tempfile.mkdtemp()
    config.default_scope = "mmpose"
    config.default_hooks.checkpoint = None
    for part in ("val", "test"):
        for kind in ("cfg", "dataloader", "evaluator"):
            config[f"{part}_{kind}"] = None
    config.train_dataloader.update(batch_size=side.batch, num_workers=side.workers, persistent_workers=side.workers > 0)
    config.train_dataloader.dataset.update(data_root=side.photos, ann_file=side.annotations, data_prefix={"img": ""})
    assert tuple(step["type"] for step in config.train_dataloader.dataset.pipeline) == PIPELINE
    return config


def _mmpose(side: Side, turns: Turns) -> None:
    """MMEngine's Runner, with a hook as the counter."""
    from .peers import mmpose

    config = _mmpose_config(side)
    runner = mmpose("mmengine.runner").Runner.from_cfg(config)
    turns.begin(side.warm)

    class Counter(mmpose("mmengine.hooks").Hook):  # type: ignore[misc]
        def after_train_iter(self, *arguments: Any, **more: Any) -> None:
            turns.step()

    runner.register_hook(Counter(), priority="LOWEST")
    runner.train()


def _mmpose_loader(side: Side, turns: Turns) -> NoReturn:
    """The data loader that the Runner would build."""
    from .peers import mmpose

    config = _mmpose_config(side)
    config.train_dataloader.sampler = {"type": "DefaultSampler", "shuffle": True}
    mmpose("mmengine.registry").init_default_scope("mmpose")
    loader = mmpose("mmengine.runner").Runner.build_dataloader(config.train_dataloader, seed=0)
    prepare = mmpose("mmpose.registry").MODELS.build(config.model.data_preprocessor)
    turns.begin(len(loader) if side.warm < 0 else side.warm)
    while True:
        for batch in loader:
            if side.normalised:
                prepare(batch, training=True)
            turns.step()


if __name__ == "__main__":
    main()
