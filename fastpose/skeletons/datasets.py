"""The skeletons of data sets, as data: names in the order of the annotations, links, and what differs from COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .names import COCO_SIGMAS
from .skeleton import Skeleton

Link = tuple[str, str]

# Sigmas by part: COCO's, and 0.079 for the neck and the top of the head, as CrowdPose has it.
_SIGMA = {**COCO_SIGMAS, "neck": 0.079, "head_top": 0.079}
# Ends of limbs move most and are learned last; the weights are those of HRNet's and Simple Baselines' training on COCO.
_JOINT_WEIGHT = {"elbow": 1.2, "knee": 1.2, "wrist": 1.5, "ankle": 1.5}


def _sided(*parts: str) -> tuple[str, ...]:
    """``left_x, right_x`` for each part."""
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


def _one_side(side: str, *parts: str) -> tuple[str, ...]:
    """``side_x`` for each part."""
    return tuple(f"{side}_{part}" for part in parts)


def _both(a: str, b: str) -> tuple[Link, Link]:
    """The link a-b on either side of the body."""
    return (f"left_{a}", f"left_{b}"), (f"right_{a}", f"right_{b}")


def _across(part: str) -> Link:
    """The link between the two sides of a part."""
    return f"left_{part}", f"right_{part}"


def _standard(
    name: str,
    keypoints: tuple[str, ...],
    links: tuple[Link, ...],
    *,
    sigma: Mapping[str, float] | None = None,
    joint_weight: Mapping[str, float] = _JOINT_WEIGHT,
) -> Skeleton:
    """A skeleton with values by part; ``sigma`` holds those that are not COCO's."""
    parts = [keypoint.removeprefix("left_").removeprefix("right_") for keypoint in keypoints]
    sigmas = {**_SIGMA, **(sigma or {})}
    return Skeleton.from_names(
        name,
        keypoints,
        links=links,
        sigmas=tuple(sigmas[part] for part in parts),
        joint_weights=tuple(joint_weight.get(part, 1.0) for part in parts),
    )


_LEGS = (*_both("ankle", "knee"), *_both("knee", "hip"))
_ARMS = (*_both("shoulder", "elbow"), *_both("elbow", "wrist"))
_COCO_LINKS = (
    *_LEGS,
    _across("hip"),
    *_both("shoulder", "hip"),
    _across("shoulder"),
    *_ARMS,
    _across("eye"),
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    *_both("eye", "ear"),
    *_both("ear", "shoulder"),
)
_BODY = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

COCO17 = _standard("coco17", ("nose", *_sided("eye", "ear", *_BODY)), _COCO_LINKS)
"""COCO keypoints (Lin et al., ECCV 2014), 17 points."""

HUMANART17 = replace(COCO17, name="humanart17")
"""Human-Art (Ju et al., CVPR 2023), 17 points: COCO's."""

COCO_AIC19 = _standard(
    "coco_aic19",
    (*COCO17.keypoints, "head_top", "neck"),
    (*_COCO_LINKS, ("head_top", "neck")),
    sigma={"head_top": 0.026, "neck": 0.026},
    # MMPose lists eighteen weights for these nineteen points; the neck's is the one that is not there.
    joint_weight={**_JOINT_WEIGHT, "head_top": 1.5},
)
"""COCO's 17 points, head top and neck of AI Challenger: networks trained on both data sets at once."""

LSP14 = _standard(
    "lsp14",
    (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        *("neck", "head_top"),
    ),
    (
        *_LEGS,
        _across("hip"),
        *_both("wrist", "elbow"),
        *_both("elbow", "shoulder"),
        ("neck", "head_top"),
        ("neck", "left_shoulder"),
        ("neck", "right_shoulder"),
        *_both("shoulder", "hip"),
    ),
)
"""Leeds Sports Pose (Johnson and Everingham, BMVC 2010), 14 points."""

MPII16 = _standard(
    "mpii16",
    (
        *_one_side("right", "ankle", "knee", "hip"),
        *_one_side("left", "hip", "knee", "ankle"),
        *("pelvis", "thorax", "upper_neck", "head_top"),
        *_one_side("right", "wrist", "elbow", "shoulder"),
        *_one_side("left", "shoulder", "elbow", "wrist"),
    ),
    (
        *_LEGS,
        ("right_hip", "pelvis"),
        ("pelvis", "left_hip"),
        ("pelvis", "thorax"),
        ("thorax", "upper_neck"),
        ("upper_neck", "head_top"),
        ("upper_neck", "right_shoulder"),
        ("upper_neck", "left_shoulder"),
        *_ARMS,
    ),
    sigma={"shoulder": 0.179, "knee": 0.083, **dict.fromkeys(("pelvis", "thorax", "upper_neck", "head_top"), 0.026)},
)
"""MPII Human Pose (Andriluka et al., CVPR 2014), 16 points."""


