"""``fastpose models``: what can be built by name."""

from __future__ import annotations

import click

__all__ = ["models"]


@click.command()
@click.argument("pattern", default="*")
@click.option("--names", is_flag=True, help="Print the names alone, one a line.")
def models(pattern: str, names: bool) -> None:
    """List the models whose name fits PATTERN, shell-style: 'resnet*', '*.coco_256x192'.

    GFLOPs are multiplications with additions, as papers count them; 'fastpose info NAME' says all about a model.
    """
    # Imported here: the command line's help must not wait for torch.
    from rich.console import Console
    from rich.table import Table

    from ..models import list_architectures, list_entries, list_models
    from ..models.zoo import close_names

    found = list_models(pattern)
    if not found and not set(pattern) & set("*?["):
        found = list_models(f"*{pattern}*")
    if not found:
        near = close_names(pattern.strip("*"), list_architectures())
        hint = f"did you mean {' or '.join(near)}?" if near else "'fastpose models' lists all of them"
        raise click.UsageError(f"no model's name fits {pattern!r}; {hint}")
    if names:
        click.echo("\n".join(found))
        return
    entries = {entry.name: entry for entry in list_entries()}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    for title in ("parameters", "GFLOPs", "input"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("data set", "keypoints", "published", "weights"):
        table.add_column(title, no_wrap=True)
    for name in found:
        entry = entries.get(name)
        if entry is None:
            continue
        metric = next((f"{key} {value:.3f}" for key, value in entry.metrics.items()), "-")
        weights = "in the package" if "carried" in entry.weights else "published" if "url" in entry.weights else "-"
        table.add_row(
            name,
            f"{entry.parameters / 1e6:.1f} M",
            f"{entry.gflops:.2f}",
            "{}x{}".format(*entry.spec.input_size),
            entry.dataset,
            str(entry.spec.num_keypoints),
            metric,
            weights,
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width, and a cut name is of no use
    if table.row_count:
        console.print(table)
    architectures = [name for name in list_architectures() if name in found]
    if architectures:
        console.print(
            f"Architectures, built with their first entry's settings: {', '.join(architectures)}", soft_wrap=True
        )
