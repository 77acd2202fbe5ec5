"""``fastpose convert``: an official checkpoint to a file that says itself what it is."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["convert"]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--model", "name", help="Zoo name or MMPose config name; by default told from the checkpoint or its file name."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Of the weights in OUT; int8 with a scale for every output channel, a quarter of the size.",
)
def convert(checkpoint: Path, out: Path, name: str | None, dtype: str) -> None:
    """Turn CHECKPOINT (MMPose 0.x or 1.x, or a plain state dict) into OUT, safetensors with the PoseSpec in it.

    Nothing in CHECKPOINT is run. OUT is what `fastpose.load`, `predict` and `eval` take. The PoseSpec of a CHECKPOINT
    that has one, as of your own training, stays as it is.
    """
    import torch

    from ..models import create_model, load_checkpoint, load_model, read_checkpoint, save_model

    if out.suffix != ".safetensors":
        raise click.UsageError(f"OUT: expected a name that ends in .safetensors, got {out}")
    header = read_checkpoint(checkpoint).metadata
    if "fastpose.spec" in header:
        model = load_model(checkpoint)
        if name not in (None, model.name, model.architecture):
            raise click.UsageError(f"--model: {checkpoint.name} says itself that it is {model.name}, not {name}")
    else:
        model = create_model(_published(checkpoint) if name is None else name)
        load_checkpoint(model, checkpoint)
    kept = {key: text for key, text in header.items() if key != "format" and not key.startswith("fastpose.")}
    save_model(model, out, metadata={"source": checkpoint.name, **kept}, dtype=getattr(torch, dtype))
    click.echo(f"{out}: {model.name}, {out.stat().st_size / 1e6:.1f} MB")


def _published(checkpoint: Path) -> str:
    """The zoo entry that publishes a file of that name."""
    from ..models import list_entries

    known = [entry for entry in list_entries() if Path(entry.weights.get("url", "")).name == checkpoint.name]
    if not known:
        raise click.UsageError(
            f"{checkpoint.name}: no zoo entry publishes a file of that name; --model says what it is "
            "(fastpose models lists them)"
        )
    return known[0].name
