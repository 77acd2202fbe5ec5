"""Turn a table of MMPose's model zoo into this project's zoo entries.

    python tools/make_zoo.py zoo.json zoo_wider.json [--out fastpose/models/zoo/entries] [--measure]

A table is a list of configurations (`config`, `dataset`, `model`, `codec`, `train`, `val`, `optim_wrapper`,
`param_scheduler`, `train_cfg`, `published`, ...; facts read from MMPose 1.3's config files and model index). One file a
family comes out. Every argument of a configuration must be accounted for: one that is not is an error. A configuration
whose architecture (or an option of it) this project does not have is left out and counted; what a recipe cannot say yet
is counted too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from zoo_table.models import Training, read_model
from zoo_table.node import Node, NotYetError
from zoo_table.recipes import read_distillation, read_recipe

from fastpose.codecs import build_codec
from fastpose.models import build_model, list_architectures
from fastpose.models.registry import architecture_options
from fastpose.skeletons import get_skeleton
from fastpose.spec import PoseSpec

Json = dict[str, Any]

SKELETONS = {
    "300w": "300w68",
    "300wlp": "300wlp68",
    "aflw": "aflw19",
    "aic": "aic14",
    "ak": "animalkingdom23",
    "animalpose": "animalpose20",
    "ap10k": "ap10k17",
    "cocktail14": "coco_wholebody133",
    "coco-wholebody": "coco_wholebody133",
    "coco_wholebody_face": "coco_wholebody_face68",
    "coco_wholebody_hand": "coco_wholebody_hand21",
    "cofw": "cofw29",
    "deepfashion2": "deepfashion2_294",
    "deepfashion_full": "deepfashion_full8",
    "deepfashion_lower": "deepfashion_lower4",
    "deepfashion_upper": "deepfashion_upper6",
    "face6": "lapa106",
    "freihand2d": "freihand21",
    "hand5": "coco_wholebody_hand21",
    "lapa": "lapa106",
    "locust": "locust35",
    "onehand10k": "onehand10k21",
    "rhd2d": "rhd21",
    "ubody": "coco_wholebody133",
    "ubody2d": "coco_wholebody133",
    "wflw": "wflw98",
    "zebra": "zebra9",
    "coco": "coco17",
    "crowdpose": "crowdpose14",
    "exlpose": "exlpose14",
    "humanart": "humanart17",
    "jhmdb": "jhmdb15",
    "mpii": "mpii16",
    "posetrack18": "posetrack18_17",
}
# What a config's name says about how a network was built, trained or decoded → word in the entry's name.
VARIANTS = (
    (r"^simcc_(?!.*_wo-deconv)", "simcc"),
    (r"^simcc_.*_wo-deconv", "simcc_plain"),
    (r"^ipr_.*_debias", "ipr_debias"),
    (r"^ipr_.*_dsnt", "dsnt"),
    (r"^ipr_(?!.*_(?:debias|dsnt))", "ipr"),
    (r"_awing[-_]", "adaptive_wing"),
    (r"_softwingloss", "soft_wing"),
    (r"_wingloss", "wing"),
    (r"^(?:dwpose|rtmpose)_(\w)_dis_\w_", r"distilled_\1"),
    (r"^dwpose_\w-\w\w_", "distilled"),
    (r"_(\d)x(mspn|rsn)", r"x\1"),
    (r"-vis_", "visibility"),
    (r"-simple_", "simple"),
    (r"-2deconv_", "2deconv"),
    (r"^td-reg_(?!.*_rle)", "regression"),
    (r"_rle-pretrained-", "rle_pretrained"),
    (r"_rle-\d", "rle"),
    (r"_udp-regress-", "udp_regress"),
    (r"_udp[-_]\d", "udp"),
    (r"_(dark|fp16|coarsedropout|gridmask|photometric)-", r"\1"),
    (r"-(merge|combine)$", r"\1"),
)
CODECS = {
    "IntegralRegressionLabel": "integral",
    "MSRAHeatmap": "gaussian",
    "MegviiHeatmap": "megvii",
    "RegressionLabel": "regression",
    "SimCCLabel": "simcc",
    "UDPHeatmap": "udp",
}
# What the name of a file of weights says it was trained on; in this order, as names tell their history, too.
STARTS = (
    (r"simcc-ucoco_", "coco_ubody"),
    (r"(udp|simcc)-body7_", "body8"),
    (r"udp-aic-coco_", "coco_aic"),
    (r"_coco[-_]256x192", "coco"),
    (
        r"in1k|imagenet|22k|^mae_pretrain|^(se-)?resn[a-z]+\d+(_v1d|_32x4d)?$|^mobilenet_v2$|^shufflenet_v\d$",
        "imagenet",
    ),
    (r"^hrnetv2_w18$|^hrnet_w\d\d-\w{8}\.|^hrformer_|^pvt_|^scnet\d+-|^swin_tiny_|^vgg16_bn$", "imagenet"),
)
# The figure that sums up the others comes first; two blocks of figures differ in what they were measured against.
HEADLINES = ("AP", "Mean", "Total", "Whole AP", "PCK@0.2", "PCKh@0.7", "PCK", "NME full", "NME test", "NME", "Mean@0.1")
# Of one DeepFashion network the index has the share as an error and the error as a share; its page has them right.
SWAPPED = {"AUC": 74.4, "EPE": 96.5, "PCK@0.2": 10.5}
BLOCKS = {"jhmdb": ("box", "torso"), "posetrack18": ("true boxes", "detected boxes")}


def entry(row: Json, students: dict[str, Json], unsaid: Counter[str]) -> tuple[str, Json]:
    """The file and the entry of one row of the table; ``students``: all rows by name."""
    alias = Path(row["config"]).stem
    dataset = _dataset(row, alias)
    distiller = Node(row["model"], alias) if row["model"]["type"] == "DWPoseDistiller" else None
    if distiller:  # its network is the student's
        student = students[Path(row["model"]["student_cfg"]).stem]
        row = {**row, "model": student["model"]}
    decoder = row["model"]["head"].get("decoder")
    if "deepfashion" in alias and decoder != row["codec"]:
        # Six configurations name UDP's codec after their pipelines and heads have taken the ordinary one; what the
        # tests of these say of the mirror is UDP's, too.
        test = {**row["model"]["test_cfg"], "shift_heatmap": True}
        row = {**row, "codec": decoder, "model": {**row["model"], "test_cfg": test}}
    model = Node(row["model"], alias)
    model.require(type="TopdownPoseEstimator")
    skeleton = _skeleton(row)
    keypoints = get_skeleton(skeleton).num_keypoints
    codec = _codec(row["codec"])
    channels = build_codec(**codec).output_channels(keypoints)
    family, network, stages, training = read_model(model, keypoints, channels)
    spec = _spec(model, row, skeleton, codec, stages, training)
    if model.take("init_cfg", None):
        unsaid["the network starts from weights of another one"] += 1
    model.done()
    if network.architecture not in list_architectures():
        raise NotYetError(f"no architecture {network.architecture}")
    known = architecture_options(network.architecture)
    if set(network.options) - set(known):
        raise NotYetError(f"{network.architecture}: no option {', '.join(sorted(set(network.options) - set(known)))}")
    arguments = {key: value for key, value in network.options.items() if json.loads(json.dumps(known[key])) != value}
    height, width = spec["input_size"]
    if not re.search(rf"-{height}x{width}(-|$)", alias):
        raise ValueError(f"{alias}: its input is {height}x{width}")
    words = [found.expand(word) for pattern, word in VARIANTS if (found := re.search(pattern, alias))]
    missing: set[str] = set()
    recipe = read_recipe(row, alias, training, stages, missing)
    unsaid.update(missing)
    if distiller:
        recipe["train"]["distill"] = read_distillation(distiller)
    parameters, gflops = size(network.architecture, json.dumps(arguments), json.dumps(spec))
    data = {
        "name": f"{'_'.join([network.architecture, *words])}.{dataset}_{height}x{width}",
        "alias": alias,
        "architecture": network.architecture,
        "arguments": arguments,
        "spec": spec,
        "dataset": dataset,
        "starts_from": _starts_from(row["model"]),
        "topic": row.get("topic", "body_2d_keypoint").removesuffix("_2d_keypoint"),
        "parameters": parameters,
        "gflops": gflops,
        "recipe": recipe,
        "metrics": _metrics(row),
        "weights": _weights(row, f"{height}x{width}"),
    }
    usual = {"topic": "body", "starts_from": None}
    return family, {key: value for key, value in data.items() if value != {} and usual.get(key) != value}


def _dataset(row: Json, alias: str) -> str:
    """What it was trained on: a part of JHMDB, COCO with AI Challenger, or what it is measured with."""
    part = re.search(r"_jhmdb-(sub\d)-", alias)
    if part:
        return f"jhmdb_{part[1]}"
    if re.search(r"_(coco-aic|aic-coco)-", alias):
        return "coco_aic"
    if "halpe26" in alias:
        return "halpe26"
    part = re.search(r"_(deepfashion_\w+|deepfas(?:h?)ion2[_-][\w-]+?|animalkingdom_[\w-]+?)-\d+x\d+$", alias)
    if part:
        return part[1].replace("-", "_").lower().replace("fasion", "fashion")
    return {"coco-wholebody": "coco_wholebody", "ubody": "coco_ubody", "ubody2d": "coco_ubody"}.get(
        row["dataset"], row["dataset"]
    )


def _starts_from(model: Json) -> str | None:
    """What the weights from which the training starts had learned; None where it starts from nothing."""
    for part in (model, model["backbone"]):
        name = (part.get("init_cfg") or {}).get("checkpoint", "").split("/")[-1]
        if name:
            found = next((dataset for pattern, dataset in STARTS if re.search(pattern, name)), None)
            if found is None:
                raise ValueError(f"init_cfg: of what data set is {name}?")
            return found
    return None


def _skeleton(row: Json) -> str:
    """Name of the skeleton: the data set's, unless the training says that it predicts that of two at once."""
    file = Path((row["train"]["metainfo"] or {}).get("from_file", "")).stem
    if file in ("coco", "coco_aic", "halpe26"):
        return {"coco": "coco17", "coco_aic": "coco_aic19", "halpe26": "halpe26"}[file]
    part = re.search(r"_(deepfashion_\w+)-", row["config"])
    return SKELETONS[part[1] if part else row["dataset"]]


