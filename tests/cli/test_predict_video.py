"""``fastpose predict`` of a video: what is written, what is refused, and what is there after a sudden end."""

from __future__ import annotations

import csv
import io
import json
import os

import cv2
import numpy as np
import pytest

from fastpose.cli.predict_video import one_video
from fastpose.data.synthetic import render_scene
from fastpose.predict import Predictor
from fastpose.predict.writers import read_jsonl
from fastpose.video import open_video


@pytest.fixture
def frames(photos):
    """A folder of six numbered frames in which one person drifts."""
    folder = photos / "frames"
    folder.mkdir()
    image, _ = render_scene(4, (96, 96), 1)
    for number in range(6):
        cv2.imwrite(str(folder / f"{number:03}.png"), np.roll(image, 2 * number, axis=1))
    return folder


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_a_frame_goes_to_stdout(run, frames):
    done = run(frames, "--fps", 10, "--boxes", "whole")
    assert done.exit_code == 0, done.stderr
    found = lines(done.stdout)
    assert [(line["frame"], line["time"]) for line in found] == [(i, pytest.approx(i / 10)) for i in range(6)]
    assert [person["track_id"] for line in found for person in line["people"]] == [0] * 6
    assert "6 frames, 1 person" in done.stderr
    assert "frames/s (waiting for frames" in done.stderr


def test_formats_are_told_by_the_name(run, frames, photos):
    assert run(frames, "--fps", 10, "--boxes", "whole", "--save", "poses.csv").exit_code == 0
    rows = list(csv.DictReader(io.StringIO((photos / "poses.csv").read_text())))
    assert len(rows) == 6 * 17
    assert run(frames, "--fps", 10, "--boxes", "whole", "--json", "poses.jsonl", "--no-track").exit_code == 0
    assert [poses.track_ids for poses in read_jsonl(photos / "poses.jsonl")] == [None] * 6


def test_a_folders_frames_are_named_by_their_files(run, frames, photos):
    (photos / "images").mkdir()
    frames = frames.rename(photos / "images" / "000342_mpii_test")
    said = ("images/000342_mpii_test", "--fps", 10, "--boxes", "whole", "--save", "poses.json", "--format")
    assert run(*said, "jsonl").exit_code == 0
    names = [f"images/000342_mpii_test/{number:03}.png" for number in range(6)]
    assert [line["file"] for line in lines((photos / "poses.json").read_text())] == names
    assert run(*said, "posetrack18").exit_code == 0
    images = json.loads((photos / "poses.json").read_text())["images"]
    assert [(image["file_name"], image["id"]) for image in images] == [
        (name, 10003420000 + number) for number, name in enumerate(names)
    ]


def test_a_videos_frames_are_named_by_it(run, photos):
    writer = cv2.VideoWriter(str(photos / "000007_clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 96))
    for _ in range(2):
        writer.write(render_scene(4, (96, 96), 1)[0])
    writer.release()
    done = run("000007_clip.avi", "--boxes", "whole", "--save", "poses.json", "--format", "posetrack18")
    assert done.exit_code == 0, done.stderr
    images = json.loads((photos / "poses.json").read_text())["images"]
    assert [(image["file_name"], image["id"]) for image in images] == [
        ("images/000007_clip/000000.jpg", 10000070000),
        ("images/000007_clip/000001.jpg", 10000070001),
    ]


@pytest.mark.parametrize("smooth", [None, "live", "offline"])
def test_a_video_is_drawn(run, frames, photos, smooth):
    pytest.importorskip("av")
    words = ["--smooth", smooth] if smooth else []
    done = run(frames, "--fps", 10, "--boxes", "whole", "--out", "drawn.mp4", "--threshold", 0, *words)
    assert done.exit_code == 0, done.stderr
    with open_video(photos / "drawn.mp4") as video:
        drawn = list(video)
    assert len(drawn) == 6
    assert drawn[3].time == pytest.approx(0.3, abs=0.01)
    with open_video(frames, fps=10) as video:
        changed = [np.abs(a.pixels.astype(int) - b.pixels).max() for a, b in zip(drawn, video, strict=True)]
    assert min(changed) > 60  # something is drawn on each
    assert not list(photos.glob("*part*"))


def test_a_folder_gets_a_file_of_the_videos_name(run, frames, photos):
    pytest.importorskip("av")
    assert run(frames, "--fps", 10, "--boxes", "whole", "--out", "made", "--save", "p.jsonl").exit_code == 0
    assert [file.name for file in (photos / "made").iterdir()] == ["frames_poses.mp4"]
    assert len(list(read_jsonl(photos / "p.jsonl"))) == 6


def test_ctrl_c_finishes_the_files(run, frames, photos, monkeypatch):
    pytest.importorskip("av")
    whole = Predictor.video

    def interrupted(self, *args, **options):
        for number, poses in enumerate(whole(self, *args, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield poses

    monkeypatch.setattr(Predictor, "video", interrupted)
    done = run(frames, "--fps", 10, "--boxes", "whole", "--out", "drawn.mp4", "--save", "p.jsonl")
    assert done.exit_code == 130
    assert "interrupted after 3 frames" in done.stderr
    assert len(list(read_jsonl(photos / "p.jsonl"))) == 3
    with open_video(photos / "drawn.mp4") as video:
        assert len(list(video)) == 3


def test_a_video_that_is_cut_short_is_said_and_what_was_found_is_kept(run, frames, photos):
    pytest.importorskip("av")
    assert run(frames, "--fps", 10, "--boxes", "whole", "--out", "clip.mp4").exit_code == 0
    content = (photos / "clip.mp4").read_bytes()
    (photos / "cut.mp4").write_bytes(content[: int(len(content) * 0.75)])
    done = run("cut.mp4", "--boxes", "whole", "--save", "p.jsonl")
    assert done.exit_code == 2
    assert done.stderr.count("Error: ") == 1
    assert 0 < len(list(read_jsonl(photos / "p.jsonl"))) < 6


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(run, frames):
    done = run(frames, "--fps", 10, "--boxes", "whole", "--save", "/dev/full", "--format", "jsonl")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "Error: /dev/full: No space left on device"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frames", "--fps", "10", "--recursive"], "--recursive is for photos"),
        (["frames", "--fps", "10", "--format", "coco"], "--format coco is for photos; a video has jsonl"),
        (["frames", "--fps", "10", "--boxes", "1,2,30,40"], "--boxes: a video's people are found"),
        (["frames", "--fps", "10", "--out", "drawn.jpg"], "--out: a drawn video's name ends in .mp4"),
        (["frames", "--fps", "10", "--format", "csv"], "--format csv needs a file"),
        (["frames", "clip.mp4"], "clip.mp4: one video at a time"),
        (["7.png", "--detect-every", "3"], "--detect-every is for a video"),
        (["7.png", "--format", "trc"], "--format trc is for a video"),
    ],
)
def test_what_does_not_fit_is_refused(run, frames, words, message):
    done = run(*words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_source_is_not_overwritten(run, frames, photos):
    (photos / "clip.mp4").write_bytes(b"")
    done = run("clip.mp4", "--out", "clip.mp4")
    assert done.exit_code != 0
    assert "is read or written already" in done.stderr


def test_what_is_a_video():
    assert one_video(("a.jpg", "b"), None) is None
    assert one_video(("clip.MP4",), None) == "clip.MP4"
    assert one_video(("rtsp://host/door",), None) == "rtsp://host/door"
