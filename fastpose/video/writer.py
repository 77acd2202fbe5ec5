"""Video files that a browser plays: written so that what is there can be played, put in their place once whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import struct
import warnings
from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from ..checks import Size, check_number, check_size
from ..files import open_file
from .frames import ANY_SIZE, Pixels, VideoError
from .pyav import import_av

__all__ = ["VideoWriter"]

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf")
# Without frames that refer to later ones every player shows the first one at its time.
_X264 = {"preset": "veryfast", "crf": "20", "bf": "0"}
# What browsers play beside H.264; of other sound is said that it is left out.
_SOUND = ("aac", "mp3", "opus", "flac", "ac3", "eac3", "alac")
_BITS = 0.15  # a pixel, where an encoder has to be told
_TICK = Fraction(1, 90_000)  # seconds
_BT709 = 1  # its number as matrix, as primaries and as transfer function
_LIMITED = 1  # range of luma from 16 to 235
# Pieces of a second each, which can be played without what would stand behind them.
_IN_PIECES = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "1000000",  # microseconds
    "flush_packets": "1",
}
_WHOLE = {"movflags": "+faststart"}


class VideoWriter:
    """Writes pictures into a video file: H.264 in yuv420p, which browsers play; its index stands at its start.

    While it is written the file is called ``NAME.part.mp4``, and can be played up to the last second or so, whatever
    happens to the process. `close` puts it under its own name, together with the sound. So does leaving a ``with``
    block by an exception or Ctrl-C. If the disk is full, the pieces that are whole get the name as they are.

    Args:
        file: What to write: .mp4, .m4v or .mov; an old one is replaced by `close`.
        size: (height, width) of the pictures, px. An odd side grows by one pixel, which repeats its last row or
            column: the format has colours for two by two pixels.
        fps: Frames per second, of those that are written without a time.
        audio_from: File whose sound is copied as it is, without the part behind the last picture. None of it is copied
            where the file format cannot hold it, and a warning says so.

    Raises:
        ImportError: PyAV is not installed; its extra is ``video``.
        OSError: The file cannot be written; ``filename`` says its name. (So does `write`, for a full disk.)
        VideoError: This FFmpeg has no encoder for H.264.
        ValueError: An argument cannot be used.

    Example:
        >>> import numpy as np, pathlib, tempfile
        >>> from fastpose.video import VideoWriter
        >>> folder = tempfile.TemporaryDirectory()
        >>> with VideoWriter(pathlib.Path(folder.name, "clip.mp4"), size=(48, 64), fps=25) as writer:
        ...     for grey in range(0, 250, 50):
        ...         writer.write(np.full((48, 64, 3), grey, np.uint8))
        >>> sorted(path.name for path in pathlib.Path(folder.name).iterdir())
        ['clip.mp4']
        >>> folder.cleanup()
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        size: Size,
        fps: float,
        audio_from: str | os.PathLike[str] | None = None,
    ) -> None:
        self._av = import_av()
        self._file = Path(file)
        self._format = _FORMATS.get(self._file.suffix.lower(), "")
        if not self._format:
            raise ValueError(f"file: expected a name that ends in {', '.join(_FORMATS)}, got {self._file.name!r}")
        self._size = check_size("size", size)
        self._step = 1 / check_number("fps", fps, above=0)
        self._audio_from = None if audio_from is None else Path(audio_from)
        if self._audio_from is not None:
            open_file(self._audio_from, limit=ANY_SIZE).close()  # what is not there is said now, not at the end
        if self._file.exists() and not self._file.is_file():
            raise OSError(errno.EINVAL, "is a folder or a device, expected a file name", str(file))
        self._target = Path(os.path.realpath(self._file))
        self._part = self._target.with_name(f"{self._target.stem}.part{self._target.suffix}")
        self._next, self._last = 0.0, -1  # seconds of the next picture, if nothing else is said, and ticks of the last
        self._closed = self._resized = False
        try:
            self._container, self._stream = self._open()
        except self._av.FFmpegError as error:
            raise self._named(error) from None

    def _open(self) -> tuple[Any, Any]:
        """The container of pieces and its stream, ready for pictures."""
        encoder = next((name for name in _ENCODERS if name in self._av.codecs_available), None)
        if encoder is None:
            raise VideoError(str(self._file), f"cannot be written: this FFmpeg has none of {', '.join(_ENCODERS)}")
        container = self._av.open(_address(self._part), "w", format=self._format, options=_IN_PIECES)
        try:
            stream = container.add_stream(encoder, rate=Fraction(1 / self._step).limit_denominator(1001) or 1)
            stream.height, stream.width = (side + side % 2 for side in self._size)
            stream.pix_fmt = "yuv420p"
            codec = stream.codec_context
            codec.time_base = _TICK
            codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
            codec.color_range = _LIMITED
            if encoder == "libx264":
                stream.options = dict(_X264)
            else:
                codec.bit_rate = round(_BITS * stream.height * stream.width / self._step)
            container.start_encoding()
        except BaseException:
            with contextlib.suppress(self._av.FFmpegError):
                container.close()
            self._part.unlink(missing_ok=True)
            raise
        return container, stream

    def write(self, pixels: Pixels, time: float | None = None) -> None:
        """Add a picture.

        Args:
            pixels: uint8 [H, W, 3] BGR. One of another size than the first is made to fit, with black bars where its
                shape is another; a warning says so once.
            time: Its seconds from the start of the video, more than those of the picture before; by default it comes
                one frame later. (Those of `Frame` fit the sound of the file that they are from.)

        Raises:
            TypeError: They are no uint8 array.
            ValueError: They have another shape, the time does not grow, or the file is closed already.
            OSError: It cannot be written; the file ends with what was.
        """
        if self._closed:
            raise ValueError(f"{self._file}: is closed; nothing more can be written")
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            raise TypeError(f"pixels: expected a uint8 array, got {getattr(pixels, 'dtype', type(pixels).__name__)}")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels: expected shape [H, W, 3], got {list(pixels.shape)}")
        seconds = self._next if time is None else check_number("time", time)
        tick = round(seconds / _TICK)
        if tick <= self._last:
            least = max(float(self._last * _TICK), 0.0)
            raise ValueError(f"time: expected seconds that grow, got {seconds:g} after {least:g}")
        frame = self._av.VideoFrame.from_ndarray(self._fit(pixels), format="bgr24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = tick, _TICK
        self._next, self._last = seconds + self._step, tick
        self._encode(frame)

    def _fit(self, pixels: Pixels) -> Pixels:
        """The picture in the size of the video."""
        height, width = self._size
        if pixels.shape[:2] != self._size:
            if not self._resized:
                self._resized = True
                was = f"{pixels.shape[1]}x{pixels.shape[0]}"
                warnings.warn(f"{self._file}: pictures of {was} are made to fit {width}x{height}", stacklevel=3)
            scale = min(height / pixels.shape[0], width / pixels.shape[1])
            high, wide = (max(1, round(side * scale)) for side in pixels.shape[:2])
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = cv2.resize(pixels, (wide, high), interpolation=method)
            pixels = np.zeros((height, width, 3), np.uint8)
            top, left = (height - high) // 2, (width - wide) // 2
            pixels[top : top + high, left : left + wide] = small
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        return np.ascontiguousarray(pixels)

    def _encode(self, frame: Any) -> None:
        """Write what the encoder gives for a picture, or at the end for None."""
        try:
            for packet in self._stream.encode(frame):
                packet.duration = round(self._step / _TICK)  # only the last one's counts
                self._container.mux(packet)
            if frame is None:
                self._container.close()
                _check_whole(self._part)
        except (OSError, self._av.FFmpegError) as error:
            self._closed = True
            with contextlib.suppress(self._av.FFmpegError):  # the first error is the one to tell
                self._container.close()
            if _drop_torn(self._part):
                os.replace(self._part, self._target)
            else:
                self._part.unlink()
            raise self._named(error) from None

    def close(self) -> None:
        """Finish the file; does nothing where that was done. Without a picture there is none.

        Raises:
            OSError: The end cannot be written; the file holds what was.
        """
        if self._closed:
            return
        self._encode(None)
        self._closed = True
        if self._last < 0:
            self._part.unlink()
            return
        whole = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._join(whole)
            _check_whole(whole)
            if self._target.exists():
                whole.chmod(stat.S_IMODE(self._target.stat().st_mode))
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(whole, self._target)
            self._part.unlink()
        except (OSError, self._av.FFmpegError) as error:  # a full disk, most likely: it takes the same room again
            os.replace(self._part, self._target)
            reason = error.strerror or error
            warnings.warn(f"{self._file}: is written without its index and without sound ({reason})", stacklevel=2)
        finally:
            whole.unlink(missing_ok=True)

    def _join(self, whole: Path) -> None:
        """Copy the pieces, and the sound beside them, into a file with an index at its start."""
        with contextlib.ExitStack() as files:
            pieces = files.enter_context(self._av.open(_address(self._part)))
            out = files.enter_context(self._av.open(_address(whole), "w", format=self._format, options=_WHOLE))
            packets = [_copy(pieces.demux(pieces.streams.video[0]), _add(out, pieces.streams.video[0]))]
            if self._audio_from is not None:
                packets += self._sound(files, out)
            for packet in merge(*packets, key=lambda packet: packet.dts * packet.time_base):
                if not packet.duration:  # FFmpeg 6 does not know it of pieces
                    packet.duration = round(self._step / packet.time_base)
                out.mux(packet)

    def _sound(self, files: contextlib.ExitStack, out: Any) -> list[Iterator[Any]]:
        """Packets of the first sound that the file brings; none where it cannot be copied."""
        name = str(self._audio_from)
        try:
            source = files.enter_context(self._av.open(_address(Path(name)), metadata_errors="replace"))
        except self._av.FFmpegError as error:
            return self._silent(f"{name} cannot be read ({error.strerror})")
        if not source.streams.audio:
            return self._silent(f"{name} has none")
        sound = source.streams.audio[0]
        codec = sound.codec_context.name if sound.codec_context else "of an unknown kind"
        if codec not in _SOUND:
            return self._silent(f"{self._file.suffix} files do not hold {codec}")
        # Our time begins with the first picture of the file.
        video = next(iter(source.streams.video), sound)
        begin = (video.start_time or 0) * video.time_base
        end = (self._last * _TICK) + Fraction(self._step)
        return [_copy(source.demux(sound), _add(out, sound), begin, end)]

    def _silent(self, reason: str) -> list[Iterator[Any]]:
        warnings.warn(f"{self._file}: the sound is left out: {reason}", stacklevel=5)
        return []

    def _named(self, error: Any) -> OSError:
        """The error of FFmpeg as one that names the file."""
        return OSError(error.errno, f"cannot be written ({error.strerror})", str(self._file))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _address(path: Path) -> str:
    """A file as FFmpeg is given it, so that no name is taken for an address."""
    return f"file:{path.absolute()}"


def _add(out: Any, stream: Any) -> Any:
    """A stream like this one."""
    if hasattr(out, "add_stream_from_template"):  # PyAV 14
        return out.add_stream_from_template(stream)
    return out.add_stream(template=stream)


def _copy(packets: Iterator[Any], stream: Any, begin: Fraction | int = 0, end: Fraction | None = None) -> Iterator[Any]:
    """The packets from one second to another, for another stream, which starts with the first."""
    for packet in packets:
        if packet.dts is None or packet.pts is None:  # it only marks the end
            continue
        shift = round(begin / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if end is not None and packet.pts * packet.time_base >= end:
            return
        if packet.pts >= 0:
            packet.stream = stream
            yield packet


def _boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Kind of each part of an MP4 file, and the byte behind it, as its head says."""
    with path.open("rb") as file:
        place = 0
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if length == 1:
                (length,) = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))
            place += max(length, 8)
            yield kind, place
            file.seek(place)


def _check_whole(path: Path) -> None:
    """Raise what FFmpeg keeps to itself: that the last bytes of a file were not written."""
    if max((end for _, end in _boxes(path)), default=0) != path.stat().st_size:
        raise OSError(errno.EIO, "its end was not written; the disk may be full")


def _drop_torn(path: Path) -> bool:
    """Cut a file of pieces behind the last one that is whole; false where there is none."""
    size = path.stat().st_size
    end = max((end for kind, end in _boxes(path) if kind == b"mdat" and end <= size), default=0)
    os.truncate(path, end)
    return end > 0
