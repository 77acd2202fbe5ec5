"""What stands behind rendered people: a park, a hall, clutter or clouds of colour, from random numbers alone."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .shapes import pick_colour

__all__ = ["finish", "grain", "paint_backdrop"]

Array = npt.NDArray[Any]

OUTDOOR, INDOOR, CLUTTER, CLOUDS = "park", "hall", "clutter", "clouds"


def grain(rng: np.random.Generator, size: tuple[int, int], cells: float, channels: int = 1) -> Array:
    """Smooth noise in 0..1, about `cells` bumps across the longer side: float32 [h, w] or [h, w, channels]."""
    height, width = size
    longer = max(size)
    small = (max(2, math.ceil(cells * height / longer) + 1), max(2, math.ceil(cells * width / longer) + 1))
    values = rng.random((*small, channels), dtype=np.float32)
    smooth = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0.0, 1.0)


def paint_backdrop(rng: np.random.Generator, kind: str, size: tuple[int, int], horizon: float) -> Array:
    """A background.

    Args:
        rng: Where everything random comes from.
        kind: park, hall, clutter or clouds.
        size: (height, width).
        horizon: Row of the horizon, px; only park and hall have one.

    Returns:
        float32 [h, w, 3] BGR 0..255.
    """
    if kind == OUTDOOR:
        return _park(rng, size, horizon)
    if kind == INDOOR:
        return _hall(rng, size, horizon)
    if kind == CLUTTER:
        return _clutter(rng, size)
    if kind == CLOUDS:
        return _clouds(rng, size)
    raise ValueError(f"kind: expected park, hall, clutter or clouds, got {kind!r}")


def _ramp(size: tuple[int, int], top: Array, bottom: Array) -> Array:
    share = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None]
    row = top.astype(np.float32) * (1 - share) + bottom.astype(np.float32) * share
    return np.ascontiguousarray(np.broadcast_to(row, (*size, 3)))


def _polygon(image: Array, points: Array, colour: Array) -> None:
    fixed = np.round(np.asarray(points, np.float64) * 16).astype(np.int32)
    cv2.fillPoly(image, [fixed], tuple(float(v) for v in colour), cv2.LINE_AA, 4)


def _park(rng: np.random.Generator, size: tuple[int, int], horizon: float) -> Array:
    height, width = size
    dusk = rng.uniform()
    sky = (
        np.array([235, 190, 130.0]) * (1 - 0.4 * dusk),
        np.array([245, 232, 215.0]) * (1 - dusk) + dusk * np.array([170, 195, 245.0]),
    )
    image = _ramp(size, *sky)
    clouds = np.clip(grain(rng, size, 5) * 0.6 + grain(rng, size, 14) * 0.4 - 0.5, 0, 1)[..., None] * 1.6
    image += clouds * (np.float32(250) - image)
    picture: Array = image.astype(np.uint8)
    haze = np.array([205, 190, 170.0])
    green = np.array([rng.uniform(40, 80), rng.uniform(95, 140), rng.uniform(50, 100)])
    xs = np.arange(0, width + 8, 8)
    for layer in range(3):  # hills, the farthest first
        near = (layer + 1) / 3
        waves = sum(math.pi / 2 * np.sin(xs / width * f + rng.uniform(0, 6.3)) / f for f in (3.0, 7.0, 15.0))
        ridge = horizon - height * (0.16 * (1 - near) + 0.03) - waves * height * 0.07
        outline = np.concatenate([np.stack([xs, ridge], 1), [(width, height), (0, height)]])
        _polygon(picture, outline, haze * (1 - near) + green * near)
    for _ in range(int(rng.integers(3, 8))):  # trees: a trunk and a heap of leaves
        x, tall = rng.uniform(0, width), rng.uniform(0.15, 0.42) * height
        foot = horizon + rng.uniform(0, 0.04) * height
        half = tall * 0.035
        _polygon(
            picture,
            np.array(
                [(x - half, foot), (x + half, foot), (x + half, foot - tall * 0.6), (x - half, foot - tall * 0.6)]
            ),
            np.array([40, 62, 84]),
        )
        for _ in range(14):
            centre = np.array([x, foot - tall * 0.72]) + rng.normal(0, 1, 2) * tall * np.array([0.16, 0.13])
            shade = green * rng.uniform(0.55, 1.0)
            radius = tall * rng.uniform(0.07, 0.17)
            cv2.circle(
                picture,
                tuple(np.round(centre * 16).astype(int).tolist()),
                int(radius * 16),
                shade.tolist(),
                -1,
                cv2.LINE_AA,
                4,
            )
    blur = max(1, height // 220) * 2 + 1
    picture = cv2.GaussianBlur(picture, (blur, blur), 0)  # out of focus
    image = picture.astype(np.float32)
    start = max(0, min(height, round(horizon)))
    if start < height:
        ground = _ramp((height - start, width), green * 1.15 + 25, green * 0.8)
        texture = grain(rng, (height - start, width), 90) * 0.6 + grain(rng, (height - start, width), 9) * 0.4
        image[start:] = ground * (0.8 + 0.4 * texture[..., None])
        if rng.uniform() < 0.6:  # a path that comes towards the camera
            middle, wide = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * width
            far = np.array([(middle - wide * 0.04, horizon), (middle + wide * 0.04, horizon)])
            near_edge = np.array([(middle + wide * 0.8, height), (middle - wide * 0.8, height)])
            mask = np.zeros(size, np.uint8)
            _polygon(mask, np.concatenate([far, near_edge]), np.array([255.0]))
            weight = cv2.GaussianBlur(mask, (blur, blur), 0)[start:, :, None].astype(np.float32) / 255
            sand = np.array([165, 185, 200], np.float32) * (0.85 + 0.3 * texture[..., None])
            image[start:] += weight * (sand - image[start:])
    return image


def _hall(rng: np.random.Generator, size: tuple[int, int], horizon: float) -> Array:
    height, width = size
    wall = pick_colour(rng, (0.05, 0.35), (0.6, 0.92))
    picture = _ramp(size, wall * 1.05, wall * 0.8).clip(0, 255).astype(np.uint8)
    skirting = min(height, horizon + height * 0.06)
    step = width / rng.integers(3, 7)
    start = -rng.uniform(0, step)
    top, bottom = skirting * rng.uniform(0.08, 0.25), skirting * rng.uniform(0.55, 0.8)
    kind = rng.integers(3)
    for left in np.arange(start, width, step):
        corners = np.array(
            [
                (left + step * 0.12, top),
                (left + step * 0.88, top),
                (left + step * 0.88, bottom),
                (left + step * 0.12, bottom),
            ]
        )
        if kind == 0:  # windows
            _polygon(picture, corners, np.array([240, 225, 205]) * rng.uniform(0.85, 1.0))
            cv2.line(
                picture,
                (int(left + step / 2), int(top)),
                (int(left + step / 2), int(bottom)),
                (wall * 0.7).tolist(),
                max(1, height // 120),
            )
        elif kind == 1:  # pictures and posters
            _polygon(picture, corners, wall * 0.55)
            inner = corners * 0.88 + corners.mean(0) * 0.12
            _polygon(picture, inner, pick_colour(rng))
        else:  # panels
            _polygon(picture, corners, wall * rng.uniform(0.86, 1.0))
    _polygon(
        picture,
        np.array([(0, skirting - height * 0.02), (width, skirting - height * 0.02), (width, skirting), (0, skirting)]),
        wall * 0.55,
    )
    floor = pick_colour(rng, (0.1, 0.5), (0.35, 0.75))
    _polygon(picture, np.array([(0, skirting), (width, skirting), (width, height), (0, height)]), floor)
    vanish = np.array([width * rng.uniform(0.35, 0.65), skirting - height * 0.25])
    for x in np.linspace(-2.5 * width, 3.5 * width, int(rng.integers(24, 48))):  # boards
        along = (skirting - vanish[1]) / (height - vanish[1])
        begin = vanish + (np.array([x, height]) - vanish) * along
        cv2.line(
            picture,
            tuple(np.round(begin).astype(int).tolist()),
            (int(x), height),
            (floor * 0.82).tolist(),
            1,
            cv2.LINE_AA,
        )
    image = cv2.GaussianBlur(picture, (3, 3), 0).astype(np.float32)
    light = 0.78 + 0.34 * grain(rng, size, 3)
    return np.asarray(image * light[..., None])


def _clutter(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    height, width = size
    picture: Array = _ramp(size, pick_colour(rng), pick_colour(rng)).astype(np.uint8)
    for count, blurred in ((int(rng.integers(4, 12)), True), (int(rng.integers(0, 8)), False)):
        for _ in range(count):
            centre = rng.uniform(0, 1, 2) * (width, height)
            half = rng.uniform(0.03, 0.3, 2) * max(size)
            colour = pick_colour(rng)
            shape, turn = rng.integers(3), rng.uniform(0, 180)
            if shape == 0:
                _polygon(picture, cv2.boxPoints(((*centre.tolist(),), (*half.tolist(),), turn)), colour)
            elif shape == 1:
                axes = (int(half[0] * 8), int(half[1] * 8))
                cv2.ellipse(
                    picture,
                    tuple((centre * 16).astype(int).tolist()),
                    axes,
                    turn,
                    0,
                    360,
                    colour.tolist(),
                    -1,
                    cv2.LINE_AA,
                    4,
                )
            else:
                end = centre + (half * 3) * (math.cos(turn), math.sin(turn))
                thick = int(rng.integers(1, max(2, max(size) // 24)))
                cv2.line(
                    picture,
                    tuple(centre.astype(int).tolist()),
                    tuple(end.astype(int).tolist()),
                    colour.tolist(),
                    thick,
                    cv2.LINE_AA,
                )
        if blurred:
            side = 2 * int(rng.integers(0, max(1, max(size) // 40))) + 1
            picture = cv2.GaussianBlur(picture, (side, side), 0)
    return picture.astype(np.float32) * (0.85 + 0.3 * grain(rng, size, float(rng.uniform(3, 60)))[..., None])


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    base, other = (pick_colour(rng).astype(np.float32) for _ in range(2))
    weight = sum(grain(rng, size, cells) / 2**i for i, cells in enumerate((4.0, 11.0, 30.0))) / 1.75
    image = base + np.asarray(weight)[..., None] * (other - base)
    return np.asarray(image + (grain(rng, size, 6, 3) - 0.5) * 60, np.float32)


def finish(rng: np.random.Generator, image: Array, strength: float) -> npt.NDArray[np.uint8]:
    """What a camera adds: exposure, a tint, softness, coarse colour and noise.

    Args:
        rng: Where everything random comes from.
        image: float32 [h, w, 3] BGR, overwritten.
        strength: 0 leaves almost everything as it is, 1 is an ordinary phone.

    Returns:
        uint8 [h, w, 3] BGR.
    """
    height, width = image.shape[:2]
    gain = np.exp(rng.normal(0, 0.12 * strength) + rng.normal(0, 0.04 * strength, 3))
    image *= gain.astype(np.float32)
    image += np.float32(rng.normal(0, 6 * strength))
    if rng.uniform() < 0.4 * strength:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 1.1)))
    tile = _noise_tile()
    y, x = (int(v) for v in rng.integers(0, tile.shape[0], 2))
    level = np.float32(rng.uniform(0.5, 1.0 + 6.0 * strength))
    rows = (np.arange(height) + y) % tile.shape[0]
    columns = (np.arange(width) + x) % tile.shape[1]
    image += level * tile[rows][:, columns, None]
    picture = np.clip(image, 0, 255).astype(np.uint8)
    if rng.uniform() < 0.7 * strength and min(height, width) >= 16:
        # As JPEG does: colour at half the resolution of brightness.
        luma, *chroma = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb))
        half = (max(1, width // 2), max(1, height // 2))
        coarse = (cv2.resize(cv2.resize(c, half, interpolation=cv2.INTER_AREA), (width, height)) for c in chroma)
        picture = np.asarray(cv2.cvtColor(cv2.merge([luma, *coarse]), cv2.COLOR_YCrCb2BGR), np.uint8)
    return picture


_tile: list[Array] = []


def _noise_tile() -> Array:
    """[307, 307] float32 standard normal, made once: drawing it anew would cost more than the whole person."""
    if not _tile:
        _tile.append(np.random.Generator(np.random.PCG64(0)).standard_normal((307, 307), dtype=np.float32))
    return _tile[0]
