"""`python -m benchmarks.training`: images per second of training beside MMPose's, on the same photos in the same run.

Every contender is a process of its own (`training_side.py`) that does steps in turns, in fresh random order in every
round, and is stopped (SIGSTOP) while it is not its turn: what loaders make ahead is made in their own time. All have
the same cores and the same number of threads. A ratio is the median over the rounds, with quartiles, of seconds per
image of the one it is compared with over the contender's; once by the clock on the wall, once by the CPU time of the
process, which other programs disturb less (workers of MMPose that are processes are not in it).

- **training**: MMEngine's Runner with MMPose's own configuration of the entry, against `fastpose train ENTRY`: both
  with everything that a step has (loader, optimizer, log), without validation. MMPose in float32 (MMEngine's
  AmpOptimWrapper refuses to run on a CPU); FastPose in float32, and as by default (`train.precision=auto`).
- **loader**: MMPose's pipeline of the entry in the DataLoader that the Runner builds, against FastPose's loader, on one
  core. FastPose's crops are normalised, and its heatmaps are made by the loss; rows name what differs.
- **hidden**: FastPose's training step with its loader, against the step on one batch that lies in memory.

`--photos` and `--annotations` name a data set in COCO's format with COCO's 17 keypoints; with `--repeat N` one in any
format that FastPose reads, every photo entered N times under names of its own (for a few large photos). MMPose has to
be importable (see FASTPOSE_PEERS in the README).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastpose.data.labels import match_keypoints
from fastpose.data.readers import read_annotations
from fastpose.data.writer import write_coco
from fastpose.skeletons import COCO17

from .harness import quartiles
from .report import FOLDER, device, machine, rewrite_readme
from .training_side import Side

NETWORKS = ("resnet50.coco_256x192", "litehrnet18.coco_256x192")
MARKS = "<!-- training: begin (written by `python -m benchmarks.training`) -->", "<!-- training: end -->"
GOALS = {"training": 3.0, "loader": 5.0, "hidden": 1 / 1.1}


@dataclass(frozen=True)
class Case:
    """Contenders that take turns.

    Attributes:
        kind: training, loader or hidden.
        title: What is measured.
        sides: Each contender; the first one is what the others are compared with.
        judged: The contender that the goal is for.
    """

    kind: str
    title: str
    sides: dict[str, Side]
    judged: str


class Contender:
    """A process that is stopped while it is not its turn.

    Args:
        side: What it does.
        errors: What it prints.

    Raises:
        RuntimeError: It ended; the message has the last lines that it printed.
    """

    def __init__(self, side: Side, errors: IO[bytes]) -> None:
        self._errors = errors
        environment = os.environ | {"OMP_NUM_THREADS": str(side.threads)}
        self._process = subprocess.Popen(
            side.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=FOLDER.parent,
            start_new_session=True,
        )
        self._answer()

    def turn(self, steps: int) -> dict[str, float]:
        """Do so many steps: seconds of each, by the clock on the wall and of CPU time."""
        os.killpg(self._process.pid, signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return {clock: seconds / steps for clock, seconds in self._answer().items()}

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-8:]
            raise RuntimeError("a side ended: " + "\n".join(last))
        os.killpg(self._process.pid, signal.SIGSTOP)
        answer: dict[str, float] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let it go."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="*", help="run the cases whose kind and title contain all of these words")
    parser.add_argument("--photos", type=Path, required=True, help="folder that the file names are relative to")
    parser.add_argument("--annotations", required=True, help="annotation file, relative to that folder")
    parser.add_argument("--repeat", type=int, help="enter every photo so many times")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="zoo entries (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="crops in a step of training (default: %(default)d)")
    parser.add_argument("--loader-batch", type=int, default=32, help="crops of a loader's batch (default: %(default)d)")
    parser.add_argument("--threads", type=int, default=1, help="and cores, of each contender (default: %(default)d)")
    parser.add_argument("--workers", type=int, default=0, help="MMPose's loader processes (default: %(default)d)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)d)")
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a turn (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="of the order (default: %(default)d)")
    parser.add_argument("--name", default="training", help="of the results: results/DEVICE-NAME.json")
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no stopped process is left behind
    with tempfile.TemporaryDirectory() as folder:
        if options.repeat:
            options.photos, options.annotations = _entered_again(options, Path(folder)), "people.json"
        return _run(parser, options)


def _entered_again(options: argparse.Namespace, folder: Path) -> Path:
    """The people as COCO-17 in ``folder/people.json``, every photo and everybody on it ``options.repeat`` times."""
    records = read_annotations(options.photos / options.annotations, options.photos)
    points, visible = match_keypoints(records.keypoints, records.visible, records.skeleton, COCO17)
    kept = replace(records, skeleton=COCO17, keypoints=points, visible=visible.astype(np.uint8), annotated=visible > 0)
    write_coco(kept, folder / "people.json")
    content = json.loads((folder / "people.json").read_text())
    photos, people = content["images"], content["annotations"]
    content["images"], content["annotations"] = [], []
    content["categories"][0]["name"] = "person"  # MMPose reads only those
    ids = {photo["id"]: number for number, photo in enumerate(photos)}
    for time in range(options.repeat):
        first, first_person = time * len(photos), time * len(people)
        for number, photo in enumerate(photos):
            name = f"{first + number:06}{Path(photo['file_name']).suffix}"
            (folder / name).symlink_to(photo["file_name"])
            content["images"].append(photo | {"id": first + number, "file_name": name})
        for number, person in enumerate(people):
            whose = {"id": first_person + number, "image_id": first + ids[person["image_id"]]}
            content["annotations"].append(person | whose)
    (folder / "people.json").write_text(json.dumps(content))
    return folder


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    cases = [case for case in _cases(options) if all(word in f"{case.kind} {case.title}" for word in options.only)]
    if not cases:
        parser.error("no case has such a name")
    load, order = os.getloadavg(), random.Random(options.seed)
    results = []
    for case in cases:
        results.append(_measure(case, options, order))
        print(_table(results[-1:]), flush=True)
    words = [Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:]]
    about = machine(load) | {"command": " ".join(["python -m benchmarks.training", *words])}
    if not options.dry:
        path = FOLDER / "results" / f"{device()}-{options.name}.json"
        path.write_text(json.dumps({"machine": about, "results": results}, indent=1, ensure_ascii=False) + "\n")
        if options.name == "training":
            rewrite_readme(_describe(about) + "\n\n" + _table(results) + "\n", MARKS)
        print(f"written: {path}", file=sys.stderr)
    return 0


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    common = {
        "annotations": options.annotations,
        "photos": f"{options.photos.resolve()}/",
        "threads": options.threads,
    }
    for entry in options.networks:
        theirs = Side("mmpose", entry, batch=options.batch, workers=options.workers, **common)
        ours = Side("fastpose", entry, batch=options.batch, workers=2, **common)
        default = replace(ours, precision="auto")
        yield Case(
            "training",
            f"{entry}, batch {options.batch}",
            {
                "mmpose, float32": theirs,
                "fastpose, float32": ours,
                "fastpose, by default": default,
            },
            "fastpose, by default",
        )
        yield Case(
            "hidden",
            f"{entry}, batch {options.batch}",
            {"one batch in memory": replace(default, resident=True), "loader": default},
            "loader",
        )
    theirs = Side("mmpose loader", options.networks[0], batch=options.loader_batch, workers=0, **common)
    theirs = replace(theirs, threads=1)
    ours = replace(theirs, kind="fastpose loader", workers=2, warm=-1)
    unkept = replace(ours, cache_gb=0.0, warm=2)
    yield Case(
        "loader",
        f"batch {options.loader_batch}",
        {
            "mmpose": theirs,
            "mmpose, normalised": replace(theirs, normalised=True),
            "fastpose": ours,
            "fastpose, with heatmaps": replace(ours, targets=True),
            "fastpose, decoding": unkept,
            "fastpose, decoding, with heatmaps": replace(unkept, targets=True),
            "fastpose, decoding, data.reduce": replace(unkept, reduce=True),
        },
        "fastpose",
    )


def _measure(case: Case, options: argparse.Namespace, order: random.Random) -> dict[str, Any]:
    """Seconds per image of every contender in every round."""
    contenders: dict[str, Contender] = {}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in case.sides}
    with contextlib.ExitStack() as stack:
        for name, side in case.sides.items():
            contenders[name] = Contender(side, stack.enter_context(tempfile.TemporaryFile()))
            stack.callback(contenders[name].end)
            print(f"{case.kind} {case.title}: {name} is ready", file=sys.stderr, flush=True)
        tried = 20 if case.kind == "loader" else 1  # a loader has a few batches ready at first
        steps = {name: max(tried, round(options.turn / c.turn(tried)["wall"])) for name, c in contenders.items()}
        for _ in range(options.rounds):
            for name in order.sample(list(contenders), len(contenders)):
                step = contenders[name].turn(steps[name])
                seconds[name].append({clock: value / case.sides[name].batch for clock, value in step.items()})
    first = next(iter(case.sides))
    return {
        "kind": case.kind,
        "case": case.title,
        "threads": case.sides[first].threads,
        "against": first,
        "judged": case.judged,
        "goal": GOALS[case.kind],
        "contenders": {
            name: {
                "steps_in_a_turn": steps[name],
                "ms_per_image": {clock: _spread([1e3 * s[clock] for s in own]) for clock in ("wall", "cpu")},
                "ratio": {
                    clock: _spread([a[clock] / b[clock] for a, b in zip(seconds[first], own, strict=True)])
                    for clock in ("wall", "cpu")
                },
            }
            for name, own in seconds.items()
        },
    }


def _spread(values: list[float]) -> list[float]:
    return [round(value, 4) for value in quartiles(values)]


def _describe(about: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    load = about["load_average"]
    return (
        f"{about['processor']}, {about['cores']} cores, {about['simd']}; commit {about['commit']}; {packages}. "
        f"Load average {load['before']} before the run, {load['after']} after it. `{about['command']}`"
    )


def _table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| what | contender | images/s | ratio, wall [quartiles] | ratio, CPU time [quartiles] | goal |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for result in results:
        title = f"{result['kind']} {result['case']}, {result['threads']} thread{'s' * (result['threads'] > 1)}"
        for name, found in result["contenders"].items():
            cells = []
            for clock in ("wall", "cpu"):
                low, middle, high = found["ratio"][clock]
                bold = "**" if name == result["judged"] and middle >= result["goal"] else ""
                cells.append(f"{bold}×{middle:.2f} [{low:.2f}, {high:.2f}]{bold}")
            goal = f"×{result['goal']:.2g}" if name == result["judged"] else ""
            speed = 1e3 / found["ms_per_image"]["wall"][1]
            lines.append(f"| {title} | {name} | {speed:.4g} | {' | '.join(cells)} | {goal} |")
            title = ""
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
