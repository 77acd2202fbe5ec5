"""What ``fastpose info --data`` prints, and its sheet of people with their annotations drawn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files import printable

if TYPE_CHECKING:
    from ..data.check import DataReport
    from ..data.records import PoseRecords

__all__ = ["check_sheet", "print_report", "write_sheet"]

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_TILE = 360, 280  # height and width of a photo's part, px
_CAPTION, _GAP, _HEADER = 52, 8, 40
_BACK, _PANEL, _TEXT, _FAINT, _ALARM = (32, 32, 32), (48, 48, 48), (240, 240, 240), (175, 175, 175), (90, 170, 255)


def print_report(report: DataReport, limit: int) -> None:
    """Print tables of what was counted, then what looks wrong.

    Args:
        report: The report.
        limit: How many photos of a kind, and how many suspicious people, are listed.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    records = report.records
    people, photos = len(records), len(records.image_paths)
    console.print(
        f"{escape(printable(records.source))}: {people} people on {photos} photos, {records.skeleton.name}",
        soft_wrap=True,
    )

    for sentence in records.skeleton.warnings:
        console.print(f"Note: {escape(sentence)}", soft_wrap=True)

    table = Table("people on a photo", "photos")
    for text, count in _grouped(report.people_per_photo):
        table.add_row(text, str(count))
    console.print(table)

    table = Table("keypoint", "labelled", "", "visible", "")
    for name, labelled, visible in zip(records.skeleton.keypoints, report.labelled, report.visible, strict=True):
        share = [f"{count / max(people, 1):.0%}" for count in (labelled, visible)]
        table.add_row(escape(name), str(labelled), share[0], str(visible), share[1])
    console.print(table)

    table = Table("what is wrong", "count")
    found = {
        **{f"left out by the reader: {reason}": count for reason, count in records.skipped.items()},
        "photos missing": len(report.missing),
        "photos unreadable": len(report.unreadable),
        "photos of another size than stated": len(report.resized),
        **{f"people: {reason}": len(rows) for reason, rows in report.people.items()},
    }
    for text, count in found.items():
        if count:
            table.add_row(escape(text), str(count))
    console.print(table if table.row_count else "nothing looks wrong with photos, boxes and keypoints")

    for pair in report.swapped:
        console.print(
            f"probably swapped: {escape(' and '.join(pair.names))} (point as the other pairs do in only "
            f"{pair.agreement:.0%} of {pair.people} people)",
            soft_wrap=True,
        )
    for sentence in report.odd_pairs:
        console.print(f"flip pairs: {escape(sentence)}", soft_wrap=True)
    if photos and len(report.missing) == photos:
        console.print("No photo was found: is --images the folder that their names start from?")
    for kind, lines in (("missing", report.missing), ("unreadable", report.unreadable), ("size", report.resized)):
        for line in lines[:limit]:
            console.print(f"{kind}: {escape(line)}", soft_wrap=True)
        if len(lines) > limit:
            console.print(f"{kind}: {len(lines) - limit} more")
    if report.suspicious:
        shown = list(report.suspicious.items())[:limit]
        table = Table("id", "photo", f"suspicious people ({len(shown)} of {len(report.suspicious)})")
        for row, reasons in shown:
            name = _short(records.image_paths[int(records.image_index[row])])
            table.add_row(str(int(records.ids[row])), escape(name), escape("; ".join(reasons)))
        console.print(table)


def _grouped(counts: dict[int, int]) -> list[tuple[str, int]]:
    """Up to nine people one by one, more of them together."""
    rows = [(str(people), photos) for people, photos in counts.items() if people < 10]
    many = {people: photos for people, photos in counts.items() if people >= 10}
    most = "10" if max(many, default=0) == 10 else f"10 or more (at most {max(many, default=0)})"
    return [*rows, (most, sum(many.values()))] if many else rows


def _short(path: Path) -> str:
    """Folder and name: in videos the name alone is that of many photos."""
    return printable("/".join(path.parts[-2:]))


