"""Figures of metrics, drawn with matplotlib (the extra ``plots``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastpose.metrics.errors import ERROR_KINDS, PoseErrors

__all__ = ["plot_errors"]

# Told apart without red against green: dark blue for what is right, then warmer and warmer.
_COLOURS = ("#1b4f72", "#7fb3d5", "#f5b041", "#af7ac5", "#922b21")


def plot_errors(errors: PoseErrors, path: str | Path, *, title: str = "") -> None:
    """Draw the shares of errors by keypoint and by size.

    Args:
        errors: The counts.
        path: Where to write the figure; the suffix says how (.png, .svg, .pdf).
        title: Written above.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is no matched keypoint to show.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install matplotlib") from error
    shares = errors.shares()
    if not shares:
        raise ValueError("errors: no keypoint of a matched person is annotated, so there is nothing to show")
    groups = [name for name in ("all", *errors.by_size) if name in shares]
    points = [name for name in errors.skeleton.keypoints if name in shares]
    rows = [*groups, *points]
    # A gap divides what is about all keypoints from the single ones.
    places = np.arange(len(rows)) + 0.6 * (np.arange(len(rows)) >= len(groups))
    figure = Figure(figsize=(9.5, 1.6 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left = np.zeros(len(rows))
    for kind, colour in zip(ERROR_KINDS, _COLOURS, strict=True):
        widths = np.array([100 * shares[name][kind] for name in rows])
        axes.barh(places, widths, left=left, color=colour, label=kind, edgecolor="white", linewidth=0.6)
        for place, start, width in zip(places, left, widths, strict=True):
            if width >= 4:  # narrower than the number
                dark = kind in ("good", "miss")
                axes.text(
                    start + width / 2, place, f"{width:.0f}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black",
                )  # fmt: skip
        left += widths
    counts = dict(zip(errors.skeleton.keypoints, errors.counts.sum(1).tolist(), strict=True))
    counts |= {"all": int(errors.counts.sum()), **{size: int(t.sum()) for size, t in errors.by_size.items()}}
    names = {"all": "all", **{size: f"{size} people" for size in errors.by_size}}
    axes.set_yticks(places, [f"{names.get(name, name.replace('_', ' '))} ({counts[name]})" for name in rows])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the annotated keypoints of matched people")
    axes.spines[["top", "right"]].set_visible(False)
    said = f"{errors.matched} people matched, {errors.missed} missed, {errors.surplus} poses of nobody"
    figure.suptitle(f"{title}\n{said}" if title else said, fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(ERROR_KINDS), frameon=False)
    figure.savefig(path, dpi=150)
