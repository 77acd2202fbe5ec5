"""Rendered scenes: articulated people with known joints in front of a background, a function of the seed alone.

A scene is laid out first (who stands where, in which pose) and painted only if its picture is asked for. So the truth
of thousands of scenes costs little, and a picture can be rendered again from its virtual path, whenever a loader wants
it: ``synthetic:SEED:HEIGHTxWIDTH:PEOPLE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...skeletons import COCO17
from ..image_headers import MAX_PIXELS
from ..records import PathTable, PoseRecords
from .backdrops import finish, paint_backdrop
from .figures import POSES, Figure, PlacedFigure
from .shapes import Canvas, pick_colour

__all__ = [
    "Scene",
    "check_scene",
    "draw_light",
    "find_truth",
    "lay_out",
    "make_records",
    "paint",
    "render_scene",
    "synthetic_records",
]

Array = npt.NDArray[Any]

_MOST_PEOPLE = 1000
# In a scene with a ground people stand on it; alone, they may sit or fly.
_ON_THE_GROUND = tuple(name for name in POSES if name not in ("sit", "free", "jump", "bend"))


@dataclass(frozen=True)
class Scene:
    """What a picture shows."""

    size: tuple[int, int]
    figures: list[PlacedFigure]  # the farthest first
    occluders: list[tuple[Array, Array]]  # polygon [P, 2] px and colour
    backdrop: str
    horizon: float
    light: Array
    shadows: bool
    strength: float


def render_scene(
    seed: int, size: tuple[int, int] = (256, 256), people: int = 1
) -> tuple[npt.NDArray[np.uint8], PoseRecords]:
    """Render people whose joints are known.

    One person fills most of the picture, in any pose, sometimes upside down, cut off or partly covered; several people
    stand upright on a ground, nearer ones larger.

    Args:
        seed: Any non-negative number; the same seed, size and number of people give the same scene.
        size: (height, width) px, each at least 16.
        people: How many, 1 to 1000.

    Returns:
        The picture, uint8 [h, w, 3] BGR, and its truth: one `PoseRecord` a person, the farthest first, COCO17 skeleton,
        visible 2 where the joint is seen, 1 where something covers it, 0 (and keypoint 0, 0) outside the picture.

    Raises:
        ValueError: An argument is out of range.
    """
    scene = lay_out(seed, size, people)
    return paint(scene, seed), make_records(
        [_virtual_path(seed, size, people)], [find_truth(scene)], size, f"render_scene({seed})"
    )


def synthetic_records(count: int, seed: int = 0, size: tuple[int, int] = (256, 256), people: int = 1) -> PoseRecords:
    """The truth of many scenes, whose pictures `paint_scene` renders from their virtual paths.

    Args:
        count: Number of scenes, seeded `seed`, `seed` + 1, ….
        seed: Of the first scene.
        size: (height, width) px of each.
        people: In each.

    Returns:
        Records of count · people people on count pictures.

    Raises:
        ValueError: An argument is out of range.
    """
    if count < 0:
        raise ValueError(f"count: expected 0 or more, got {count}")
    seeds = range(seed, seed + count)
    paths = [_virtual_path(number, size, people) for number in seeds]
    truths = [find_truth(lay_out(number, size, people)) for number in seeds]
    return make_records(paths, truths, size, f"synthetic_records({count}, {seed})")


def _virtual_path(seed: int, size: tuple[int, int], people: int) -> Path:
    return Path(f"synthetic:{seed}:{size[0]}x{size[1]}:{people}")


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, stream]))


def check_scene(seed: int, size: tuple[int, int]) -> None:
    """Refuse a seed below 0 and a size that is too small or too large.

    Raises:
        ValueError: It is one.
    """
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    if min(size) < 16:
        raise ValueError(f"size: expected a height and width of at least 16, got {tuple(size)}")
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"size: expected at most {MAX_PIXELS} pixels in all, got {tuple(size)}")


def draw_light(rng: np.random.Generator) -> Array:
    """[3] unit vector towards a light above and before the people."""
    direction = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.9, -0.3), -rng.uniform(0.5, 1.0)])
    return np.asarray(direction / np.linalg.norm(direction))


def lay_out(seed: int, size: tuple[int, int], people: int) -> Scene:
    """Who stands where, in which pose.

    Raises:
        ValueError: An argument is out of range.
    """
    check_scene(seed, size)
    if not 1 <= people <= _MOST_PEOPLE:
        raise ValueError(f"people: expected 1 to {_MOST_PEOPLE}, got {people}")
    rng = _generator(seed, 0)
    light = draw_light(rng)
    if people > 1:
        return _group(rng, size, people, light)
    return _portrait(rng, size, light)


def _portrait(rng: np.random.Generator, size: tuple[int, int], light: Array) -> Scene:
    height, width = size
    tumbling = rng.uniform() < 0.25
    names = list(POSES)
    pose = names[int(rng.integers(len(names)))]
    roll = rng.uniform(-180, 180) if tumbling else rng.normal(0, 9)
    yaw = rng.normal(0, 50) if rng.uniform() < 0.6 else rng.uniform(-180, 180)
    figure = Figure(rng, pose, yaw, roll, rng.uniform(-12, 25))
    extent = figure.extent()
    span = extent[2:] - extent[:2]
    fill = rng.uniform(0.55, 0.95) if rng.uniform() < 0.88 else rng.uniform(1.0, 1.35)  # the latter is cut off
    scale = fill * min(width / span[0], height / span[1])
    free = np.array([width, height]) - span * scale
    corner = free * rng.uniform(0.15, 0.85, 2)
    placed = figure.place(scale, corner - extent[:2] * scale)
    occluders = []
    if rng.uniform() < 0.2:
        centre = placed.keypoints[int(rng.integers(5, 17)), :2] + rng.normal(0, 0.06, 2) * scale
        sides = rng.uniform(0.05, 0.35, 2) * scale
        corners = cv2.boxPoints(((*centre.tolist(),), (*sides.tolist(),), float(rng.uniform(0, 90))))
        occluders.append((corners, pick_colour(rng)))
    kinds = ("park", "hall", "clutter", "clouds")
    kind = kinds[int(rng.choice(4, p=[0.25, 0.25, 0.35, 0.15]))]
    shadows = kind in ("park", "hall") and not tumbling and pose in _ON_THE_GROUND
    feet = float(placed.feet[:, 1].max())
    horizon = min(feet - rng.uniform(0.1, 0.6) * scale, height * 0.9) if shadows else rng.uniform(0.2, 0.9) * height
    return Scene(size, [placed], occluders, kind, float(horizon), light, shadows, float(rng.uniform(0.2, 1.0)))


def _group(rng: np.random.Generator, size: tuple[int, int], people: int, light: Array) -> Scene:
    height, width = size
    horizon = height * rng.uniform(0.3, 0.42)
    # Everybody has a slot, so that people overlap at most a little; whose slot is nearer is drawn.
    slot = width / (people + 0.3)
    centres = (np.arange(people) + 0.65) * slot + rng.uniform(-0.1, 0.1, people) * slot
    tallest = min(height * 0.78, slot * 2.3)
    tall = tallest * rng.uniform(0.72, 1.0, people)
    ground = np.minimum(horizon + (height * 0.95 - horizon) * (tall / (height * 0.78)), height * 0.96)
    poses = rng.choice(len(_ON_THE_GROUND), people, replace=people > len(_ON_THE_GROUND))
    figures = []
    for i in np.argsort(ground, kind="stable"):
        yaw = rng.normal(0, 45) if rng.uniform() < 0.75 else rng.uniform(100, 260)
        figure = Figure(rng, _ON_THE_GROUND[poses[i]], yaw, rng.normal(0, 1.5), 6.0)
        extent = figure.extent()
        scale = min(tall[i], height * 0.9 / (extent[3] - extent[1]), 1.5 * slot / (extent[2] - extent[0]))
        middle = (extent[0] + extent[2]) / 2
        figures.append(figure.place(scale, np.array([centres[i] - middle * scale, ground[i] - extent[3] * scale])))
    kind = "park" if rng.uniform() < 0.6 else "hall"
    return Scene(size, figures, [], kind, float(horizon), light, True, 0.25)


def paint(scene: Scene, seed: int) -> npt.NDArray[np.uint8]:
    """The picture, uint8 [h, w, 3] BGR; the seed is the backdrop's."""
    rng = _generator(seed, 1)
    height, width = scene.size
    pixels = paint_backdrop(rng, scene.backdrop, scene.size, scene.horizon)
    canvas = Canvas(pixels, np.zeros(scene.size, np.float32), scene.light, float(rng.uniform(0.45, 0.65)))
    if scene.shadows:
        for figure in scene.figures:
            _ground_shadow(canvas, figure)
    for figure in scene.figures:
        canvas.person[:] = 0
        for part in figure.parts:
            part.paint(canvas)
    for polygon, colour in scene.occluders:
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, np.round(polygon * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        weight = mask[..., None].astype(np.float32) / 255
        pixels += weight * (colour.astype(np.float32) - pixels)
    return finish(rng, pixels, scene.strength)


def _ground_shadow(canvas: Canvas, figure: PlacedFigure) -> None:
    """Dark under each foot, fainter between them."""
    lowest = float(figure.feet[:, 1].max())
    spots = [((figure.feet[:, 0].mean(), lowest), 0.24, 0.05, 0.35)]
    for x, y in figure.feet:
        raised = (lowest - y) / figure.height  # up to a little: a foot that is farther away
        spots.append(((x, y if raised < 0.08 else lowest), 0.07, 0.022, max(0.0, 0.5 - raised)))
    for centre, wide, high, depth in spots:
        at = np.array(centre) + np.array([0.0, 0.03 * figure.height])
        reach = np.array([wide, high]) * figure.height * 2.2
        found = canvas.region(at - reach, at + reach)
        if found is None:
            continue
        rows, columns, xs, ys = found
        square = ((xs - float(at[0])) / (wide * figure.height)) ** 2 + (
            (ys - float(at[1])) / (high * figure.height)
        ) ** 2
        canvas.pixels[rows, columns] *= (1.0 - depth * np.exp(-1.2 * square))[..., None]


def find_truth(scene: Scene) -> list[dict[str, Array]]:
    """What `make_records` asks for, one dictionary a person."""
    height, width = scene.size
    owner = np.zeros((height, width), np.uint8)
    people = []
    for number, figure in enumerate(scene.figures, 1):
        for part in figure.parts:
            for polygon in part.outline():
                cv2.fillConvexPoly(owner, np.round(polygon * 16).astype(np.int32), number % 255 + 1, cv2.LINE_8, 4)
        points = figure.keypoints[:, :2]
        seen = figure.seen()
        for nearer in scene.figures[number:]:
            for part in nearer.parts:
                seen &= ~part.covers(points)
        for polygon, _ in scene.occluders:
            inside = [cv2.pointPolygonTest(polygon, (float(x), float(y)), False) >= 0 for x, y in points]
            seen &= ~np.array(inside)
        # A pixel reaches half a pixel to each side of its centre.
        within = np.all((points >= -0.5) & (points <= np.array([width, height]) - 0.5), axis=1)
        visible = np.where(within, np.where(seen, 2, 1), 0).astype(np.uint8)
        box = figure.box()
        clipped = np.concatenate([np.maximum(box[:2], 0), np.minimum(box[2:], (width - 1, height - 1))])
        people.append({"keypoints": np.where(within[:, None], points, 0), "visible": visible, "box": clipped})
    for polygon, _ in scene.occluders:
        cv2.fillConvexPoly(owner, np.round(polygon * 16).astype(np.int32), 0, cv2.LINE_8, 4)
    for number, person in enumerate(people, 1):
        person["area"] = np.array((owner == number % 255 + 1).sum())
    return people


def make_records(
    paths: list[Path], truths: list[list[dict[str, Array]]], size: tuple[int, int], source: str
) -> PoseRecords:
    """The records of pictures, from what `find_truth` says of each."""
    everybody = [person for truth in truths for person in truth]
    joints = COCO17.num_keypoints
    return PoseRecords(
        skeleton=COCO17,
        image_paths=PathTable(paths),
        image_ids=np.arange(1, len(paths) + 1),
        image_sizes=np.tile(np.array(size, np.int32), (len(paths), 1)),
        image_index=np.repeat(np.arange(len(paths)), [len(truth) for truth in truths]),
        boxes=np.array([person["box"] for person in everybody]).reshape(-1, 4),
        keypoints=np.array([person["keypoints"] for person in everybody]).reshape(-1, joints, 2),
        visible=np.array([person["visible"] for person in everybody]).reshape(-1, joints),
        areas=np.array([person["area"] for person in everybody]).reshape(-1),
        ids=np.arange(1, len(everybody) + 1),
        scores=np.ones(len(everybody), np.float32),
        ignore=np.zeros(len(everybody), bool),
        source=source,
    )
