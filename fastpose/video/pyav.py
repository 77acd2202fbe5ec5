"""Files and streams through PyAV, which brings FFmpeg along."""

from __future__ import annotations

import importlib
import re
import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from ..checks import Size
from ..data.images import MAX_PIXELS
from .frames import Pixels, VideoError, check_pixels

__all__ = ["PyAVReader", "has_pyav", "import_av"]

# What makes a moving picture of any text, or of a photo.
_NO_VIDEO = ("tty", "bin", "xbin", "adf", "idf", "image2")
_LIVE_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "rtsp_flags": "prefer_tcp"}
_UNTIMED = ("mpjpeg", "mjpeg")  # cameras' pictures one after the other, which FFmpeg makes 25 a second of
_NOTHING = "is no video, or its start or its index is damaged or cut off"
_COVER = 1 << 10  # AV_DISPOSITION_ATTACHED_PIC: the picture of a song


def import_av() -> ModuleType:
    """The module ``av``.

    Raises:
        ImportError: PyAV is not installed, or does not fit this machine; the message says how to get it.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(
            f"video streams and writing videos need PyAV: pip install 'fastpose-torch[video]' ({error})"
        ) from None


def has_pyav() -> bool:
    """Whether `import_av` gives it."""
    try:
        import_av()
    except ImportError:
        return False
    return True


class PyAVReader:
    """A `Reader` of the best video stream of a file or an address.

    Args:
        address: What FFmpeg is given.
        name: What errors call it.
        timeout: Seconds that it may be silent; None without a limit.
        live: Latency counts from the first frame on: nothing is kept back to find out more about the stream.

    Raises:
        VideoError: It cannot be opened, or gives no frame.
    """

    def __init__(self, address: str, name: str, *, timeout: float | None = None, live: bool = False) -> None:
        self._av, self._name, self._timeout = import_av(), name, timeout
        self.problem: str | None = None
        self.path = Path(name) if address.startswith("file:") else None
        options = {"max_pixels": str(MAX_PIXELS)} | (_LIVE_OPTIONS if live else {})
        if timeout:
            options["reconnect"] = "1"  # a server that breaks off in the middle of a file is asked for its rest
        try:
            self._container = self._av.open(address, options=options, timeout=timeout, metadata_errors="replace")
        except self._av.FFmpegError as error:
            reason = self._why(error)
            if timeout is None or type(error).__name__ == "InvalidDataError":  # it is not the network's
                reason = f"{_NOTHING} ({error.strerror})"
            raise VideoError(name, reason) from None
        try:
            self._stream = self._pick()
            self._describe()
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                raise VideoError(name, f"gives no frame ({self.problem or 'its video stream is empty'})")
            self.size: Size | None = self._first[1].shape[:2]
        except BaseException:
            self._container.close()
            raise

    def _pick(self) -> Any:
        """The video stream that counts, ready to be decoded."""
        form = self._container.format.name
        if form in _NO_VIDEO or form.endswith("_pipe"):
            raise VideoError(self._name, "is no video, but a photo or a text")
        if not len(self._container.streams):
            raise VideoError(self._name, _NOTHING)
        streams = [s for s in self._container.streams.video if not getattr(s, "disposition", 0) & _COVER]
        if not streams:
            raise VideoError(self._name, f"has no video stream ({self._container.format.long_name or form})")
        # Of the sizes that a playlist offers, the largest.
        stream = max(streams, key=lambda s: s.codec_context.width * s.codec_context.height if s.codec_context else -1)
        codec = stream.codec_context
        if codec is None:
            raise VideoError(self._name, "is in a video format that this FFmpeg does not decode")
        if codec.width or codec.height:
            check_pixels(self._name, (codec.height, codec.width))
        return stream

    def _describe(self) -> None:
        stream, container = self._stream, self._container
        rate = stream.average_rate
        self.fps = float(rate) if rate else None
        self.audio = bool(container.streams.audio)
        seconds = _seconds(stream, container)
        self.ends = seconds is not None or self._timeout is None
        self._seconds = _stated_seconds(stream, container)
        frames = stream.frames or (round(seconds * self.fps) if seconds and self.fps else 0)
        self.frames = frames if frames > 0 else None
        # Threads that work at a frame each are fast, and as many frames behind.
        stream.thread_type = "AUTO" if self.ends else "SLICE"

    def read(self) -> tuple[float | None, Pixels] | VideoError | None:
        """See `Reader`."""
        frame, self._first = self._first or next(self._frames, None), None
        return frame

    def close(self) -> None:
        """See `Reader`."""
        self._frames.close()
        self._container.close()

    def _decode(self) -> Generator[tuple[float | None, Pixels], None, None]:
        """Seconds and pixels of each frame; at the end it is known what was wrong."""
        damaged, count, end, tick = 0, 0, 0.0, self._stream.time_base
        timed = self.ends or self._container.format.name not in _UNTIMED
        decoded = self._container.format.name == "avi"  # which knows no other time, frame by frame
        upright = _Upright()
        for packet in self._packets():
            try:
                frames = None if self._is_torn(packet) else self._stream.decode(packet)
            except self._av.FFmpegError:
                frames = None
            if frames is None:
                damaged += 1
                continue
            if packet is not None and packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * tick))
            for frame in frames:
                check_pixels(self._name, (frame.height, frame.width))
                count += 1
                stamp = frame.dts if decoded else frame.pts
                yield float(stamp * tick) if timed and stamp is not None else None, upright(frame)
        if self.problem:
            self.problem = f"{self.problem} after {count} frames"
        elif self._is_short(end):
            self.problem = f"is cut short after {count} frames ({end:.2f} of {self._seconds:.2f} seconds)"
        elif damaged:
            self.problem = f"is damaged ({damaged} packet{'s are' if damaged > 1 else ' is'} left out)"

    def _packets(self) -> Iterator[Any]:
        """Packets of the stream, and one without content or None at its end, for what the decoder still holds."""
        packets = self._container.demux(self._stream)
        try:
            yield from packets
        except self._av.FFmpegError as error:
            self.problem = self._why(error, "broke off")
            if not self.ends:
                raise VideoError(self._name, self.problem) from None
            yield None

    def _is_torn(self, packet: Any) -> bool:
        """Whether it is the last one of a file that was cut short; what came over a network is worth a try."""
        return packet is not None and packet.is_corrupt and self.ends and self._container.format.name != "mpegts"

    def _is_short(self, end: float) -> bool:
        """Whether the last packet ended before the time that the file states, counted from zero or from its start."""
        start = float((self._stream.start_time or 0) * self._stream.time_base)
        spare = max(2 / self.fps if self.fps else 0.0, 0.1)
        return self._seconds is not None and end - min(start, 0.0) < self._seconds - spare

    def _why(self, error: Any, what: str = "cannot be read") -> str:
        """What to say of an error of FFmpeg's."""
        if type(error).__name__ == "ExitError":
            return f"stalled (nothing came in {self._timeout:g} seconds)"
        return f"{what} ({error.strerror or error})"


