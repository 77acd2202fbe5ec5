"""Articulated people for rendered scenes: joint angles from ranges, joint positions from angles, shapes from both.

Body frame: (left, up, forward). Camera frame: x to the right, y down, z away from the camera. Lengths are in body
heights until `Figure.place` turns them into pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...skeletons import COCO17
from .shapes import Cloth, Head, Limb, Part, Trunk, pick_colour

__all__ = ["POSES", "Figure", "PlacedFigure", "Pose", "Side"]

Array = npt.NDArray[Any]
Range = tuple[float, float]


@dataclass(frozen=True)
class Side:
    """Ranges of one side's joint angles, in degrees.

    Attributes:
        thigh: forward of straight down.
        spread: thigh outward.
        knee: bend of the knee.
        arm: upper arm away from straight down.
        toward: where to, 0 outward, 90 forward, negative backward.
        elbow: bend of the elbow.
        bend: where the forearm turns to (outward, up, forward).
    """

    thigh: Range = (-4, 6)
    spread: Range = (2, 9)
    knee: Range = (0, 10)
    arm: Range = (4, 22)
    toward: Range = (-20, 70)
    elbow: Range = (4, 45)
    bend: tuple[float, float, float] = (-0.2, 0.1, 1.0)


@dataclass(frozen=True)
class Pose:
    """Ranges of a whole body's angles, in degrees; which side is which is drawn too."""

    one: Side = Side()
    other: Side = Side()
    pitch: Range = (-3, 4)  # pelvis, forward
    lean: Range = (-4, 10)  # chest against pelvis, forward
    tilt: Range = (-6, 6)  # chest sideways
    twist: Range = (-12, 12)  # chest about the spine


_HAND_ON_HIP = Side(arm=(38, 52), toward=(-25, 0), elbow=(80, 105), bend=(-1.0, 0.0, 0.25))
_ARM_UP = Side(arm=(125, 172), toward=(-10, 60), elbow=(0, 60), bend=(-0.5, 0.6, 0.6))
_ARM_OUT = Side(arm=(75, 105), toward=(-15, 35), elbow=(0, 40), bend=(0.0, 0.4, 1.0))

