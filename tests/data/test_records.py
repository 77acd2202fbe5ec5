"""Records of several sets brought together: keypoints by name, sets one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from fastpose.data.records import PathTable, PoseRecords, concatenate
from fastpose.skeletons import AIC14, COCO17, COCO_AIC19, LSP14, Skeleton

# AI Challenger's joints in COCO's order, as MMPose's recipes for both sets map them: (AIC, COCO).
MERGE = ((0, 6), (1, 8), (2, 10), (3, 5), (4, 7), (5, 9), (6, 12), (7, 14), (8, 16), (9, 11), (10, 13), (11, 15))


def make(skeleton: Skeleton, people: int, **extra: object) -> PoseRecords:
    joints = skeleton.num_keypoints
    rng = np.random.default_rng(people)
    return PoseRecords(
        skeleton=skeleton,
        image_paths=[f"{skeleton.name}/{i}.jpg" for i in range(people + 1)],
        image_ids=np.arange(people + 1) * 10,
        image_sizes=np.full((people + 1, 2), 100),
        image_index=np.arange(people),
        boxes=rng.uniform(0, 60, (people, 4)),
        keypoints=rng.uniform(0, 60, (people, joints, 2)),
        visible=rng.integers(0, 3, (people, joints)),
        areas=np.full(people, 3600),
        ids=np.arange(people) + 100,
        scores=np.ones(people),
        ignore=np.zeros(people, bool),
        **{"source": skeleton.name, "skipped": {"crowd": people}, **extra},
    )


@pytest.mark.parametrize(("target", "mapping"), [(COCO17, MERGE), (COCO_AIC19, (*MERGE, (12, 17), (13, 18)))])
def test_aic_as_coco(target: Skeleton, mapping: tuple[tuple[int, int], ...]) -> None:
    records = make(AIC14, 4)
    other = records.to_skeleton(target)
    assert other.skeleton is target
    mine, theirs = (list(column) for column in zip(*mapping, strict=True))
    np.testing.assert_array_equal(other.keypoints[:, theirs], records.keypoints[:, mine])
    np.testing.assert_array_equal(other.visible[:, theirs], records.visible[:, mine])
    assert other.annotated[:, theirs].all()
    rest = np.setdiff1d(np.arange(target.num_keypoints), theirs)
    assert not other.annotated[:, rest].any()
    assert not other.visible[:, rest].any()
    np.testing.assert_array_equal(other.boxes, records.boxes)


def test_other_names_and_middles() -> None:
    records = make(COCO17, 3)
    middle = ("left_shoulder", "right_shoulder")
    other = records.to_skeleton(LSP14, {"neck": middle, "head_top": "nose"})
    left, right = COCO17.indices(middle)
    neck = LSP14.index("neck")
    np.testing.assert_allclose(other.keypoints[:, neck], records.keypoints[:, [left, right]].mean(1), rtol=1e-6)
    np.testing.assert_array_equal(other.visible[:, neck], records.visible[:, [left, right]].min(1))
    np.testing.assert_array_equal(other.keypoints[:, LSP14.index("head_top")], records.keypoints[:, 0])
    wrist = "left_wrist"
    np.testing.assert_array_equal(other.keypoints[:, LSP14.index(wrist)], records.keypoints[:, COCO17.index(wrist)])
    assert other.annotated.all()
    # What a source does not label stays so through a second step.
    again = other.to_skeleton(COCO17).to_skeleton(LSP14, {"neck": ("nose", "left_shoulder")})
    assert not again.annotated[:, neck].any()


def test_mappings_that_do_not_fit() -> None:
    records = make(COCO17, 1)
    with pytest.raises(ValueError, match="mapping: skeleton 'lsp14' has no keypoint named tail"):
        records.to_skeleton(LSP14, {"tail": "nose"})
    with pytest.raises(ValueError, match="mapping: skeleton 'coco17' has no keypoint named tail"):
        records.to_skeleton(LSP14, {"neck": "tail"})
    with pytest.raises(ValueError, match="'coco17' and 'cat' have no keypoint name in common"):
        records.to_skeleton(Skeleton.from_names("cat", ["tail"]))


def test_concatenate() -> None:
    coco = make(COCO17, 2, track_ids=[5, 6], crowd_index=[0.1, 0.2, 0.3])
    aic = make(AIC14, 3, head_sizes=[1.0, 2.0, 3.0]).to_skeleton(COCO17)
    both = concatenate([coco, aic])
    assert (len(both), len(both.image_paths)) == (5, 7)
    assert [p.image_path for p in both] == [p.image_path for p in coco] + [p.image_path for p in aic]
    np.testing.assert_array_equal(both.keypoints, np.concatenate([coco.keypoints, aic.keypoints]))
    assert both.track_ids.tolist() == [5, 6, -1, -1, -1]
    np.testing.assert_array_equal(both.head_sizes, [np.nan, np.nan, 1, 2, 3])
    np.testing.assert_array_equal(both.crowd_index, np.float32([0.1, 0.2, 0.3, *[np.nan] * 4]))
    assert both.head_boxes is None
    assert (both.source, both.skipped) == ("coco17 + aic14", {"crowd": 5})
    assert both.annotated[:2].all()
    assert both.annotated[2:].sum() == 3 * 12
    with pytest.raises(ValueError, match="expected equal keypoints, got 'coco17' and 'aic14'"):
        concatenate([coco, make(AIC14, 1)])
    with pytest.raises(ValueError, match="at least one set"):
        concatenate([])


def test_select_takes_everything_along() -> None:
    records = make(COCO17, 3, track_ids=[5, 6, 7], head_sizes=[1, 2, 3], crowd_index=[0, 1, 2, 3])
    some = records.select([2, 0])
    assert some.track_ids.tolist() == [7, 5]
    assert some.head_sizes.tolist() == [3, 1]
    assert some.crowd_index.tolist() == [0, 1, 2, 3]  # of photos, which stay
    assert some.annotated.shape == (2, 17)
    with pytest.raises(ValueError, match=r"track_ids: expected shape \(3,\), got \(2,\)"):
        make(COCO17, 3, track_ids=[1, 2])


def test_tables_of_paths_joined() -> None:
    tables = [PathTable(["a/ü.jpg", "b"]), PathTable([]), PathTable(["", "c/d.png"])]
    assert [str(p) for p in PathTable.join(tables)] == ["a/ü.jpg", "b", ".", "c/d.png"]