def _seconds(stream: Any, container: Any) -> float | None:
    """Duration of a file, also where FFmpeg can but guess it; None for what goes on until it is ended."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _stated_seconds(stream: Any, container: Any) -> float | None:
    """Duration of the video stream that a file states of itself, however much is there of it."""
    form = container.format.name
    if form == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    if "mp4" in form and stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if "matroska" in form:
        found = re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
        if found:
            return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
        if len(container.streams) == 1 and container.duration is not None:  # it is that of the longest one
            return float(container.duration / 1e6)
    return None


class _Upright:
    """Turns the pixels of frames as the matrix beside them says, by the nearest quarter turn."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._turn = (1, 0, 0, 1)

    def __call__(self, frame: Any) -> Pixels:
        """uint8 [H, W, 3] BGR."""
        # Looking at its side data ties a frame into a cycle, so that its memory waits for Python's collector.
        seen = (getattr(frame, "rotation", None), frame.width, frame.height)
        if seen != self._seen:
            self._seen, self._turn = seen, _turn(frame)
        a, b, c, d = self._turn
        pixels = frame.to_ndarray(format="bgr24", dst_colorspace="DEFAULT")  # before PyAV 17 it had to be said
        if abs(b) > abs(a):
            pixels, a, d = cv2.transpose(pixels), c, b
        if a < 0 or d < 0:
            pixels = cv2.flip(pixels, -1 if a < 0 and d < 0 else 1 if a < 0 else 0)
        return np.require(pixels, requirements=["C", "W"])


def _turn(frame: Any) -> tuple[int, int, int, int]:
    """(a, b, c, d) of where (x, y) is to be shown: x' = a x + c y, y' = b x + d y."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
            return a, b, c, d
    return 1, 0, 0, 1
