"""Image libraries' own lines on standard error."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = r"""
import os, sys, time
import cv2, numpy as np
from fastpose.cli.stderr import without_decoder_lines

data = bytearray(cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))[1].tobytes())
data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)

def decode():
    assert cv2.imdecode(np.frombuffer(bytes(data), np.uint8), -1) is not None

if sys.argv[1] == "plain":
    decode()
    sys.exit()
try:
    with without_decoder_lines():
        print("before", file=sys.stderr)
        decode()
        print("after", file=sys.stderr)  # nothing of Python's may come between the parts of C's line
        os.write(2, b"libpng warning: iCCP: too short\nof C\nwithout an ")
        os.write(2, b"end\n[mov,mp4,m4a @ 0x7fb93405af40] ")
        time.sleep(0.2)
        os.write(2, b"moov atom not found\n")
        os.write(2, b"[ WARN:0@0.836] global cap.cpp:212 open VIDEOIO(FFMPEG): cannot be used\n")
        sys.stderr.isatty()
        1 / 0
except ZeroDivisionError:
    print("error", file=sys.stderr)
os.write(2, b"libpng warning: of another program\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the line of a damaged JPEG is not looked for there")
def test_lines_of_decoders_are_left_out() -> None:
    def lines(how: str) -> list[str]:
        command = [sys.executable, "-c", CODE, how]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()

    assert "Corrupt JPEG data" in lines("plain")[0]
    found = lines("filtered")
    assert sorted(found[:-2]) == ["after", "before", "of C", "without an end"]  # two writers: in what order is open
    assert found[-2:] == ["error", "libpng warning: of another program"]
