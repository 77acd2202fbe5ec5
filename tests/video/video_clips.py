"""Small clips that tests write with PyAV, and what they look at afterwards."""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE = 48, 64  # height, width


def grey(value: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    return np.full((*size, 3), value, np.uint8)


def write_clip(
    path: Path,
    pictures: Sequence[npt.NDArray[np.uint8]] | int = 12,
    *,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    tone: str | None = None,
    form: str | None = None,
    **options: object,
) -> Path:
    """Grey pictures 0, 10, 20, … or those given, 25 a second; ``tone`` names the codec of a sound beside them."""
    import av

    pictures = [grey(10 * number % 250) for number in range(pictures)] if isinstance(pictures, int) else pictures
    tick = Fraction(1, 1000)
    with av.open(str(path), "w", format=form, options={key: str(value) for key, value in options.items()}) as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = (
            {"g": "10", "crf": "10", "bf": "2", "b-adapt": "0"} if codec == "libx264" else {"g": "10", "b": "2000000"}
        )
        if times is not None:
            stream.codec_context.time_base = tick
        if tone is not None:
            add_tone(file, tone, len(pictures) / 25)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] / tick), tick
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def add_tone(file: Any, codec: str, seconds: float) -> None:
    import av

    stream = file.add_stream(codec, rate=48000)
    stream.codec_context.layout = "mono"
    file.start_encoding()
    step = stream.codec_context.frame_size or 1024
    wave = (np.sin(np.arange(int(48000 * seconds)) / 20) * 9000).astype(np.int16)
    change = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48000)
    for start in range(0, len(wave) - step + 1, step):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + step], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, start
        for part in change.resample(frame):
            file.mux(stream.encode(part))
    file.mux(stream.encode(None))


def turn(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Set the matrix of a video's track: where (x, y) is shown, x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def cut(path: Path, share: float) -> Path:
    """A copy of the file without its end."""
    data = path.read_bytes()
    short = path.with_name(f"cut-{path.name}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastpose-video")]


def open_files(folder: Path) -> list[str]:
    """Those below the folder that this process has open."""
    if sys.platform != "linux":
        return []
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        found += [target] if target.startswith(str(folder)) else []
    return found
