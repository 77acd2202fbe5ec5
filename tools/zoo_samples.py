"""Two people (hands, faces, animals, …) of the data set that an entry of the zoo was trained on."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from fastpose.data.labels import label_weights
from fastpose.data.readers import read_annotations
from fastpose.data.records import PoseRecords, concatenate
from fastpose.models import ZooEntry
from fastpose.models.zoo.datasets import parts_of
from fastpose.skeletons import Skeleton, match_skeletons

# Data set, which is also the format → its annotations, and the folder of its photos, in the folder of samples.
SAMPLES = {
    "300w": ("300w/test_300w.json", "300w"),
    "300wlp": ("300wlp/test_300wlp.json", "300wlp"),
    "aflw": ("aflw/test_aflw.json", "aflw"),
    "aic": ("aic/test_aic.json", "aic"),
    "animalkingdom": ("ak/test_animalkingdom.json", "ak"),
    "animalpose": ("animalpose/test_animalpose.json", "animalpose"),
    "ap10k": ("ap10k/test_ap10k.json", "ap10k"),
    "coco": ("coco/test_coco.json", "coco"),
    "coco_wholebody": ("coco/test_coco_wholebody.json", "coco"),
    "coco_wholebody_face": ("coco/test_coco_wholebody.json", "coco"),
    "coco_wholebody_hand": ("coco/test_coco_wholebody.json", "coco"),
    "cofw": ("cofw/test_cofw.json", "cofw"),
    "crowdpose": ("crowdpose/test_crowdpose.json", "crowdpose"),
    "deepfashion2": ("deepfasion2/deepfasion2.json", "deepfasion2"),
    "deepfashion_full": ("fld/test_fld.json", "fld"),
    "deepfashion_lower": ("fld/test_fld.json", "fld"),
    "deepfashion_upper": ("fld/test_fld.json", "fld"),
    "freihand": ("freihand/test_freihand.json", "freihand"),
    "halpe": ("halpe/test_halpe.json", "coco"),
    "humanart": ("humanart/test_humanart.json", "humanart"),
    "jhmdb": ("jhmdb/test_jhmdb_sub1.json", "jhmdb"),
    "lapa": ("lapa/test_lapa.json", "lapa"),
    "locust": ("locust/test_locust.json", "locust"),
    "mpii": ("mpii/test_mpii.json", "mpii"),
    "onehand10k": ("onehand10k/test_onehand10k.json", "onehand10k"),
    "posetrack18": ("posetrack18/annotations/test_posetrack18_val.json", "posetrack18"),
    "rhd2d": ("rhd/test_rhd.json", "rhd"),
    "wflw": ("wflw/test_wflw.json", "wflw"),
    "zebra": ("zebra/test_zebra.json", "zebra"),
}


def two_people(entry: ZooEntry, data: Path) -> PoseRecords:
    """The two with the most labels for the entry's network; of a mixture of data sets one of each of the first two.

    Args:
        entry: of the zoo.
        data: folder of the samples.

    Raises:
        ValueError: There is no sample of its data set, nor of another one with most of its keypoints.
    """
    skeleton = entry.spec.skeleton
    there = [name for name, (file, _) in SAMPLES.items() if (data / file).is_file()]
    names = [name for name in parts_of(entry.dataset) if name in there] or nearest(skeleton, there, data)
    people = [ranked(read_sample(name, data), skeleton) for name in names[:2]]
    best = [person for person in chain(*zip_longest(*people)) if person is not None][:2]
    if not best:
        raise ValueError(f"{data}: no sample of {entry.dataset!r}, nor one with most keypoints of {skeleton.name!r}")
    return concatenate(best)


def read_sample(name: str, data: Path) -> PoseRecords:
    """The annotations of a data set, and its photos where the sample has them: under the end of their official path."""
    file, folder = SAMPLES[name]
    records = read_annotations(data / file, data / folder, format=name)
    return replace(records, image_paths=[find_photo(path, data / folder) for path in records.image_paths])


def find_photo(path: Path, folder: Path) -> Path:
    """The file in the folder that has the longest end of the path; the path itself where there is none."""
    ends = (folder.joinpath(*path.parts[first:]) for first in range(1, len(path.parts)))
    return next((end for end in ends if end.is_file()), path)


def nearest(skeleton: Skeleton, names: list[str], data: Path) -> list[str]:
    """The data set, of several, that has most of the skeleton's keypoints; none where it has not even half of them."""
    shares = {name: len(match_skeletons(read_sample(name, data).skeleton, skeleton)) for name in names}
    best = max(shares, key=lambda name: shares[name], default="")
    return [best] if best and shares[best] > skeleton.num_keypoints / 2 else []


def ranked(records: PoseRecords, skeleton: Skeleton) -> list[PoseRecords]:
    """One person each, with the keypoints of that skeleton, who has the most labels first; who has none is left out."""
    records = records.to_skeleton(skeleton)
    labels = (label_weights(records) > 0).sum(1)
    order = sorted(range(len(records)), key=lambda number: -int(labels[number]))
    return [records.select([number]) for number in order if labels[number]]