def _spec(model: Node, row: Json, skeleton: str, codec: Json, stages: int, training: Training) -> Json:
    """The fields of PoseSpec that differ from its defaults, or that differ between the rows of the table."""
    configs = row["codec"] if isinstance(row["codec"], list) else [row["codec"]]
    if training.decoder != configs[-1]:
        raise ValueError(f"decoder {training.decoder}: expected {configs[-1]}")
    preprocessor, test = model.node("data_preprocessor"), model.node("test_cfg")
    preprocessor.require(type="PoseDataPreprocessor", bgr_to_rgb=True)
    preprocessor.require(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    preprocessor.done()
    spec = {"skeleton": skeleton, "input_size": configs[-1]["input_size"][::-1], "codec": codec}
    spec["flip_test"] = test.take("flip_test")
    # The shift of the mirrored output is the codec's own; maps have it by one name, coordinates by another.
    built = build_codec(**codec)
    names = {"maps": ["shift_heatmap"], "coordinates": ["shift_coords"], "integral": ["shift_coords", "shift_heatmap"]}
    for name in names.get(built.takes, []):
        shifted = test.take(name, name == "shift_coords")  # MMPose's defaults
        if shifted != getattr(built, "shifts_mirror", True) and spec["flip_test"]:
            raise ValueError(f"shift of the mirrored output: {shifted}, not that of the codec {built.kind}")
    test.ignore("shift_coords", "shift_heatmap")  # which heads of other outputs do not look at
    test.expect(flip_mode="udp_combined" if codec["kind"] == "udp_combined" else "heatmap")
    if skeleton == "coco_aic19":
        # Measured on COCO: the first 17 of the 19 points are COCO's.
        test.require(output_keypoint_indices=list(range(17)))
        model.expect(metainfo=row["train"]["metainfo"])
    test.done()
    model.ignore("train_cfg")  # whether to count accuracy during training
    crop = _crop(row["val"]["pipeline"], row)
    if crop != _crop(row["train"]["pipeline"], row):
        raise ValueError("UDP, padding: training and validation differ")
    spec.update(crop)
    if stages > 1:
        spec["output_stages"] = stages
    return spec


def _crop(pipeline: list[Json], row: Json) -> Json:
    """How crops are cut, where it is not the usual way: by the UDP convention, with another padding."""
    steps = {step["type"]: step for step in pipeline}
    box = Node(steps["GetBBoxCenterScale"], "GetBBoxCenterScale")
    box.require(type="GetBBoxCenterScale")
    padding = box.take("padding", 1.25)
    box.done()
    crop = Node(steps["TopdownAffine"], "TopdownAffine")
    codec = row["codec"][-1] if isinstance(row["codec"], list) else row["codec"]
    crop.require(type="TopdownAffine", input_size=codec["input_size"])
    udp = crop.take("use_udp", False)
    crop.done()
    return ({"udp": True} if udp else {}) | ({"padding": padding} if padding != 1.25 else {})


def _codec(config: Json | list[Json]) -> Json:
    """The fields of Codec that differ from its defaults; of several levels the last, which is decoded."""
    if isinstance(config, list):
        config = config[-1]
    node = Node(config, config["type"])
    kind = CODECS[node.take("type")]
    node.ignore("input_size")
    if kind == "regression":
        node.done()
        return {"kind": kind}
    if kind == "simcc":
        sigma = node.take("sigma")
        found: Json = {"kind": kind, "sigma": sigma if isinstance(sigma, list) else [sigma, sigma]}
        found["split_ratio"] = node.take("simcc_split_ratio")
        for ours, theirs in (("normalized", "normalize"), ("dark", "use_dark"), ("visibility", "decode_visibility")):
            value = node.take(theirs, ours == "normalized")
            if value != (ours == "normalized"):
                found[ours] = value
        node.done()
        return found
    if kind == "integral":
        node.require(normalize=True)
        found = {"kind": kind, "heatmap_size": node.take("heatmap_size")[::-1], "sigma": node.take("sigma")}
        node.done()
        return found
    if kind == "gaussian" and node.take("unbiased", False):
        kind = "dark"
    if kind == "udp" and node.take("heatmap_type", "gaussian") == "combined":
        kind = "udp_combined"
    data = {"kind": kind, "heatmap_size": node.take("heatmap_size")[::-1]}
    if kind == "megvii":
        data["kernel_size"] = node.take("kernel_size")
    elif kind == "udp_combined":
        node.ignore("sigma")  # its disc has none
    else:
        data["sigma"] = node.take("sigma")
    blur = node.take("blur_kernel_size", None)
    if blur is not None:
        data["blur_kernel"] = blur
    node.done()
    return data


_SIZES: dict[tuple[str, str, str], tuple[int, float]] = {}


def size(architecture: str, arguments: str, spec: str) -> tuple[int, float]:
    """Parameters, and multiplications with additions of one forward pass in 1e9, as papers count them."""
    key = architecture, arguments, spec
    if key not in _SIZES:
        _SIZES[key] = measure(*key)
    return _SIZES[key]


def known_sizes(folder: Path) -> dict[tuple[str, str, str], tuple[int, float]]:
    """The sizes that stand in entries already: measuring takes minutes."""
    known = {}
    for file in folder.glob("*.json"):
        for data in json.loads(file.read_text(encoding="utf-8")):
            key = data["architecture"], json.dumps(data.get("arguments", {})), json.dumps(data["spec"])
            known[key] = data["parameters"], data["gflops"]
    return known


def measure(architecture: str, arguments: str, spec: str) -> tuple[int, float]:
    """As `size`, by running the network on shapes alone."""
    values = json.loads(spec)
    codec, skeleton = build_codec(**values.pop("codec")), get_skeleton(values.pop("skeleton"))
    with torch.device("meta"), torch.no_grad():
        whole = PoseSpec(skeleton=skeleton, codec=codec, **values)
        model = build_model(architecture, whole, json.loads(arguments)).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, *whole.input_size))
    return sum(p.numel() for p in model.parameters()), round(counter.get_total_flops() / 2e9, 3)


