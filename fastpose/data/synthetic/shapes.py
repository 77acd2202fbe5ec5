"""Lit shapes that rendered people are made of: round cones, hulls of cross-sections, ellipsoids with a face.

Each shape paints itself and says which points it covers, from the same geometry, so that picture and truth cannot
disagree. Camera frame in pixels: x to the right, y down, z away from the camera. Colours are BGR, 0..255.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Canvas", "Cloth", "Head", "Limb", "Part", "Trunk", "pick_colour"]

Array = npt.NDArray[Any]


def pick_colour(
    rng: np.random.Generator, saturation: tuple[float, float] = (0.15, 0.85), value: tuple[float, float] = (0.2, 0.95)
) -> Array:
    """A colour, float64 [3] BGR 0..255."""
    red, green, blue = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array([blue, green, red]) * 255.0


@dataclass
class Canvas:
    """What is painted on.

    Attributes:
        pixels: [H, W, 3] float32, BGR 0..255.
        person: [H, W] float32, how far the person that is being painted covers each pixel.
        light: [3] unit vector towards the light, camera frame.
        ambient: share of the light that comes from everywhere.
    """

    pixels: Array
    person: Array
    light: Array
    ambient: float = 0.55

    def region(self, low: Array, high: Array) -> tuple[slice, slice, Array, Array] | None:
        """Rows, columns and their coordinates [1, w], [h, 1] of the pixels between two points, None if outside."""
        height, width = self.person.shape
        x0, y0 = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
        x1, y1 = min(width, math.ceil(high[0]) + 1), min(height, math.ceil(high[1]) + 1)
        if x0 >= x1 or y0 >= y1:
            return None
        xs = np.arange(x0, x1, dtype=np.float32)[None, :]
        ys = np.arange(y0, y1, dtype=np.float32)[:, None]
        return slice(y0, y1), slice(x0, x1), xs, ys

    def blend(self, rows: slice, columns: slice, alpha: Array, colour: Array, nx: Array, ny: Array, nz: Array) -> None:
        """Put lit colour [h, w, 3] or [3] over a region; the normal points to the camera where nz is 1."""
        lx, ly, lz = (float(v) for v in self.light)
        lit = np.maximum(nx * lx + ny * ly - nz * lz, 0.0)
        shade = (self.ambient + (1.15 - self.ambient) * lit) * (0.78 + 0.22 * nz)
        target = self.pixels[rows, columns]
        target += alpha[..., None] * (np.minimum(colour * shade[..., None], 255.0) - target)
        covered = self.person[rows, columns]
        np.maximum(covered, alpha, out=covered)

    def shadow(self, rows: slice, columns: slice, weight: Array) -> None:
        """Darken what the person already covers, weight [h, w] 0..1."""
        covered = self.person[rows, columns]
        if covered.any():
            self.pixels[rows, columns] *= (1.0 - weight * covered)[..., None]


@dataclass(frozen=True)
class Cloth:
    """A colour with a pattern.

    Attributes:
        colour, second: [3] BGR 0..255.
        pattern: plain, rings, stripes, checks, dots or halves.
        frequency: repeats a body height.
    """

    colour: Array
    second: Array
    pattern: str = "plain"
    frequency: float = 20.0

    @classmethod
    def draw(cls, rng: np.random.Generator, plain: float = 0.55) -> Cloth:
        """A random one."""
        names = ("rings", "stripes", "checks", "dots", "halves")
        name = "plain" if rng.uniform() < plain else names[int(rng.integers(len(names)))]
        grey = rng.uniform() < 0.3
        saturation = (0.0, 0.1) if grey else (0.25, 0.9)
        value = (0.12, 0.95)
        return cls(pick_colour(rng, saturation, value), pick_colour(rng, saturation, value), name, rng.uniform(14, 34))

    def paint(self, along: Array, across: Array) -> Array:
        """Colours [h, w, 3] at positions along and across a part, in body heights."""
        if self.pattern == "plain":
            return self.colour.astype(np.float32)
        turn = 2.0 * math.pi * self.frequency
        if self.pattern == "rings":
            wave = np.sin(turn * along)
        elif self.pattern == "stripes":
            wave = np.sin(turn * across)
        elif self.pattern == "checks":
            wave = np.sin(turn * along) * np.sin(turn * across) * 1.5
        elif self.pattern == "dots":
            wave = np.sin(turn * along) * np.sin(turn * across) * 2.0 - 1.0
        else:
            wave = across * 60.0
        weight = np.clip(0.5 + 1.5 * wave, 0.0, 1.0)[..., None]
        base, other = self.colour.astype(np.float32), self.second.astype(np.float32)
        return np.asarray(base + weight * (other - base))


@dataclass
class Limb:
    """A round cone between two points [3] px; `joints` are the keypoints that are its own."""

    a: Array
    b: Array
    radius_a: float
    radius_b: float
    skin: Array
    cloth: Cloth | None = None
    covered: float = 1.0  # share of the length under the cloth
    bulge: float = 0.0
    joints: tuple[str, ...] = ()
    nearer: float = 0.0  # px taken off the depth when parts are ordered
    unit: float = 1.0  # px of a body height
    extent: tuple[Array, Array] = field(init=False)

    def __post_init__(self) -> None:
        reach = max(self.radius_a, self.radius_b) * (1.0 + self.bulge) + 1.0
        low, high = np.minimum(self.a, self.b)[:2], np.maximum(self.a, self.b)[:2]
        self.extent = (low - reach, high + reach)

    @property
    def depth(self) -> float:
        """Where it stands in the painter's order; larger is painted earlier."""
        return float(self.a[2] + self.b[2]) / 2 - self.nearer

    def _distance(self, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """Share of the length, radius there, offset x and y from the axis."""
        dx, dy = float(self.b[0] - self.a[0]), float(self.b[1] - self.a[1])
        px, py = x - float(self.a[0]), y - float(self.a[1])
        t = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        radius = self.radius_a + (self.radius_b - self.radius_a) * t
        if self.bulge:
            radius = radius * (1.0 + self.bulge * 4.0 * t * (1.0 - t))
        return t, radius, px - t * dx, py - t * dy

    def covers(self, points: Array) -> Array:
        """Whether it lies over each of the points [K, 2]."""
        _, radius, ex, ey = self._distance(points[:, 0], points[:, 1])
        return np.asarray(ex * ex + ey * ey < radius * radius)

    def outline(self) -> list[Array]:
        """Polygons [P, 2] that fill it."""
        angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], 1)
        ends = [self.a[:2] + circle * self.radius_a, self.b[:2] + circle * self.radius_b]
        return [cv2.convexHull(np.concatenate(ends).astype(np.float32))[:, 0]]

    def paint(self, canvas: Canvas) -> None:
        """Paint it, after the soft shadow that it throws on its own body."""
        rim = 0.02 * self.unit
        found = canvas.region(self.extent[0] - rim, self.extent[1] + rim)
        if found is None:
            return
        rows, columns, xs, ys = found
        t, radius, ex, ey = self._distance(xs, ys)
        inverse = 1.0 / radius
        nx, ny = ex * inverse, ey * inverse
        d = np.sqrt(nx * nx + ny * ny)
        gap = (d - 1.0) * radius
        canvas.shadow(rows, columns, 0.3 * np.clip(1.0 - gap / rim, 0.0, 1.0))
        alpha = np.clip(0.5 - gap, 0.0, 1.0)
        colour: Array = self.skin.astype(np.float32)
        if self.cloth is not None and self.covered > 0:
            length = math.dist(self.a, self.b)
            side = np.float32(np.sign(self.b[0] - self.a[0]) or 1.0)
            across = (ny * side if abs(self.b[0] - self.a[0]) > abs(self.b[1] - self.a[1]) else nx) * radius
            cloth = self.cloth.paint(t * length / self.unit, across / self.unit)
            inside = np.clip((self.covered - t) * max(length, 1.0) + 0.5, 0.0, 1.0)[..., None]
            colour = colour + inside * (cloth - colour)
        norm = np.maximum(d, 1.0)
        canvas.blend(rows, columns, alpha, colour, nx / norm, ny / norm, np.sqrt(np.maximum(1.0 - d * d, 0.0)))


