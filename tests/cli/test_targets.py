"""What is written for each photo: names that differ, in time linear in their number; ids that differ."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from fastpose.cli.predict_report import _image_ids
from fastpose.cli.targets import picture_targets
from fastpose.predict import Poses
from fastpose.skeletons import COCO17


def test_photos_of_one_name_get_pictures_of_their_own() -> None:
    photos: list[Path | str] = [Path(str(number), "a.png") for number in range(4000)]
    photos[7] = Path("7", "a_poses_2.gif")  # what another one's picture would be called is no hindrance
    start = time.perf_counter()
    targets = picture_targets("out", photos)
    assert time.perf_counter() - start < 2  # it was quadratic: 6.4 s
    assert len({str(target) for target in targets}) == 4000
    assert [str(target) for target in targets[:3]] == ["out/a_poses.png", "out/a_poses_2.png", "out/a_poses_3.png"]


def test_a_picture_of_boxes_is_called_so() -> None:
    assert picture_targets("out", [Path("a.png"), Path("b/a.png")], "boxes")[1] == Path("out/a_boxes_2.png")


def _found(*names: str | None) -> list[tuple[int, Poses]]:
    nobody = {"keypoints": np.zeros((0, 17, 2)), "scores": np.zeros((0, 17)), "boxes": np.zeros((0, 4))}
    return [
        (place, Poses(**nobody, box_scores=np.zeros(0), image_size=(9, 9), skeleton=COCO17, path=name and Path(name)))  # type: ignore[arg-type]
        for place, name in enumerate(names)
    ]


def test_ids_do_not_collide(capsys: pytest.CaptureFixture[str]) -> None:
    """The number in a name is its id, else its place; two photos with one number were one to readers of results."""
    assert _image_ids(_found("000785.jpg", "b.jpg", "c.jpg"), None) == [785, 2, 3]
    assert capsys.readouterr().err == ""
    assert _image_ids(_found("x/7.jpg", "y/7.jpg", "3.jpg", "b.jpg", "5.jpg", "c.jpg"), None) == [7, 8, 3, 4, 5, 6]
    assert capsys.readouterr().err == "y/7.jpg: its image_id is 8, as 7 is that of another photo\n"
    ids = _image_ids(_found("2.jpg", "b.jpg", "9.jpg"), None)  # place 2 is taken by name
    assert len(set(ids)) == 3
    assert (ids[0], ids[2]) == (2, 9)
