"""Options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

__all__ = [
    "Numbers",
    "annotation_options",
    "category_option",
    "detector_options",
    "dtype_option",
    "given_options",
    "tracking_options",
    "video_options",
    "view_options",
]


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """The numbers."""
        if isinstance(value, list):
            return value
        try:
            return [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"expected numbers with commas between them, got {value!r}", param, ctx)


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--scales`` and ``--rotations``: several crops of a person."""
    for name, default, text in (
        ("--rotations", "0", "Turn each of these crops by each of these angles: -10,0,10 degrees."),
        ("--scales", "1", "Average the heatmaps of crops of these sizes: 0.9,1,1.1 times the model's."),
    ):
        command = click.option(name, type=Numbers(), default=default, show_default=True, help=text)(command)
    return command


def annotation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--format``, ``--split`` and ``--images``: how the annotations of ``--data`` are read."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for names, kind, text in (
        (("--images",), folder, "Folder that its file names start from.  [default: the annotation file's]"),
        (("--split",), str, "Which part, where the file has several: train, val, test."),
        (("--format", "data_format"), str, "What it is: coco, mpii, …  [default: told from the file]"),
    ):
        command = click.option(*names, type=kind, help=text)(command)
    return command


def category_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--category``: which of several categories of ``--data`` is read."""
    text = "Name or id of the category, or all, where the file has several with keypoints.  [default: person]"
    return click.option("--category", help=text)(command)


def detector_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--detector`` and what belongs to it: who finds people, and how."""
    for name, kind, metavar, text in (
        (
            "--person-class",
            click.IntRange(0),
            "NUMBER",
            "Of an ONNX file: which class is people.  [default: 0 of 80]",
        ),
        ("--detector-layout", str, "NAME", "Of an ONNX file: how its outputs are read.  [default: told from the file]"),
        ("--detect-threshold", click.FloatRange(0, 1), None, "Least score of a box.  [default: the detector's own]"),
        (
            *("--detector", str, "carried|FILE.onnx|FILE.safetensors|torchvision:NAME"),
            "Who finds people.  [default: carried, the one in the package]",
        ),
    ):
        command = click.option(name, type=kind, metavar=metavar, help=text)(command)
    return command


def dtype_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--dtype``: what the networks compute in."""
    return click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default=default,
        show_default=True,
        help="What the networks compute in; auto: bfloat16 on a CPU with AMX, where it is faster, else float32.",
    )


def tracking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--track`` and what belongs to it: people are followed through sequences."""
    for names, kind, text in (
        (
            ("--keypoint-threshold",),
            {"type": click.FloatRange(0, 1), "default": 0.2, "show_default": True},
            "With --track: a keypoint of MODEL below this score counts as not predicted.",
        ),
        (
            ("--fps",),
            {"type": click.FloatRange(0, min_open=True), "default": 25.0, "show_default": True},
            "With --track: frames a second of the sequences.",
        ),
        (
            ("--track", "--tracking", "tracking"),
            {"is_flag": True},
            "Measure tracks on PoseTrack18's sequences: those of --predictions, or of MODEL and the tracker.",
        ),
    ):
        command = click.option(*names, **kind, help=text)(command)
    return command


def video_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What holds for videos alone: how frames are read, and how people are followed."""
    options: tuple[tuple[tuple[str, ...], dict[str, Any], str], ...] = (
        (("--reconnect",), {"type": click.IntRange(0), "default": 3}, "How often a broken stream is reopened."),
        (
            ("--timeout",),
            {"type": click.FloatRange(0, min_open=True), "default": 10.0},
            "Seconds without a frame after which a stream or a camera has stalled.",
        ),
        (
            ("--live/--no-live",),
            {"default": None},
            "Take the newest frame and drop those that nobody had time for.  [default: of cameras and streams]",
        ),
        (
            ("--fps",),
            {"type": click.FloatRange(0, min_open=True)},
            "Frames per second of a FOLDER of numbered frames, which is a video then.",
        ),
        (("--flow",), {"is_flag": True}, "Tell by optical flow, too, where people are by now."),
        (
            ("--smooth",),
            {"type": click.Choice(["live", "offline"])},
            "Make keypoints steady: as frames come, or when the last one is known (no lag, short gaps filled).  "
            "[default: off]",
        ),
        (
            ("--detect-every",),
            {"type": click.IntRange(1), "default": 1},
            "Frames from one look for people to the next; between them people are where they are expected.",
        ),
        (("--track/--no-track",), {"default": True}, "Say who is who from frame to frame."),
    )
    for names, settings, text in options:
        shown = settings.get("default") is not None
        help_text = f"Of a video: {text[0].lower()}{text[1:]}"
        command = click.option(*names, show_default=shown, help=help_text, **settings)(command)
    return command


def given_options(ctx: click.Context, names: Iterable[str]) -> list[str]:
    """Those of the parameters that the command line names, as it would write them."""
    given = [name for name in names if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    return [option.opts[0] for name in given for option in ctx.command.params if option.name == name]