def _metrics(row: Json) -> dict[str, float]:
    """Published figures as fractions, the one that sums up the others first."""
    found = {}
    for published, kind in zip(row["published"], BLOCKS.get(row["dataset"], ("",)), strict=False):
        block = published["metrics"]
        if block == SWAPPED:
            block = {**block, "EPE": block["PCK@0.2"], "PCK@0.2": block["EPE"]}
        if row["dataset"] == "humanart":
            kind = published["dataset"]  # the table has what these networks reach on COCO
        suffix = f" ({kind})" if kind else ""
        shares = [value for key, value in block.items() if not key.startswith(("EPE", "NME"))]
        percent = max(shares, default=0) > 1
        for key in sorted(block, key=lambda key: (HEADLINES.index(key) if key in HEADLINES else 99, key)):
            # A mean error (EPE) is in pixels; a normalised one (NME) is in percent in some tables.
            hundredth = block[key] > 0.5 if key.startswith("NME") else percent and not key.startswith("EPE")
            found[key + suffix] = round(block[key] / 100, 6) if hundredth else block[key]
    return found


def _weights(row: Json, size: str) -> Json:
    """Address, and the hash prefix that official file names carry; nothing if the name says another input size."""
    addresses = {published["weights"] for published in row["published"]}
    if not addresses:
        return {}
    if len(addresses) > 1:
        raise ValueError(f"weights: expected one file, got {addresses}")
    url = addresses.pop().lstrip("(")  # one stands in the table as a bad link
    sizes = re.findall(r"\d+x\d{3}(?=-)", url)
    if sizes and size not in sizes:
        print(f"left out: {url}, which the table gives to a network for {size}", file=sys.stderr)
        return {}
    found = re.search(r"-([0-9a-f]{8})_\d{8}\.pth$", url)
    return {"url": url, "sha256": found[1]} if found else {"url": url}


