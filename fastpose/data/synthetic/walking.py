"""People who walk: where they are at each time, and how their joints are bent then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures import Pose, Side

__all__ = ["Stage", "Step", "Stop", "plan_walk", "stride", "walk"]

Array = npt.NDArray[Any]

_STRIDE = 0.8  # body heights that two steps take
_SWIFTNESS = 4.0  # 1/s: how soon somebody has the speed that they want
_TURNING = 400.0  # most degrees a second
_PATIENCE = 60.0  # seconds that somebody stands who has nowhere left to go


@dataclass(frozen=True)
class Stage:
    """The ground that people walk on, seen through a pinhole.

    Places are (x, z): body heights to the right and away from the camera.

    Attributes:
        size: (height, width) px of the picture.
        horizon: Its row, px.
    """

    size: tuple[int, int]
    horizon: float

    def tall(self, place: Array) -> float:
        """Px of a body height there; the focal length is the picture's width."""
        return float(self.size[1] / place[1])

    def ground(self, place: Array) -> Array:
        """[2] px of the ground there: somebody of 0.78 of the picture's height stands near its lower edge."""
        height, width = self.size
        tall, camera = self.tall(place), (0.95 * height - self.horizon) / (0.78 * height)
        return np.array([width / 2 + place[0] * tall, self.horizon + camera * tall])

    def place(self, share: float, tall: float) -> Array:
        """Where on the ground one is a share of the picture's width from its left, and so tall in px."""
        return np.array([(share - 0.5) * self.size[1] / tall, self.size[1] / tall])


@dataclass(frozen=True)
class Stop:
    """Where somebody goes next, and how many seconds they stay there."""

    place: Array
    stay: float = 0.0


@dataclass(frozen=True)
class Step:
    """Somebody at one time.

    Attributes:
        place: [2] on the ground.
        yaw: Degrees: 0 faces the camera, 90 looks to the right of the picture.
        phase: Of their gait, radians.
        swing: How far their limbs swing: 0 stands, 1 walks.
    """

    place: Array
    yaw: float
    phase: float
    swing: float


def plan_walk(rng: np.random.Generator, stage: Stage, manner: str, tall: float) -> list[Stop]:
    """Where somebody goes, from the first place on.

    Args:
        rng: Where everything random comes from.
        stage: Where they walk.
        manner: cross (from one side out of the other), stop (the same with a rest), return (out of the picture and
            back) or wander (from place to place).
        tall: Px of their height at the beginning.
    """
    height = stage.size[0]
    outside = 0.3 * tall / stage.size[1]  # the whole body, as a share of the width
    start, end = (-outside, 1 + outside) if rng.uniform() < 0.5 else (1 + outside, -outside)
    if manner == "wander":
        lows, highs = np.array([0.1, 0.8 * tall]), np.array([0.9, min(1.25 * tall, 0.8 * height)])
        return [Stop(stage.place(*rng.uniform(lows, highs)), float(rng.uniform(0, 1.5))) for _ in range(6)]
    begin = start + (end - start) * rng.uniform(0.0, 0.4)  # somewhere on their way
    if manner == "cross":
        return [Stop(stage.place(begin, tall)), Stop(stage.place(end, tall), _PATIENCE)]
    if manner == "stop":
        between, stay = start + (end - start) * rng.uniform(0.45, 0.65), float(rng.uniform(0.8, 2.5))
        return [Stop(stage.place(x, tall), rest) for x, rest in ((begin, 0.0), (between, stay), (end, _PATIENCE))]
    if manner == "return":
        begin, stay = start + (end - start) * rng.uniform(0.3, 0.6), float(rng.uniform(0.0, 0.6))
        return [Stop(stage.place(x, tall), rest) for x, rest in ((begin, 0.0), (start, stay), (end, _PATIENCE))]
    raise ValueError(f"manner: expected cross, stop, return or wander, got {manner!r}")


def walk(stops: Sequence[Stop], speed: float, phase: float, frames: int, fps: float) -> list[Step]:
    """Somebody's steps, one a frame.

    Args:
        stops: From the first one on.
        speed: Body heights a second.
        phase: Of their gait at the beginning, radians.
        frames: How many.
        fps: Frames a second.
    """
    place, velocity = stops[0].place.astype(float), np.zeros(2)
    goal, rest = 1, stops[0].stay
    yaw = _yaw(stops[1].place - place) if len(stops) > 1 else 0.0
    if rest == 0:
        velocity = _towards(stops[1].place - place) * speed
    substeps = max(1, math.ceil(60 / fps))
    elapsed = 1 / fps / substeps
    steps = []
    for _ in range(frames):
        pace = float(np.linalg.norm(velocity))
        steps.append(Step(place.copy(), yaw, phase, min(pace / 0.8, 1.2)))
        for _ in range(substeps):
            wish = np.zeros(2)
            if rest > 0:
                rest -= elapsed
            elif goal < len(stops):
                way = stops[goal].place - place
                wish = _towards(way) * speed
                if np.linalg.norm(way) < speed / _SWIFTNESS:  # so near that slowing down leads there
                    goal, rest = goal + 1, stops[goal].stay
            velocity += (wish - velocity) * (1 - math.exp(-_SWIFTNESS * elapsed))
            place += velocity * elapsed
            pace = float(np.linalg.norm(velocity))
            phase += 2 * math.pi * pace * elapsed / _STRIDE
            if pace > 0.1:
                turn = (_yaw(velocity) - yaw + 180) % 360 - 180
                yaw += float(np.clip(turn, -_TURNING * elapsed, _TURNING * elapsed))
    return steps


def stride(step: Step) -> Pose:
    """The angles of the joints at a step, as a pose that leaves nothing to chance."""
    one, other = (_side(step.phase + offset, step.swing) for offset in (0.0, math.pi))
    lean, twist = 2 + 4 * step.swing, 8 * step.swing * math.sin(step.phase)
    return Pose(one, other, pitch=(0, 0), lean=(lean, lean), tilt=(0, 0), twist=(twist, twist))


def _side(phase: float, swing: float) -> Side:
    leg, arm = math.sin(phase), -math.sin(phase)
    thigh = swing * (4 + 24 * leg)
    knee = 5 + 48 * swing * max(0.0, math.cos(phase)) ** 2  # bent while the leg swings forward
    forward, outward = 3 + 24 * swing * arm, 8.0
    raised, toward = math.hypot(forward, outward), math.degrees(math.atan2(forward, outward))
    elbow = 14 + swing * (12 + 10 * arm)
    return Side(
        thigh=(thigh, thigh),
        spread=(4, 4),
        knee=(knee, knee),
        arm=(raised, raised),
        toward=(toward, toward),
        elbow=(elbow, elbow),
    )


def _towards(way: Array) -> Array:
    return np.asarray(way / max(float(np.linalg.norm(way)), 1e-6))


def _yaw(direction: Array) -> float:
    return math.degrees(math.atan2(direction[0], -direction[1]))
