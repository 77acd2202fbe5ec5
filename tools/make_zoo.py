"""Turn a table of MMPose's model zoo into this project's zoo entries.

    python tools/make_zoo.py zoo.json [--out fastpose/models/zoo/entries]

The table is a list of configurations (`config`, `dataset`, `model`, `codec`, `train`, `val`, `optim_wrapper`,
`param_scheduler`, `train_cfg`, `published`; facts read from MMPose 1.3's config files and model index). One file a
family comes out. A configuration whose backbone has no function in FAMILIES yet, or whose skeleton is not known yet, is
left out and counted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Data sets whose skeleton this project has.
SKELETONS = {"coco": "coco17"}
# Words of a config name that say how a network was trained or decoded; they go into the entry's name.
VARIANTS = ("udp", "dark", "fp16")
# What Augmentation calls the values of MMPose's RandomBBoxTransform, and MMPose's defaults.
SCALE_AND_ROTATION = {"scale": ("scale_factor", [0.5, 1.5]), "rotate": ("rotate_factor", 80.0)}


class NotYetError(Exception):
    """The project cannot express this configuration yet."""


def resnet(model: Json) -> tuple[str, Json]:
    """ResNet with the deconvolution head."""
    extra = set(model["backbone"]) - {"type", "depth", "init_cfg"}
    if extra:
        raise NotYetError(f"ResNet with {sorted(extra)}")
    arguments = {}
    if "deconv_out_channels" in model["head"]:
        arguments["deconv_channels"] = model["head"]["deconv_out_channels"]
    return f"resnet{model['backbone']['depth']}", arguments


def litehrnet(model: Json) -> tuple[str, Json]:
    """Lite-HRNet, told by its number of modules."""
    modules = model["backbone"]["extra"]["stages_spec"]["num_modules"]
    return {(2, 4, 2): "litehrnet18", (3, 8, 3): "litehrnet30"}[tuple(modules)], {}


# Backbone type → file of entries, and what reads the architecture and its arguments out of a model's configuration.
FAMILIES: dict[str, tuple[str, Callable[[Json], tuple[str, Json]]]] = {
    "ResNet": ("resnet", resnet),
    "LiteHRNet": ("litehrnet", litehrnet),
}


def entry(row: Json) -> tuple[str, Json]:
    """The file and the entry of one row of the table."""
    backbone = row["model"]["backbone"]["type"]
    if backbone not in FAMILIES:
        raise NotYetError(f"backbone {backbone}")
    if row["model"]["head"]["type"] != "HeatmapHead":
        raise NotYetError(f"head {row['model']['head']['type']}")
    if row["dataset"] not in SKELETONS:
        raise NotYetError(f"data set {row['dataset']}")
    family, read = FAMILIES[backbone]
    architecture, arguments = read(row["model"])
    spec = pose_spec(row)
    alias = Path(row["config"]).stem
    stem = "_".join([architecture, *(word for word in VARIANTS if re.search(rf"[_-]{word}(?=[_-])", alias))])
    height, width = spec["input_size"]
    published = row["published"][0] if row["published"] else None
    data = {
        "name": f"{stem}.{row['dataset']}_{height}x{width}",
        "alias": alias,
        "architecture": architecture,
        "arguments": arguments,
        "spec": spec,
        "dataset": row["dataset"],
        "recipe": recipe(row, alias),
        "metrics": published["metrics"] if published else {},
        "weights": weights(published["weights"], f"{height}x{width}") if published else {},
    }
    return family, {key: value for key, value in data.items() if value != {}}


def pose_spec(row: Json) -> Json:
    """The fields of PoseSpec that differ from its defaults."""
    preprocessor, test = row["model"]["data_preprocessor"], row["model"]["test_cfg"]
    standard = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
    if any(preprocessor[key] != value for key, value in standard.items()):
        raise NotYetError("another normalisation")
    steps = {step["type"]: step for step in row["val"]["pipeline"]}
    spec = {
        "skeleton": SKELETONS[row["dataset"]],
        "input_size": row["codec"]["input_size"][::-1],
        "codec": codec(row["codec"]),
        "flip_test": test["flip_test"],
        "flip_shift": test.get("shift_heatmap", False),
    }
    if steps["TopdownAffine"].get("use_udp", False):
        spec["udp"] = True
    if "padding" in steps["GetBBoxCenterScale"]:
        spec["padding"] = steps["GetBBoxCenterScale"]["padding"]
    return spec


def codec(config: Json) -> Json:
    """The fields of CodecSpec that differ from its defaults."""
    if config["type"] != "MSRAHeatmap":
        raise NotYetError(f"codec {config['type']}")
    data: Json = {
        "kind": "dark" if config.get("unbiased", False) else "gaussian",
        "heatmap_size": config["heatmap_size"][::-1],
        "sigma": config["sigma"],
    }
    if "blur_kernel_size" in config:
        data["blur_kernel"] = config["blur_kernel_size"]
    return data


def recipe(row: Json, alias: str) -> Json:
    """What a training recipe says about augmentation and loop, in its own words."""
    gpus = re.search(r"[_-](\d+)xb(\d+)-(\d+)e_", alias)
    if gpus is None or int(gpus[2]) != row["train"]["batch_size"] or int(gpus[3]) != row["train_cfg"]["max_epochs"]:
        raise NotYetError("the config's name does not say its batch size and epochs")
    optimizer = row["optim_wrapper"]["optimizer"]
    warmup, steps = row["param_scheduler"]
    epochs = row["train_cfg"]["max_epochs"]
    if (optimizer["type"], warmup["type"], steps["type"]) != ("Adam", "LinearLR", "MultiStepLR"):
        raise NotYetError(f"optimizer {optimizer['type']}, schedule {warmup['type']} and {steps['type']}")
    transform = next(step for step in row["train"]["pipeline"] if step["type"] == "RandomBBoxTransform")
    return {
        "augment": {ours: transform.get(theirs, default) for ours, (theirs, default) in SCALE_AND_ROTATION.items()},
        "train": {
            "epochs": epochs,
            "batch_size": int(gpus[1]) * int(gpus[2]),
            "use_joint_weights": False,
            "optimizer": {"name": "adam", "lr": optimizer["lr"]},
            "schedule": {
                "kind": "step",
                "warmup": warmup["end"],
                "warmup_start": warmup["start_factor"],
                "milestones": [round(epoch / epochs, 4) for epoch in steps["milestones"]],
                "factor": steps["gamma"],
            },
        },
    }


def weights(url: str, size: str) -> Json:
    """Address, and the hash prefix that official file names carry; nothing if the name says another input size."""
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


def main() -> None:
    """Read the table, write the files, say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    default = Path(__file__).resolve().parents[1] / "fastpose" / "models" / "zoo" / "entries"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    files: dict[str, list[Json]] = {}
    left_out: Counter[str] = Counter()
    for row in json.loads(arguments.table.read_text(encoding="utf-8")):
        try:
            family, data = entry(row)
        except NotYetError as reason:
            left_out[str(reason)] += 1
        else:
            files.setdefault(family, []).append(data)
    for family, entries in files.items():
        # An architecture's (or variant's) first entry is its default: the smallest input.
        entries.sort(key=lambda e: (e["architecture"], e["name"].split(".")[0], e["spec"]["input_size"]))
        write(arguments.out / f"{family}.json", entries)
        print(f"{family}.json: {len(entries)} entries")
    print(
        f"left out: {sum(left_out.values())} ({'; '.join(f'{n}x {why}' for why, n in left_out.items())})",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
