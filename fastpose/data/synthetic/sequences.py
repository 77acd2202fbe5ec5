"""Rendered sequences: people with known joints and identities who walk, cross, stop, leave and return.

As a scene, a sequence is a function of its numbers: the truth costs no picture, and each frame's picture is rendered
from its virtual path, ``synthetic:sequence:LEVEL:SEED:HEIGHTxWIDTH:FPS:FRAME``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..records import PoseRecords
from .figures import Figure
from .scenes import Scene, check_scene, draw_light, find_truth, make_records
from .walking import Stage, Step, plan_walk, stride, walk

__all__ = ["LEVELS", "frame_scene", "synthetic_sequence"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Level:
    """How hard a sequence is.

    Attributes:
        people: Least and most.
        manners: What they do, in turn: cross, stop, return or wander.
        tall: Least and most px of a person in shares of the picture's height: the closer, the more alike they look.
    """

    people: tuple[int, int]
    manners: tuple[str, ...]
    tall: tuple[float, float]


LEVELS = {
    "simple": Level((2, 4), ("cross", "return", "stop", "cross"), (0.35, 0.75)),
    "medium": Level((5, 7), ("cross", "stop", "return", "wander", "cross"), (0.4, 0.65)),
    "hard": Level((9, 12), ("stop", "wander", "cross", "return", "wander"), (0.42, 0.58)),
}


def synthetic_sequence(
    level: str = "simple", seed: int = 0, frames: int = 150, size: tuple[int, int] = (360, 640), fps: float = 25.0
) -> PoseRecords:
    """The truth of a sequence, whose pictures `paint_scene` renders from their virtual paths.

    Args:
        level: ``simple``: two to four people, some far and some near, who cross, rest, leave and return. ``medium``:
            up to seven, more alike in size, and some wander about. ``hard``: up to twelve, hiding behind one another.
        seed: The same numbers give the same sequence; more frames go on with it.
        frames: How many.
        size: (height, width) px.
        fps: Frames a second.

    Returns:
        Records of whom a frame shows, its nearest last: `image_ids` are 1 + frame, `track_ids` say who is who from 0
        on, also after an absence; `visible` is 2 where a joint is seen, 1 where something covers it, 0 (and keypoint
        0, 0) outside the picture. Who is wholly outside is not there.

    Raises:
        ValueError: An argument is out of range.
    """
    if frames < 0:
        raise ValueError(f"frames: expected 0 or more, got {frames}")
    scenes = _lay_out(level, seed, size, fps, frames)
    shown, identities = [], []
    for scene, people in scenes:
        truth = find_truth(scene)
        inside = [person["visible"].any() and bool(np.all(person["box"][2:] > person["box"][:2])) for person in truth]
        shown.append([person for person, seen in zip(truth, inside, strict=True) if seen])
        identities += [who for who, seen in zip(people, inside, strict=True) if seen]
    name = f"synthetic:sequence:{level}:{seed}:{size[0]}x{size[1]}:{fps:g}"
    paths = [Path(f"{name}:{frame}") for frame in range(frames)]
    records = make_records(paths, shown, size, f"synthetic_sequence({level!r}, {seed})")
    return replace(records, track_ids=np.array(identities, np.int64))


def frame_scene(name: str) -> tuple[Scene, int]:
    """What a frame shows, LEVEL:SEED:HEIGHTxWIDTH:FPS:FRAME, and the seed of its backdrop.

    Raises:
        ValueError: The path is malformed, or a number in it is out of range.
    """
    level, number, sides, fps, frame = name.split(":")
    height, width = sides.split("x")
    seed, index = int(number), int(frame)
    if index < 0:
        raise ValueError(f"frame: expected 0 or more, got {index}")
    scene, _ = _lay_out(level, seed, (int(height), int(width)), float(fps), index + 1, start=index)[0]
    return scene, seed


def _lay_out(
    level: str, seed: int, size: tuple[int, int], fps: float, frames: int, start: int = 0
) -> list[tuple[Scene, list[int]]]:
    """The scene of each frame from `start` on, and who its figures are."""
    if level not in LEVELS:
        raise ValueError(f"level: expected one of {', '.join(LEVELS)}, got {level!r}")
    if not 0.1 <= fps <= 1000:
        raise ValueError(f"fps: expected 0.1 to 1000, got {fps!r}")
    check_scene(seed, size)
    kind = LEVELS[level]
    rng = np.random.Generator(np.random.PCG64([seed, 2, list(LEVELS).index(level)]))
    stage = Stage(size, size[0] * float(rng.uniform(0.3, 0.38)))
    light = draw_light(rng)
    backdrop = "park" if rng.uniform() < 0.6 else "hall"
    people, count = [], int(rng.integers(kind.people[0], kind.people[1] + 1))
    for number, lane in enumerate(rng.permutation(count)):  # nobody walks through anybody
        tall = size[0] * float(kind.tall[0] + (kind.tall[1] - kind.tall[0]) * (lane + rng.uniform(0.2, 0.8)) / count)
        stops = plan_walk(rng, stage, kind.manners[number % len(kind.manners)], tall)
        speed, phase = float(rng.uniform(0.55, 1.0)), float(rng.uniform(0, 6.28))
        people.append(walk(stops, speed, phase, frames, fps))
    looks = [int(number) for number in rng.integers(2**32, size=len(people))]
    scenes = []
    for frame in range(start, frames):
        order = sorted(range(len(people)), key=lambda who: -people[who][frame].place[1])  # the farthest first
        figures = [_place(people[who][frame], looks[who], stage) for who in order]
        scenes.append((Scene(size, figures, [], backdrop, stage.horizon, light, True, 0.25), order))
    return scenes


def _place(step: Step, look: int, stage: Stage) -> Any:
    # The same generator at every step: the same person, whose pose alone is another.
    figure = Figure(np.random.Generator(np.random.PCG64(look)), stride(step), step.yaw, 0.0, 6.0)
    tall, (x, y) = stage.tall(step.place), stage.ground(step.place)
    return figure.place(tall, np.array([x, y - figure.extent()[3] * tall]))
