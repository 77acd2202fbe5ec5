"""`PosePredictor`: batches of columns in, columns of poses out; and (slow) in Ray itself, killed and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fastpose
from fastpose.data.synthetic import render_scene
from fastpose.models import create_model, save_model

pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def model():
    """A small network that was never trained."""
    torch.manual_seed(0)
    return create_model("resnet18_slim", input_size=(64, 64)).eval()


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(number, (80, 120), 1 + number % 2) for number in range(4)]


@pytest.fixture
def make(model):
    from fastpose.integrations.ray import PosePredictor

    def predictor(**options):
        return PosePredictor(model, device="cpu", detector=lambda photo: [[5, 5, 60, 70, 0.5]], **options)

    return predictor


def as_column(values):
    """As Ray gives objects: one array of them."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


def test_the_columns_are_the_poses(model, make, scenes):
    boxes = [truth.boxes for _, truth in scenes]
    pixels = np.stack([image[..., ::-1] for image, _ in scenes])  # RGB, as Ray reads photos
    batch = {"image": pixels, "boxes": as_column(boxes), "id": np.arange(4)}
    columns = make(box_column="boxes")(batch)
    found = fastpose.Predictor(model, device="cpu")([image for image, _ in scenes], boxes)
    assert list(columns["id"]) == [0, 1, 2, 3]
    assert "image" not in columns
    for name in ("keypoints", "scores", "boxes", "box_scores", "person_scores"):
        for row, poses in zip(columns[name].to_pylist(), found, strict=True):
            np.testing.assert_array_equal(np.array(row, np.float32), getattr(poses, name), err_msg=name)
    assert [len(row) for row in columns["keypoints"].to_pylist()] == [1, 2, 1, 2]
    assert columns["image_size"].to_pylist() == [[80, 120]] * 4
    assert columns["visibility"].to_pylist() == columns["error"].to_pylist() == [None] * 4


def test_files_and_bytes_and_bad_ones(make, scenes, tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for path, (image, _) in zip(paths, scenes, strict=True):
        cv2.imwrite(path, image)
    Path(paths[2]).write_bytes(b"no photo")
    contents = as_column([Path(path).read_bytes() for path in paths])
    of_bytes = make()({"bytes": contents, "path": as_column(paths)})
    of_paths = make()({"path": as_column(paths)})
    of_text = make(photo_column="text")({"text": as_column(paths)})
    assert list(of_bytes["path"]) == list(of_paths["path"]) == list(of_text["text"]) == paths
    assert "bytes" not in of_bytes
    for columns in (of_bytes, of_paths, of_text):
        assert [len(row) for row in columns["keypoints"].to_pylist()] == [1, 1, 0, 1]
        assert [error is None for error in columns["error"].to_pylist()] == [True, True, False, True]
        assert columns["keypoints"].equals(of_paths["keypoints"])
    assert of_paths["error"][2].as_py().startswith(f"{paths[2]}: ")
    assert of_paths["image_size"][2].as_py() == [0, 0]


def test_types_are_the_same_where_nobody_is(make, scenes):
    some = make()({"image": as_column([image for image, _ in scenes])})
    nobody = make(min_size=1000)({"image": as_column([image for image, _ in scenes])})
    assert {name: column.type for name, column in some.items()} == {
        name: column.type for name, column in nobody.items()
    }
    assert nobody["keypoints"].to_pylist() == [[]] * 4
    assert all(len(column) == 4 for column in nobody.values())
    assert str(some["keypoints"].type) == "list<item: list<item: list<item: float>>>"


def test_visibility_is_there_where_the_network_tells_it(make, scenes):
    predictor = make()
    images = [image for image, _ in scenes[:2]]
    found = predictor._predictor(images)
    told = [fastpose.Poses(**{**vars(found[0]), "visibility": np.full((1, 17), 0.5, np.float32)}), found[1]]
    rows = predictor._columns(told)["visibility"].to_pylist()
    assert rows == [[[0.5] * 17], None]


def test_a_column_that_is_not_there_is_named(make):
    with pytest.raises(KeyError, match="expected a column bytes or image or path, got the columns id, name"):
        make()({"id": np.arange(2), "name": as_column(["a", "b"])})
    with pytest.raises(KeyError, match="expected a column boxes, got the columns path"):
        make(box_column="boxes")({"path": as_column(["a.jpg"])})


# ---- in Ray

_SCRIPT = """
import sys
import numpy as np
import ray
from ray.data.checkpoint import CheckpointConfig
from fastpose.integrations.ray import PosePredictor

photos, model, out, checkpoint = sys.argv[1:]
ray.init(num_cpus=4, include_dashboard=False, object_store_memory=100 << 20)
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
context.checkpoint_config = CheckpointConfig(
    id_column="path", checkpoint_path=checkpoint, delete_checkpoint_on_success=False
)
CheckpointConfig.CHECKPOINT_ACTOR_MEMORY_BYTES = 100 << 20
rows = ray.data.read_binary_files(photos, include_paths=True, override_num_blocks=20)
rows = rows.map_batches(
    PosePredictor,
    fn_constructor_kwargs={"model": model, "device": "cpu", "detector": lambda photo: [[5, 5, 60, 70, 0.5]]},
    batch_size=50,
    compute=ray.data.ActorPoolStrategy(size=1),
    num_cpus=1,
)
rows.write_parquet(out)
"""


@pytest.mark.slow
def test_a_thousand_photos_in_ray_killed_and_continued(model, scenes, tmp_path):
    pytest.importorskip("ray")
    import pyarrow.parquet

    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number, (image, _) in enumerate(scenes):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    for number in range(1000):
        (photos / f"{number:04}.png").symlink_to(tmp_path / f"{number % 4}.png")
    (photos / "0500.png").unlink()
    (photos / "0500.png").write_bytes(b"no photo")
    save_model(model, tmp_path / "model.safetensors")
    (tmp_path / "script.py").write_text(textwrap.dedent(_SCRIPT))
    words = [sys.executable, tmp_path / "script.py", photos, tmp_path / "model.safetensors", out, tmp_path / "ids"]
    environment = os.environ | {
        "PYTHONPATH": str(Path(fastpose.__file__).parents[1]),
        "RAY_worker_niceness": "0",
    }

    def start():
        return subprocess.Popen(
            list(map(str, words)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    first, deadline = start(), time.monotonic() + 240
    while len(list(out.glob("*.parquet"))) < 3 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    time.sleep(5)  # its other processes end when they notice
    some = set(out.glob("*.parquet"))
    assert some

    second = start()
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said.decode()[-2000:]
    assert set(out.glob("*.parquet")) > some
    table = pyarrow.parquet.read_table(out)
    paths = table["path"].to_pylist()
    assert sorted(Path(path).name for path in paths) == [f"{number:04}.png" for number in range(1000)]
    bad = [path for path, error in zip(paths, table["error"].to_pylist(), strict=True) if error is not None]
    assert [Path(path).name for path in bad] == ["0500.png"]
    assert sum(map(len, table["keypoints"].to_pylist())) == 999
