"""TRC files, read as OpenSim's TRCFileAdapter reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastpose.predict import open_writer
from fastpose.predict.writers import trc as trc_module
from fastpose.skeletons import COCO17, Skeleton

_KEYS = ["DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units"]
_KEYS += ["OrigDataRate", "OrigDataStartFrame", "OrigNumFrames"]


def read(file: Path) -> tuple[dict[str, str], list[str], np.ndarray]:
    """Header, markers, [rows, 2 + 3 K]; what OpenSim would refuse fails."""
    lines = file.read_text().split("\n")
    first = lines[0].split()
    assert first[:3] == ["PathFileType", "4", "(X/Y/Z)"]
    assert first[3] == file.name
    assert lines[1].split("\t") == _KEYS
    values = lines[2].split("\t")
    assert len(values) == len(_KEYS)
    head = dict(zip(_KEYS, values, strict=True))
    labels = [label for label in lines[3].split("\t") if label]
    assert labels[:2] == ["Frame#", "Time"]
    assert len(labels) == 2 + int(head["NumMarkers"])
    axes = [label for label in lines[4].split("\t") if label]
    assert axes == [f"{axis}{number}" for number in range(1, 1 + int(head["NumMarkers"])) for axis in "XYZ"]
    assert lines[5] == ""
    assert lines[-1] == ""
    rows = [[float(cell) for cell in line.split("\t")] for line in lines[6:-1]]
    assert len(rows) == int(head["NumFrames"]) == int(head["OrigNumFrames"])
    assert {len(row) for row in rows} == {2 + 3 * int(head["NumMarkers"])}
    return head, labels[2:], np.array(rows)


def test_a_track_is_a_file_and_y_points_upwards(make_frame, tmp_path):
    frames = [make_frame(4, [3, -1]), make_frame(5, [7]), make_frame(6, []), make_frame(7, [7, 3])]
    with open_writer(tmp_path / "a.trc", skeleton=COCO17, fps=25) as writer:
        for frame in frames:
            writer.write(frame)
            for file in tmp_path.iterdir():
                read(file)  # whole at any moment
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_track3.trc", "a_track7.trc"]
    head, markers, rows = read(tmp_path / "a_track3.trc")
    assert [head[key] for key in ("DataRate", "Units", "OrigDataStartFrame", "NumFrames")] == ["25", "mm", "5", "4"]
    assert markers == list(COCO17.keypoints)
    assert rows[:, 0].tolist() == [5, 6, 7, 8]
    np.testing.assert_allclose(rows[:, 1], [4 / 25, 5 / 25, 6 / 25, 7 / 25], atol=1e-6)
    assert np.isnan(rows[1:3, 2:]).all()  # hidden
    points = rows[:, 2:].reshape(4, 17, 3)
    for row, frame, person in ((0, frames[0], 0), (3, frames[3], 1)):
        sure = frame.scores[person] >= 0.2
        assert sure.any()
        assert not sure.all()
        np.testing.assert_allclose(points[row, sure, 0], frame.keypoints[person, sure, 0], atol=0.006)
        np.testing.assert_allclose(points[row, sure, 1], 119 - frame.keypoints[person, sure, 1], atol=0.006)
        assert (points[row, sure, 2] == 0).all()
        assert np.isnan(points[row, ~sure]).all()
    assert read(tmp_path / "a_track7.trc")[2][:, 0].tolist() == [6, 7, 8]


def test_one_person_needs_no_track(make_frame, tmp_path):
    with open_writer(tmp_path / "a.trc", skeleton=COCO17) as writer:
        for number in range(3):
            writer.write(make_frame(number, 1, time=number / 29.97))
        with pytest.raises(ValueError, match=r"a.trc: frame 3 has 2 people and no track_ids"):
            writer.write(make_frame(3, 2))
        with pytest.raises(ValueError, match=r"a.trc: clip.mp4 has no frame or no time"):
            writer.write(make_frame(3, 1, frame=None))
    head, _, rows = read(tmp_path / "a.trc")
    assert head["DataRate"] == "29.97"  # from the times
    assert len(rows) == 3


def test_time_follows_from_the_frame(make_frame, tmp_path):
    with open_writer(tmp_path / "a.trc", skeleton=COCO17, fps=50) as writer:
        writer.write(make_frame(5, 1, time=None))
    assert read(tmp_path / "a.trc")[2][0, 1] == pytest.approx(0.1)


def test_more_tracks_than_files_may_be_open(make_frame, tmp_path, monkeypatch):
    monkeypatch.setattr(trc_module, "_OPEN", 3)
    with open_writer(tmp_path / "a.trc", skeleton=COCO17) as writer:
        for number in range(6):
            writer.write(make_frame(number, list(range(8))))
            assert len(writer._open) <= 3
    assert len(list(tmp_path.iterdir())) == 8
    for file in tmp_path.iterdir():
        head, _, rows = read(file)
        assert head["NumFrames"] == "6"
        assert rows[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_files_of_an_earlier_run_go_and_names_have_no_blanks(make_frame, tmp_path):
    for name in ("a_track9.trc", "a.trc", "ab_track9.trc", "a_track9.csv"):
        (tmp_path / name).write_text("old")
    spelled = Skeleton.from_names("spelled", ["Left Eye", "Right\tEye"])
    with open_writer(tmp_path / "a.trc", skeleton=spelled) as writer:
        writer.write(make_frame(0, [1], spelled))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_track1.trc", "a_track9.csv", "ab_track9.trc"]
    assert read(tmp_path / "a_track1.trc")[1] == ["Left_Eye", "Right\\tEye"]


def test_a_full_disk_leaves_whole_rows(make_frame, write_all, tmp_path, file_limit):
    with file_limit(4000), pytest.raises(OSError, match="too large") as error:
        write_all(tmp_path / "a.trc", None, (make_frame(number, [1]) for number in range(100)))
    assert error.value.filename == str(tmp_path / "a_track1.trc")
    assert 3 < len(read(tmp_path / "a_track1.trc")[2]) < 30
