"""One door to all readers: the format is told from the file where only one fits."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fastpose.data.readers.aic import read_aic
from fastpose.data.readers.categories import keypoint_names
from fastpose.data.readers.coco import read_coco
from fastpose.data.readers.coco_sets import COCO_SETS, read_coco_set
from fastpose.data.readers.crowdpose import read_crowdpose
from fastpose.data.readers.exlpose import read_exlpose
from fastpose.data.readers.files import JsonFile, check_split, open_json, read_mat
from fastpose.data.readers.humanart import read_humanart
from fastpose.data.readers.jhmdb import JHMDB_SPLITS, read_jhmdb
from fastpose.data.readers.lsp import read_lsp
from fastpose.data.readers.mpii import read_mpii
from fastpose.data.readers.mpii_trb import read_mpii_trb
from fastpose.data.readers.posetrack18 import read_posetrack18
from fastpose.data.readers.ultralytics import read_ultralytics
from fastpose.data.readers.wholebody import read_coco_wholebody, read_wholebody_faces, read_wholebody_hands
from fastpose.data.records import DataError, PoseRecords
from fastpose.skeletons import (
    AIC14,
    CROWDPOSE14,
    EXLPOSE14,
    JHMDB15,
    MPII_TRB40,
    POSETRACK18_17,
    Skeleton,
    find_skeleton,
    match_skeletons,
)
from fastpose.skeletons.animals import AP10K17
from fastpose.skeletons.fashion import DEEPFASHION2_294
from fastpose.skeletons.names import canonical_name

__all__ = ["list_formats", "read_annotations"]

_READERS: dict[str, Callable[..., PoseRecords]] = {
    "aic": read_aic,
    "coco": read_coco,
    "coco_wholebody": read_coco_wholebody,
    "coco_wholebody_face": read_wholebody_faces,
    "coco_wholebody_hand": read_wholebody_hands,
    "crowdpose": read_crowdpose,
    "exlpose": read_exlpose,
    "humanart": read_humanart,
    "jhmdb": read_jhmdb,
    "lsp": read_lsp,
    "mpii": read_mpii,
    "mpii_trb": read_mpii_trb,
    "posetrack18": read_posetrack18,
    "ubody": read_coco_wholebody,
    "ultralytics": read_ultralytics,
    **{name: partial(read_coco_set, name) for name in COCO_SETS},
}
_WITHOUT_DETECTIONS = ("mpii", "mpii_trb", "ultralytics")
_WITH_SPLIT = ("jhmdb", "lsp", "mpii", "ultralytics")
_WITH_SKELETON = ("coco", "ultralytics")
_WITH_CATEGORY = ("coco", "ultralytics", *COCO_SETS)
# Sets in COCO's format whose list of keypoints is theirs alone.
_BY_SKELETON = {
    AIC14: "aic",
    EXLPOSE14: "exlpose",
    JHMDB15: "jhmdb",
    MPII_TRB40: "mpii_trb",
    POSETRACK18_17: "posetrack18",
    **{layout.skeleton: name for name, layout in COCO_SETS.items()},
}
# AP-10K's files write the names of its paws in full.
_AP10K_IN_FILES = tuple(
    canonical_name(name.replace("_F_", "_front_").replace("_B_", "_back_")) for name in AP10K17.keypoints
)
# Sets that do not name their keypoints, or number them, by name of the category and how many they are.
_BY_COUNT = {
    ("face", 19): ("aflw",),
    ("face", 29): ("cofw",),
    ("face", 68): ("300w", "300wlp"),
    ("face", 98): ("wflw",),
    ("face", 106): ("lapa",),
    ("person", 136): ("halpe",),
}


def list_formats() -> list[str]:
    """The names that ``format`` may be."""
    return sorted(_READERS)


def read_annotations(
    path: str | Path,
    image_root: str | Path | None = None,
    *,
    format: str | None = None,
    skeleton: Skeleton | None = None,
    detections: str | Path | None = None,
    split: str | None = None,
    category: int | str | None = None,
) -> PoseRecords:
    """Read the annotated people of a data set.

    Args:
        path: The annotation file, or the folder of them (Sub-JHMDB, PoseTrack 2018).
        image_root: Folder that the photos' names start from; by default that of the annotation file, or the one of the
            two above it in which the first photo is.
        format: One of :func:`list_formats`, e.g. ``mpii``; by default told from what the file holds. ``coco`` is any
            COCO-style JSON with any skeleton.
        skeleton: The keypoints wanted, in its order, matched by name; by default those of the data set.
        detections: JSON file of detected boxes, to take instead of the annotated people: COCO results, or any other
            form of :class:`fastpose.data.readers.DetectionFile`.
        split: A part of a data set that is in one place: ``train``, ``val``, ``test`` of a YAML file, ``train``,
            ``test`` of LSP, ``sub1_train`` … ``sub3_test`` of Sub-JHMDB's folder.
        category: Name or id of the category to read, or ``all``, where a file in COCO's format has several; or name
            or number of the class in Ultralytics' layout.

    Returns:
        The people.

    Raises:
        DataError: The file is missing, damaged or of no known format, a value in it is wrong, or an argument does not
            go with this format.
        ValueError: There is no such format.
    """
    if format is not None and format not in _READERS:
        raise ValueError(f"format: expected one of {', '.join(list_formats())}, got {format!r}")
    source: str | Path | JsonFile = Path(path)
    if format in (None, "coco") and _is_json(Path(path)):
        source = open_json(path)
    name = format or _tell(source)
    if detections is not None and name in _WITHOUT_DETECTIONS:
        raise DataError(f"{path}: detections: this format ({name}) has no numbers for them to name photos by")
    options: dict[str, Any] = {"detections": detections} if name not in _WITHOUT_DETECTIONS else {}
    if name in _WITH_SPLIT:
        options["split"] = split
    else:
        check_split(path, split, [])
    if category is not None:
        if name not in _WITH_CATEGORY:
            raise DataError(f"{path}: category: this format ({name}) has no categories")
        options["category"] = category
    if name in _WITH_SKELETON:
        return _READERS[name](source, image_root, skeleton=skeleton, **options)
    records = _READERS[name](source, image_root, **options)
    if skeleton is None or skeleton.keypoints == records.skeleton.keypoints:
        return records
    match = match_skeletons(records.skeleton, skeleton)
    missing = [point for point in skeleton.keypoints if point not in match]
    if missing:
        there = ", ".join(records.skeleton.keypoints)
        raise DataError(f"{path}: the data set has no keypoint named {', '.join(missing)}; it has {there}")
    return records.to_skeleton(skeleton)


def _is_json(path: Path) -> bool:
    return not path.is_dir() and path.suffix.lower() not in (".mat", ".yaml", ".yml")


def _tell(source: str | Path | JsonFile) -> str:
    """The format of a file or folder."""
    if isinstance(source, JsonFile):
        found = _tell_json(source)
        path = source.path
    else:
        path = Path(source)
        found = _tell_folder(path) if path.is_dir() else _tell_other(path)
    if found is None:
        raise DataError(f"{path}: cannot tell the format; pass format, one of {', '.join(list_formats())}")
    return found


def _tell_folder(path: Path) -> str | None:
    names = {file.name for file in path.glob("*.json")}
    if names & set(JHMDB_SPLITS.values()):
        return "jhmdb"
    return _tell_json(open_json(path / min(names))) if names else None


def _tell_other(path: Path) -> str | None:
    if path.suffix.lower() in (".yaml", ".yml"):
        return "ultralytics"
    variables = read_mat(path)
    return "mpii" if "RELEASE" in variables else "lsp" if "joints" in variables else None


def _tell_json(file: JsonFile) -> str | None:
    content = file.content
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if "bbox" in first and "score" in first:
            raise DataError(f"{file.path}: these are detections; pass them as detections, beside the annotation file")
        return "mpii" if "joints" in first else "aic" if "keypoint_annotations" in first else None
    if not isinstance(content, dict) or not isinstance(content.get("annotations", []), list):
        return None
    if "annotations" not in content:
        return "coco" if isinstance(content.get("images"), list) else None
    annotations, images, categories = (_first(content, key) for key in ("annotations", "images", "categories"))
    if "keypoints_21" in annotations:
        return "humanart"
    if "face_kpts" in annotations and "lefthand_kpts" in annotations:
        return "coco_wholebody"
    if "joint_cam" in annotations:
        return "rhd2d"  # whose categories name the points of each finger the wrong way round
    names = keypoint_names(file.path, categories)
    if "crowdIndex" in images and len(names) in (0, CROWDPOSE14.num_keypoints):
        return "crowdpose"
    return _tell_set(names, annotations, images, categories) or "coco"


def _tell_set(
    names: tuple[str, ...], annotation: dict[str, Any], photo: dict[str, Any], category: dict[str, Any]
) -> str | None:
    """A data set in COCO's format by its keypoints, if what is its own beside them is there, too."""
    points = annotation.get("keypoints")
    count = len(points) // 3 if isinstance(points, (list, array)) else 0
    if len(names) == DEEPFASHION2_294.num_keypoints and names[0] == "1":
        return "deepfashion2"
    known = find_skeleton(names) or (AP10K17 if tuple(map(canonical_name, names)) == _AP10K_IN_FILES else None)
    if known is not None:
        found: tuple[str, ...] = (_BY_SKELETON.get(known, "coco"),)
    else:
        found = () if names else _BY_COUNT.get((str(category.get("name")), count), ())
    return next((name for name in found if name not in COCO_SETS or COCO_SETS[name].fits(annotation, photo)), None)


def _first(content: dict[str, Any], key: str) -> dict[str, Any]:
    values = content.get(key)
    first = values[0] if isinstance(values, list) and values else None
    return first if isinstance(first, dict) else {}
