"""OpenPose's folder, PoseTrack18's JSON and Parquet: what other programs read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastpose.metrics import posetrack_ap
from fastpose.predict import Poses, open_writer
from fastpose.predict.writers import parquet as parquet_module
from fastpose.predict.writers.posetrack18 import posetrack18_keypoints
from fastpose.skeletons import COCO17, MPII16, POSETRACK18_17, Skeleton

ODD = Skeleton.from_names("odd", ["a", "b"])


# ---- OpenPose
def test_openpose_has_a_file_a_frame(make_frame, tmp_path):
    folder = tmp_path / "out"
    frames = [
        make_frame(0, [4, 5]),
        make_frame(1, []),
        make_frame(123456, 1, path="https://a.example/live/x.m3u8?key=1"),
    ]
    with open_writer(f"{folder}/", skeleton=COCO17) as writer:
        for frame in frames:
            writer.write(frame)
    names = ["clip_000000000000", "clip_000000000001", "x_000000123456"]
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}_keypoints.json" for name in names]
    for name, frame in zip(names, frames, strict=True):
        assert json.loads((folder / f"{name}_keypoints.json").read_text()) == frame.to_openpose()


def test_openpose_names_cameras_and_photos(make_frame, tmp_path):
    with open_writer(tmp_path, skeleton=COCO17) as writer:  # a folder that is there
        writer.write(make_frame(7, path=None))
        writer.write(make_frame(8, path="camera:0"))
        for path in ("a/b.jpg", "c/b.png", "c/d.jpg"):
            writer.write(make_frame(0, frame=None, time=None, path=Path(path)))
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{tmp_path.name}_000000000007_keypoints.json",
        "camera_0_000000000008_keypoints.json",
        *("b_keypoints.json", "b_2_keypoints.json", "d_keypoints.json"),
    }


def test_frames_of_an_earlier_and_longer_run_go(make_frame, tmp_path):
    kept = ["clip_keypoints.json", "other_000000000001_keypoints.json", "clip_00001_keypoints.json"]
    for name in (*kept, "clip_000000000001_keypoints.json"):
        (tmp_path / name).write_text("old")
    with open_writer(tmp_path, skeleton=COCO17) as writer:
        writer.write(make_frame(0))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, "clip_000000000000_keypoints.json"])


def test_openpose_leaves_no_half_frame(make_frame, tmp_path, file_limit):
    with open_writer(tmp_path, skeleton=COCO17) as writer:
        writer.write(make_frame(0))
        with file_limit(100), pytest.raises(OSError, match="too large") as error:
            writer.write(make_frame(1))
    assert error.value.filename == str(tmp_path / "clip_000000000001_keypoints.json")
    assert [file.name for file in tmp_path.iterdir()] == ["clip_000000000000_keypoints.json"]
    with pytest.raises(ValueError, match="none of OpenPose's points"):
        open_writer(tmp_path, skeleton=ODD)


# ---- PoseTrack18
def posetrack18(file: Path) -> dict:
    content = json.loads(file.read_text())
    assert [list(content)] == [["annotations", "images", "categories"]]
    return content


def test_posetrack18_has_its_annotations_layout(make_frame, tmp_path):
    file = tmp_path / "a.json"
    with open_writer(file, "posetrack18", skeleton=COCO17) as writer:
        for frame in (make_frame(0, [3, -1]), make_frame(1, []), make_frame(2, 0), make_frame(3, [3, 5])):
            writer.write(frame)
        assert not file.exists()  # before it is whole
    content = posetrack18(file)
    assert [image["frame_id"] for image in content["images"]] == [10**10 + n for n in range(4)]
    assert content["images"][3] == {
        "file_name": "images/clip/000003.jpg",
        "id": 10**10 + 3,
        "frame_id": 10**10 + 3,
        "vid_id": "000000",
        "is_labeled": True,
        "width": 160,
        "height": 120,
        "nframes": 4,
    }
    assert [(entry["image_id"] - 10**10, entry["track_id"]) for entry in content["annotations"]] == [
        (0, 3),
        (3, 3),
        (3, 5),
    ]
    assert len({entry["id"] for entry in content["annotations"]}) == 3
    [category] = content["categories"]
    assert category["keypoints"] == list(POSETRACK18_17.keypoints)
    last, entry = make_frame(3, [3, 5]), content["annotations"][2]
    x, y, width, height = entry["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], last.boxes[1], atol=0.02)
    assert entry["score"] == pytest.approx(last.person_scores[1], abs=1e-4)
    points = np.reshape(entry["keypoints"], (17, 3))
    for name in ("nose", "left_ear", "right_wrist", "left_ankle"):
        place = POSETRACK18_17.index(name)
        np.testing.assert_allclose(points[place, :2], last.keypoints[1, COCO17.index(name)], atol=0.006)
        assert points[place, 2] == 1
        assert entry["scores"][place] == pytest.approx(last.scores[1, COCO17.index(name)], abs=1e-4)


def test_posetrack18_names_what_is_posetracks(make_frame, tmp_path):
    for path, name in ((Path("images/val/000342_mpii_test/000012.jpg"),) * 2, ("000342_mpii_test.mp4", None)):
        with open_writer(tmp_path / "a.json", "posetrack18", skeleton=COCO17) as writer:
            writer.write(make_frame(12, [], path=path))
        [image] = posetrack18(tmp_path / "a.json")["images"]
        assert (image["id"], image["vid_id"]) == (10003420012, "000342")
        assert image["file_name"] == str(name or "images/000342_mpii_test/000012.jpg")


def test_ends_of_the_head_come_from_nose_and_shoulders(make_frame):
    frame = make_frame(0, [1])
    frame.keypoints[0, [0, 5, 6]] = [[50, 40], [40, 60], [64, 60]]
    frame.scores[0, [0, 5, 6]] = [0.5, 0.9, 0.7]
    keypoints, scores = posetrack18_keypoints(frame)
    bottom, top = POSETRACK18_17.indices(["head_bottom", "head_top"])
    assert keypoints[0, bottom].tolist() == [52, 60]
    assert keypoints[0, top].tolist() == [48, 20]
    np.testing.assert_allclose(scores[0, [bottom, top]], [0.7, 0.5])
    mpii = make_frame(0, [1], MPII16)  # has both ends, under names of its own, and neither nose nor ears
    keypoints, scores = posetrack18_keypoints(mpii)
    np.testing.assert_array_equal(keypoints[0, bottom], mpii.keypoints[0, MPII16.index("upper_neck")])
    np.testing.assert_array_equal(keypoints[0, top], mpii.keypoints[0, MPII16.index("head_top")])
    assert not scores[0, POSETRACK18_17.indices(["nose", "left_ear", "right_ear"])].any()
    exact, same = posetrack18_keypoints(make_frame(0, [1], POSETRACK18_17))
    np.testing.assert_array_equal(exact, make_frame(0, [1], POSETRACK18_17).keypoints)
    np.testing.assert_array_equal(same, make_frame(0, [1], POSETRACK18_17).scores)
    headless = Skeleton.from_names("headless", [name for name in COCO17.keypoints if name != "nose"])
    assert posetrack18_keypoints(make_frame(0, [1], headless))[1][0, top] == 0
    assert posetrack18_keypoints(make_frame(0, []))[0].shape == (0, 17, 2)


def test_posetrack18_wants_tracks_frames_and_keypoints(make_frame, tmp_path):
    with open_writer(tmp_path / "a.json", "posetrack18", skeleton=COCO17) as writer:
        with pytest.raises(ValueError, match=r"a.json: frame 0 has no track_ids"):
            writer.write(make_frame(0, 1))
        with pytest.raises(ValueError, match=r"a.json: clip.mp4 is no frame of a video"):
            writer.write(make_frame(0, [1], frame=None))
    assert posetrack18(tmp_path / "a.json")["images"] == []  # neither of them is there by halves
    with pytest.raises(ValueError, match=r"a.json: is closed"):
        writer.write(make_frame(0, [1]))
    with pytest.raises(ValueError, match="none of PoseTrack18's keypoints"):
        open_writer(tmp_path / "b.json", "posetrack18", skeleton=ODD)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_posetrack18_is_read_by_our_metric(shared, tmp_path, make_frame):
    """The reference's own poses, written as frames, have the reference's average precision."""
    reference = json.loads((shared / "reference" / "tracking.json").read_text())
    sequence = reference["files"]["000101"]
    truth, said = sequence["annotations"], sequence["predictions"]
    with open_writer(tmp_path / "a.json", "posetrack18", skeleton=POSETRACK18_17) as writer:
        for number, image in enumerate(said["images"]):
            people = [entry for entry in said["annotations"] if entry["image_id"] == image["id"]]
            values = np.reshape([entry["keypoints"] for entry in people], (-1, 17, 3)).astype(np.float32)
            writer.write(
                make_frame(
                    number,
                    [entry["track_id"] for entry in people],
                    POSETRACK18_17,
                    keypoints=values[..., :2],
                    scores=np.reshape([entry["scores"] for entry in people], (-1, 17)).astype(np.float32),
                    path=Path(image["file_name"]),
                    image_size=(image["height"], image["width"]),
                )
            )
    content = posetrack18(tmp_path / "a.json")
    for ours, theirs in zip(content["images"], said["images"], strict=True):
        assert {key: theirs[key] for key in ours} == ours
    for ours, theirs in zip(content["annotations"], said["annotations"], strict=True):
        assert (ours["image_id"], ours["track_id"]) == (theirs["image_id"], theirs["track_id"])
        assert ours["keypoints"] == theirs["keypoints"]
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-4)

    def figures(entries: list[dict]) -> dict[str, float]:
        flat = []
        for entry in entries:
            points = list(entry["keypoints"])
            points[2::3] = entry["scores"]
            flat.append({"image_id": entry["image_id"], "category_id": 1, "keypoints": points, "score": entry["score"]})
        return posetrack_ap(truth, flat)

    np.testing.assert_allclose(
        list(figures(content["annotations"]).values()), list(figures(said["annotations"]).values()), atol=0.01
    )


def test_a_full_disk_leaves_posetrack18_whole_up_to_it(make_frame, write_all, tmp_path, file_limit):
    file = tmp_path / "a.json"
    with file_limit(300_000), pytest.raises(OSError, match="too large") as error:
        write_all(file, "posetrack18", (make_frame(number, [1, 2]) for number in range(1000)))
    assert error.value.filename == str(file)
    content = posetrack18(file)
    count = len(content["images"])
    assert count > 100
    assert len(content["annotations"]) == 2 * count
    assert {image["nframes"] for image in content["images"]} == {count}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


# ---- Parquet
def test_parquet_is_a_row_a_person(make_frame, tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    visible = np.linspace(0, 1, 17, dtype=np.float32)[None]
    frames = [
        make_frame(0, [7, 8]),
        make_frame(1, []),
        make_frame(2, [8], visibility=visible),
        make_frame(3, 0, frame=None, time=None, path=Path("cut.jpg"), error="cut.jpg: is empty", dropped=("row 0",)),
    ]
    with open_writer(tmp_path / "a.parquet", skeleton=COCO17, fps=25) as writer:
        for frame in frames:
            writer.write(frame)
        assert not (tmp_path / "a.parquet").exists()
    table = pyarrow.read_table(tmp_path / "a.parquet")
    about = json.loads(table.schema.metadata[b"fastpose"])
    assert Skeleton.from_dict(about["skeleton"]) == COCO17
    assert about["fps"] == 25
    assert table["frame"].to_pylist() == [0, 0, 1, 2, None]
    assert table["person"].to_pylist() == [0, 1, None, 0, None]
    assert table["track_id"].to_pylist() == [7, 8, None, 8, None]
    assert table["file"].to_pylist() == ["clip.mp4"] * 4 + ["cut.jpg"]
    assert table["error"].to_pylist() == [None] * 4 + ["cut.jpg: is empty"]
    assert table["dropped"].to_pylist() == [[]] * 4 + [["row 0"]]
    assert table["time"].to_pylist() == [0, 0, 1 / 25, 2 / 25, None]
    assert (table["height"].to_pylist()[0], table["width"].to_pylist()[0]) == (120, 160)
    people = table.filter(table["person"].is_valid())
    every = np.concatenate([frame.numpy() for frame in frames])
    for place, name in enumerate(("x", "y", "keypoint_scores")):
        np.testing.assert_array_equal(np.stack(people[name].to_numpy()), every[..., place])  # exact
    np.testing.assert_array_equal(people["visibility"].to_pylist()[:2], [None, None])
    np.testing.assert_array_equal(people["visibility"].to_pylist()[2], visible[0])
    np.testing.assert_array_equal(np.stack(people["box"].to_numpy()), np.concatenate([f.boxes for f in frames]))
    np.testing.assert_array_equal(people["score"].to_numpy(), np.concatenate([f.person_scores for f in frames]))
    np.testing.assert_array_equal(people["box_score"].to_numpy(), np.concatenate([f.box_scores for f in frames]))
    writer.close()  # again


def test_parquet_row_groups_are_bounded_and_pictures_are_not_held(make_frame, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet_module, "ROWS", 10)
    with open_writer(tmp_path / "a.parquet", skeleton=COCO17) as writer:
        for number in range(12):
            writer.write(make_frame(number, 2))
    about = pyarrow.read_metadata(tmp_path / "a.parquet")
    assert [about.row_group(group).num_rows for group in range(about.num_row_groups)] == [10, 10, 4]
    with open_writer(tmp_path / "b.parquet", skeleton=COCO17):
        pass  # nobody
    assert pyarrow.read_table(tmp_path / "b.parquet").num_rows == 0


def test_a_full_disk_leaves_the_row_groups_before(make_frame, write_all, tmp_path, monkeypatch, file_limit):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet_module, "ROWS", 100)
    file = tmp_path / "a.parquet"
    with file_limit(1_000_000), pytest.raises(OSError, match="too large") as error:
        write_all(file, None, (make_frame(number, 10) for number in range(10_000)))
    assert error.value.filename == str(file)
    table = pyarrow.read_table(file)
    assert table.num_rows >= 300
    assert table.num_rows % 100 == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(("name", "form"), [("a.json", "posetrack18"), ("a.parquet", None)])
def test_an_old_file_stays_until_the_new_one_is_whole(make_frame, write_all, tmp_path, name, form):
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / name
    file.write_text("old")

    def frames() -> Iterator[Poses]:
        yield make_frame(0, [1])
        assert file.read_text() == "old"
        raise KeyboardInterrupt  # Ctrl-C

    with pytest.raises(KeyboardInterrupt):
        write_all(file, form, frames())
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    if form:
        assert len(posetrack18(file)["annotations"]) == 1
    else:
        assert parquet.read_table(file).num_rows == 1


def test_ctrl_c_amid_a_frame_leaves_it_out(make_frame, write_all, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")

    class Stop:
        def __iter__(self) -> Iterator[float]:
            raise KeyboardInterrupt

    frames = [make_frame(0, [1, 2]), make_frame(1, [1, 2], visibility=Stop())]
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / "a.parquet", None, frames)
    assert parquet.read_table(tmp_path / "a.parquet")["frame"].to_pylist() == [0, 0]


def test_parquet_needs_pyarrow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        open_writer(tmp_path / "a.parquet", skeleton=COCO17)
    assert list(tmp_path.iterdir()) == []
