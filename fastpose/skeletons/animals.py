"""The skeletons of animals, as data; names as the data sets write them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from .datasets import COCO17
from .names import COCO_SIGMAS
from .skeleton import Skeleton

__all__ = [
    "ANIMALKINGDOM23",
    "ANIMALPOSE20",
    "AP10K17",
    "ATRW15",
    "FLY32",
    "HORSE22",
    "LOCUST35",
    "MACAQUE17",
    "ZEBRA9",
]

Link = tuple[str, str]


def _chain(*names: str) -> tuple[Link, ...]:
    """Links from each name to the next."""
    return tuple(itertools.pairwise(names))


def _build(
    name: str,
    keypoints: tuple[str, ...],
    links: Iterable[Link],
    *,
    lower: tuple[str, ...] = (),
    sigmas: tuple[float, ...] = (),
    joint_weights: tuple[float, ...] = (),
) -> Skeleton:
    skeleton = Skeleton.from_names(name, keypoints, links=links, sigmas=sigmas, joint_weights=joint_weights)
    return replace(skeleton, lower_body=lower)


_EYE, _NOSE, _EAR, _SHOULDER, _ELBOW, _WRIST, _HIP, _KNEE, _ANKLE = (
    COCO_SIGMAS[part] for part in ("eye", "nose", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)

MACAQUE17 = replace(COCO17, name="macaque17")
"""MacaquePose (Labuguen et al., 2021), 17 points: COCO's."""

AP10K17 = _build(
    "ap10k17",
    (
        *("L_Eye", "R_Eye", "Nose", "Neck", "Root of tail"),
        *("L_Shoulder", "L_Elbow", "L_F_Paw", "R_Shoulder", "R_Elbow", "R_F_Paw"),
        *("L_Hip", "L_Knee", "L_B_Paw", "R_Hip", "R_Knee", "R_B_Paw"),
    ),
    (
        *(("L_Eye", "R_Eye"), ("L_Eye", "Nose"), ("R_Eye", "Nose"), *_chain("Nose", "Neck", "Root of tail")),
        *_chain("Neck", "L_Shoulder", "L_Elbow", "L_F_Paw"),
        *_chain("Neck", "R_Shoulder", "R_Elbow", "R_F_Paw"),
        *_chain("Root of tail", "L_Hip", "L_Knee", "L_B_Paw"),
        *_chain("Root of tail", "R_Hip", "R_Knee", "R_B_Paw"),
    ),
    # The right front paw is among them, as published.
    lower=("Root of tail", "R_F_Paw", "L_Hip", "L_Knee", "L_B_Paw", "R_Hip", "R_Knee", "R_B_Paw"),
    sigmas=(_EYE, _EYE, _NOSE, _EAR, _EAR, *(_SHOULDER, _ELBOW, _WRIST) * 2, *(_HIP, _KNEE, _ANKLE) * 2),
    # Those of COCO's points of the same number, as published.
    joint_weights=COCO17.joint_weights,
)
"""AP-10K (Yu et al., NeurIPS 2021), 17 points of mammals."""

ANIMALPOSE20 = _build(
    "animalpose20",
    (
        *("L_Eye", "R_Eye", "L_EarBase", "R_EarBase", "Nose", "Throat", "TailBase", "Withers"),
        *(f"{side}_{end}_{part}" for part in ("Elbow", "Knee", "Paw") for end in ("F", "B") for side in ("L", "R")),
    ),
    (
        *(("L_Eye", "R_Eye"), ("L_Eye", "L_EarBase"), ("R_Eye", "R_EarBase"), ("L_Eye", "Nose"), ("R_Eye", "Nose")),
        *(*_chain("Nose", "Throat", "Withers"), ("TailBase", "Withers")),
        *_chain("Throat", "L_F_Elbow", "L_F_Knee", "L_F_Paw"),
        *_chain("Throat", "R_F_Elbow", "R_F_Knee", "R_F_Paw"),
        *_chain("TailBase", "L_B_Elbow", "L_B_Knee", "L_B_Paw"),
        *_chain("TailBase", "R_B_Elbow", "R_B_Knee", "R_B_Paw"),
    ),
    lower=("TailBase", *(f"{side}_B_{part}" for part in ("Elbow", "Knee", "Paw") for side in ("L", "R"))),
    sigmas=(_EYE, _EYE, _NOSE, _EAR, _EAR, 0.1, 0.1, 0.1, *(_HIP,) * 4, *(_KNEE,) * 4, *(_ANKLE,) * 4),
    joint_weights=(*(1.0,) * 12, *(1.2,) * 4, *(1.5,) * 4),
)
"""Animal-Pose (Cao et al., ICCV 2019), 20 points."""

_KINGDOM = (
    *("Head_Mid_Top", "Eye_Left", "Eye_Right", "Mouth_Front_Top", "Mouth_Back_Left", "Mouth_Back_Right"),
    *(
        "Mouth_Front_Bottom",
        *(f"{part}_{side}" for part in ("Shoulder", "Elbow", "Wrist") for side in ("Left", "Right")),
    ),
    *("Torso_Mid_Back", *(f"{part}_{side}" for part in ("Hip", "Knee", "Ankle") for side in ("Left", "Right"))),
    *("Tail_Top_Back", "Tail_Mid_Back", "Tail_End_Back"),
)

