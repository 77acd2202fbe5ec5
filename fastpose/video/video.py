"""A source of frames as its user holds it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from queue import Empty
from types import TracebackType

from .frames import Frame, Reader, VideoError
from .reading import End, Reading

__all__ = ["Video"]

_LONGEST_PAUSE = 8.0  # seconds between two attempts to connect
_GOODBYE = 1.0  # seconds that closing waits for a stream or a camera


class Video(Iterator[Frame]):
    """The frames of a source, in order; made by `open_video`, and best used in a ``with`` block.

    A thread decodes ahead of their turn, no more frames than 32 and no more bytes than memory has room for. Of a live
    source it keeps the newest frame alone, and `dropped` counts those that nobody took.

    Each frame comes in its own size, should that change on the way. A file of a folder that cannot be read is an error
    at its place, behind which the next frames can be taken nevertheless. A video file that is damaged or cut short ends
    where nothing more can be read, and `problem` says why. A live source that stalls or breaks off is connected to
    again, each time with a warning; its frames go on counting, and their time goes on by the clock. If that does not
    help, the last error is raised.

    Attributes:
        source: Its name, without the password that an address may hold.
        live: Whether the newest frame counts, and not each.
        fps: Frames per second as the source says; None where it does not.
        frames: Their expected number; None where it is not known, as for a stream.
        size: (height, width) of the upright picture, px; None where it is not known before the first frame.
        audio: Whether there is sound beside it.
        dropped: Frames of a live source that nobody took, as newer ones were there.
        waited: Seconds that `next` waited for frames: whether decoding, or the pace of a live source, sets the speed.
        problem: Why the source ended early, once it has; what was read before is good.

    Example:
        >>> import cv2, tempfile
        >>> from pathlib import Path
        >>> from fastpose.video import open_video
        >>> folder = tempfile.TemporaryDirectory()
        >>> for number in range(3):
        ...     _ = cv2.imwrite(str(Path(folder.name, f"{number:03}.png")), cv2.imread("docs/demo.jpg"))
        >>> with open_video(folder.name, fps=10) as video:
        ...     print(video.frames, [(frame.index, round(frame.time, 1)) for frame in video])
        3 [(0, 0.0), (1, 0.1), (2, 0.2)]
        >>> folder.cleanup()
    """

    def __init__(
        self,
        source: str,
        connect: Callable[[], Reader],
        *,
        live: bool | None = None,
        timeout: float | None = None,
        reconnect: int = 0,
    ) -> None:
        self.source = source
        self.dropped = 0
        self.waited = 0.0
        self.problem: str | None = None
        self._connect, self._timeout, self._most = connect, timeout, reconnect
        self._index, self._time = 0, 0.0  # of the next frame, as far as they are known
        self._attempts = 0
        self._done = False
        self._reading = Reading(connect, live)
        reader = self._open()
        self.live = self._reading.live
        self.fps, self.frames, self.size, self.audio = reader.fps, reader.frames, reader.size, reader.audio
        self._ends = reader.ends

    def _open(self) -> Reader:
        """Wait until the thread has opened the source."""
        try:
            opened = self._reading.opened.get(timeout=self._timeout)
        except Empty:
            self._reading.stop()
            raise VideoError(self.source, f"did not open in {self._timeout:g} seconds") from None
        if isinstance(opened, BaseException):
            self._reading.join(_GOODBYE)
            raise opened
        self._arrived = self._connected = time.monotonic()
        return opened

    def __next__(self) -> Frame:
        if self._done:
            raise StopIteration
        start = time.perf_counter()
        try:
            item = self._take()
        finally:
            self.waited += time.perf_counter() - start
        if isinstance(item, Frame):
            self.dropped += item.index - self._index
            self._index, self._time, self._arrived = item.index + 1, item.time, time.monotonic()
            return item
        if isinstance(item, VideoError):
            self._index += 1
            raise item
        self.close()
        if item.error is None:
            self.problem = item.problem
            raise StopIteration
        self.problem = item.error.reason if isinstance(item.error, VideoError) else str(item.error)
        raise item.error

    def _take(self) -> Frame | VideoError | End:
        """What comes next; for what never ends that is a frame, or the error which connecting again did not mend."""
        if self._ends:
            return self._reading.take()
        while True:
            try:
                item = self._reading.take(self._timeout)
            except Empty:
                item = End(error=VideoError(self.source, f"stalled (no frame in {self._timeout:g} seconds)"))
            if not isinstance(item, End):
                if time.monotonic() - self._connected > (self._timeout or 0.0):
                    self._attempts = 0  # it went on
                return item
            if self._done or not self._most or not isinstance(item.error, VideoError | None):
                return item
            failed = self._connect_again(item.error.reason if item.error else "ended")
            if failed is not None:
                return End(error=failed)

    def _connect_again(self, reason: str) -> VideoError | None:
        """Open the source anew, where frames count on; or why that cannot be done."""
        self._reading.stop()
        for attempt in range(self._attempts, self._most):
            self._attempts += 1
            where = f"{self.source}: {reason}, at frame {self._index}"
            warnings.warn(f"{where}; connecting again ({attempt + 1} of {self._most})", stacklevel=4)
            time.sleep(min(2.0 * attempt, _LONGEST_PAUSE))
            if self._done:  # by another thread
                break
            passed = time.monotonic() - self._arrived
            self._reading = Reading(self._connect, self._reading.live, index=self._index, time=self._time + passed)
            try:
                self._open()
            except VideoError as error:
                reason = error.reason
            else:
                return None
        times = "once" if self._most == 1 else f"{self._most} times"
        return VideoError(self.source, f"{reason}; connecting again {times} did not help")

    def close(self) -> None:
        """Stop decoding and let go of the source; what was not taken is lost. Does nothing where that was done."""
        self._done = True
        self._reading.stop()
        # Nothing makes a network or a camera's driver return early: their thread ends by itself when they do.
        self._reading.join(_GOODBYE if self._timeout else None)

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if reading := getattr(self, "_reading", None):  # none where making it failed
            reading.stop()