def name_teachers(entries: list[Json]) -> None:
    """Give teachers in recipes their zoo names, and leave out weights that their entries have."""
    by_alias = {data["alias"]: data for data in entries}
    for data in entries:
        distill = data["recipe"]["train"].get("distill")
        if distill:
            alias = distill["teacher"]
            teacher = by_alias.get(alias) or by_alias[alias.replace("dwpose_", "rtmpose_")]
            distill["teacher"] = teacher["name"]
            published = teacher.get("weights", {}).get("url", "").split("/")[-1]
            if distill.get("weights", "").split("/")[-1] == published:
                distill.pop("weights", None)


def write(path: Path, entries: list[Json]) -> None:
    """One key a line, so that a change of one value is a change of one line."""
    blocks = []
    for data in entries:
        lines = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
        blocks.append("  {\n" + ",\n".join(lines) + "\n  }")
    path.write_text("[\n" + ",\n".join(blocks) + "\n]\n", encoding="utf-8")


def rank(data: Json) -> tuple[Any, ...]:
    """Order in a file: a stem's first entry is what the stem alone stands for, so COCO's smallest comes first."""
    return data["architecture"], data["name"].split(".")[0], data["dataset"] != "coco", data["spec"]["input_size"]


def main() -> None:
    """Read the table, write the files, say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="+")
    default = Path(__file__).resolve().parents[1] / "fastpose" / "models" / "zoo" / "entries"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--measure", action="store_true", help="count parameters and GFLOPs of known networks anew")
    arguments = parser.parse_args()
    if not arguments.measure:
        _SIZES.update(known_sizes(arguments.out))
    files: dict[str, list[Json]] = {}
    left_out: Counter[str] = Counter()
    unsaid: Counter[str] = Counter()
    rows = [row for table in arguments.table for row in json.loads(table.read_text(encoding="utf-8"))]
    students = {Path(row["config"]).stem: row for row in rows}
    for row in rows:
        try:
            family, data = entry(row, students, unsaid)
        except NotYetError as reason:
            left_out[str(reason)] += 1
        else:
            files.setdefault(family, []).append(data)
    name_teachers([data for entries in files.values() for data in entries])
    for family, entries in sorted(files.items()):
        write(arguments.out / f"{family}.json", sorted(entries, key=rank))
        print(f"{family}.json: {len(entries)} entries")
    print(f"{sum(map(len, files.values()))} entries, {sum(left_out.values())} left out")
    for title, counter in (("left out", left_out), ("not in the recipes", unsaid)):
        for reason, count in counter.most_common():
            print(f"{title}: {count} x {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