POSES: dict[str, Pose] = {
    "stand": Pose(),
    "hands_on_hips": Pose(one=_HAND_ON_HIP, other=_HAND_ON_HIP),
    "one_hand_on_hip": Pose(one=_HAND_ON_HIP, tilt=(-10, 10)),
    "arms_folded": Pose(
        one=Side(arm=(15, 28), toward=(40, 75), elbow=(95, 120), bend=(-1.0, 0.1, 0.6)),
        other=Side(arm=(15, 28), toward=(40, 75), elbow=(95, 120), bend=(-1.0, 0.35, 0.6)),
    ),
    "wave": Pose(one=Side(arm=(80, 125), toward=(-10, 30), elbow=(50, 110), bend=(-0.3, 1.0, 0.2))),
    "arms_up": Pose(one=_ARM_UP, other=_ARM_UP),
    "arms_out": Pose(one=_ARM_OUT, other=_ARM_OUT, tilt=(-15, 15)),
    "reach": Pose(one=_ARM_UP, other=_ARM_OUT, tilt=(-18, 18), twist=(-25, 25)),
    "walk": Pose(
        one=Side(thigh=(15, 32), knee=(2, 18), arm=(12, 32), toward=(-100, -70), elbow=(5, 35)),
        other=Side(thigh=(-28, -10), knee=(10, 45), arm=(15, 35), toward=(70, 100), elbow=(10, 50)),
        lean=(0, 10),
    ),
    "run": Pose(
        one=Side(thigh=(35, 80), knee=(45, 105), arm=(25, 60), toward=(-100, -70), elbow=(70, 110)),
        other=Side(thigh=(-35, -12), knee=(15, 95), arm=(25, 60), toward=(70, 100), elbow=(70, 110)),
        pitch=(3, 15),
        lean=(2, 15),
        twist=(-20, 20),
    ),
    "sit": Pose(
        one=Side(thigh=(72, 98), spread=(3, 18), knee=(65, 105), arm=(20, 50), toward=(50, 95), elbow=(20, 70)),
        other=Side(thigh=(72, 98), spread=(3, 18), knee=(65, 105), arm=(20, 50), toward=(50, 95), elbow=(20, 70)),
        pitch=(-12, 5),
        lean=(0, 25),
    ),
    "squat": Pose(
        one=Side(thigh=(80, 120), spread=(8, 30), knee=(95, 135), arm=(40, 95), toward=(60, 100), elbow=(0, 60)),
        other=Side(thigh=(80, 120), spread=(8, 30), knee=(95, 135), arm=(40, 95), toward=(60, 100), elbow=(0, 60)),
        pitch=(10, 30),
        lean=(5, 30),
    ),
    "bend": Pose(
        one=Side(thigh=(25, 60), knee=(0, 45), arm=(40, 110), toward=(60, 100), elbow=(0, 50)),
        other=Side(thigh=(25, 60), knee=(0, 45), arm=(40, 110), toward=(60, 100), elbow=(0, 50)),
        pitch=(25, 55),
        lean=(10, 40),
    ),
    "lunge": Pose(
        one=Side(thigh=(55, 90), knee=(60, 100), arm=(20, 100), elbow=(0, 90)),
        other=Side(thigh=(-30, -5), knee=(10, 70), arm=(20, 100), elbow=(0, 90)),
        lean=(0, 20),
        twist=(-25, 25),
    ),
    "kick": Pose(
        one=Side(thigh=(45, 110), spread=(0, 40), knee=(0, 45), arm=(30, 90), elbow=(0, 70)),
        other=Side(thigh=(-12, 8), knee=(0, 20), arm=(30, 90), toward=(-60, 60), elbow=(0, 80)),
        pitch=(-20, 0),
        tilt=(-15, 15),
    ),
    "jump": Pose(
        one=Side(thigh=(0, 45), spread=(15, 50), knee=(0, 80), arm=(70, 165), toward=(-20, 50), elbow=(0, 60)),
        other=Side(thigh=(0, 45), spread=(15, 50), knee=(0, 80), arm=(70, 165), toward=(-20, 50), elbow=(0, 60)),
        tilt=(-20, 20),
    ),
    "free": Pose(
        one=Side((-40, 115), (-5, 55), (0, 130), (0, 170), (-90, 110), (0, 135), (-0.3, 0.3, 0.8)),
        other=Side((-40, 115), (-5, 55), (0, 130), (0, 170), (-90, 110), (0, 135), (-0.3, 0.3, 0.8)),
        pitch=(-20, 50),
        lean=(-20, 50),
        tilt=(-25, 25),
        twist=(-35, 35),
    ),
}

# Lengths of a grown-up in body heights.
_SHIN, _THIGH, _SPINE, _NECK = 0.235, 0.245, 0.285, 0.055
_UPPER_ARM, _FOREARM, _HAND, _FOOT = 0.172, 0.15, 0.07, 0.095
_HIP, _SHOULDER = 0.068, 0.112  # half widths
_HEAD = np.array([0.057, 0.077, 0.066])  # half axes: left, up, forward
_FACE = {  # directions in the head's own unit sphere
    "nose": (0.0, -0.12, 1.16),
    "left_eye": (0.36, 0.14, 0.92),
    "right_eye": (-0.36, 0.14, 0.92),
    "left_ear": (1.04, -0.05, -0.05),
    "right_ear": (-1.04, -0.05, -0.05),
}
_SKIN_BGR = np.array([(188, 214, 246), (140, 180, 228), (104, 144, 198), (66, 98, 148), (42, 60, 92)], float)
_HAIR_BGR = np.array([(20, 22, 28), (30, 44, 70), (40, 76, 118), (92, 150, 196), (120, 124, 128), (34, 62, 140)], float)


_CIRCLE = np.stack([f(np.linspace(0, 2 * math.pi, 14, endpoint=False)) for f in (np.cos, np.sin)], 1)


