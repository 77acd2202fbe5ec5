"""Video files, by PyAV and by OpenCV: pixels, times, rotation, and what is damaged, missing or no video."""

from __future__ import annotations

import gc
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_clips import SIZE, add_tone, cut, grey, open_files, threads, turn, write_clip

from fastpose.video import Frame, VideoError, open_video
from fastpose.video.frames import check_pixels

av = pytest.importorskip("av")


@pytest.fixture(params=["PyAV", "OpenCV"])
def backend(request: pytest.FixtureRequest) -> str:
    """What reads; clips are written before `use` switches to it."""
    return request.param


def use(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "OpenCV":
        monkeypatch.setitem(sys.modules, "av", None)


def read(path: Path) -> list[Frame]:
    with open_video(path) as video:
        frames = list(video)
        assert video.problem is None
    return frames


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.mov"])
def test_frames_come_in_order(name: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / name)
    use(backend, monkeypatch)
    with open_video(path) as video:
        assert (video.source, video.live, video.fps, video.size) == (str(path), False, 25, SIZE)
        assert video.frames is None or abs(video.frames - 12) <= 2
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 25, atol=1e-3)
    for number, frame in enumerate(frames):
        assert frame.pixels.shape == (*SIZE, 3)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous
        assert frame.pixels.flags.writeable
        assert abs(float(frame.pixels.mean()) - 10 * number) < 4
    assert (video.problem, video.dropped) == (None, 0)
    assert video.waited > 0


def test_frames_stay_as_they_are_when_others_follow(tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "clip.mp4", 60))
    assert [round(float(frame.pixels.mean()) / 10) for frame in frames[:20]] == list(range(20))


def test_times_are_those_of_the_time_stamps(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.52, 1.9]
    begin = 0.7 if backend == "PyAV" else 0.0
    path = write_clip(tmp_path / "clip.mkv", len(times), times=[begin + time for time in times])
    use(backend, monkeypatch)
    np.testing.assert_allclose([frame.time for frame in read(path)], times, atol=2e-3)


