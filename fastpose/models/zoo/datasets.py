"""The data sets that the zoo's networks were trained on, and what their authors say of their use.

Facts as the data sets' pages and READMEs stated them when this was written; no legal advice. Where neither was found,
or nothing stands in it, the use is `unknown`: a licence that nobody stated is not to be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from . import ZooEntry

__all__ = ["DATA_SETS", "MIXTURES", "DataSet", "data_terms", "parts_of", "training_sets", "weights_licence"]


@dataclass(frozen=True)
class DataSet:
    """A data set's terms.

    Attributes:
        page: Where they stand, or are to be looked for.
        terms: What is stated of labels and photos.
        use: ``non-commercial`` where it says so of labels or photos; ``unknown`` where nothing was found; else the
            licence of the labels in a word or two.
    """

    page: str
    terms: str
    use: Literal["non-commercial", "unknown"] | str = "unknown"


_NOT_FOUND = "unknown; see its page"
_UNSTATED = "unknown; none in its README"
_WHOLE_BODY = DataSet(
    "github.com/jin-s13/COCO-WholeBody",
    "non-commercial; labels CC BY-NC 4.0; photos as on Flickr",
    "non-commercial",
)
_HUMANART = DataSet("idea-research.github.io/HumanArt", "non-commercial; on request", "non-commercial")
_MPII = DataSet("human-pose.mpi-inf.mpg.de", "non-commercial; labels for research", "non-commercial")
_HALPE = DataSet("github.com/Fang-Haoshu/Halpe-FullBody", _UNSTATED)
_DEEPFASHION = DataSet(
    "mmlab.ie.cuhk.edu.hk/projects/DeepFashion/LandmarkDetection.html",
    "non-commercial; photos for research and education",
    "non-commercial",
)
_DEEPPOSEKIT = DataSet("github.com/jgraving/DeepPoseKit-Data", "Apache-2.0", "Apache-2.0")

DATA_SETS: Mapping[str, DataSet] = {
    "coco": DataSet("cocodataset.org", "labels CC BY 4.0; photos as on Flickr", "labels CC BY 4.0"),
    "aic": DataSet("github.com/AIChallenger/AI_Challenger_2017", _UNSTATED),
    "crowdpose": DataSet("github.com/Jeff-sjtu/CrowdPose", _UNSTATED),
    "exlpose": DataSet("arxiv.org/abs/2303.15410", _NOT_FOUND),
    "humanart": _HUMANART,
    "humanart21": _HUMANART,
    "jhmdb": DataSet("jhmdb.is.tue.mpg.de", "unknown; see its page (videos, from HMDB: CC BY 4.0)"),
    "lsp": DataSet("sam.johnson.io/research/lsp.html", _NOT_FOUND),
    "mhp": DataSet("lv-mhp.github.io", _NOT_FOUND),
    "mpii": _MPII,
    "mpii_trb": _MPII,
    "ochuman": DataSet("github.com/liruilong940607/OCHumanApi", "unknown; none in its README; on request"),
    "posetrack18": DataSet("posetrack.net", _NOT_FOUND),
    "coco_wholebody": _WHOLE_BODY,
    "coco_wholebody_hand": _WHOLE_BODY,
    "coco_wholebody_face": _WHOLE_BODY,
    "ubody": DataSet("github.com/IDEA-Research/OSX", _UNSTATED),
    "halpe": _HALPE,
    "halpe26": _HALPE,
    "300w": DataSet(
        "ibug.doc.ic.ac.uk/resources/300-W", "non-commercial; labels for research; no products", "non-commercial"
    ),
    "300wlp": DataSet("cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA", _NOT_FOUND),
    "aflw": DataSet("tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw", _NOT_FOUND),
    "cofw": DataSet("vision.caltech.edu/xpburgos/ICCV13", _NOT_FOUND),
    "lapa": DataSet("github.com/JDAI-CV/lapa-dataset", "non-commercial", "non-commercial"),
    "wflw": DataSet("wywu.github.io/projects/LAB/WFLW.html", _NOT_FOUND),
    "onehand10k": DataSet("yangangwang.com/papers/WANG-MCC-2018-10.html", _NOT_FOUND),
    "freihand": DataSet(
        "lmb.informatik.uni-freiburg.de/projects/freihand", "non-commercial; for research", "non-commercial"
    ),
    "rhd2d": DataSet("lmb.informatik.uni-freiburg.de/resources/datasets/RenderedHandposeDataset.en.html", _NOT_FOUND),
    "interhand2.6m": DataSet("mks0601.github.io/InterHand2.6M", "non-commercial; CC BY-NC 4.0", "non-commercial"),
    "ap10k": DataSet("github.com/AlexTheBad/AP-10K", "CC BY 4.0", "CC BY 4.0"),
    "animalpose": DataSet("sites.google.com/view/animal-pose", _UNSTATED),
    "animalkingdom": DataSet("sutdcv.github.io/Animal-Kingdom", _NOT_FOUND),
    "atrw": DataSet("cvwc2019.github.io/challenge.html", "non-commercial; CC BY-NC-SA 4.0", "non-commercial"),
    "fly": _DEEPPOSEKIT,
    "locust": _DEEPPOSEKIT,
    "zebra": _DEEPPOSEKIT,
    "horse10": DataSet("mackenziemathislab.org/horse10", _NOT_FOUND),
    "macaque": DataSet("pri.ehub.kyoto-u.ac.jp/datasets/macaquepose", _NOT_FOUND),
    "deepfashion_full": _DEEPFASHION,
    "deepfashion_upper": _DEEPFASHION,
    "deepfashion_lower": _DEEPFASHION,
    "deepfashion2": DataSet("github.com/switchablenorms/DeepFashion2", "unknown; none in its README; on request"),
    # Of the carried model alone, whose card says more.
    "lspet": DataSet("sam.johnson.io/research/lspet.html", _NOT_FOUND),
    "voc2011": DataSet("host.robots.ox.ac.uk/pascal/VOC", "unknown; photos as on Flickr; for research"),
    "clothing_parsing": DataSet("github.com/bearpaw/clothing-co-parsing", "Apache-2.0", "Apache-2.0"),
    "sports100": DataSet("github.com/Vigneshraj15/SportsActivityDetection", _UNSTATED),
}
"""Data sets by the name of their format (`fastpose.data.read_annotations`), where there is one."""

_BODIES = ("aic", "crowdpose", "mpii", "jhmdb", "halpe", "posetrack18")

MIXTURES: Mapping[str, tuple[str, ...]] = {
    "body8": ("coco", *_BODIES),
    "cocktail14": (
        *("coco_wholebody", "halpe", "ubody", "aic", "crowdpose", "mpii", "jhmdb", "posetrack18", "humanart21"),
        *("wflw", "300w", "cofw", "lapa", "interhand2.6m"),
    ),
    "coco_aic": ("coco", "aic"),
    "coco_ubody": ("coco_wholebody", "ubody"),
    "face6": ("lapa", "coco_wholebody_face", "wflw", "300w", "cofw", "halpe"),
    "halpe26": ("coco_wholebody", *_BODIES),
    "hand5": ("coco_wholebody_hand", "onehand10k", "freihand", "rhd2d", "halpe"),
    "people": ("lspet", "coco", "voc2011", "clothing_parsing", "sports100"),
}
"""What stands together under one name, as the official configurations list it (body8 is trained on seven)."""


def parts_of(dataset: str) -> tuple[str, ...]:
    """The data sets that an entry's ``dataset`` stands for: ``jhmdb_sub1`` is of ``jhmdb``, ``coco_aic`` is two."""
    whole = re.sub(r"^(jhmdb)_sub\d$|^(animalkingdom|deepfashion2)_\w+$|^(freihand)2d$", r"\1\2\3", dataset)
    return MIXTURES.get(whole, (whole,))


def training_sets(entry: ZooEntry) -> dict[str, DataSet]:
    """Every pose data set that an entry's weights have seen: its own, then those of the weights that it started from.

    ImageNet, from which most networks start, is not among them: `ZooEntry.starts_from` says it.
    """
    names = parts_of(entry.dataset)
    if entry.starts_from not in (None, "imagenet"):
        names += parts_of(str(entry.starts_from))
    return {name: DATA_SETS[name] for name in names}


def data_terms(entry: ZooEntry) -> str:
    """The terms of all training sets together, in a few words.

    Returns:
        ``non-commercial`` if one of them is; else ``unknown`` if nothing is known of one; else their licences.
    """
    uses = dict.fromkeys(dataset.use for dataset in training_sets(entry).values())
    return next((use for use in ("non-commercial", "unknown") if use in uses), ", ".join(uses))


def weights_licence(entry: ZooEntry) -> str | None:
    """The licence of the project that publishes the weights, which states none for them alone; None without weights."""
    return "Apache-2.0" if entry.weights else None
