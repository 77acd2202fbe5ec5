"""``fastpose info``: versions, core, devices, carried model; or all about one model, or a data set."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .file_report import checkpoint_facts, file_facts
from .options import annotation_options, category_option, given_options

if TYPE_CHECKING:
    from ..models import PoseModel

__all__ = ["info"]

_ANYTHING = click.Path(exists=True, path_type=Path)
_OF_DATA = ("data_format", "split", "images", "category", "decode", "sheet", "tiles", "suspicious_first", "limit")


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--data", type=_ANYTHING, help="Check these annotations: a file, or the folder of them.")
@annotation_options
@category_option
@click.option("--decode", is_flag=True, help="Decode every photo, not only its header.")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw some of the people, spread evenly over the set, into this picture (.jpg, .png, .webp).",
)
@click.option("--tiles", type=click.IntRange(1, 400), default=24, show_default=True, help="People on the sheet.")
@click.option("--suspicious-first", is_flag=True, help="Begin the sheet with people that look wrong.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="How many of a kind are listed.")
@click.pass_context
def info(
    ctx: click.Context,
    name: str | None,
    as_json: bool,
    data: Path | None,
    data_format: str | None,
    split: str | None,
    images: Path | None,
    category: str | None,
    decode: bool,
    sheet: Path | None,
    tiles: int,
    suspicious_first: bool,
    limit: int,
) -> None:
    """Say what FastPose runs on here: paste it into a report of a problem.

    With NAME, all about that model of the zoo; or, of a FILE of weights, what it is and which network it is for. With
    --data, what a data set holds and what looks wrong with it.
    """
    if data is None:
        if given := given_options(ctx, _OF_DATA):
            raise click.UsageError(f"{given[0]} goes with --data")
    elif name is not None:
        raise click.UsageError("expected either NAME or --data")
    else:
        from .data_report import check_sheet, print_report, write_sheet

        if sheet is not None:
            check_sheet(sheet)
        # Imported here: the command line's help must not wait for torch.
        from ..data import read_annotations
        from ..data.check import check_records

        records = read_annotations(data, images, format=data_format, split=split, category=category)
        report = check_records(records, decode=decode)
        if sheet is not None:
            write_sheet(sheet, report, tiles, suspicious_first=suspicious_first)
        if as_json:
            click.echo(json.dumps(report.to_dict(limit), indent=1))
        else:
            print_report(report, limit)
        return
    facts = _facts() if name is None else _named_facts(name)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        click.echo(f"{key:<{width}}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inner(part)}" for key, part in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _inner(value: Any) -> str:
    """A value inside of others, in brackets if it has parts itself."""
    if isinstance(value, dict):
        return f"({_text(value)})"
    return f"[{', '.join(map(_inner, value))}]" if isinstance(value, list) else str(value)


def _named_facts(name: str) -> dict[str, Any]:
    from ..models.find import is_weights_file
    from ..models.hub import local_file

    return _file_facts(local_file(name)) if is_weights_file(name) else _model_facts(name)


def _file_facts(path: Path) -> dict[str, Any]:
    from ..models import load_model
    from ..models.checkpoint import read_with_layout

    checkpoint, layout = read_with_layout(path)
    facts = file_facts(path, checkpoint.tensors, checkpoint.metadata)
    if "fastpose.detector" in checkpoint.metadata:
        return facts | _detector_facts(path)
    if "fastpose.spec" not in checkpoint.metadata:
        return facts | checkpoint_facts(path, checkpoint.tensors, layout.name)
    return facts | _network_facts(load_model(path))


def _model_facts(name: str) -> dict[str, Any]:
    import torch

    from ..models import create_model, find_entry
    from ..models.zoo.datasets import data_terms, training_sets, weights_licence

    with torch.device("meta"):
        model = create_model(name)
    entry = find_entry(name)
    facts = _network_facts(model)
    if entry is not None:
        facts["official config"] = entry.alias
        facts["topic"] = entry.topic
        facts["GFLOPs"] = entry.gflops
        facts["data set"] = entry.dataset
        facts["starts from"] = entry.starts_from
        facts["published"] = dict(entry.metrics)
        facts["weights"] = dict(entry.weights)
        licence = weights_licence(entry)
        facts["weights' licence"] = f"{licence}, that of the project that publishes them" if licence else None
        facts["training data"] = data_terms(entry)
        facts["terms of the data sets"] = {name: dataset.terms for name, dataset in training_sets(entry).items()}
        facts.update({f"recipe: {part}": values for part, values in entry.recipe.items()})
    return facts


def _network_facts(model: PoseModel) -> dict[str, Any]:
    from ..codecs import codec_parameters

    spec = model.spec
    return {
        "model": model.name,
        "architecture": model.architecture,
        "options": dict(model.arguments),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "input (height, width)": list(spec.input_size),
        "codec": codec_parameters(spec.codec),
        "output stages": spec.output_stages,
        "box padding": spec.padding,
        "UDP crops": spec.udp,
        "channels": {"order": spec.channel_order, "mean": list(spec.mean), "std": list(spec.std)},
        "flip test": {"by default": spec.flip_test},
        "skeleton": spec.skeleton.name,
        "keypoints": list(spec.skeleton.keypoints),
        **({"beware": spec.skeleton.warnings} if spec.skeleton.warnings else {}),
    }


def _detector_facts(path: Path) -> dict[str, Any]:
    from ..detection.person_detector import load_detector

    detector = load_detector(path, device="cpu")
    spec = detector.spec
    return {
        "finds": "people",
        "parameters": sum(parameter.numel() for parameter in detector.net.parameters()),
        "network": {"widths": list(spec.widths), "depths": list(spec.depths), "neck": spec.neck},
        "input": f"photos of {spec.side} pixels, the longer side",
        "channels": {"order": "bgr", "mean": list(spec.mean), "std": list(spec.std)},
        "threshold": spec.threshold,
    }


def _facts() -> dict[str, Any]:
    # Imported here: the command line's help must not wait for torch.
    import cv2
    import numpy as np
    import torch

    from .._version import __version__
    from ..ops._native import C, load_error

    facts: dict[str, Any] = {
        "fastpose": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    reason = load_error()
    if reason is not None:
        facts["native core"] = f"missing: {reason}"
    else:
        build = C.build_info()
        facts["native core"] = f"{build['version']}, compiler {build['compiler']}"
        facts["simd"] = f"{build['simd']} of {'/'.join(build['simd_supported'])}"
        facts["cuda in core"] = f"{build['cuda']}, for {build['cuda_archs']}" if build["cuda"] else "no (CPU only)"
    facts["cuda in torch"] = torch.version.cuda or "no (CPU only)"
    facts["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()} CPUs"
    facts["devices"] = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
    facts["carried model"] = _carried_model()
    facts["carried detector"] = _carried_detector()
    return facts


def _carried_model() -> str:
    from ..models import WeightsError, carried_file, load_model

    try:
        file = carried_file()
        model = load_model(file)
    except WeightsError as error:
        return f"missing: {error}"
    count = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{model.name}, {count / 1e6:.2f} M parameters, {file.stat().st_size / 1e6:.1f} MB, {model.spec.skeleton.name}"
    )


def _carried_detector() -> str:
    from ..detection.sources import carried_detector_file
    from ..models import WeightsError

    try:
        file = carried_detector_file()
        facts = _detector_facts(file)
    except WeightsError as error:
        return f"missing: {error}"
    return f"{facts['parameters'] / 1e6:.2f} M parameters, {file.stat().st_size / 1e6:.1f} MB, {facts['input']}"
