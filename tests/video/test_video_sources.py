"""Folders of frames, names of sources, and the thread that reads ahead, whatever it reads."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_clips import grey, threads

from fastpose.data.images import ImageError
from fastpose.video import Video, VideoError, is_video, open_video
from fastpose.video import reading as reading_module
from fastpose.video.frames import Pixels
from fastpose.video.sources import _without_password


def write_frames(folder: Path, names: list[str], suffix: str = ".png") -> None:
    """Each is grey of ten times its place."""
    for place, name in enumerate(names):
        cv2.imwrite(str(folder / f"{name}{suffix}"), grey(10 * place))


# ---- folders


def test_frames_of_a_folder_come_by_their_numbers(tmp_path: Path) -> None:
    write_frames(tmp_path, ["clip 8", "clip 9", "clip 10", "clip 11"])
    (tmp_path / "notes.txt").write_text("no frame")
    with open_video(tmp_path, fps=10) as video:
        assert (video.fps, video.frames, video.size, video.audio, video.live) == (10, 4, (48, 64), False, False)
        frames = list(video)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [0, 10, 20, 30]
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.1, 0.2, 0.3])
    with open_video(tmp_path) as video:
        assert video.fps == 25


def test_gaps_in_the_numbers_are_said(tmp_path: Path) -> None:
    write_frames(tmp_path, ["000010", "000012", "000018", "000020"])
    with pytest.warns(UserWarning, match=r"the numbers of its 4 frames have gaps \(2 missing\)"):
        video = open_video(tmp_path)
    with video:
        assert len(list(video)) == 4


def test_a_frame_that_cannot_be_read_is_an_error_at_its_place(tmp_path: Path) -> None:
    write_frames(tmp_path, ["0", "1", "2", "3"])
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with open_video(tmp_path) as video:
        assert next(video).index == 0
        with pytest.raises(VideoError, match=r"1.png: is cut short"):
            next(video)
        assert [(frame.index, round(frame.time * 25)) for frame in video] == [(2, 2), (3, 3)]


def test_frames_of_a_folder_keep_their_own_sizes(tmp_path: Path) -> None:
    write_frames(tmp_path, ["0", "1"])
    cv2.imwrite(str(tmp_path / "2.png"), grey(0, (20, 30)))
    with open_video(tmp_path) as video:
        assert [frame.pixels.shape[:2] for frame in video] == [(48, 64), (48, 64), (20, 30)]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "holds no photos; expected a video's frames, numbered"),
        (["1", "cover"], "cover.png has no number"),
        (["1", "01"], "01.png and 1.png have the same number"),
    ],
)
def test_folders_that_are_no_video_are_refused(names: list[str], reason: str, tmp_path: Path) -> None:
    write_frames(tmp_path, names)
    with pytest.raises(VideoError, match=reason):
        open_video(tmp_path)
    assert not threads()


# ---- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", True),
        ("some/where/CLIP.MOV", True),
        ("camera:0", True),
        ("camera:front", False),
        ("rtsp://host/door", True),
        ("RTSP://host/door", True),
        ("udp://@239.0.0.1:1234", True),
        ("https://host/clip.mp4?token=a.b", True),
        ("http://host/live.m3u8", True),
        ("http://host/photo.jpg", False),
        ("http://host/", False),
        ("photo.jpg", False),
        ("frames", False),
        (Path("clip.webm"), True),
    ],
)
def test_videos_are_told_by_their_names(name: str | Path, expected: bool) -> None:
    assert is_video(name) is expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rtsp://user:secret@host:554/door", "rtsp://user:***@host:554/door"),
        ("rtsp://user:sec@ret@host/door", "rtsp://user:***@host/door"),
        ("rtsp://user:sec#ret@host", "rtsp://user:***@host"),
        ("rtsp://user:sec/ret@host/door", "rtsp://user:***@host/door"),
        ("rtsp://:secret@host/door", "rtsp://:***@host/door"),
        ("rtsp://user@host/door", "rtsp://user@host/door"),
        ("http://host:8080/@user/live.m3u8", "http://host:8080/@user/live.m3u8"),
        ("http://[::1]:8080/live?mail=a@b", "http://[::1]:8080/live?mail=a@b"),
        ("clip:a@b.mp4", "clip:a@b.mp4"),
    ],
)
def test_passwords_are_not_shown(name: str, shown: str) -> None:
    assert _without_password(name) == shown


# ---- reading ahead


class Made:
    """A reader of so many frames; the last read, or that of a number, may fail."""

    fps: float | None = 25.0
    size = None
    audio = False
    ends = True
    problem: str | None = None
    path = None

    def __init__(self, count: int, fail: BaseException | None = None, times: list[float | None] | None = None) -> None:
        self.frames: int | None = count
        self.fail, self.times = fail, times
        self.reads = self.closed = 0

    def read(self) -> tuple[float | None, Pixels] | VideoError | None:
        if self.reads == self.frames:
            if self.fail is not None:
                raise self.fail
            return None
        self.reads += 1
        return None if self.times is None else self.times[self.reads - 1], grey(self.reads % 256)

    def close(self) -> None:
        self.closed += 1


def settled(reader: Made) -> int:
    """How far it reads when nobody takes anything."""
    before = -1
    while before != reader.reads:
        before = reader.reads
        time.sleep(0.1)
    return before


def test_no_more_frames_than_said_are_held() -> None:
    reader = Made(500)
    with Video("made", lambda: reader) as video:
        assert settled(reader) == 33, "32 wait, and one more stands before the door"
        next(video)
        assert settled(reader) == 34
    assert not threads()
    assert reader.closed == 1


def test_no_more_bytes_than_said_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "_ROOM", 3 * grey(0).nbytes)
    reader = Made(500)
    with Video("made", lambda: reader) as video:
        assert settled(reader) == 4
        assert [frame.index for frame in video] == list(range(500))


def test_a_frame_larger_than_the_room_still_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "_ROOM", 1)
    with Video("made", lambda: Made(3)) as video:
        assert len(list(video)) == 3


@pytest.mark.parametrize("error", [VideoError("made", "is torn"), MemoryError("no room"), ImageError("made", "is bad")])
def test_errors_of_the_thread_come_behind_the_frames_before_them(error: Exception) -> None:
    reader = Made(5, error)
    video = Video("made", lambda: reader)
    assert [next(video).index for _ in range(5)] == list(range(5))
    with pytest.raises(type(error)) as caught:
        next(video)
    assert caught.value is error
    assert video.problem in ("is torn", "no room", "made: is bad")
    assert reader.closed == 1
    assert not threads()
    with pytest.raises(StopIteration):
        next(video)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.5, 6.5], [0, 0.5, 1.5]),
        ([None, None, None], [0, 0.04, 0.08]),
        ([2.0, None, 2.2], [0, 0.04, 0.2]),
        ([2.0, 3.0, 3.0, 3.5], [0, 1, 1.04, 1.54]),
        ([2.0, 3.0, 0.0, 0.5], [0, 1, 1.04, 1.54]),
    ],
)
def test_times_begin_at_zero_and_grow(stamps: list[float | None], expected: list[float]) -> None:
    with Video("made", lambda: Made(len(stamps), times=stamps)) as video:
        np.testing.assert_allclose([frame.time for frame in video], expected)


def test_closing_stops_in_the_middle() -> None:
    reader = Made(10**9)
    video = Video("made", lambda: reader)
    next(video)
    start = time.monotonic()
    video.close()
    assert time.monotonic() - start < 1
    assert not threads()
    assert reader.closed == 1


def test_waiting_is_counted() -> None:
    class Slow(Made):
        def read(self) -> tuple[float | None, Pixels] | VideoError | None:
            time.sleep(0.05)
            return super().read()

    with Video("made", lambda: Slow(4)) as video:
        assert len(list(video)) == 4
    assert 0.15 < video.waited < 2