def _turn(axis: int, degrees: float) -> Array:
    """Rotation about body axis 0 (left: forward lean), 1 (up: to the left) or 2 (forward: sideways)."""
    s, c = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    if axis == 0:
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == 1:
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Look:
    """What a person looks like, whatever the pose."""

    skin: Array
    hair: Array
    hairline: float
    long_hair: float  # length in body heights, 0: short
    cap: Array | None
    shirt: Cloth
    trousers: Cloth
    shoes: Array
    sleeve: float  # share of upper arm and forearm together that is covered
    leg: float  # the same for thigh and shin
    girth: float
    head: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """A random one."""
        tone = rng.uniform(0, len(_SKIN_BGR) - 1)
        low = min(int(tone), len(_SKIN_BGR) - 2)
        skin = _SKIN_BGR[low] + (tone - low) * (_SKIN_BGR[low + 1] - _SKIN_BGR[low])
        hair = _HAIR_BGR[int(rng.integers(len(_HAIR_BGR)))] * rng.uniform(0.8, 1.2)
        long_hair = float(rng.uniform(0.09, 0.2)) if rng.uniform() < 0.4 else 0.0
        cap = pick_colour(rng) if rng.uniform() < 0.15 else None
        return cls(
            skin=skin,
            hair=np.minimum(hair, 255),
            hairline=float(rng.uniform(0.5, 0.75)),
            long_hair=long_hair,
            cap=cap,
            shirt=Cloth.draw(rng),
            trousers=Cloth.draw(rng, plain=0.8),
            shoes=pick_colour(rng, (0.0, 0.5), (0.1, 0.95)),
            sleeve=float(rng.choice([0.0, 0.22, 0.3, 0.5, 0.97])),
            leg=float(rng.choice([0.2, 0.35, 0.48, 0.95, 0.97])),
            girth=float(rng.uniform(0.88, 1.18)),
            head=float(rng.uniform(0.95, 1.12)),
        )


@dataclass(frozen=True)
class PlacedFigure:
    """A person in a picture.

    Attributes:
        keypoints: [17, 3] x, y and depth in px, in the order of COCO17.
        parts: shapes, the farthest first.
        height: px of a body height.
        feet: [2, 2] px, left and right ankle.
    """

    keypoints: Array
    parts: list[Part]
    height: float
    feet: Array

    def box(self) -> Array:
        """[4] float64 xyxy px around every shape."""
        points = np.concatenate([polygon for part in self.parts for polygon in part.outline()])
        return np.concatenate([points.min(0), points.max(0)]).astype(float)

    def seen(self) -> Array:
        """[17] bool: whether no other part of the same body is painted over the keypoint."""
        points = self.keypoints[:, :2]
        top = np.full(len(points), -1)
        for number, part in enumerate(self.parts):
            top[part.covers(points)] = number
        seen = np.zeros(len(points), bool)
        for k, name in enumerate(COCO17.keypoints):
            if top[k] < 0:
                seen[k] = name not in _FACE  # a limb's end on the very rim; of the face, it lies behind the head
                continue
            part = self.parts[top[k]]
            # A joint that lies well behind its own trunk or head is on the far side of it.
            slack = {Trunk: 0.035, Head: 0.0}.get(type(part), math.inf)
            seen[k] = name in part.joints and self.keypoints[k, 2] <= part.depth + part.nearer + slack * self.height
        return seen