def check_sheet(path: Path) -> None:
    """Say before the work what would fail after it.

    Raises:
        click.ClickException: No picture can be written there.
    """
    if path.suffix.lower() not in _PICTURES:
        raise click.UsageError(f"--sheet: a picture's name ends in {', '.join(_PICTURES)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise click.ClickException(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise click.ClickException(f"{path}: folder {path.parent} is not writable")


def write_sheet(path: Path, report: DataReport, tiles: int, *, suspicious_first: bool = False) -> None:
    """Draw people with box, skeleton, id and what is wrong with them, side by side.

    Args:
        path: Picture to write.
        report: Whose people.
        tiles: How many of them at most.
        suspicious_first: Begin with those that look wrong; the others are spread evenly over the set.

    Raises:
        ValueError: There is nobody to draw.
    """
    import numpy as np

    from ..predict.draw import write_image

    records = report.records
    if not len(records):
        raise ValueError(f"--sheet: {records.source} has no people to draw")
    rows = list(report.suspicious)[:tiles] if suspicious_first else []
    others = np.setdiff1d(np.arange(len(records)), rows)
    wanted = min(tiles - len(rows), len(others))
    rows += others[np.linspace(0, len(others) - 1, wanted).round().astype(int)].tolist() if wanted else []

    columns = min(len(rows), max(2, round((len(rows) * 1.9) ** 0.5)))
    lines = -(-len(rows) // columns)
    height, width = _TILE[0] + _CAPTION + _GAP, _TILE[1] + _GAP
    sheet = np.empty((lines * height + _GAP + _HEADER, columns * width + _GAP, 3), np.uint8)
    sheet[:] = _BACK
    legend = "; left orange, right blue" + (", black dot hidden" if (records.visible > 1).any() else "")
    _write(
        sheet,
        f"{Path(records.source).name}: {len(rows)} of {len(records)} people, {records.skeleton.name}{legend}",
        (_GAP, 27),
        _TEXT,
        sheet.shape[1] - 2 * _GAP,
        0.55,
    )
    for number, row in enumerate(rows):
        top = number // columns * height + _GAP + _HEADER
        left = number % columns * width + _GAP
        tile = _tile(records, row, report.suspicious.get(row, []))
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    try:
        write_image(path, sheet)
    except OSError as error:  # its own file name is that of the temporary file
        raise click.ClickException(f"{path}: cannot be written ({error.strerror or error})") from error


def _tile(records: PoseRecords, row: int, reasons: list[str]) -> Any:
    """One person and the lines below, uint8 [H, W, 3]."""
    import numpy as np

    from ..data.images import ImageError
    from ..data.photos import load_image

    path = records.image_paths[int(records.image_index[row])]
    tile = np.empty((_TILE[0] + _CAPTION, _TILE[1], 3), np.uint8)
    tile[:] = _PANEL
    room = _TILE[1] - 12
    try:
        tile[: _TILE[0]] = _crop(load_image(path), records, row)
    except ImageError as error:
        _write(tile, error.reason, (6, _TILE[0] // 2), _ALARM, room)
    labelled = int((records.visible[row] > 0).sum())
    box = records.boxes[row]
    size = f"{box[2] - box[0]:.0f}x{box[3] - box[1]:.0f}"
    number = f"#{int(records.ids[row])}"
    _write(
        tile,
        f"{number}  {labelled}/{records.skeleton.num_keypoints}, {size} px",
        (6, _TILE[0] + 20),
        _TEXT,
        room,
    )
    if reasons:
        _write(tile, "; ".join(reasons), (6, _TILE[0] + 42), _ALARM, room)
    else:
        _write(tile, _short(path), (6, _TILE[0] + 42), _FAINT, room, keep_end=True)
    return tile


def _crop(photo: Any, records: PoseRecords, row: int) -> Any:
    """The person with box and keypoints, and a little around them, at the size of a tile."""
    import cv2
    import numpy as np

    from ..predict.draw import draw_poses

    height, width = _TILE
    box, points, visible = records.boxes[row].astype(float), records.keypoints[row].astype(float), records.visible[row]
    corners = np.concatenate([box.reshape(2, 2), points[visible > 0]])
    low, high = corners.min(0), corners.max(0)
    # As much of the photo as a tile of its shape shows; a point far away must not shrink the person to a dot.
    limit = 4 * max(photo.shape[:2])
    low, high = np.maximum(low, -limit), np.minimum(np.maximum(high, low + 1), limit)
    scale = min(np.array([width, height]) / (np.maximum(high - low, 8) * 1.16))
    corner = (low + high) / 2 - np.array([width, height]) / 2 / scale  # of the tile, in the photo

    tile = np.empty((height, width, 3), np.uint8)
    tile[:] = _PANEL
    start = np.clip(np.floor(corner), 0, photo.shape[1::-1]).astype(int)
    stop = np.clip(np.ceil(corner + np.array([width, height]) / scale), 0, photo.shape[1::-1]).astype(int)
    if (stop > start).all():
        part = photo[start[1] : stop[1], start[0] : stop[0]]
        shrink = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else part
        factor = np.array(shrink.shape[1::-1]) / (stop - start) if scale < 1 else np.ones(2)
        zoom = scale / factor
        offset = (start - corner) * scale + (zoom - 1) / 2
        matrix = np.array([[zoom[0], 0, offset[0]], [0, zoom[1], offset[1]]])
        cv2.warpAffine(
            shrink, matrix, (width, height), tile, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, [float(c) for c in _PANEL]
        )
    shift = (0.5 - corner) * scale - 0.5
    moved = points * scale + shift
    frame = (box.reshape(2, 2) * scale + shift).reshape(1, 4)
    # Below the box: light alone cannot be seen on snow.
    x1, y1, x2, y2 = (round(float(v)) for v in np.clip(frame[0], -limit, limit))
    cv2.rectangle(tile, (x1, y1), (x2, y2), _BACK, 3, cv2.LINE_AA)
    tile = draw_poses(tile, moved[None], (visible > 0)[None], records.skeleton, threshold=0.5, boxes=frame)
    # In a set that does not tell hidden from seen, dots would say nothing.
    for k in np.flatnonzero(visible == 1) if (records.visible > 1).any() else ():
        if (np.abs(moved[k]) < 16 * height).all():
            cv2.circle(tile, tuple(round(float(v)) for v in moved[k]), 2, (0, 0, 0), -1, cv2.LINE_AA)
    return tile


def _write(
    picture: Any, text: str, at: tuple[int, int], colour: Any, room: int, scale: float = 0.45, *, keep_end: bool = False
) -> None:
    """Text no wider than `room`, cut at its end, or at its start where its end says more."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    text = text.encode("ascii", "replace").decode()  # OpenCV's letters
    shown = text
    while len(text) > 1 and cv2.getTextSize(shown, font, scale, 1)[0][0] > room:
        text = text[1:] if keep_end else text[:-1]
        shown = f"..{text}" if keep_end else f"{text}.."
    cv2.putText(picture, shown, at, font, scale, colour, 1, cv2.LINE_AA)
