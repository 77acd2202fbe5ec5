"""Videos that are written: what players find in them, and what stays when writing is interrupted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_clips import SIZE, add_tone, grey, open_files, write_clip

from fastpose.video import VideoError, VideoWriter, open_video
from fastpose.video import writer as writer_module

av = pytest.importorskip("av")


def read(path: Path) -> tuple[list[float], list[float]]:
    """Seconds and mean of each frame."""
    with open_video(path) as video:
        frames = list(video)
        assert video.problem is None
    return [frame.time for frame in frames], [float(frame.pixels.mean()) for frame in frames]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["clip.mp4", "clip.MOV", "clip.m4v"])
def test_what_is_written_is_what_browsers_play(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    with VideoWriter(tmp_path / name, size=SIZE, fps=30000 / 1001) as writer:
        for _ in range(20):
            writer.write(picture)
        assert not (tmp_path / name).exists()
    assert names(tmp_path) == [name]
    with av.open(str(tmp_path / name)) as file:
        (stream,) = file.streams
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt, codec.colorspace, codec.color_range) == ("h264", "yuv420p", 1, 1)
        assert (stream.frames, float(stream.average_rate)) == (20, pytest.approx(29.97, abs=0.01))
    data = (tmp_path / name).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "a player begins before it has all"
    assert b"moof" not in data
    with open_video(tmp_path / name) as video:
        assert (video.size, video.frames, video.audio) == (SIZE, 20, False)
        for frame in video:
            assert np.abs(frame.pixels.astype(int) - picture).mean() < 8
            assert frame.time == pytest.approx(frame.index * 1001 / 30000, abs=1e-4)
    assert not open_files(tmp_path)


def test_times_are_kept(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=10) as writer:
        for number, time in enumerate([0.0, 0.033, 0.25, 1.0, None, None, 1.3]):
            writer.write(grey(30 * number), time)
    times, means = read(tmp_path / "clip.mp4")
    np.testing.assert_allclose(times, [0, 0.033, 0.25, 1.0, 1.1, 1.2, 1.3], atol=1e-4)
    np.testing.assert_allclose(means, 30 * np.arange(7), atol=4)


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64)])
def test_odd_sides_grow_by_one_pixel(size: tuple[int, int], tmp_path: Path) -> None:
    picture = grey(100, size)
    picture[-1], picture[:, -1] = 200, 200
    with VideoWriter(tmp_path / "clip.mp4", size=size, fps=10) as writer:
        writer.write(picture)
    with open_video(tmp_path / "clip.mp4") as video:
        (frame,) = video
    assert frame.pixels.shape == (48, 64, 3)
    assert abs(float(frame.pixels[-1].mean()) - 200) < 12
    assert abs(float(frame.pixels[:, -1].mean()) - 200) < 12


def test_pictures_of_another_size_are_made_to_fit(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=10) as writer:
        writer.write(grey(200))
        with pytest.warns(UserWarning, match=r"clip.mp4: pictures of 32x96 are made to fit 64x48"):
            writer.write(grey(200, (96, 32)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            writer.write(grey(200, (24, 32)))  # it was said
    with open_video(tmp_path / "clip.mp4") as video:
        _, tall, small = (frame.pixels.astype(int) for frame in video)
    assert abs(tall[:, 26:38].mean() - 200) < 8
    assert tall[:, :20].mean() < 12
    assert tall[:, 44:].mean() < 12
    assert abs(small.mean() - 200) < 4


# ---- sound


@pytest.mark.parametrize(("source", "codec"), [("clip.mp4", "aac"), ("clip.ts", "aac"), ("clip.mkv", "libopus")])
def test_sound_is_copied_as_far_as_there_are_pictures(source: str, codec: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / source, 50, tone=codec)
    with open_video(path) as video, VideoWriter(tmp_path / "out.mp4", size=SIZE, fps=25, audio_from=path) as writer:
        assert video.audio
        for frame in video:
            if frame.index < 25:
                writer.write(frame.pixels, frame.time)
    with av.open(str(tmp_path / "out.mp4")) as file, av.open(str(path)) as before:
        sound, original = file.streams.audio[0], before.streams.audio[0]
        assert sound.codec_context.name == original.codec_context.name
        assert float(sound.start_time * sound.time_base) == pytest.approx(0, abs=0.06)
        assert float(sound.duration * sound.time_base) == pytest.approx(1, abs=0.1)
        copied = [bytes(packet) for packet in file.demux(sound) if packet.size]
        # A transport stream has a head before each packet, which MP4 does not.
        assert all(any(one in bytes(packet) for packet in before.demux(original)) for one in copied[:1])
    times, _ = read(tmp_path / "out.mp4")
    np.testing.assert_allclose(times, np.arange(25) / 25, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "tone", "reason"),
    [("clip.mkv", "pcm_s16le", ".mp4 files do not hold pcm_s16le"), ("clip.mp4", None, "clip.mp4 has none")],
)
def test_sound_that_cannot_be_copied_is_left_out_and_said(
    source: str, tone: str | None, reason: str, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / source, tone=tone)
    writer = VideoWriter(tmp_path / "out.mp4", size=SIZE, fps=25, audio_from=path)
    writer.write(grey(9))
    with pytest.warns(UserWarning, match=f"out.mp4: the sound is left out: .*{reason}"):
        writer.close()
    assert len(read(tmp_path / "out.mp4")[0]) == 1
    assert names(tmp_path) == sorted([source, "out.mp4"])


def test_sound_alone_may_be_the_source(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "tone.m4a"), "w") as file:
        add_tone(file, "aac", 2.0)
    with VideoWriter(tmp_path / "out.mp4", size=SIZE, fps=25, audio_from=tmp_path / "tone.m4a") as writer:
        for _ in range(25):
            writer.write(grey(9))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]


# ---- interrupted


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_finishes_the_file(error: type[BaseException], tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25)

    def work() -> None:
        with writer:
            for number in range(10):
                writer.write(grey(number))
            raise error

    with pytest.raises(error):
        work()
    assert names(tmp_path) == ["clip.mp4"]
    assert len(read(tmp_path / "clip.mp4")[0]) == 10
    writer.close()
    with pytest.raises(ValueError, match=r"clip.mp4: is closed; nothing more can be written"):
        writer.write(grey(0))


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, capture_output=True, text=True, check=False
    )


NOISE = """
    import os, resource, signal, sys, warnings
    import numpy as np
    from fastpose.video import VideoWriter
    rng = np.random.default_rng(0)
    def picture():
        return rng.integers(0, 255, (240, 320, 3), np.uint8)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kills by a signal")
