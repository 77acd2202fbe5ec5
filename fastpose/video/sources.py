"""What a source is, told by its name, and how it is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..checks import check_number
from ..data.photo_files import VIDEO_SUFFIXES
from ..files import open_file, unreadable
from .folder import FolderReader
from .frames import ANY_SIZE, Reader, VideoError
from .opencv import CameraReader, OpenCVReader
from .pyav import PyAVReader, has_pyav, import_av
from .video import Video

__all__ = ["is_video", "open_video"]

_CAMERA = re.compile(r"camera:(\d{1,4})")
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]{1,15})://", re.IGNORECASE)
_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "mms")
_WEB = ("http", "https")
_WEB_SUFFIXES = (*VIDEO_SUFFIXES, ".m3u8", ".mpd", ".mjpg", ".mjpeg")
_FOLDER_FPS = 25.0


def is_video(source: str | os.PathLike[str]) -> bool:
    """Whether this names a video, a camera or a stream; the name alone is looked at.

    Args:
        source: A path or an address.

    Returns:
        True for ``camera:NUMBER``, the addresses of streams (``rtsp://…``), web addresses and files with the suffix of
        a video. A folder is none by its name, though `open_video` reads the frames in it.

    Example:
        >>> [is_video(name) for name in ("clip.MP4", "camera:0", "rtsp://host/door", "photo.jpg", "frames")]
        [True, True, True, False, False]
    """
    name = os.fsdecode(source)
    scheme = _scheme(name)
    if scheme is None:
        return _CAMERA.fullmatch(name) is not None or Path(name).suffix.lower() in VIDEO_SUFFIXES
    if scheme in _WEB:
        return Path(re.split("[?#]", name)[0]).suffix.lower() in _WEB_SUFFIXES
    return scheme in _LIVE


def open_video(
    source: str | os.PathLike[str],
    *,
    fps: float | None = None,
    live: bool | None = None,
    timeout: float = 10.0,
    reconnect: int = 3,
) -> Video:
    """Open a source of frames.

    - A video file. It is read by PyAV (extra ``video``), or without it by OpenCV, which knows neither of sound nor of
      mirrored recordings.
    - A folder of numbered photos, in the order of their numbers.
    - A camera, ``camera:0`` for the first one.
    - A stream, such as ``rtsp://user:password@host/door`` or ``http://host/live.m3u8``; needs PyAV.

    Rotation tags are applied, so that pixels are upright, and time is what time stamps say, also where frames do not
    come at a constant rate. Pixels are not stretched where the source says that they are not square.

    Args:
        source: What to open.
        fps: Frames per second of a folder, 25 by default; for a camera, what it is asked for.
        live: Whether the newest frame counts and those that nobody took in time are dropped, or each frame counts. By
            default that is so for cameras and for streams without an end. A file is then read at its own pace.
        timeout: Seconds without a frame after which a stream or a camera counts as stalled.
        reconnect: How often in a row a stream or a camera that stalled, broke off or ended is connected to again; it
            counts anew once frames have come for longer than `timeout`. With 0, a stream that its server ends is over.

    Returns:
        The video, to be closed when it is done with.

    Raises:
        VideoError: It is missing, cannot be reached, or gives no video; the message is one line that names it.
        ImportError: It needs PyAV, which is not installed.
        TypeError: The source is no path and no address.
        ValueError: Another argument cannot be used.

    Example:
        >>> from fastpose.video import open_video
        >>> open_video("missing.mp4")
        Traceback (most recent call last):
            ...
        fastpose.video.frames.VideoError: missing.mp4: no such file
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source: expected a path, camera:NUMBER or an address, got {type(source).__name__}")
    name = os.fsdecode(source)
    check_number("timeout", timeout, above=0)
    if isinstance(reconnect, bool) or not isinstance(reconnect, int) or reconnect < 0:
        raise ValueError(f"reconnect: expected a whole number of at least 0, got {reconnect!r}")
    if fps is not None:
        check_number("fps", fps, above=0)
    camera, scheme, shown = _CAMERA.fullmatch(name), _scheme(name), _without_password(name)
    connect: Callable[[], Reader]
    if scheme is None and camera is None:
        connect = partial(_open_local, name, fps)
        return Video(shown, connect, live=live)
    if camera is not None:
        connect = partial(CameraReader, int(camera[1]), fps)
    elif scheme not in (*_LIVE, *_WEB):
        expected = ", ".join((*_LIVE, *_WEB))
        raise VideoError(shown, f"cannot be opened ({scheme}); expected one of {expected}, a file or a folder")
    else:
        _refuse_fps(fps, shown)
        import_av()  # here, where it is the caller's error
        connect = partial(PyAVReader, name, shown, timeout=timeout, live=live is True or scheme in _LIVE)
    return Video(shown, connect, live=live, timeout=timeout, reconnect=reconnect)


def _open_local(name: str, fps: float | None) -> Reader:
    """A folder, or a file."""
    if os.path.isdir(name):
        return FolderReader(name, fps or _FOLDER_FPS)
    _refuse_fps(fps, name)
    try:
        with open_file(name, limit=ANY_SIZE) as file:
            if not file.read(1):
                raise VideoError(name, "is empty (0 bytes)")
    except OSError as error:
        raise VideoError(name, unreadable(error)) from None
    if has_pyav():
        return PyAVReader(f"file:{os.path.abspath(name)}", name)
    return OpenCVReader(name)


def _refuse_fps(fps: float | None, name: str) -> None:
    if fps is not None:
        raise ValueError(f"fps: {name} has time stamps of its own; expected a folder of frames, or a camera")


def _scheme(name: str) -> str | None:
    found = _ADDRESS.match(name)
    return found[1].lower() if found else None


def _without_password(name: str) -> str:
    """The name as messages may show it."""
    found = _ADDRESS.match(name)
    if found is None:
        return name
    host = re.split("[/?]", name[found.end() :], maxsplit=1)[0]
    account, at, _ = host.rpartition("@")
    if not at and not re.fullmatch(r"[^:]*|[^:]*:\d*|\[.*", host):  # a password with a slash in it, perhaps
        account, at, _ = name[found.end() :].rpartition("@")
    user, colon, _ = account.partition(":")
    if not at or not colon:
        return name
    return f"{found[0]}{user}:***@{name[found.end() + len(account) + 1 :]}"
