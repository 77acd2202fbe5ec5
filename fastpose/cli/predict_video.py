"""``fastpose predict VIDEO``: the people of a video, followed, as a drawn video and as a file of poses."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import given_options
from .predict_run import count_people, termination_interrupts
from .targets import check_writable, identity

if TYPE_CHECKING:
    from ..predict import Poses, Predictor
    from ..video import Video

__all__ = ["VideoRun", "one_video", "predict_video"]

_DRAWN = (".mp4", ".m4v", ".mov")
_FOLLOWING = (
    *("track", "detect_every", "smooth", "flow", "batch_size", "flip_test", "scales", "rotations"),
    *("detect_threshold", "max_people", "min_size"),
)


# What is of no use with a video, and would be ignored.
_OF_PHOTOS = ("category", "box_threshold", "boxes_only", "part_size", "resume", "recursive", "urls", "demo")


def one_video(names: tuple[str, ...], fps: float | None) -> str | None:
    """The video that is meant; None where photos are.

    Args:
        names: Files, folders and addresses.
        fps: Of a folder of frames; without it a folder is one of photos.

    Raises:
        UsageError: Several videos, or a video among photos.
    """
    from ..video import is_video

    videos = [name for name in names if is_video(name) or (fps is not None and Path(name).is_dir())]
    if not videos:
        return None
    if len(names) > 1:
        raise click.UsageError(f"{videos[0]}: one video at a time; expected nothing beside it")
    return videos[0]


def predict_video(ctx: click.Context, source: str) -> None:
    """Do what ``fastpose predict VIDEO`` is told to do.

    Args:
        ctx: With all its parameters.
        source: The video.
    """
    useless = given_options(ctx, _OF_PHOTOS)
    if useless:
        raise click.UsageError(f"{useless[0]} is for photos, and {source} is a video")
    told = ctx.params
    if told["boxes"] not in ((), ("whole",)):
        raise click.UsageError("--boxes: a video's people are found, or each frame is one person (--boxes whole)")
    form = told["form"] if given_options(ctx, ("form",)) else None
    if form in ("json", "coco"):
        raise click.UsageError(f"--format {form} is for photos; a video has {', '.join(_forms())}")
    following = {name: told[name] for name in _FOLLOWING}
    following["nms_threshold"] = told["nms_threshold"] if told["nms_threshold"] < 1 else None
    if told["boxes"]:
        following["boxes"] = "whole"
    run = VideoRun.plan(
        source,
        told["out"],
        told["json_file"],
        form,
        opening={name: told[name] for name in ("fps", "live", "timeout", "reconnect")},
        following=following,
        threshold=told["threshold"],
    )

    from ..detection import CARRIED_DETECTOR, find_detector
    from ..devices import pick_device, pick_dtype
    from ..predict import load

    where = pick_device(told["device"])
    dtype = pick_dtype(told["dtype"], where)
    detector = None
    if not told["boxes"]:
        detector = find_detector(
            told["detector"] or CARRIED_DETECTOR,
            device=where,
            dtype=dtype,
            layout=told["detector_layout"],
            person_class=told["person_class"],
        )
    predictor = load(told["model"], device=where, dtype=dtype, engine=told["engine"], detector=detector)
    run.work(predictor)


def _forms() -> list[str]:
    from ..predict.writers import FORMS

    return list(FORMS)


@dataclass
class VideoRun:
    """One video, and what becomes of it.

    Attributes:
        source: What `fastpose.open_video` takes.
        out: The drawn video; None for none.
        save: The file of poses; ``-`` is stdout, None nowhere.
        form: Its format; None: told from its name, and JSON Lines on stdout.
        opening: Options of `open_video`.
        following: Options of `Predictor.video`.
        threshold: Lowest score that is drawn.
    """

    source: str
    out: Path | None
    save: str | None
    form: str | None
    opening: dict[str, Any] = field(default_factory=dict)
    following: dict[str, Any] = field(default_factory=dict)
    threshold: float = 0.2

    @classmethod
    def plan(cls, source: str, out: str | None, save: str | None, form: str | None, **options: Any) -> VideoRun:
        """Say before the work what would fail after it."""
        target = None if out is None else _drawn_file(source, out)
        if save is None and target is None:
            save = "-"
        if save == "-" and form not in (None, "jsonl"):
            raise click.UsageError(f"--format {form} needs a file: --save FILE; stdout gets JSON Lines")
        in_use = {identity(Path(source))} if Path(source).exists() else set()
        if target is not None:
            check_writable(target, in_use, None if target == Path(out or "") else target.parent)
            in_use.add(identity(target))
        if save is not None and save != "-" and not Path(save).is_dir():
            check_writable(Path(save), in_use, None)
        return cls(source, target, save, form, **options)

    def work(self, predictor: Predictor) -> None:
        """Look at all frames; what was found is written also where the work ends early.

        Raises:
            Exit: With 130 after Ctrl-C or a termination signal, with 2 where the source ended before its time.
            VideoError: The source cannot be read at all.
            OSError: A file cannot be written.
        """
        from ..video import open_video

        tally, interrupted = _Tally(), False
        # Frames that are smoothed when the last one is known are drawn in a second pass over the file.
        twice = self.out is not None and self.following.get("smooth") == "offline"
        kept: list[Poses] = []
        with open_video(self.source, **self.opening) as video:
            with ExitStack() as files, termination_interrupts():
                write = files.enter_context(self._poses_file(predictor, video))
                draw = None if twice else files.enter_context(self._drawn(video))
                try:
                    with _progress(self.source, video.frames) as advance:
                        found = predictor.video(video, keep_images=draw is not None, **self.following)
                        for poses in found:
                            tally.add(poses)
                            if draw is not None:
                                draw(poses)
                            poses = replace(poses, image=None)
                            write(poses)
                            if twice:
                                kept.append(poses)
                            advance(1)
                except KeyboardInterrupt:
                    interrupted = True
            tally.waited, problem, dropped = video.waited, video.problem, video.dropped
        if twice and not interrupted:
            interrupted = self._draw_again(kept)
        self._say(tally, dropped, problem, interrupted=interrupted)
        if interrupted:
            raise click.exceptions.Exit(130)
        if problem is not None:
            raise click.exceptions.Exit(2)

    @contextmanager
    def _poses_file(self, predictor: Predictor, video: Video) -> Iterator[Callable[[Poses], None]]:
        from ..predict.results import json_line
        from ..predict.writers import open_writer

        if self.save is None:
            yield lambda _: None
        elif self.save == "-":
            yield lambda poses: click.echo(json_line(poses.to_dict()))
        else:
            with open_writer(self.save, self.form, skeleton=predictor.spec.skeleton, fps=video.fps) as file:
                yield file.write

    @contextmanager
    def _drawn(self, video: Video) -> Iterator[Callable[[Poses], None] | None]:
        from ..video import VideoWriter

        if self.out is None:
            yield None
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        writers: list[VideoWriter] = []  # begun with the first frame, which knows its size
        with ExitStack() as stack:

            def draw(poses: Poses) -> None:
                assert self.out is not None
                picture = poses.plot(threshold=self.threshold)
                if not writers:
                    sound = self.source if video.audio and not video.live else None
                    writer = VideoWriter(self.out, size=picture.shape[:2], fps=video.fps or 25.0, audio_from=sound)
                    writers.append(stack.enter_context(closing(writer)))
                writers[0].write(picture, poses.time)

            yield draw

    def _draw_again(self, kept: list[Poses]) -> bool:
        """Draw what was found in a second pass; whether it was interrupted."""
        from ..video import open_video

        with open_video(self.source, **self.opening) as video, self._drawn(video) as draw:
            assert draw is not None
            try:
                with termination_interrupts(), _progress(f"drawing {self.source}", len(kept)) as advance:
                    for frame, poses in zip(video, kept, strict=False):
                        draw(replace(poses, image=frame.pixels))
                        advance(1)
            except KeyboardInterrupt:
                return True
        return False

    def _say(self, tally: _Tally, dropped: int, problem: str | None, *, interrupted: bool) -> None:
        files = [str(name) for name in (self.out, self.save) if name is not None and name != "-"]
        arrow = f" -> {', '.join(files)}" if files else ""
        begin = "interrupted after " if interrupted else ""
        click.echo(f"{self.source}: {begin}{tally.text(dropped)}{arrow}", err=True)
        if problem is not None:
            click.echo(f"Error: {problem}", err=True)


@dataclass
class _Tally:
    """What was met, and where the time went."""

    frames: int = 0
    people: int = 0
    tracks: set[int] = field(default_factory=set)
    followed: bool = False
    stages: Counter[str] = field(default_factory=Counter)
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, poses: Poses) -> None:
        """One frame more."""
        self.frames += 1
        self.people += len(poses)
        if poses.track_ids is not None:
            self.followed = True
            self.tracks.update(track for track in poses.track_ids.tolist() if track >= 0)
        self.stages.update(poses.milliseconds)

    def text(self, dropped: int) -> str:
        """In words: frames, people, speed, and the shares of the time."""
        spent = time.perf_counter() - self.began
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        who = count_people(len(self.tracks)) if self.followed else f"{self.people} poses"
        if not self.frames:
            return f"{frames}, nobody"
        times = {"waiting for frames": self.waited * 1e3, **self.stages}
        shares = ", ".join(f"{name} {value / spent / 10:.0f} %" for name, value in times.items())
        left = f", {dropped} left out" if dropped else ""
        return f"{frames}{left}, {who}, {self.frames / spent:.1f} frames/s ({shares})"


def _drawn_file(source: str, out: str) -> Path:
    target = Path(out)
    if target.suffix and not target.is_dir() and not out.endswith(("/", os.sep)):
        if target.suffix.lower() not in _DRAWN:
            raise click.UsageError(f"--out: a drawn video's name ends in {', '.join(_DRAWN)}, got {out!r}")
        return target
    if target.exists() and not target.is_dir():
        raise click.UsageError(f"--out: {out} is a file; expected a folder, or the name of a video")
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(source).stem) or "video"
    return target / f"{name}_poses.mp4"


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, with frames a second and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    speed = TextColumn("{task.fields[speed]} frames/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    began, done = time.perf_counter(), 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, speed="?")

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.update(task, advance=count, speed=f"{done / (time.perf_counter() - began):.1f}")

        yield advance
