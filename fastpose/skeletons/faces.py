"""The skeletons of faces, as data: numbered points along contours."""

from __future__ import annotations

from collections.abc import Iterable

from .skeleton import Skeleton

__all__ = [
    "AFLW19",
    "COCO_WHOLEBODY_FACE68",
    "COFW29",
    "FACE_PAIRS",
    "FACE_SIGMAS",
    "LAPA106",
    "W300LP68",
    "W300_68",
    "WFLW98",
]

Pairs = tuple[tuple[int, int], ...]


def _runs(*ends: tuple[int, int, int]) -> Pairs:
    """Pairs of two runs of numbers: (first, last, partner of the first), where partners go down as numbers go up."""
    return tuple((first + i, partner - i) for first, last, partner in ends for i in range(last - first + 1))


def _face(
    name: str,
    count: int,
    pairs: Iterable[tuple[int, int]],
    *,
    prefix: str = "kpt",
    sigmas: tuple[float, ...] = (),
    joint_weights: tuple[float, ...] = (),
) -> Skeleton:
    names = tuple(f"{prefix}-{number}" for number in range(count))
    mirrored = tuple((names[a], names[b]) for a, b in pairs)
    return Skeleton(name, names, mirrored, sigmas=sigmas, joint_weights=joint_weights)


FACE_PAIRS = _runs(
    *((0, 7, 16), (17, 21, 26), (31, 32, 35)),  # jaw, brows, nostrils
    *((36, 39, 45), (40, 41, 47)),  # eyes
    *((48, 50, 54), (58, 59, 56), (60, 61, 64), (67, 67, 65)),  # lips, outside and inside
)
"""The points of a face of 68 that change places in a mirror."""

FACE_SIGMAS = (
    *(0.042, 0.043, 0.044, 0.043, 0.04, 0.035, 0.031, 0.025, 0.02, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041),
    *(0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012),
    *(0.009, 0.008, 0.016, 0.01, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.01, 0.034),
    *(0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.01, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008),
    *(0.008, 0.008, 0.01, 0.008),
)
"""OKS sigmas of the faces of COCO-WholeBody."""

W300_68 = _face("300w68", 68, FACE_PAIRS)
"""300 Faces in the Wild (Sagonas et al., IMAVIS 2016), 68 points."""

W300LP68 = _face("300wlp68", 68, ())
"""300W-LP (Zhu et al., CVPR 2016), 68 points. MMPose exchanges none of them in a mirror, and trained its network so."""

COCO_WHOLEBODY_FACE68 = _face("coco_wholebody_face68", 68, FACE_PAIRS, prefix="face", sigmas=FACE_SIGMAS)
"""The face of COCO-WholeBody (Jin et al., ECCV 2020), 68 points."""

AFLW19 = _face("aflw19", 19, _runs((0, 2, 5), (6, 8, 11), (12, 12, 14), (15, 15, 17)))
"""Annotated Facial Landmarks in the Wild (Koestinger et al., 2011), 19 points."""

COFW29 = _face(
    "cofw29", 29, ((0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19), (22, 23))
)
"""Caltech Occluded Faces in the Wild (Burgos-Artizzu et al., ICCV 2013), 29 points."""

# The jaw's 33 points and the brows' 18 are the same in both.
_JAW_AND_BROWS = _runs((0, 15, 32), (33, 37, 46), (38, 41, 50))

WFLW98 = _face(
    "wflw98",
    98,
    (
        *_JAW_AND_BROWS,
        *_runs((55, 56, 59), (60, 64, 72), (65, 67, 75)),  # nostrils, eyes
        *_runs((76, 78, 82), (83, 84, 87), (88, 89, 92), (93, 93, 95), (96, 96, 97)),  # lips, pupils
    ),
)
"""Wider Facial Landmarks in the Wild (Wu et al., CVPR 2018), 98 points."""

LAPA106 = _face(
    "lapa106",
    106,
    (
        *_JAW_AND_BROWS,
        *_runs((55, 59, 65)),  # the nose's sides
        *_runs((66, 70, 79), (71, 73, 82), (74, 74, 83)),  # eyes
        *_runs((84, 86, 90), (91, 92, 95), (96, 97, 100), (101, 101, 103), (104, 104, 105)),  # lips, pupils
    ),
    joint_weights=(
        *((0.8,) * 33 + (1.0,) * 33),
        *(((2.0,) * 8 + (1.0,)) * 2),
        *((1.5,) * 20 + (1.0,) * 2),
    ),
)
"""LaPa (Liu et al., AAAI 2020), 106 points; training weighs eyes and lips more than the jaw."""
