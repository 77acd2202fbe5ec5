"""Standard error without the lines that image libraries write there by themselves."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator

__all__ = ["without_decoder_lines"]

# What libpng, libjpeg and OpenCV's FFmpeg say of a file that they read all the same, or of one that we name ourselves.
_THEIRS = re.compile(
    rb"libpng (warning|error): |Corrupt JPEG data: |Premature end of JPEG file|Invalid SOS parameters"
    rb"|Inconsistent progression sequence|Warning: unknown JFIF|Unsupported marker type"
    rb"|\[[\w,]+ @ 0x[0-9a-f]+\] |\[ ?(WARN|ERROR):\d+@[\d.]+\] .*\bcap(_\w+)?\.(cpp|hpp):\d+ "
)


@contextlib.contextmanager
def without_decoder_lines() -> Iterator[None]:
    """Leave out the lines of libpng, libjpeg and FFmpeg on the process's standard error; everything else goes through.

    They are written in C, into the file behind descriptor 2. That is a pipe meanwhile, whose lines a thread passes on;
    Python's own ``sys.stderr`` writes past it, so it is a terminal where it was one. Nothing changes where standard
    error is not descriptor 2 (a test has caught it, a notebook shows it).
    """
    own = sys.stderr
    try:
        if own.fileno() != 2:
            raise OSError
        own.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):
        yield
        return
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    # Not closed again: what logs to it may outlive this.
    past = io.TextIOWrapper(open(os.dup(kept), "wb"), own.encoding, own.errors, line_buffering=True)  # noqa: SIM115
    thread = threading.Thread(target=_pass_on, args=(reading, kept), name="fastpose-stderr", daemon=True)
    thread.start()
    sys.stderr = past
    try:
        yield
    finally:
        past.flush()
        sys.stderr = own
        os.dup2(kept, 2)  # which ends the pipe, unless another process still has it
        thread.join(0.5)


def _pass_on(reading: int, kept: int) -> None:
    """Lines as they come; the rest of one that does not end, when nothing follows."""
    with open(reading, "rb", 0) as source:
        rest = b""
        while piece := source.read(1 << 16):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                _write(kept, line + b"\n")
            if len(rest) > 1 << 16 or not _may_be_theirs(rest):  # what asks for an answer ends in no line
                _write(kept, rest)
                rest = b""
        _write(kept, rest)


def _may_be_theirs(start: bytes) -> bool:
    if start.startswith(b"["):  # FFmpeg writes who speaks before it writes what is said
        return re.match(rb"\[[\w,]*( @ |$)|\[ ?(WARN|ERROR)", start) is not None
    return any(word.startswith(start[:3]) for word in (b"lib", b"Cor", b"Pre", b"Inv", b"Inc", b"War", b"Uns"))


def _write(descriptor: int, line: bytes) -> None:
    if not _THEIRS.match(line):
        with contextlib.suppress(OSError):  # nobody reads it any more
            os.write(descriptor, line)
