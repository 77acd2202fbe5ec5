"""Turn a table of MMPose's model zoo into this project's zoo entries.

    python tools/make_zoo.py zoo.json [--out fastpose/models/zoo/entries] [--measure]

The table is a list of configurations (`config`, `dataset`, `model`, `codec`, `train`, `val`, `optim_wrapper`,
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
from zoo_table.recipes import read_recipe

from fastpose.codecs import build_codec
from fastpose.models import build_model, list_architectures
from fastpose.models.registry import architecture_options
from fastpose.skeletons import get_skeleton
from fastpose.spec import PoseSpec

Json = dict[str, Any]

SKELETONS = {
    "aic": "aic14",
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
CODECS = {"MSRAHeatmap": "gaussian", "UDPHeatmap": "udp", "MegviiHeatmap": "megvii", "RegressionLabel": "regression"}
# The figure that sums up the others comes first; two blocks of figures differ in what they were measured against.
HEADLINES = ("AP", "Mean", "Total")
BLOCKS = {"jhmdb": ("box", "torso"), "posetrack18": ("true boxes", "detected boxes")}


def entry(row: Json, unsaid: Counter[str]) -> tuple[str, Json]:
    """The file and the entry of one row of the table."""
    alias = Path(row["config"]).stem
    dataset = _dataset(row, alias)
    model = Node(row["model"], alias)
    model.require(type="TopdownPoseEstimator")
    skeleton = _skeleton(row)
    keypoints = get_skeleton(skeleton).num_keypoints
    codec = _codec(row["codec"])
    channels = build_codec(**codec).output_channels(keypoints)
    family, network, stages, training = read_model(model, keypoints, channels)
    spec = _spec(model, row, skeleton, codec, stages, training)
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
    parameters, gflops = size(network.architecture, json.dumps(arguments), json.dumps(spec))
    data = {
        "name": f"{'_'.join([network.architecture, *words])}.{dataset}_{height}x{width}",
        "alias": alias,
        "architecture": network.architecture,
        "arguments": arguments,
        "spec": spec,
        "dataset": dataset,
        "parameters": parameters,
        "gflops": gflops,
        "recipe": recipe,
        "metrics": _metrics(row),
        "weights": _weights(row, f"{height}x{width}"),
    }
    return family, {key: value for key, value in data.items() if value != {}}


def _dataset(row: Json, alias: str) -> str:
    """What it was trained on: a part of JHMDB, COCO with AI Challenger, or what it is measured with."""
    part = re.search(r"_jhmdb-(sub\d)-", alias)
    if part:
        return f"jhmdb_{part[1]}"
    return "coco_aic" if re.search(r"_(coco-aic|aic-coco)-", alias) else row["dataset"]


def _skeleton(row: Json) -> str:
    """Name of the skeleton: the data set's, unless the training says that it predicts that of two at once."""
    metainfo = row["train"]["metainfo"] or {}
    return "coco_aic19" if metainfo.get("from_file", "").endswith("coco_aic.py") else SKELETONS[row["dataset"]]


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
    shifted = test.take("shift_heatmap" if built.takes == "maps" else "shift_coords", False)
    if shifted != getattr(built, "shifts_mirror", True):
        raise ValueError(f"shift of the mirrored output: {shifted}, not that of the codec {built.kind}")
    test.expect(flip_mode="udp_combined" if codec["kind"] == "udp_combined" else "heatmap")
    if skeleton == "coco_aic19":
        # Measured on COCO: the first 17 of the 19 points are COCO's.
        test.require(output_keypoint_indices=list(range(17)))
        model.expect(metainfo=row["train"]["metainfo"])
    test.done()
    model.ignore("train_cfg")  # whether to count accuracy during training
    if _affine(row["val"]["pipeline"], row) != _affine(row["train"]["pipeline"], row):
        raise ValueError("UDP: training and validation differ")
    if _affine(row["val"]["pipeline"], row):
        spec["udp"] = True
    if stages > 1:
        spec["output_stages"] = stages
    return spec


def _affine(pipeline: list[Json], row: Json) -> bool:
    """Whether crops follow the UDP convention."""
    steps = {step["type"]: step for step in pipeline}
    Node(steps["GetBBoxCenterScale"], "GetBBoxCenterScale").require(type="GetBBoxCenterScale")
    crop = Node(steps["TopdownAffine"], "TopdownAffine")
    codec = row["codec"][-1] if isinstance(row["codec"], list) else row["codec"]
    crop.require(type="TopdownAffine", input_size=codec["input_size"])
    udp = crop.take("use_udp", False)
    crop.done()
    return udp


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
        if row["dataset"] == "humanart":
            kind = published["dataset"]  # the table has what these networks reach on COCO
        suffix = f" ({kind})" if kind else ""
        percent = max(block.values()) > 1
        for key in sorted(block, key=lambda key: (key not in HEADLINES, key)):
            found[key + suffix] = round(block[key] / 100, 4) if percent else block[key]
    return found


def _weights(row: Json, size: str) -> Json:
    """Address, and the hash prefix that official file names carry; nothing if the name says another input size."""
    addresses = {published["weights"] for published in row["published"]}
    if not addresses:
        return {}
    (url,) = addresses
    sizes = re.findall(r"\d+x\d{3}(?=-)", url)
    if sizes and size not in sizes:
        print(f"left out: {url}, which the table gives to a network for {size}", file=sys.stderr)
        return {}
    found = re.search(r"-([0-9a-f]{8})_\d{8}\.pth$", url)
    return {"url": url, "sha256": found[1]} if found else {"url": url}


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
    parser.add_argument("table", type=Path)
    default = Path(__file__).resolve().parents[1] / "fastpose" / "models" / "zoo" / "entries"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--measure", action="store_true", help="count parameters and GFLOPs of known networks anew")
    arguments = parser.parse_args()
    if not arguments.measure:
        _SIZES.update(known_sizes(arguments.out))
    files: dict[str, list[Json]] = {}
    left_out: Counter[str] = Counter()
    unsaid: Counter[str] = Counter()
    for row in json.loads(arguments.table.read_text(encoding="utf-8")):
        try:
            family, data = entry(row, unsaid)
        except NotYetError as reason:
            left_out[str(reason)] += 1
        else:
            files.setdefault(family, []).append(data)
    for family, entries in sorted(files.items()):
        write(arguments.out / f"{family}.json", sorted(entries, key=rank))
        print(f"{family}.json: {len(entries)} entries")
    print(f"{sum(map(len, files.values()))} entries, {sum(left_out.values())} left out")
    for title, counter in (("left out", left_out), ("not in the recipes", unsaid)):
        for reason, count in counter.most_common():
            print(f"{title}: {count} x {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