def _trb_contour(side: str, *parts: str) -> tuple[str, ...]:
    """The inner and the outer point of the body's outline at each part."""
    return tuple(f"{edge}_{side}_{part}" for part in parts for edge in ("medial", "lateral"))


def _trb() -> Skeleton:
    contour = (
        *(_trb_contour("right", "shoulder", "bow", "wrist"), _trb_contour("left", "shoulder", "bow", "wrist")),
        *(_trb_contour("right", "hip", "knee", "ankle"), _trb_contour("left", "hip", "knee", "ankle")),
    )
    points = tuple(point for side in contour for point in side)
    across = zip(points[::2], points[1::2], strict=True)
    return Skeleton.from_names(
        "mpii_trb40",
        (*_sided(*_BODY), "head", "neck", "right_neck", "left_neck", *points),
        links=(
            *(("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder")),
            *_ARMS,
            *_both("shoulder", "hip"),
            _across("hip"),
            *_LEGS,
            ("right_neck", "left_neck"),
            *across,
        ),
    )


MPII_TRB40 = _trb()
"""MPII with two-dimensional body contours (Duan et al., "TRB", ICCV 2019): 14 joints, 26 points of the outline.

It is measured by PCKh alone and has no OKS sigmas of its own.
"""

# By keypoint, not by part, and different left and right: as published with MMPose's configurations.
_CROWD_WEIGHTS = (0.2, 0.2, 0.2, 1.3, 1.5, 0.2, 1.3, 1.5, 0.2, 0.2, 0.5, 0.2, 0.2, 0.5)


def _crowd(name: str, head: str, links: Sequence[Link]) -> Skeleton:
    skeleton = _standard(
        name, (*_sided(*_BODY), head, "neck"), (*_LEGS, *_ARMS, *links), sigma={head: _SIGMA["head_top"]}
    )
    return replace(skeleton, joint_weights=_CROWD_WEIGHTS)


CROWDPOSE14 = _crowd(
    "crowdpose14",
    "top_head",
    (
        *(_across("hip"), *_both("shoulder", "hip"), _across("shoulder")),
        *(("top_head", "neck"), ("neck", "right_shoulder"), ("neck", "left_shoulder")),
    ),
)
"""CrowdPose (Li et al., CVPR 2019), 14 points."""

EXLPOSE14 = _crowd(
    "exlpose14",
    "head",
    (
        *(("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder")),
        *(("neck", "right_hip"), ("neck", "left_hip")),
    ),
)
"""ExLPose, people in extremely low light (Lee et al., CVPR 2023), 14 points."""

AIC14 = replace(
    _standard(
        "aic14",
        (
            *(*_one_side("right", "shoulder", "elbow", "wrist"), *_one_side("left", "shoulder", "elbow", "wrist")),
            *(*_one_side("right", "hip", "knee", "ankle"), *_one_side("left", "hip", "knee", "ankle")),
            *("head_top", "neck"),
        ),
        (
            *_ARMS,
            *(("right_shoulder", "neck"), ("neck", "left_shoulder")),
            *_LEGS,
            *(_across("hip"), ("head_top", "neck"), *_both("shoulder", "hip")),
        ),
    ),
    sigmas=(
        *(0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144),
        *(0.03909642, 0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081),
        *(0.01291456, 0.01236173),
    ),
)
"""AI Challenger (Wu et al., ICME 2019), 14 points with sigmas measured on each."""

JHMDB15 = _standard(
    "jhmdb15",
    (
        *("neck", "belly", "head"),
        *(
            f"{side}_{part}"
            for part in ("shoulder", "hip", "elbow", "knee", "wrist", "ankle")
            for side in ("right", "left")
        ),
    ),
    (
        *_LEGS,
        *(("right_hip", "belly"), ("belly", "left_hip"), ("belly", "neck"), ("neck", "head")),
        *(("neck", "right_shoulder"), ("neck", "left_shoulder")),
        *_ARMS,
    ),
    sigma={"neck": 0.025, "belly": 0.107, "head": 0.025},
)
"""Joint-annotated HMDB (Jhuang et al., ICCV 2013), 15 points."""

POSETRACK18_17 = _standard(
    "posetrack18_17",
    ("nose", "head_bottom", "head_top", *_sided("ear", *_BODY)),
    (
        *_LEGS,
        *(_across("hip"), *_both("shoulder", "hip"), _across("shoulder")),
        *_ARMS,
        *(("nose", "head_bottom"), ("nose", "head_top")),
        *(("head_bottom", "left_shoulder"), ("head_bottom", "right_shoulder")),
    ),
    sigma={"head_bottom": 0.025, "head_top": 0.025},
)
"""PoseTrack 2018 (Andriluka et al., CVPR 2018), 17 points."""