def test_avi_has_even_times_although_frames_refer_to_later_ones(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", 20)
    with av.open(str(path)) as file:
        assert 3 in {int(frame.pict_type) for frame in file.decode(video=0)}, "some refer to later ones"
    np.testing.assert_allclose([frame.time for frame in read(path)], np.arange(20) / 25, atol=1e-3)


# Quarter turns of what is shown, clockwise, by the matrix; and the mirrored ones.
TURNS = {
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", TURNS)
def test_rotation_tags_are_applied(
    matrix: tuple[int, int, int, int], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "OpenCV" and matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0:
        pytest.skip("OpenCV knows of no mirrored recordings, as open_video says")
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = 80, 160, 240
    path = write_clip(tmp_path / "clip.mp4", [picture] * 3)
    turn(path, *matrix)
    use(backend, monkeypatch)
    expected = TURNS[matrix](picture)
    with open_video(path) as video:
        assert video.size == expected.shape[:2]
        for frame in video:
            assert frame.pixels.shape == expected.shape
            assert frame.pixels.flags.c_contiguous
            assert np.abs(frame.pixels.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("matrix", ["ITU709", "ITU601"])
def test_colours_are_those_that_the_file_means(
    matrix: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colour = (30, 60, 200)
    with av.open(str(tmp_path / "clip.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.options = *SIZE, "yuv420p", {"crf": "1"}
        stream.codec_context.colorspace = 1 if matrix == "ITU709" else 6
        stream.codec_context.color_range = 1
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), colour, np.uint8), format="bgr24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range="MPEG")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    use(backend, monkeypatch)
    for frame in read(tmp_path / "clip.mp4"):
        np.testing.assert_allclose(frame.pixels.mean((0, 1)), colour, atol=4)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_of_a_video_that_is_cut_short_the_rest_is_good(
    name: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.repeat(rng.integers(0, 255, (6, 8, 3), np.uint8), 8, 0).repeat(8, 1) for _ in range(60)]
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_clip(tmp_path / name, pictures, codec=codec, movflags="faststart")
    short = cut(path, 0.6)
    whole = read(path)
    use(backend, monkeypatch)
    with open_video(short) as video:
        frames = list(video)
    assert 20 < len(frames) < 50
    assert video.problem is not None
    assert "cut short" in video.problem
    if backend == "OpenCV":
        frames = frames[:20]  # it also gives what it makes of a picture that is torn
    for frame in frames:  # (of those that were kept back for a later one some are lost with it)
        same = whole[round(frame.time * 25)]
        assert np.abs(frame.pixels.astype(int) - same.pixels).mean() < 3


def test_a_damaged_place_costs_its_frames_alone(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 60)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    for packet in packets[15:17]:
        start = data.index(bytes(packet))
        data[start : start + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    with open_video(path) as video:
        frames = list(video)
    assert len(frames) == 58
    assert frames[-1].time == pytest.approx(59 / 25)
    assert video.problem == "is damaged (2 packets are left out)"


def concatenated(tmp_path: Path) -> Path:
    small = write_clip(tmp_path / "small.ts", [grey(50)] * 5).read_bytes()
    large = write_clip(tmp_path / "large.ts", [grey(150, (96, 128))] * 5).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    return path


def test_frames_keep_their_own_size_and_times_grow(tmp_path: Path) -> None:
    frames = read(concatenated(tmp_path))
    assert [frame.pixels.shape[:2] for frame in frames] == [SIZE] * 5 + [(96, 128)] * 5
    steps = np.diff([frame.time for frame in frames])
    assert (steps > 0).all()
    assert steps.max() < 0.1


# ---- what gives no video


def refused(path: Path | str, reason: str) -> None:
    with pytest.raises(VideoError, match=reason) as caught:
        open_video(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not threads()


def test_what_is_no_video_is_said_in_one_line(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_index = cut(write_clip(tmp_path / "clip.mp4", 60), 0.5)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "note.mp4").write_text("no video at all\n" * 20)
    use(backend, monkeypatch)
    refused(tmp_path / "missing.mp4", "no such file")
    refused(tmp_path / "empty.mp4", re.escape("is empty (0 bytes)"))
    refused(tmp_path / "note.mp4", "is no video")
    refused(without_index, "is no video")
    refused("/dev/null", "is a device, expected a regular file")
    assert not open_files(tmp_path)


def test_photos_texts_and_sound_are_no_videos(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), grey(9))
    refused(tmp_path / "photo.jpg", "is no video, but a photo or a text")
    (tmp_path / "text.txt").write_text("frames of a film in words\n" * 9)
    refused(tmp_path / "text.txt", "is no video")
    with av.open(str(tmp_path / "tone.m4a"), "w") as file:
        add_tone(file, "aac", 0.5)
    refused(tmp_path / "tone.m4a", "has no video stream")


def test_a_codec_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz9z").replace(b"avcC", b"zz9C"))
    refused(path, "is in a video format that this FFmpeg does not decode")


def test_sizes_that_no_machine_should_decode_are_refused(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.y4m"
    path.write_bytes(b"YUV4MPEG2 W20000 H20000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(5000))
    use(backend, monkeypatch)
    refused(path, "is no video")
    with pytest.raises(VideoError, match="clip: claims 20000x20000 pixels; at most 268435456 in all can be read"):
        check_pixels("clip", (20000, 20000))


def test_arguments_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match=r"fps: .*clip.mp4 has time stamps of its own"):
        open_video(path, fps=10)
    with pytest.raises(ValueError, match="timeout: expected a number above 0"):
        open_video(path, timeout=0)
    with pytest.raises(ValueError, match="reconnect: expected a whole number of at least 0, got -1"):
        open_video(path, reconnect=-1)
    with pytest.raises(TypeError, match="source: expected a path"):
        open_video(0)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match=r"ftp://host/clip.mp4: cannot be opened \(ftp\); expected one of rtsp"):
        open_video("ftp://host/clip.mp4")


# ---- closing


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 200)
    with open_video(path) as video:
        for _ in itertools.islice(video, 3):
            pass
        assert threads()
    assert not threads()
    assert not open_files(tmp_path)
    assert list(video) == []
    video.close()
    whole = open_video(path)
    assert len(list(whole)) == 200
    assert not threads(), "after the last frame nothing is left to be closed"
    assert not open_files(tmp_path)


def test_no_frame_waits_for_the_collector(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 100)
    gc.collect()
    gc.disable()
    try:
        with open_video(path) as video:
            for _ in video:
                pass
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 10
    finally:
        gc.enable()


def test_a_video_that_nobody_has_any_more_ends(tmp_path: Path) -> None:
    next(open_video(write_clip(tmp_path / "clip.mp4", 200)))
    end = time.monotonic() + 10
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads()


def test_a_program_may_end_with_a_video_open(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 200)
    code = f"from fastpose.video import open_video; video = open_video({str(path)!r}); print(next(video).index)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")


@pytest.mark.parametrize("name", ["a b#c?d%03d.mp4", "http:.mp4", "clip é.mp4"])
def test_any_name_is_that_of_a_file(name: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 3).rename(tmp_path / name)
    use(backend, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert len(read(path)) == len(read(Path(name))) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are Linux's")
def test_a_name_may_be_no_text(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 3).rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")))
    use(backend, monkeypatch)
    if backend == "PyAV":
        assert len(read(path)) == 3
    else:
        with pytest.raises(VideoError, match=r"xff.mp4: has a name that OpenCV cannot be given"):
            open_video(path)


@pytest.mark.shared
def test_a_recorded_clip(shared: Path) -> None:
    folder = shared / "data/samples/posetrack18/videos/000001_mpiinew_test"
    frames = read(folder / "000001_mpiinew_test.mp4")
    assert [frame.pixels.shape for frame in frames] == [(720, 1280, 3)] * 5
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(5) / 30, atol=1e-3)