class Figure:
    """A person in a pose, not yet anywhere.

    Args:
        rng: Where everything random comes from.
        pose: One of `POSES` by name, or one's own.
        yaw: Degrees; 0 faces the camera, 90 looks to the right of the picture, 180 turns its back.
        roll: Degrees clockwise in the plane of the picture.
        camera_pitch: Degrees that the camera looks down.
    """

    def __init__(
        self, rng: np.random.Generator, pose: str | Pose, yaw: float, roll: float = 0.0, camera_pitch: float = 0.0
    ) -> None:
        ranges = POSES[pose] if isinstance(pose, str) else pose
        self.look = Look.draw(rng)
        self.points: dict[str, Array] = {}
        sides = (ranges.one, ranges.other) if rng.uniform() < 0.5 else (ranges.other, ranges.one)
        # Columns: the body's left, up and forward, in the camera's frame.
        facing = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
        tip, turn = math.radians(camera_pitch), math.radians(roll)
        nod = np.array([[1, 0, 0], [0, math.cos(tip), -math.sin(tip)], [0, math.sin(tip), math.cos(tip)]])
        spin = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
        self.pelvis = spin @ nod @ facing @ _turn(1, yaw) @ _turn(0, rng.uniform(*ranges.pitch))
        bend = _turn(0, rng.uniform(*ranges.lean)) @ _turn(2, rng.uniform(*ranges.tilt))
        self.chest = self.pelvis @ bend @ _turn(1, rng.uniform(*ranges.twist))
        self.head = self.chest @ _turn(1, rng.normal(0, 18)) @ _turn(0, rng.normal(2, 9)) @ _turn(2, rng.normal(0, 6))
        self._bones(rng, sides)

    def _bones(self, rng: np.random.Generator, sides: tuple[Side, Side]) -> None:
        points, shoulder, hip = self.points, _SHOULDER * rng.uniform(0.92, 1.1), _HIP * rng.uniform(0.92, 1.1)
        points["pelvis"] = np.zeros(3)
        points["waist"] = self.pelvis[:, 1] * _SPINE * 0.42
        points["chest"] = points["waist"] + self.chest[:, 1] * _SPINE * 0.58
        points["neck"] = points["chest"] + self.chest[:, 1] * _NECK + self.chest[:, 2] * 0.008
        axes = _HEAD * self.look.head
        points["head"] = points["neck"] + self.head[:, 1] * axes[1] * 0.78 + self.head[:, 2] * 0.012
        for name, direction in _FACE.items():
            unit = np.asarray(direction)
            if "eye" in name:
                unit = unit / np.linalg.norm(unit)  # on the surface; nose and ears stand out from it
            points[name] = points["head"] + self.head @ (axes * unit)
        for name, sign, side in (("left", 1.0, sides[0]), ("right", -1.0, sides[1])):
            flex, spread, knee = (math.radians(rng.uniform(*r)) for r in (side.thigh, side.spread, side.knee))
            outward = sign * math.sin(spread)

            def leg(angle: float, outward: float = outward, spread: float = spread) -> Array:
                down = np.array([outward, -math.cos(spread) * math.cos(angle), math.cos(spread) * math.sin(angle)])
                return np.asarray(self.pelvis @ down)

            points[f"{name}_hip"] = self.pelvis[:, 0] * sign * hip
            points[f"{name}_knee"] = points[f"{name}_hip"] + leg(flex) * _THIGH
            points[f"{name}_ankle"] = points[f"{name}_knee"] + leg(flex - knee) * _SHIN
            foot = leg(flex - knee + math.radians(rng.uniform(62, 88)))
            points[f"{name}_heel"] = points[f"{name}_ankle"] + leg(flex - knee) * 0.022 - foot * 0.018
            points[f"{name}_toe"] = points[f"{name}_heel"] + foot * _FOOT + leg(flex - knee) * 0.008

            raised, toward, elbow = (math.radians(rng.uniform(*r)) for r in (side.arm, side.toward, side.elbow))
            flat = math.sin(raised)
            upper = np.array([sign * flat * math.cos(toward), -math.cos(raised), flat * math.sin(toward)])
            wish = np.array([sign * side.bend[0], *side.bend[1:]]) + rng.normal(0, 0.25, 3)
            wish = wish - (wish @ upper) * upper
            wish = wish / max(float(np.linalg.norm(wish)), 1e-6)
            fore = math.cos(elbow) * upper + math.sin(elbow) * wish
            lift = 0.035 * max(0.0, -math.cos(raised))  # the shoulder rises with the arm
            points[f"{name}_shoulder"] = points["chest"] + self.chest @ np.array(
                [sign * (shoulder - lift * 0.3), lift - 0.012, 0]
            )
            points[f"{name}_elbow"] = points[f"{name}_shoulder"] + self.chest @ upper * _UPPER_ARM
            points[f"{name}_wrist"] = points[f"{name}_elbow"] + self.chest @ fore * _FOREARM
            points[f"{name}_hand"] = points[f"{name}_wrist"] + self.chest @ fore * _HAND

    def extent(self) -> Array:
        """[4] float64 xyxy in body heights, around the person seen from the camera; within a few hundredths."""
        named = [*self.points.values(), self.points["head"] + self.head[:, 1] * _HEAD[1]]
        seen = _Projection(1.0, np.zeros(2)).points(np.stack(named))[:, :2]
        return np.concatenate([seen.min(0) - 0.03, seen.max(0) + 0.03])

    def place(self, height: float, origin: Array) -> PlacedFigure:
        """The person with its pelvis at `origin` [2] px, `height` px long when upright."""
        project = _Projection(height, np.asarray(origin, float))
        points = dict(zip(self.points, project.points(np.stack(list(self.points.values()))), strict=True))
        parts = [*self._trunk(project), *self._head(project, points)]
        for side in ("left", "right"):
            parts += [*self._leg(project, points, side), *self._arm(project, points, side)]
        parts.sort(key=lambda part: -part.depth)
        keypoints = np.stack([points[name] for name in COCO17.keypoints])
        feet = np.stack([points["left_ankle"][:2], points["right_ankle"][:2]])
        return PlacedFigure(keypoints, parts, height, feet)

    def _trunk(self, project: _Projection) -> list[Part]:
        girth, height = self.look.girth, project.height
        hips = float(np.linalg.norm(self.points["left_hip"])) + 0.026
        shoulders = float(np.linalg.norm(self.points["left_shoulder"] - self.points["right_shoulder"])) / 2

        def ring(at: Array, frame: Array, wide: float, deep: float) -> Array:
            return project.points(
                at + _CIRCLE[:, :1] * (wide * frame[:, 0]) + _CIRCLE[:, 1:] * (deep * girth * frame[:, 2])
            )

        up, chest, waist = self.pelvis[:, 1], self.points["chest"], self.points["waist"]
        low = [
            ring(-up * 0.045, self.pelvis, hips * 0.72, 0.05),
            ring(up * 0.0, self.pelvis, hips * girth**0.5, 0.066),
            ring(up * 0.05, self.pelvis, hips * 0.96 * girth**0.5, 0.062),
            ring(waist * 0.72, self.pelvis, 0.083 * girth, 0.055),
        ]
        high = [
            ring(waist * 0.42, self.pelvis, hips * 0.97 * girth**0.5, 0.062),
            ring(waist, (self.pelvis + self.chest) / 2, 0.083 * girth, 0.056),
            ring(waist + (chest - waist) * 0.6, self.chest, shoulders * 0.93, 0.07),
            ring(waist + (chest - waist) * 0.93, self.chest, shoulders * 1.0, 0.054),
            ring(chest + self.chest[:, 1] * 0.026, self.chest, 0.045, 0.036),
        ]
        hip_names = ("left_hip", "right_hip")
        shoulder_names = ("left_shoulder", "right_shoulder")
        return [
            Trunk(np.stack(low), self.look.trousers, hip_names, 0.0, height),
            Trunk(np.stack(high), self.look.shirt, (*shoulder_names, *hip_names), 0.004 * height, height),
        ]

    def _head(self, project: _Projection, points: dict[str, Array]) -> list[Part]:
        look, height = self.look, project.height
        scale = project.scale(self.points["head"])
        axes = _HEAD * look.head * scale
        skull = Head(
            points["head"], self.head, axes, look.skin, look.hair, look.hairline, look.cap, tuple(_FACE), 0.01 * height
        )
        neck = Limb(points["chest"], points["neck"], 0.036 * scale, 0.031 * scale, look.skin, unit=height)
        bridge = project.points(self.points["head"] + self.head @ (_HEAD * look.head * np.array([0, 0.1, 0.9])))
        nose = Limb(
            bridge, points["nose"] - 0.006 * scale * self.head[:, 2], 0.007 * scale, 0.0125 * scale, look.skin * 0.97
        )
        nose.joints = ("nose",)
        # Just before or after the skull, whichever side of it the nose is on.
        nose.nearer = (
            (0.05 if self.head[2, 2] < 0.15 else -0.05) * height + float(nose.a[2] + nose.b[2]) / 2 - skull.depth
        )
        parts: list[Part] = [neck, skull, nose]
        if look.long_hair:
            back = self.points["head"] - self.head[:, 2] * 0.026
            end = back - self.head[:, 1] * look.long_hair - self.chest[:, 2] * 0.03
            tips = (project.points(back), project.points(end))
            parts.append(Limb(*tips, 0.056 * scale, 0.04 * scale, look.hair, unit=height))
        else:
            for side in ("left", "right"):
                ear = points[f"{side}_ear"]
                tip = ear - self.head[:, 1] * 0.016 * scale
                parts.append(Limb(ear, tip, 0.014 * scale, 0.009 * scale, look.skin * 0.93, unit=height))
                parts[-1].joints = (f"{side}_ear",)
                parts[-1].nearer = 0.012 * height
        return parts

    def _limb(
        self, project: _Projection, a: str, b: str, radii: Range, bulge: float, cloth: Cloth | None, covered: float
    ) -> Limb:
        wide = 0.5 + 0.5 * self.look.girth
        first, last = self.points[a], self.points[b]
        own = tuple(name for name in (a, b) if name in COCO17.keypoints)
        return Limb(
            project.points(first),
            project.points(last),
            radii[0] * wide * project.scale(first),
            radii[1] * wide * project.scale(last),
            self.look.skin,
            cloth,
            0.0 if covered <= 0 else 2.0 if covered >= 1 else covered,  # 2: the round end too
            bulge,
            own,
            unit=project.height,
        )

    def _leg(self, project: _Projection, points: dict[str, Array], side: str) -> list[Part]:
        look, height = self.look, project.height
        share = look.leg * 2
        thigh = self._limb(project, f"{side}_hip", f"{side}_knee", (0.064, 0.042), 0.03, look.trousers, share)
        shin = self._limb(project, f"{side}_knee", f"{side}_ankle", (0.041, 0.025), 0.1, look.trousers, share - 1)
        shin.nearer = 0.002 * height
        foot = self._limb(project, f"{side}_heel", f"{side}_toe", (0.026, 0.021), 0.0, None, 0.0)
        foot.skin, foot.joints, foot.nearer = look.shoes, (f"{side}_ankle",), 0.003 * height
        return [thigh, shin, foot]

    def _arm(self, project: _Projection, points: dict[str, Array], side: str) -> list[Part]:
        look, height = self.look, project.height
        share = look.sleeve * 2
        upper = self._limb(project, f"{side}_shoulder", f"{side}_elbow", (0.038, 0.029), 0.06, look.shirt, share)
        fore = self._limb(project, f"{side}_elbow", f"{side}_wrist", (0.029, 0.02), 0.1, look.shirt, share - 1)
        hand = self._limb(project, f"{side}_wrist", f"{side}_hand", (0.021, 0.016), 0.25, None, 0.0)
        # An arm that hangs beside the body is as far away as the trunk, and in front of it to the eye.
        upper.nearer, fore.nearer, hand.nearer = (n * height for n in (0.03, 0.034, 0.036))
        return [upper, fore, hand]


class _Projection:
    """Weak perspective: what is nearer to the camera than the pelvis is a little larger."""

    def __init__(self, height: float, origin: Array) -> None:
        self.height = height
        self.origin = origin

    def scale(self, point: Array) -> float:
        """Pixels of a body height at that point."""
        return self.height / (1.0 + 0.16 * float(point[2]))

    def points(self, points: Array) -> Array:
        """[..., 3] px."""
        placed = points * (self.height / (1.0 + 0.16 * points[..., 2:]))
        placed[..., :2] += self.origin
        placed[..., 2] = points[..., 2] * self.height
        return placed
