"""``fastpose convert``: anybody's checkpoint to a file that says itself what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .file_report import describe_matches

if TYPE_CHECKING:
    from ..models import PoseModel
    from ..models.checkpoint import Checkpoint
    from ..models.layouts import Layout
    from ..skeletons import Skeleton

__all__ = ["convert"]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--model", "name", help="Zoo name or MMPose config name; by default told from the checkpoint or its file name."
)
@click.option(
    "--num-keypoints",
    type=click.IntRange(1),
    help="K, where CHECKPOINT was trained for other keypoints than its model's.",
)
@click.option("--keypoints", metavar="NAME,NAME,…", help="Their names, in order; left_… and right_… are mirror pairs.")
@click.option(
    "--expert",
    metavar="DATA SET",
    help="Of ViTPose++, whose file has networks for several: coco, aic, mpii, ap10k, apt36k, wholebody, or a number. "
    "OUT has its keypoints; by default those of the model say which.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Of the weights in OUT; int8 with a scale for every output channel, a quarter of the size.",
)
def convert(
    checkpoint: Path,
    out: Path,
    name: str | None,
    num_keypoints: int | None,
    keypoints: str | None,
    expert: str | None,
    dtype: str,
) -> None:
    """Turn CHECKPOINT into OUT, safetensors with the PoseSpec in it.

    CHECKPOINT is a file of MMPose 0.x or 1.x, of the repositories of ViTPose, HRNet or Simple Baselines, of Hugging
    Face's ViTPose, or of your own training; or hf:owner/name[/FILE], safetensors on Hugging Face. Its layout is told
    from the names in it (docs/weights.md).

    A checkpoint of your own MMPose training says --model, and --num-keypoints or --keypoints where it is not for the
    keypoints of that model.

    Nothing in CHECKPOINT is run. OUT is what `fastpose.load`, `predict` and `eval` take. The PoseSpec of a CHECKPOINT
    that has one, as of your own training, stays as it is.
    """
    import torch

    from ..models import load_model, save_model
    from ..models.checkpoint import read_with_layout
    from ..models.hub import is_address, local_file

    if out.suffix != ".safetensors":
        raise click.UsageError(f"OUT: expected a name that ends in .safetensors, got {out}")
    source = str(checkpoint) if is_address(checkpoint) else checkpoint.name
    checkpoint = local_file(checkpoint)
    content, layout = read_with_layout(checkpoint)
    if "fastpose.spec" in content.metadata:
        model = load_model(checkpoint)
        if name not in (None, model.name, model.architecture):
            raise click.UsageError(f"--model: {checkpoint.name} says itself that it is {model.name}, not {name}")
        if num_keypoints is not None or keypoints is not None or expert is not None:
            given = {"--num-keypoints": num_keypoints, "--keypoints": keypoints, "--expert": expert}
            option = next(option for option, value in given.items() if value is not None)
            raise click.UsageError(f"{option}: {checkpoint.name} says itself what its keypoints are")
    else:
        model = _build(checkpoint, content, layout, name, _skeleton(num_keypoints, keypoints), expert)
    kept = {key: text for key, text in content.metadata.items() if key != "format" and not key.startswith("fastpose.")}
    save_model(model, out, metadata={"source": source, **kept}, dtype=getattr(torch, dtype))
    click.echo(f"{out}: {model.name}, {model.spec.num_keypoints} keypoints, {out.stat().st_size / 1e6:.1f} MB")


def _skeleton(num_keypoints: int | None, keypoints: str | None) -> Skeleton | None:
    """What the options say of the keypoints; None where they say nothing."""
    from ..skeletons import Skeleton

    if keypoints is None and num_keypoints is None:
        return None
    names = [name.strip() for name in keypoints.split(",")] if keypoints else []
    if keypoints is not None and not all(names):
        raise click.UsageError(f"--keypoints: expected names with commas between them, got {keypoints!r}")
    if num_keypoints is not None and keypoints is not None and len(names) != num_keypoints:
        raise click.UsageError(
            f"--keypoints: expected {num_keypoints} names, as --num-keypoints says, got {len(names)}"
        )
    names = names or [f"keypoint_{index}" for index in range(num_keypoints or 0)]
    return Skeleton.from_names(f"custom{len(names)}", names)


def _build(
    checkpoint: Path,
    content: Checkpoint,
    layout: Layout,
    name: str | None,
    skeleton: Skeleton | None,
    expert: str | None,
) -> PoseModel:
    """The network of a checkpoint that does not say what it is, with its weights."""
    from ..models import WeightsError, create_model, find_matches, load_checkpoint

    if name is None:
        name = _published(checkpoint)
    if name is None:
        raise click.UsageError(
            f"{checkpoint.name}: no zoo entry publishes a file of that name; --model says what it is "
            f"({describe_matches(find_matches(content.tensors))})"
        )
    options: dict[str, Any] = {**layout.spec, **_expert_options(content, name, skeleton, expert)}
    if skeleton is not None:
        options["skeleton"] = skeleton
        if not skeleton.mirror_known:
            options["flip_test"] = False  # it would average left with right
    model = create_model(name, **options)
    try:
        load_checkpoint(model, checkpoint, expert=expert)
    except WeightsError as error:
        raise click.UsageError(f"{error}; {describe_matches(find_matches(content.tensors))}") from None
    if "flip_test" in options:
        click.echo(
            "Note: which of its keypoints are left and right is not known, so its flip test is off; --keypoints "
            "nose,left_eye,right_eye,… names them.",
            err=True,
        )
    if layout.spec:
        values = ", ".join(f"{field} {value}" for field, value in layout.spec.items())
        click.echo(f"Note: the PoseSpec has {values}, as {layout.name} trained.", err=True)
    return model


def _expert_options(content: Checkpoint, name: str, skeleton: Skeleton | None, expert: str | None) -> dict[str, Any]:
    """What an expert of ViTPose++ changes in the network that is built for it: keypoints, crops and decoding."""
    from ..models import find_entry
    from ..models.experts import EXPERTS, choose_expert, count_experts, find_expert
    from ..models.layouts import LayoutError
    from ..models.zoo import default_spec

    count = count_experts(content.tensors)
    if count != len(EXPERTS):
        return {}  # of no published file, so nothing is known of its data sets
    entry = find_entry(name)
    ours = skeleton or (entry.spec if entry else default_spec()).skeleton
    try:
        number = choose_expert(content.tensors, ours) if expert is None else find_expert(expert, count)
    except LayoutError as error:
        raise click.UsageError(str(error)) from None
    keypoints = {} if expert is None else {"skeleton": EXPERTS[number].skeleton}
    return {**keypoints, **EXPERTS[number].spec}


def _published(checkpoint: Path) -> str | None:
    """The zoo entry that publishes a file of that name."""
    from ..models import list_entries

    known = [entry.name for entry in list_entries() if Path(entry.weights.get("url", "")).name == checkpoint.name]
    return known[0] if known else None