ANIMALKINGDOM23 = _build(
    "animalkingdom23",
    _KINGDOM,
    (
        *(("Eye_Left", "Head_Mid_Top"), ("Eye_Right", "Head_Mid_Top")),
        *(
            (lip, f"Mouth_Back_{side}")
            for lip in ("Mouth_Front_Top", "Mouth_Front_Bottom")
            for side in ("Left", "Right")
        ),
        *_chain("Head_Mid_Top", "Torso_Mid_Back", "Tail_Top_Back", "Tail_Mid_Back", "Tail_End_Back"),
        *_chain("Head_Mid_Top", "Shoulder_Left", "Elbow_Left", "Wrist_Left"),
        *_chain("Head_Mid_Top", "Shoulder_Right", "Elbow_Right", "Wrist_Right"),
        *_chain("Tail_Top_Back", "Hip_Left", "Knee_Left", "Ankle_Left"),
        *_chain("Tail_Top_Back", "Hip_Right", "Knee_Right", "Ankle_Right"),
    ),
    lower=_KINGDOM[14:],
    sigmas=(0.025,) * 23,
)
"""Animal Kingdom (Ng et al., CVPR 2022), 23 points of all kinds of animals."""

ATRW15 = _build(
    "atrw15",
    (
        *("left_ear", "right_ear", "nose", "right_shoulder", "right_front_paw", "left_shoulder", "left_front_paw"),
        *("right_hip", "right_knee", "right_back_paw", "left_hip", "left_knee", "left_back_paw", "tail", "center"),
    ),
    (
        *(("left_ear", "nose"), ("right_ear", "nose"), ("nose", "center")),
        *_chain("left_front_paw", "left_shoulder", "center"),
        *_chain("right_front_paw", "right_shoulder", "center", "tail"),
        *_chain("right_back_paw", "right_knee", "right_hip", "tail"),
        *_chain("left_back_paw", "left_knee", "left_hip", "tail"),
    ),
    lower=(*("right_hip", "right_knee", "right_back_paw", "left_hip", "left_knee", "left_back_paw", "tail", "center"),),
    sigmas=(
        *(0.0277, 0.0823, 0.0831, 0.0202, 0.0716, 0.0263, 0.0646, 0.0302, 0.044, 0.0316, 0.0333, 0.0547, 0.0263),
        *(0.0683, 0.0539),
    ),
)
"""Amur Tiger Re-identification in the Wild (Li et al., ACM MM 2020), 15 points with sigmas measured on each."""


def _legs(side: str) -> tuple[tuple[str, ...], ...]:
    """The four points of each leg of an insect, from the body on."""
    return tuple(tuple(f"{leg}{side}{joint}" for joint in (1, 2, 3, 4)) for leg in ("foreleg", "midleg", "hindleg"))


def _flat(legs: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for leg in legs for name in leg)


_INSECT_LEGS = (*_legs("R"), *_legs("L"))

FLY32 = _build(
    "fly32",
    ("head", "eyeL", "eyeR", "neck", "thorax", "abdomen", *_flat(_INSECT_LEGS), "wingL", "wingR"),
    (
        *(("eyeL", "head"), ("eyeR", "head"), *_chain("head", "neck", "thorax", "abdomen")),
        *(link for leg in _INSECT_LEGS for link in _chain(*leg)),
        *(("wingL", "neck"), ("wingR", "neck")),
    ),
)
"""Vinegar fly (Pereira et al., Nature Methods 2019), 32 points."""

LOCUST35 = _build(
    "locust35",
    (
        *("head", "neck", "thorax", "abdomen1", "abdomen2"),
        *(name for side in "LR" for name in (f"anttip{side}", f"antbase{side}", f"eye{side}", *_flat(_legs(side)))),
    ),
    (
        *_chain("head", "neck", "thorax", "abdomen1", "abdomen2"),
        *(link for side in "LR" for link in _chain(f"anttip{side}", f"antbase{side}", f"eye{side}")),
        *(link for side in "LR" for leg in _legs(side) for link in _chain(*leg)),
    ),
)
"""Desert locust (Graving et al., eLife 2019), 35 points."""

HORSE22 = _build(
    "horse22",
    (
        *("Nose", "Eye", "Nearknee", "Nearfrontfetlock", "Nearfrontfoot", "Offknee", "Offfrontfetlock", "Offfrontfoot"),
        *("Shoulder", "Midshoulder", "Elbow", "Girth", "Wither", "Nearhindhock", "Nearhindfetlock", "Nearhindfoot"),
        *("Hip", "Stifle", "Offhindhock", "Offhindfetlock", "Offhindfoot", "Ischium"),
    ),
    (
        *_chain(
            "Nose", "Eye", "Wither", "Hip", "Ischium", "Stifle", "Girth", "Elbow", "Shoulder", "Midshoulder", "Wither"
        ),
        *_chain("Nearknee", "Nearfrontfetlock", "Nearfrontfoot"),
        *_chain("Offknee", "Offfrontfetlock", "Offfrontfoot"),
        *_chain("Nearhindhock", "Nearhindfetlock", "Nearhindfoot"),
        *_chain("Offhindhock", "Offhindfetlock", "Offhindfoot"),
    ),
    lower=(
        *("Nearhindhock", "Nearhindfetlock", "Nearhindfoot", "Hip", "Stifle"),
        *("Offhindhock", "Offhindfetlock", "Offhindfoot", "Ischium"),
    ),
)
"""Horse-10 (Mathis et al., WACV 2021), 22 points; near and off are the sides of the camera, which a mirror keeps."""

ZEBRA9 = _build(
    "zebra9",
    ("snout", "head", "neck", "forelegL1", "forelegR1", "hindlegL1", "hindlegR1", "tailbase", "tailtip"),
    (
        *(*_chain("snout", "head", "neck"), ("forelegL1", "neck"), ("forelegR1", "neck")),
        *(("hindlegL1", "tailbase"), ("hindlegR1", "tailbase"), ("tailbase", "neck"), ("tailtip", "tailbase")),
    ),
)
"""Grévy's zebra (Graving et al., eLife 2019), 9 points."""
