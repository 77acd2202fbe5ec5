"""The zoo as a table: for a terminal, as JSON, as the page docs/models.md."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ..models import ZooEntry

__all__ = ["NOTE", "build_table", "entry_facts", "markdown_page"]

NOTE = (
    "weights: licence of the project that publishes them. training data: what its authors say of its use, "
    "'non-commercial' if one set of several is, 'unknown' where nothing was found. No legal advice; see docs/models.md."
)

_TITLES = {
    "model": "model",
    "topic": "topic",
    "keypoints": "kpts",
    "input": "input",
    "gflops": "GFLOPs",
    "parameters": "params",
    "published": "published",
    "weights": "weights",
    "data": "training data",
}
_NUMBERS = ("keypoints", "input", "gflops", "parameters")
# What a narrow terminal does without, in this order. The name ends with the input.
_DISPENSABLE = ("input", "topic", "weights", "keypoints", "parameters")
_GAP = 2  # columns of characters between two


def entry_facts(entry: ZooEntry) -> dict[str, Any]:
    """All that is to be said of an entry before it is built, as JSON has it."""
    from ..models.zoo.datasets import data_terms, training_sets, weights_licence

    return {
        "name": entry.name,
        "alias": entry.alias,
        "architecture": entry.architecture,
        "topic": entry.topic,
        "skeleton": entry.spec.skeleton.name,
        "keypoints": entry.spec.num_keypoints,
        "input_size": list(entry.spec.input_size),
        "parameters": entry.parameters,
        "gflops": entry.gflops,
        "metrics": dict(entry.metrics),
        "weights": dict(entry.weights),
        "weights_licence": weights_licence(entry),
        "dataset": entry.dataset,
        "starts_from": entry.starts_from,
        "data_terms": data_terms(entry),
        "data_sets": {name: dataset.terms for name, dataset in training_sets(entry).items()},
    }


def _row(entry: ZooEntry) -> dict[str, str]:
    from ..models.zoo.datasets import data_terms, weights_licence

    metric, value = next(iter(entry.metrics.items()), ("", None))
    # Which boxes, of several, is said by `fastpose info`; which data set is not left out.
    metric = metric.replace(" (box)", "").replace(" (true boxes)", "")
    return {
        "model": entry.name,
        "topic": entry.topic,
        "keypoints": str(entry.spec.num_keypoints),
        "input": "{}x{}".format(*entry.spec.input_size),
        "gflops": f"{entry.gflops:.2f}",
        "parameters": f"{entry.parameters / 1e6:.1f}M",
        "published": "-" if value is None else f"{metric} {value:.3f}",
        "weights": weights_licence(entry) or "-",
        "data": data_terms(entry),
    }


def build_table(entries: Sequence[ZooEntry], width: int | None) -> Table:
    """The entries, one a line.

    Args:
        entries: At least one.
        width: Characters that a line may have, as far as columns can be left out; None for all columns.
    """
    from rich.table import Table

    rows = [_row(entry) for entry in entries]
    widths = {key: max(len(title), *(len(row[key]) for row in rows)) for key, title in _TITLES.items()}
    columns = list(_TITLES)
    for key in _DISPENSABLE:
        if width is None or sum(widths[column] + _GAP for column in columns) - _GAP <= width:
            break
        columns.remove(key)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for key in columns:
        table.add_column(_TITLES[key], justify="right" if key in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[key] for key in columns))
    return table


def markdown_page(entries: Sequence[ZooEntry]) -> str:
    """The page docs/models.md: what the columns mean, a table a topic, and the terms of the data sets in it."""
    from ..models.zoo import TOPICS
    from ..models.zoo.datasets import DATA_SETS, MIXTURES, training_sets

    by_topic = {topic: [entry for entry in entries if entry.topic == topic] for topic in TOPICS}
    used = {name for entry in entries for name in training_sets(entry)}
    page = resources.files("fastpose.models.zoo").joinpath("page.md").read_text(encoding="utf-8")
    return Template(page).substitute(
        count=len(entries),
        mixtures="\n".join(f"- `{name}`: {', '.join(sets)}" for name, sets in MIXTURES.items()),
        tables="\n".join(f"## {topic.capitalize()}\n\n{_topic_table(of)}" for topic, of in by_topic.items() if of),
        sets="\n".join(f"| `{name}` | {_bold(s.terms)} | {s.page} |" for name, s in DATA_SETS.items() if name in used),
    )


def _topic_table(entries: Sequence[ZooEntry]) -> str:
    titles = [title for key, title in _TITLES.items() if key != "topic"]
    marks = ["---:" if key in _NUMBERS else "---" for key in _TITLES if key != "topic"]
    lines = [f"| {' | '.join([*titles, 'data sets'])} |", f"|{'|'.join([*marks, '---'])}|"]
    for entry in entries:
        row = _row(entry)
        row["model"], row["data"] = f"`{row['model']}`", _bold(row["data"])
        lines.append(f"| {' | '.join([*(row[key] for key in _TITLES if key != 'topic'), _seen(entry)])} |")
    return "\n".join(lines) + "\n"


def _seen(entry: ZooEntry) -> str:
    """The data set of an entry, and what it started from."""
    return f"{entry.dataset}, from {entry.starts_from}" if entry.starts_from else entry.dataset


def _bold(terms: str) -> str:
    return terms.replace("non-commercial", "**non-commercial**")