@dataclass
class Trunk:
    """A hull of cross-sections [R, P, 3] px, painted as cloth; `joints` are its own if they are not behind it."""

    rings: Array
    cloth: Cloth
    joints: tuple[str, ...] = ()
    nearer: float = 0.0
    unit: float = 1.0

    @property
    def depth(self) -> float:
        """Where it stands in the painter's order."""
        return float(self.rings[..., 2].mean()) - self.nearer

    def outline(self) -> list[Array]:
        """Polygons [P, 2] that fill it."""
        flat = self.rings[..., :2].astype(np.float32)
        return [cv2.convexHull(np.concatenate(pair))[:, 0] for pair in pairwise(flat)]

    def covers(self, points: Array) -> Array:
        """Whether it lies over each of the points [K, 2]."""
        hulls = self.outline()
        return np.array(
            [any(cv2.pointPolygonTest(h, (float(x), float(y)), False) >= 0 for h in hulls) for x, y in points]
        )

    def paint(self, canvas: Canvas) -> None:
        """Paint it."""
        flat = self.rings[..., :2]
        found = canvas.region(flat.min((0, 1)) - 1, flat.max((0, 1)) + 1)
        if found is None:
            return
        rows, columns, xs, ys = found
        mask = np.zeros((ys.size, xs.size), np.uint8)
        origin = np.array([xs[0, 0], ys[0, 0]], np.float32)
        for hull in self.outline():
            cv2.fillConvexPoly(mask, np.round((hull - origin) * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        centres = flat.mean(1)
        axis = (centres[-1] - centres[0]) / max(float(np.hypot(*(centres[-1] - centres[0]))), 1e-3)
        normal = np.array([-axis[1], axis[0]])
        (x0, y0), (ax, ay) = centres[0].tolist(), axis.tolist()
        along = (xs - x0) * ax + (ys - y0) * ay
        across = (ys - y0) * ax - (xs - x0) * ay
        # The middle and half width of each cross-section, seen from the axis.
        where = (centres - centres[0]) @ axis
        sideways = (flat - centres[0]) @ normal
        order = np.argsort(where, kind="stable")
        middle = np.interp(along, where[order], sideways.mean(1)[order])
        half = np.interp(along, where[order], np.maximum(np.ptp(sideways, axis=1)[order] / 2, 1.0))
        v = np.clip((across - middle) / half, -1.0, 1.0).astype(np.float32)  # np.interp gives float64
        nx, ny = v * (-0.92 * ay), v * (0.92 * ax)
        colour = self.cloth.paint(along / self.unit, v * np.float32(np.ptp(sideways) / 2 / self.unit))
        alpha = mask.astype(np.float32) / 255.0
        canvas.blend(rows, columns, alpha, colour, nx, ny, np.sqrt(1.0 - nx * nx - ny * ny))


@dataclass
class Head:
    """An ellipsoid with hair and a face; `frame` [3, 3] has the head's left, up and forward as columns."""

    centre: Array
    frame: Array
    axes: Array  # px
    skin: Array
    hair: Array
    hairline: float
    cap: Array | None
    joints: tuple[str, ...] = ()
    nearer: float = 0.0

    def __post_init__(self) -> None:
        self._form = self.frame @ np.diag(1.0 / self.axes**2) @ self.frame.T
        a, b, c = self._form[:2, :2], self._form[:2, 2], self._form[2, 2]
        self._shadow = a - np.outer(b, b) / c  # the silhouette: x' S x = 1

    @property
    def depth(self) -> float:
        """Where it stands in the painter's order."""
        return float(self.centre[2]) - self.nearer

    def covers(self, points: Array) -> Array:
        """Whether it lies over each of the points [K, 2]."""
        offset = points - self.centre[:2]
        return np.asarray(np.einsum("ki,ij,kj->k", offset, self._shadow, offset) < 1.0)

    def outline(self) -> list[Array]:
        """Polygons [P, 2] that fill it."""
        angles = np.linspace(0, 2 * math.pi, 20, endpoint=False)
        unit = np.stack([np.cos(angles), np.sin(angles)], 1)
        radius = 1.0 / np.sqrt(np.einsum("ki,ij,kj->k", unit, self._shadow, unit))
        return [(self.centre[:2] + unit * radius[:, None]).astype(np.float32)]

    def paint(self, canvas: Canvas) -> None:
        """Paint it."""
        reach = float(self.axes.max()) + 1
        found = canvas.region(self.centre[:2] - reach, self.centre[:2] + reach)
        if found is None:
            return
        rows, columns, xs, ys = found
        x, y = xs - float(self.centre[0]), ys - float(self.centre[1])
        s, a, frame, axes = (array.tolist() for array in (self._shadow, self._form, self.frame, self.axes))
        d = np.sqrt(s[0][0] * x * x + 2 * s[0][1] * x * y + s[1][1] * y * y)
        alpha = np.clip((1.0 - d) * float(self.axes.min()) + 0.5, 0.0, 1.0)
        inside = np.maximum(d, 1.0)
        x, y = x / inside, y / inside  # the rim's outermost pixels take the rim's colour
        root = np.sqrt(np.maximum(1.0 - (d / inside) ** 2, 0.0) / a[2][2])
        z = -(a[0][2] * x + a[1][2] * y) / a[2][2] - root  # nearer of the two surfaces
        nx, ny, nz = (a[i][0] * x + a[i][1] * y + a[i][2] * z for i in range(3))
        norm = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz)
        left, up, forward = ((frame[0][i] * x + frame[1][i] * y + frame[2][i] * z) / axes[i] for i in range(3))
        colour = self._surface(left, up, forward)
        canvas.blend(rows, columns, alpha, colour, nx * norm, ny * norm, -nz * norm)

    def _surface(self, left: Array, up: Array, forward: Array) -> Array:
        """Colours [h, w, 3] of directions on the unit sphere."""
        soft = 0.6 * float(self.axes.min())  # px of a unit of direction, for edges one pixel wide

        def spot(across: float, height: float, half_width: float, half_height: float) -> Array:
            side = np.abs(left) if across else left
            distance = np.sqrt(((side - across) / half_width) ** 2 + ((up - height) / half_height) ** 2)
            return np.asarray(np.clip((1.0 - distance) * soft * half_height + 0.5, 0, 1) * (forward > 0))

        colour: Array = np.broadcast_to(self.skin, (*left.shape, 3)).astype(np.float32)
        white, dark, red = np.array([232, 236, 238.0]), np.array([30, 28, 26.0]), self.skin * [0.55, 0.5, 0.85]
        features = (
            (spot(0.36, 0.14, 0.16, 0.085), white),
            (spot(0.36, 0.14, 0.075, 0.085), dark),
            (spot(0.36, 0.33, 0.19, 0.04), self.hair * 0.8),
            (spot(0.0, -0.5, 0.27, 0.06), red),
        )
        for weight, ink in features:
            colour += weight[..., None] * (ink.astype(np.float32) - colour)
        hair = np.clip((up - self.hairline * forward + 0.06) * soft * 0.8 + 0.5, 0, 1)[..., None]
        colour += hair * (self.hair.astype(np.float32) - colour)
        if self.cap is not None:
            colour += np.clip((up - 0.42) * soft + 0.5, 0, 1)[..., None] * (self.cap.astype(np.float32) - colour)
        return colour


Part = Limb | Trunk | Head
