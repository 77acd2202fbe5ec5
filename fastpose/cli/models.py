"""``fastpose models``: what can be built by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..models import ZooEntry

__all__ = ["models"]

_TOPICS = ("body", "wholebody", "hand", "face", "animal", "fashion")  # `models.zoo.TOPICS`, which brings torch with it


@click.command()
@click.argument("pattern", default="*")
@click.option("--topic", type=click.Choice(_TOPICS), help="Only those.")
@click.option("--max-gflops", type=click.FloatRange(0, min_open=True), help="Only networks of at most so many.")
@click.option("--with-weights", is_flag=True, help="Only those whose weights somebody published.")
@click.option("--sort", type=click.Choice(("gflops", "parameters")), help="Smallest first; by default by name.")
@click.option("--names", is_flag=True, help="Print the names alone, one a line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list, one object a model.")
@click.option("--markdown", is_flag=True, help="Print the page docs/models.md.")
def models(
    pattern: str,
    topic: str | None,
    max_gflops: float | None,
    with_weights: bool,
    sort: str | None,
    names: bool,
    as_json: bool,
    markdown: bool,
) -> None:
    """List the models whose name fits PATTERN, shell-style: 'resnet*', '*.coco_256x192'.

    GFLOPs are multiplications with additions, as papers count them; 'fastpose info NAME' says all about a model. What
    the licence of weights and the terms of training data mean, docs/models.md says.
    """
    if names + as_json + markdown > 1:
        raise click.UsageError("expected one of --names, --json and --markdown")
    # Imported here: the command line's help must not wait for torch.
    from ..models import list_architectures, list_entries, list_models
    from ..models.zoo import close_names

    found = list_models(pattern)
    if not found and not set(pattern) & set("*?["):
        found = list_models(f"*{pattern}*")
    if not found:
        near = close_names(pattern.strip("*"), list_architectures())
        hint = f"did you mean {' or '.join(near)}?" if near else "'fastpose models' lists all of them"
        raise click.UsageError(f"no model's name fits {pattern!r}; {hint}")
    by_name = {entry.name: entry for entry in list_entries()}
    fitting = [by_name[name] for name in found if name in by_name]
    entries = [
        entry
        for entry in fitting
        if (topic is None or entry.topic == topic)
        and (max_gflops is None or entry.gflops <= max_gflops)
        and (entry.weights or not with_weights)
    ]
    if sort:
        entries.sort(key=lambda entry: getattr(entry, sort))
    narrowed = topic is not None or max_gflops is not None or with_weights
    if narrowed and not entries:
        raise click.UsageError(f"of {len(fitting)} models whose name fits {pattern!r} none fits the options")
    # An architecture alone has neither topic nor weights: it is listed where nothing asks for them.
    architectures = [] if narrowed or sort else [name for name in list_architectures() if name in found]
    if names:
        click.echo("\n".join([entry.name for entry in entries] if narrowed or sort else found))
    else:
        _print(entries, architectures, as_json, markdown)


def _print(entries: list[ZooEntry], architectures: list[str], as_json: bool, markdown: bool) -> None:
    from rich.console import Console

    from .model_table import NOTE, build_table, entry_facts, markdown_page

    if as_json:
        click.echo(json.dumps([entry_facts(entry) for entry in entries], indent=2))
        return
    if markdown:
        click.echo(markdown_page(entries), nl=False)
        return
    console = Console()
    if entries:
        # A pipe has no width; and a name that is cut is of no use, so that a line is as long as it must be.
        Console(width=400).print(build_table(entries, console.width if console.is_terminal else None))
        console.print(NOTE, soft_wrap=not console.is_terminal, style="dim", highlight=False)
    if architectures:
        console.print(
            f"Architectures, built with their first entry's settings: {', '.join(architectures)}", soft_wrap=True
        )
