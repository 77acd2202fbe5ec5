"""What an annotated data set holds, and what looks wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import printable
from ..ops import oks
from ..skeletons import Skeleton
from ..skeletons.names import find_flip_pairs
from .images import ImageError, read_image_size
from .photos import load_image
from .records import PoseRecords
from .synthetic import is_scene

__all__ = ["DataReport", "SwappedPair", "check_records", "odd_flip_pairs", "swapped_pairs"]

Array = npt.NDArray[Any]

# A keypoint or box may be so many pixels outside its photo: some sets count pixels from 1.
_PHOTO_SLACK = 1.0
# A keypoint may be so far outside its box, as a share of the box's longer side.
_BOX_SLACK = 0.1
# Two people of one photo whose poses are as alike as this, either way round, are one person.
_DOUBLE = 0.95

# On a photo of more people than this, each is compared with so many others whose boxes are at about the same height.
_CROWD = 256

# No more pairs are held against each other: a body has ten, a face fifty.
_MOST_PAIRS = 100
# Numbers that are worked on at once.
_BLOCK = 1 << 24

# A pair tells sides apart where it is longer than this share of the pose, and compares with another one where the
# angle between the two is below 60 or above 120 degrees.
_CLEAR, _COSINE = 0.06, 0.5
# A pair is reported where it agrees with the others in fewer people than this, and by more than chance does.
_AGREEMENT, _DEVIATIONS = 0.35, 2.6
# In one person a pair is odd where it is as long as this, and at least so many others all point the other way.
_ODD_LENGTH, _ODD_VOTES = 0.15, 3

PARTLY_OUTSIDE = "box partly outside the photo"


@dataclass(frozen=True)
class SwappedPair:
    """A flip pair whose left and right are probably exchanged throughout the set.

    Attributes:
        names: The pair, as in ``Skeleton.flip_pairs``.
        agreement: Share of the people in whom it points the way that most other pairs point.
        people: In how many people it could be compared.
    """

    names: tuple[str, str]
    agreement: float
    people: int


@dataclass(frozen=True)
class DataReport:
    """What `check_records` found; people are numbered by their row in the records.

    Attributes:
        records: What was looked at.
        people_per_photo: Number of people → number of photos with so many.
        labelled: [K] int64, people whose keypoint is annotated.
        visible: [K] int64, people whose keypoint is annotated as seen.
        missing: Photos that are not there.
        unreadable: ``NAME: REASON`` of each photo that is no image.
        resized: ``NAME: stated WxH, is WxH`` of each photo whose size is not the stated one.
        people: What is wrong → rows of the people it is true of.
        odd_pairs: What names and flip pairs of the skeleton say against each other.
        swapped: Flip pairs that are probably exchanged.
        suspicious: Row → what is wrong with that person, those with most first. Boxes that are merely partly outside
            their photo are not among it.
    """

    records: PoseRecords
    people_per_photo: dict[int, int]
    labelled: Array
    visible: Array
    missing: list[str]
    unreadable: list[str]
    resized: list[str]
    people: dict[str, Array]
    odd_pairs: list[str]
    swapped: list[SwappedPair]
    suspicious: dict[int, list[str]]

    def to_dict(self, limit: int = 20) -> dict[str, Any]:
        """Plain data for JSON.

        Args:
            limit: How many photos of a kind, and how many suspicious people, are listed; all of them are counted.
        """
        records = self.records
        shown = list(self.suspicious.items())[:limit]
        return {
            "data": printable(records.source),
            "skeleton": records.skeleton.name,
            "skeleton_warnings": records.skeleton.warnings,
            "people": len(records),
            "photos": len(records.image_paths),
            "people_per_photo": {str(count): photos for count, photos in self.people_per_photo.items()},
            "keypoints": {
                name: {"labelled": int(labelled), "visible": int(visible)}
                for name, labelled, visible in zip(records.skeleton.keypoints, self.labelled, self.visible, strict=True)
            },
            "skipped": dict(records.skipped),
            "photos_missing": {"count": len(self.missing), "first": self.missing[:limit]},
            "photos_unreadable": {"count": len(self.unreadable), "first": self.unreadable[:limit]},
            "photos_of_another_size": {"count": len(self.resized), "first": self.resized[:limit]},
            "people_with": {reason: len(rows) for reason, rows in self.people.items()},
            "odd_flip_pairs": self.odd_pairs,
            "probably_swapped": [
                {"pair": list(pair.names), "agreement": round(pair.agreement, 4), "people": pair.people}
                for pair in self.swapped
            ],
            "suspicious": {
                "count": len(self.suspicious),
                "first": [
                    {
                        "id": int(records.ids[row]),
                        "photo": printable(records.image_paths[int(records.image_index[row])]),
                        "reasons": reasons,
                    }
                    for row, reasons in shown
                ],
            },
        }


def check_records(records: PoseRecords, *, decode: bool = False) -> DataReport:
    """Count what a data set holds and look for what is wrong.

    Looked at: photos that are missing, unreadable or of another size than stated; boxes without area, outside or
    partly outside their photo; keypoints more than a pixel outside the photo, or farther outside the box than a tenth
    of its longer side; people without keypoints; two people of one photo with an OKS of 0.95 or more (of a photo with
    more than 256 people, those whose boxes begin at about the same height); left and right (see `swapped_pairs`).

    Args:
        records: The people. What their reader has already left out or cut is in ``records.skipped`` alone.
        decode: Decode every photo, which finds damage behind its header, too.

    Returns:
        The report.
    """
    sizes, missing, unreadable, resized = _photos(records, decode)
    labelled = records.visible > 0
    votes, lengths = _votes(records)
    swapped = _swapped(records.skeleton, votes)
    people: dict[str, Array] = {}
    reasons: dict[int, list[str]] = {}

    def note(reason: str, found: Any, details: Iterable[str] = ()) -> None:
        rows = np.flatnonzero(found)
        people[reason] = rows
        texts = list(details) or [reason] * len(rows)
        if reason != PARTLY_OUTSIDE:
            for row, text in zip(rows.tolist(), texts, strict=True):
                reasons.setdefault(row, []).append(text)

    boxes = records.boxes
    extent = sizes[records.image_index][:, ::-1].astype(np.float64)  # width, height; 0 where unknown
    known: Any = (extent > 0).all(1)
    flat: Any = ~(boxes[:, 2:] > boxes[:, :2]).all(1)
    outside = known & ((boxes[:, 2:] < 0) | (boxes[:, :2] > extent - 1)).any(1)
    partly = known & ((boxes[:, :2] < -_PHOTO_SLACK) | (boxes[:, 2:] > extent + _PHOTO_SLACK)).any(1)
    note("box without area", flat)
    note("box outside the photo", outside & ~flat)
    note(PARTLY_OUTSIDE, partly & ~outside & ~flat)
    points = records.keypoints
    limit = (extent - 1 + _PHOTO_SLACK)[:, None]
    off_photo: Any = labelled & known[:, None] & ((points < -_PHOTO_SLACK) | (points > limit)).any(2)
    note("keypoint outside the photo", off_photo.any(1), _named(records.skeleton, off_photo, "outside the photo"))
    slack = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)[:, None, None] * _BOX_SLACK
    off_box: Any = labelled & ((points < boxes[:, None, :2] - slack) | (points > boxes[:, None, 2:] + slack)).any(2)
    off_box &= ~flat[:, None]
    note("keypoint outside the box", off_box.any(1), _named(records.skeleton, off_box, "outside the box"))
    note("no keypoints", ~labelled.any(1))
    doubles = _doubles(records, labelled)
    found = np.zeros(len(records), np.bool_)
    found[list(doubles)] = True
    note("double", found, [f"double of {int(records.ids[doubles[row]])}" for row in np.flatnonzero(found).tolist()])
    odd = ((votes < 0).sum(2) >= _ODD_VOTES) & ~(votes > 0).any(2) & (lengths > _ODD_LENGTH)
    names = [f"{left}/{right}" for left, right in records.skeleton.flip_pairs or ()]
    texts = ["left and right: " + ", ".join(names[p] for p in np.flatnonzero(row)) for row in odd if row.any()]
    note("left and right disagree", odd.any(1), texts)

    counts = np.bincount(records.image_index, minlength=len(records.image_paths))
    return DataReport(
        records=records,
        people_per_photo=dict(sorted(Counter(counts.tolist()).items())),
        labelled=labelled.sum(0),
        visible=(records.visible > 1).sum(0),
        missing=missing,
        unreadable=unreadable,
        resized=resized,
        people=people,
        odd_pairs=odd_flip_pairs(records.skeleton),
        swapped=swapped,
        suspicious=dict(sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))),
    )


def swapped_pairs(records: PoseRecords) -> list[SwappedPair]:
    """Flip pairs whose left and right are probably exchanged in most people.

    In one person all vectors from a right keypoint to its left one point about the same way, however the person is
    turned: to one side in a photo from the front, to the other from behind. Twisted and crossed limbs are exceptions,
    no rule. So a pair that points against most other pairs in most people is labelled, or paired, the wrong way round.

    Args:
        records: The people; eight or more that can be compared are needed to report anything.

    Returns:
        The pairs, the clearest first, at most half of all: if more are exchanged, the others look wrong. Of only two
        pairs one is named, and it may be the other. A set in which *all* pairs are exchanged looks right.
    """
    return _swapped(records.skeleton, _votes(records)[0])


def odd_flip_pairs(skeleton: Skeleton) -> list[str]:
    """What the names of keypoints say against the flip pairs.

    Args:
        skeleton: Its names and pairs.

    Returns:
        A sentence for each keypoint whose name has a counterpart (left, right) with which it is not paired; none where
        the pairs are not known.
    """
    if skeleton.flip_pairs is None:
        return []
    by_name = find_flip_pairs(skeleton.keypoints) or ()
    paired = {a: b for pair in skeleton.flip_pairs for a, b in (pair, pair[::-1])}
    return [
        f"{left} and {right} are no flip pair; {left} goes with {paired.get(left, 'nothing')}, "
        f"{right} with {paired.get(right, 'nothing')}"
        for left, right in by_name
        if paired.get(left) != right
    ]


def _votes(records: PoseRecords) -> tuple[Array, Array]:
    """Votes int8 [N, P, P]: 1 where two pairs point alike, -1 where not, 0 unclear; lengths [N, P] by pose size."""
    pairs = np.array(records.skeleton.flip_pair_indices[:_MOST_PAIRS], np.int64).reshape(-1, 2)
    votes = np.zeros((len(records), len(pairs), len(pairs)), np.int8)
    lengths = np.zeros((len(records), len(pairs)), np.float32)
    different = ~np.eye(len(pairs), dtype=np.bool_)
    step = max(1, _BLOCK // max(1, len(pairs) ** 2, 2 * records.skeleton.num_keypoints))
    for start in range(0, len(records), step):
        part = slice(start, start + step)
        points, labelled = records.keypoints[part], records.visible[part] > 0
        vectors = points[:, pairs[:, 0]] - points[:, pairs[:, 1]]
        both = labelled[:, pairs[:, 0]] & labelled[:, pairs[:, 1]]
        low = np.where(labelled[..., None], points, np.inf).min(1)
        high = np.where(labelled[..., None], points, -np.inf).max(1)
        side = np.where(labelled.any(1), (high - low).max(1), 1)[:, None]
        length = np.linalg.norm(vectors, axis=2)
        lengths[part] = np.where(both, length / np.maximum(side, 1e-6), 0)
        unit = vectors / np.maximum(length, 1e-6)[..., None]
        cosine = unit @ unit.transpose(0, 2, 1)
        clear = lengths[part] > _CLEAR
        usable = clear[:, :, None] & clear[:, None, :] & different & (np.abs(cosine) > _COSINE)
        votes[part] = np.where(usable, np.sign(cosine), 0)
    return votes, lengths


def _swapped(skeleton: Skeleton, votes: Array) -> list[SwappedPair]:
    """The worst pair is turned round in `votes`, in place, until none is bad: it must not speak against good ones."""
    found: list[SwappedPair] = []
    turned: set[int] = set()
    pairs = (skeleton.flip_pairs or ())[: votes.shape[1]]
    while len(found) < len(pairs) // 2:
        sums = votes.sum(2, dtype=np.int32)
        people = (sums != 0).sum(0)
        agreement = (sums > 0).sum(0) / np.maximum(people, 1)
        deviations = (0.5 - agreement) * 2 * np.sqrt(people)
        bad = (agreement < _AGREEMENT) & (deviations > _DEVIATIONS)
        bad[list(turned)] = False
        if not bad.any():
            break
        worst = int(np.argmax(np.where(bad, deviations, -np.inf)))
        found.append(SwappedPair(pairs[worst], float(agreement[worst]), int(people[worst])))
        turned.add(worst)
        votes[:, worst, :] *= -1
        votes[:, :, worst] *= -1
    return found


def _named(skeleton: Skeleton, which: Array, what: str) -> list[str]:
    """``left_knee, left_ankle WHAT`` for each row of `which` [N, K] in which something is true."""
    texts = []
    for row in which[which.any(1)]:
        names = [skeleton.keypoints[k] for k in np.flatnonzero(row)]
        shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
        texts.append(f"{', '.join(shown)} {what}")
    return texts


def _doubles(records: PoseRecords, labelled: Array) -> dict[int, int]:
    """Row of each person who is there twice → row of the first one with the same pose."""
    sigmas = np.array(records.skeleton.sigmas)
    # What is not labelled agrees with nothing.
    points = np.where(labelled[..., None], records.keypoints, np.nan).astype(np.float32)
    order = np.argsort(records.image_index, kind="stable")
    order = order[labelled[order].any(1)]
    edges = np.flatnonzero(np.diff(records.image_index[order])) + 1
    found: dict[int, int] = {}
    for everybody in np.split(order, edges):
        for rows in _neighbours(everybody, records.boxes):
            areas = np.maximum(records.areas[rows], 1)
            alike = oks(points[rows], points[rows], areas, sigmas, visible=labelled[rows])
            same = np.tril(np.minimum(alike, alike.T) >= _DOUBLE, -1)
            for late in np.flatnonzero(same.any(1)):
                found.setdefault(int(rows[late]), int(rows[int(np.argmax(same[late]))]))
    return found


def _neighbours(rows: Array, boxes: Array) -> Iterator[Array]:
    """People of a photo in groups to compare: all of them, or of a crowd those one after the other in height."""
    if len(rows) <= _CROWD:
        if len(rows) > 1:
            yield rows
        return
    by_height = rows[np.argsort(boxes[rows, 1], kind="stable")]
    for start in range(0, len(rows) - _CROWD // 2, _CROWD // 2):
        yield np.sort(by_height[start : start + _CROWD])


def _photos(records: PoseRecords, decode: bool) -> tuple[Array, list[str], list[str], list[str]]:
    """Sizes [I, 2] (height, width), 0 where unknown; missing, unreadable and resized photos."""
    sizes = records.image_sizes.copy()
    missing, unreadable, resized = [], [], []
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(partial(_size, decode=decode), records.image_paths)):
            name = printable(records.image_paths[number])
            if isinstance(found, ImageError):
                unreadable.append(str(found))
            elif found is None:
                missing.append(name)
            else:
                stated = tuple(sizes[number].tolist())
                if min(stated) > 0 and stated != found:
                    turned = " (turned by a quarter)" if stated == found[::-1] else ""
                    resized.append(f"{name}: stated {stated[1]}x{stated[0]}, is {found[1]}x{found[0]}{turned}")
                sizes[number] = found
    return sizes, missing, unreadable, resized


def _size(path: Path, decode: bool) -> tuple[int, int] | ImageError | None:
    scene = is_scene(path)
    if not (scene or path.exists()):
        return None
    try:
        height, width = load_image(path).shape[:2] if decode or scene else read_image_size(path)
        return int(height), int(width)
    except ImageError as error:
        return error
