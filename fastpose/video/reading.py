"""The thread that reads a source ahead of its turn: in order, within bounds, stopped at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from ..data.images import MAX_HELD_BYTES
from .frames import Frame, Pixels, Reader, VideoError

__all__ = ["End", "Reading"]

# Frames ahead of their turn: enough for the next batch of a GPU.
_MOST = 32
_ROOM = MAX_HELD_BYTES // 2
_STEP = 1 / 25  # seconds from one frame to the next, where neither time stamps nor a rate tell


@dataclass(frozen=True)
class End:
    """What stands behind the last frame.

    Attributes:
        problem: Why it came early; None where it did not.
        error: What was raised instead of an end.
    """

    problem: str | None = None
    error: BaseException | None = None


class Reading:
    """A thread that opens a source, reads it to its end and closes it.

    It holds no `Video`, so that one that nobody has any more is cleared away, and its thread ends. What passes between
    them goes through queues that even a finalizer may use, whatever its thread was about to do.

    Args:
        connect: Opens the source.
        live: The newest frame takes the place of one that nobody took yet, and a file is read at its own pace; by
            default for sources without an end.
        index: Of the first frame.
        time: Of the first frame.
    """

    def __init__(
        self, connect: Callable[[], Reader], live: bool | None = None, *, index: int = 0, time: float = 0.0
    ) -> None:
        self.opened: SimpleQueue[Reader | BaseException] = SimpleQueue()
        self.live = bool(live)  # told by the source, where it was not said; right once it is open
        self._connect, self._wanted, self._index, self._start = connect, live, index, time
        self._ready: SimpleQueue[Frame | VideoError | End] = SimpleQueue()
        self._taken: SimpleQueue[int | None] = SimpleQueue()  # bytes of each frame that was taken; None to stop
        self._stopped = False
        self._count, self._held = 0, 0  # frames, and their bytes, that wait for their turn
        self._thread = threading.Thread(target=self._run, name="fastpose-video", daemon=True)
        self._thread.start()

    def take(self, seconds: float | None = None) -> Frame | VideoError | End:
        """The next frame, what is wrong with it alone, or the end; waits for it.

        Args:
            seconds: How long; without a limit by default.

        Raises:
            Empty: It did not come.
        """
        item = self._ready.get(timeout=seconds)
        if isinstance(item, Frame) and not self.live:
            self._taken.put(item.pixels.nbytes)
        return item

    def stop(self) -> None:
        """Have the thread end as soon as it has read the frame that it is about to read; does not wait."""
        self._stopped = True
        self._taken.put(None)

    def join(self, seconds: float | None) -> None:
        """Wait until it has ended, but not longer than so many seconds."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            reader = self._connect()
        except BaseException as error:  # raised where the source is opened
            self.opened.put(error)
            return
        self.live = not reader.ends if self._wanted is None else self._wanted
        self.opened.put(reader)
        try:
            with closing(reader):
                self._read(reader)
            end = End(reader.problem)
        except BaseException as error:  # raised behind the last frame
            end = End(error=error)
        self._ready.put(end)

    def _read(self, reader: Reader) -> None:
        clock = _Clock(self._start, 1 / reader.fps if reader.fps else _STEP)
        began = time.monotonic()
        index = self._index
        while not self._stopped:
            got = reader.read()
            if got is None:
                return
            if isinstance(got, VideoError):
                self._ready.put(got)
                clock.stamp(None)
            else:
                # What comes as it happens has the time of its arrival, where it brings none.
                seconds = time.monotonic() if got[0] is None and not reader.ends else got[0]
                frame = Frame(index, clock.stamp(seconds), got[1], reader.path)
                if self.live and reader.ends and not self._wait(began + frame.time - self._start - time.monotonic()):
                    return
                self._put(frame)
            index += 1

    def _put(self, frame: Frame) -> None:
        if self.live:
            with suppress(Empty):  # it was taken
                older = self._ready.get_nowait()
                if isinstance(older, VideoError):
                    self._ready.put(older)
        elif not self._make_room(frame.pixels):
            return
        self._ready.put(frame)

    def _make_room(self, pixels: Pixels) -> bool:
        """Wait until there is room for so many more; false where it is to end instead."""
        while self._count and (self._count >= _MOST or self._held + pixels.nbytes > _ROOM):
            taken = self._taken.get()
            if taken is None:
                return False
            self._count, self._held = self._count - 1, self._held - taken
        self._count, self._held = self._count + 1, self._held + pixels.nbytes
        return True

    def _wait(self, seconds: float) -> bool:
        """Sleep, unless it is to end before; then false."""
        with suppress(Empty):
            if seconds > 0:
                self._taken.get(timeout=seconds)
        return not self._stopped


class _Clock:
    """Seconds of frames that always grow, from time stamps that are missing, begin anywhere, or jump back."""

    def __init__(self, start: float, step: float) -> None:
        self._next, self._step = start, step
        self._shift: float | None = None  # from the source's seconds to ours
        self._last = float("-inf")

    def stamp(self, seconds: float | None) -> float:
        """Our seconds of the next frame."""
        if seconds is None:
            self._last = self._next
        else:
            if self._shift is None or seconds + self._shift <= self._last:
                self._shift = self._next - seconds
            self._last = seconds + self._shift
        self._next = self._last + self._step
        return self._last
