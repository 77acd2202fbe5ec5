"""What a run says while it runs: a progress bar or plain lines, a CSV file, TensorBoard events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from .log_file import LogFile

__all__ = ["COLUMNS", "RunLog", "format_time"]

COLUMNS = (
    "step",
    "epoch",
    "images",
    "loss",
    "lr",
    "grad_norm",
    "images_per_second",
    "waited",
    "metric",
    "weights",
    "seconds",
)

# Seconds between plain lines where the output is no terminal.
_LINE_EVERY = 30.0
# Steps over which speed and loss are averaged for the eye.
_WINDOW = 50


def format_time(seconds: float) -> str:
    """Hours, minutes and seconds, e.g. ``1:02:03`` or ``2:03``."""
    hours, rest = divmod(int(max(seconds, 0)), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class RunLog:
    """Progress on the terminal and in files; a context manager.

    Args:
        folder: Where ``log.csv`` and TensorBoard's ``events`` go; None writes nothing.
        total_images: Of the whole run, for the time left.
        every: Steps between lines of the CSV file.
        tensorboard: Also write events.
        step: Steps done already: later lines of an interrupted run are taken out of the CSV file.
        console: Where to print; the terminal's error output by default.

    Raises:
        ValueError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        total_images: int,
        *,
        every: int = 20,
        tensorboard: bool = False,
        step: int = 0,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._folder, self._total, self._every = folder, total_images, every
        self._recent: deque[tuple[int, float, float, float]] = deque(maxlen=_WINDOW)
        self._started = self._last_line = time.monotonic()
        self._rows = LogFile(None if folder is None else folder / "log.csv", COLUMNS, step, self.say)
        self._open_events: Callable[[], Any] | None = None
        self._events: Any = None
        if tensorboard and folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ValueError("log.tensorboard: tensorboard is not installed (pip install tensorboard)") from None
            self._open_events = partial(SummaryWriter, str(folder / "events"), purge_step=step + 1)
        self._progress: Progress | None = None
        if self.console.is_terminal:
            text = TextColumn("{task.description}")
            self._progress = Progress(text, BarColumn(), TextColumn("{task.fields[figures]}"), console=self.console)
            self._task = self._progress.add_task("training", total=total_images, figures="")

    def __enter__(self) -> RunLog:
        self._excepthook = threading.excepthook
        if self._open_events:
            threading.excepthook = self._hear_of_thread
            with self._writing_events():
                self._events = self._open_events()
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()
        self._rows.close()
        with self._writing_events():
            if self._events:
                self._events.close()
        threading.excepthook = self._excepthook

    def _hear_of_thread(self, what: threading.ExceptHookArgs) -> None:
        """TensorBoard's writer fails in a thread and again in the next call: the latter is enough."""
        if not (issubclass(what.exc_type, OSError) and type(what.thread).__module__.startswith("tensorboard.")):
            self._excepthook(what)

    def say(self, text: str) -> None:
        """One line for people."""
        self.console.print(text, markup=False)

    def step(
        self, *, step: int, epoch: int, epochs: int, images: int, batch: int, loss: float, lr: float, grad_norm: float,
        waited: float,
    ) -> None:  # fmt: skip
        """Note an optimizer step.

        Args:
            step: Steps done.
            epoch: Epoch, from 0.
            epochs: Of the run.
            images: Crops seen in the run.
            batch: Crops in this step.
            loss: Its loss.
            lr: Its learning rate.
            grad_norm: Norm of its gradient before clipping.
            waited: Seconds that it waited for the loader.
        """
        now = time.monotonic()
        self._recent.append((batch, now, loss, waited))
        seconds = now - self._recent[0][1]
        speed = (sum(entry[0] for entry in self._recent) - self._recent[0][0]) / seconds if seconds > 0 else 0.0
        if step % self._every == 0:
            row: dict[str, Any] = {"step": step, "epoch": epoch, "images": images, "loss": loss, "lr": lr}
            if seconds > 0:  # the first step after a start or a validation has none before it
                share = sum(entry[3] for entry in list(self._recent)[1:]) / seconds
                row |= {"images_per_second": round(speed, 1), "waited": round(share, 3)}
            self._write(row | {"grad_norm": grad_norm})
        if not self._progress and now - self._last_line < _LINE_EVERY:
            return
        mean = sum(entry[2] for entry in self._recent) / len(self._recent)
        left = format_time((self._total - images) / speed) if speed else "?"
        figures = f"loss {mean:.3e}  lr {lr:.2e}  {speed:.0f} images/s  {left} left"
        if self._progress:
            name = f"epoch {epoch + 1}/{epochs}"
            self._progress.update(self._task, completed=images, description=name, figures=figures)
        else:
            self._last_line = now
            self.say(f"epoch {epoch + 1}/{epochs}  {images / self._total:4.0%}  {figures}")

    def metrics(
        self, *, step: int, epoch: int, epochs: int, name: str, results: Mapping[str, Mapping[str, float]], kind: str,
        best: bool,
    ) -> None:  # fmt: skip
        """Note a validation.

        Args:
            step: Steps done.
            epoch: Epoch, from 0.
            epochs: Of the run.
            name: Of the figure that decides which model is best.
            results: Figures of each kind of weights.
            kind: The best of them.
            best: Whether it is the best of the run so far.
        """
        values = results[kind]
        self._write({"step": step, "epoch": epoch, "metric": values[name], "weights": kind})
        self._add_events(step, {f"eval/{key}": value for key, value in values.items()})
        self._recent.clear()  # the time of the validation is no training speed
        which = [kind, *(f"{other} {figures[name]:.4f}" for other, figures in results.items() if other != kind)]
        note = f"  of {', '.join(which)}" if len(results) > 1 else ""
        self.say(f"epoch {epoch + 1}/{epochs}  {name} {values[name]:.4f}{note}{'  (best so far)' if best else ''}")

    def _write(self, row: dict[str, Any]) -> None:
        row["seconds"] = round(time.monotonic() - self._started, 1)
        self._rows.write(row)
        figures = ("loss", "lr", "grad_norm", "images_per_second", "waited")
        self._add_events(row["step"], {f"train/{key}": row[key] for key in figures if key in row})

    def _add_events(self, step: int, values: Mapping[str, float]) -> None:
        with self._writing_events():
            for name, value in values.items():
                if self._events:
                    self._events.add_scalar(name, value, step)

    @contextmanager
    def _writing_events(self) -> Iterator[None]:
        """Where TensorBoard's writer fails (its thread's errors come with a later call), go on without it."""
        try:
            yield
        except OSError as error:
            self._events = None
            self.say(f"{self._folder}/events: cannot be written ({error.strerror or error}); goes on without")