def test_of_a_process_that_is_killed_the_video_can_be_played(tmp_path: Path) -> None:
    code = """
    writer = VideoWriter("clip.mp4", size=(240, 320), fps=25)
    for number in range(150):
        writer.write(picture())
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(NOISE + code, tmp_path).returncode == -signal.SIGKILL
    assert names(tmp_path) == ["clip.part.mp4"]
    with open_video(tmp_path / "clip.part.mp4") as video:
        assert len(list(video)) >= 50


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_of_a_disk_that_is_full_the_video_can_be_played(tmp_path: Path) -> None:
    code = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
    count = 0
    try:
        with VideoWriter("clip.mp4", size=(240, 320), fps=25) as writer:
            while True:
                writer.write(picture())
                count += 1
    except OSError as error:
        print(error.filename, error.strerror, error.errno, sep="|")
    """
    result = python(NOISE + code, tmp_path)
    assert result.stdout.strip() == f"clip.mp4|cannot be written (File too large)|{errno.EFBIG}"
    assert (result.stderr, names(tmp_path)) == ("", ["clip.mp4"])
    with open_video(tmp_path / "clip.mp4") as video:
        assert len(list(video)) >= 25
        assert video.problem is None, "what was torn is cut off"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_where_no_piece_is_whole_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"old")
    code = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        with VideoWriter("clip.mp4", size=(240, 320), fps=25) as writer:
            for _ in range(10):
                writer.write(picture())
    except OSError as error:
        print(error)
    """
    result = python(NOISE + code, tmp_path)
    assert result.stdout.count("\n") == 1
    assert "cannot be written (" in result.stdout
    assert result.stdout.endswith(": 'clip.mp4'\n")
    assert (result.stderr, names(tmp_path)) == ("", ["clip.mp4"])
    assert (tmp_path / "clip.mp4").read_bytes() == b"old"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_the_last_bytes_are_not_lost_in_silence(tmp_path: Path) -> None:
    code = """
    frames = [picture() for _ in range(60)]
    with VideoWriter("clip.mp4", size=(240, 320), fps=25) as writer:
        for frame in frames:
            writer.write(frame)
    size = os.path.getsize("clip.mp4")
    for less in (10, 1000, 20_000, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - less, resource.RLIM_INFINITY))
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                with VideoWriter("short.mp4", size=(240, 320), fps=25) as writer:
                    for frame in frames:
                        writer.write(frame)
            print("said" if said else "nothing was said", less)
        except OSError as error:
            print("raised", less)
    """
    result = python(NOISE + code, tmp_path)
    assert result.stderr == ""
    assert [line.split()[0] in ("said", "raised") for line in result.stdout.splitlines()] == [True] * 4
    assert names(tmp_path) == ["clip.mp4", "short.mp4"]
    with open_video(tmp_path / "short.mp4") as video:
        assert len(list(video)) >= 25
        assert video.problem is None


def test_where_the_disk_has_no_room_for_the_index_the_pieces_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: VideoWriter, whole: Path) -> None:
        whole.write_bytes(b"the beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_join", full)
    writer = VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25)
    for number in range(10):
        writer.write(grey(number))
    with pytest.warns(UserWarning, match=r"clip.mp4: is written without its index and without sound \(No space left"):
        writer.close()
    assert names(tmp_path) == ["clip.mp4"]
    assert len(read(tmp_path / "clip.mp4")[0]) == 10


# ---- files


def test_an_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    real = tmp_path / "real.mp4"
    real.write_bytes(b"old")
    real.chmod(0o640)
    (tmp_path / "clip.mp4").symlink_to(real)
    with VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25) as writer:
        writer.write(grey(9))
        assert real.read_bytes() == b"old"
    assert (tmp_path / "clip.mp4").is_symlink()
    assert names(tmp_path) == ["clip.mp4", "real.mp4"]
    assert real.stat().st_mode & 0o777 == 0o640
    assert len(read(real)[0]) == 1


def test_without_a_picture_there_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"old")
    with VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25):
        pass
    assert (tmp_path / "clip.mp4").read_bytes() == b"old"
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        ({"file": "clip.avi"}, ValueError, "file: expected a name that ends in .mp4, .m4v, .mov, got 'clip.avi'"),
        ({"size": (0, 64)}, ValueError, "size: expected"),
        ({"fps": 0}, ValueError, "fps: expected a number above 0"),
        ({"file": "missing/clip.mp4"}, OSError, "No such file"),
        ({"file": "folder.mp4"}, OSError, "is a folder or a device"),
        ({"audio_from": "missing.mp4"}, OSError, "No such file"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    given: dict[str, Any], error: type[Exception], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.mp4").mkdir()
    arguments: dict[str, Any] = {"file": "clip.mp4", "size": SIZE, "fps": 25} | given
    with pytest.raises(error, match=reason) as caught:
        VideoWriter(arguments.pop("file"), **arguments)
    if isinstance(caught.value, OSError):
        assert caught.value.filename in given.values()
    assert names(tmp_path) == ["folder.mp4"]


def test_pictures_and_times_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25) as writer:
        with pytest.raises(TypeError, match="pixels: expected a uint8 array, got float64"):
            writer.write(np.zeros((48, 64, 3)))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="pixels: expected a uint8 array, got list"):
            writer.write([1])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"pixels: expected shape \[H, W, 3\], got \[48, 64\]"):
            writer.write(np.zeros((48, 64), np.uint8))
        with pytest.raises(ValueError, match="time: expected seconds that grow, got -1"):
            writer.write(grey(0), -1.0)
        writer.write(grey(0), 0.5)
        with pytest.raises(ValueError, match=r"time: expected seconds that grow, got 0.5 after 0.5"):
            writer.write(grey(0), 0.5)
        with pytest.raises(ValueError, match="time: expected a number"):
            writer.write(grey(0), float("nan"))
        writer.write(np.asfortranarray(grey(0)))
    np.testing.assert_allclose(np.diff(read(tmp_path / "clip.mp4")[0]), [0.04], atol=1e-3)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'fastpose-torch\[video\]'"):
        VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25)


def test_without_an_encoder_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_ENCODERS", ("h264_of_nobody",))
    with pytest.raises(VideoError, match=r"clip.mp4: cannot be written: this FFmpeg has none of h264_of_nobody"):
        VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25)
    assert names(tmp_path) == []


@pytest.mark.skipif("libx265" not in av.codecs_available, reason="this PyAV has no second encoder to try it with")
def test_another_encoder_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_ENCODERS", ("h264_of_nobody", "libx265"))
    with VideoWriter(tmp_path / "clip.mp4", size=SIZE, fps=25) as writer:
        for number in range(5):
            writer.write(grey(40 * number))
    np.testing.assert_allclose(read(tmp_path / "clip.mp4")[1], 40 * np.arange(5), atol=6)


@pytest.mark.shared
def test_a_recorded_clip_comes_back(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/samples/posetrack18/videos/000001_mpiinew_test/000001_mpiinew_test.mp4"
    with open_video(source) as video, VideoWriter(tmp_path / "out.mp4", size=(720, 1280), fps=30) as writer:
        before = list(video)
        for frame in before:
            writer.write(frame.pixels, frame.time)
    with open_video(tmp_path / "out.mp4") as video:
        for was, frame in zip(before, video, strict=True):
            assert frame.time == pytest.approx(was.time, abs=1e-3)
            assert np.abs(frame.pixels.astype(int) - was.pixels).mean() < 5
    assert os.path.getsize(tmp_path / "out.mp4") < 500_000
