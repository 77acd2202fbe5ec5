"""PCK, EPE and AUC: worked out by hand, and equal to reference figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastpose.metrics import auc, epe, lsp_pck, pck, torso_size
from fastpose.metrics.pck import LIMB_KEYPOINTS, PCKResult
from fastpose.skeletons import COCO17, LSP14, Skeleton


def test_by_hand() -> None:
    truth = np.zeros((3, 2, 2))
    predicted = np.array([[[1.9, 0], [0, 2.1]], [[0, 0], [np.nan, 0]], [[0, 0], [0, 0]]])
    visible = [[2, 1], [0, 2], [1, 0]]
    result = pck(predicted, truth, visible, [10.0, 10.0, np.nan], 0.2)
    assert result.annotated.tolist() == [1, 2]  # the third person has no length, the second no first keypoint
    assert result.correct.tolist() == [1, 0]
    assert result.per_joint.tolist() == [1.0, 0.0]
    assert result.mean == pytest.approx(1 / 3)
    assert result.mean_of_joints == 0.5
    assert result.people == 2
    assert result.threshold == 0.2


def test_exactly_the_threshold_is_wrong() -> None:
    assert pck([[[3.0, 4.0]]], [[[0.0, 0.0]]], [[1]], [10.0], 0.5).mean == 0.0
    assert pck([[[3.0, 4.0]]], [[[0.0, 0.0]]], [[1]], [10.0], 0.5001).mean == 1.0


def test_nothing_annotated() -> None:
    for people in (0, 2):
        result = pck(np.zeros((people, 3, 2)), np.zeros((people, 3, 2)), np.zeros((people, 3)), np.ones(people))
        assert np.isnan(result.mean)
        assert np.isnan(result.mean_of_joints)
        assert np.isnan(result.per_joint).all()
        assert np.isnan(epe(np.zeros((people, 3, 2)), np.zeros((people, 3, 2)), np.zeros((people, 3))))


@pytest.mark.parametrize("length", [0.0, -1.0, np.inf, np.nan])
def test_people_without_a_length_are_left_out(length: float) -> None:
    result = pck(np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), np.ones((2, 1)), [length, 1.0])
    assert (result.people, result.annotated.tolist(), result.mean) == (1, [1], 1.0)


def test_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    predicted, truth = rng.normal(0, 3, (2, 20, 5, 2))
    visible, norm = rng.integers(0, 2, (20, 5)), rng.uniform(5, 20, 20)
    whole = pck(predicted, truth, visible, norm)
    parts = [pck(predicted[s], truth[s], visible[s], norm[s]) for s in (slice(0, 7), slice(7, 20))]
    both = PCKResult.from_counts(
        sum(p.correct for p in parts), sum(p.annotated for p in parts), sum(p.people for p in parts), 0.2
    )
    assert (both.mean, both.mean_of_joints, both.people) == (whole.mean, whole.mean_of_joints, 20)


def test_errors_name_the_argument() -> None:
    points = np.zeros((2, 3, 2))
    with pytest.raises(ValueError, match=r"predicted: expected shape \(2, 3, 2\), got \(2, 4, 2\)"):
        pck(np.zeros((2, 4, 2)), points, np.ones((2, 3)), [1, 1])
    with pytest.raises(ValueError, match="truth: expected shape"):
        epe(points, np.zeros((2, 3, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="norm: expected shape"):
        pck(points, points, np.ones((2, 3)), [1, 1, 1])
    with pytest.raises(ValueError, match="visible: expected"):
        pck(points, points, np.ones(2), [1, 1])
    with pytest.raises(ValueError, match="norm_factor"):
        auc(points, points, np.ones((2, 3)), 0.0)
    with pytest.raises(ValueError, match="the torso needs right_shoulder, which doll has not"):
        torso_size(points, np.ones((2, 3)), Skeleton.from_names("doll", ["head", "left_hip", "tail"]))


# --- by torso -----------------------------------------------------------------------------------------------------
def person(**points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    keypoints, visible = np.zeros((17, 2)), np.zeros(17)
    for name, xy in points.items():
        keypoints[COCO17.index(name)], visible[COCO17.index(name)] = xy, 2
    return keypoints, visible


def test_torso() -> None:
    people = [
        person(left_shoulder=(0, 0), right_hip=(3, 4), right_shoulder=(0, 0), left_hip=(0, 9)),
        person(left_shoulder=(0, 0), right_shoulder=(0, 0), left_hip=(0, 9)),
        person(left_shoulder=(0, 0), left_hip=(0, 9), right_shoulder=(5, 0)),
        person(left_shoulder=(0, 0), left_hip=(0, 9)),
    ]
    truth, visible = (np.stack(x) for x in zip(*people, strict=True))
    np.testing.assert_array_equal(torso_size(truth, visible, COCO17), [5, 9, np.hypot(5, 9), np.nan])


def test_lsp_counts_limbs_that_people_annotated() -> None:
    truth, visible = person(left_shoulder=(0, 0), right_hip=(0, 10), left_wrist=(5, 5), nose=(1, 1), left_knee=(9, 9))
    visible[COCO17.index("left_knee")] = 1  # filled in by a network
    predicted = truth.copy()
    predicted[COCO17.index("left_wrist")] += (0, 2.5)  # 0.25 of the torso
    result = lsp_pck(predicted[None], truth[None], visible[None], COCO17)
    counted = dict(zip(LIMB_KEYPOINTS, result.annotated.tolist(), strict=True))
    assert {name for name, n in counted.items() if n} == {"left_shoulder", "right_hip", "left_wrist"}
    assert result.mean == pytest.approx(2 / 3)
    assert lsp_pck(predicted[None], truth[None], visible[None], COCO17, threshold=0.3).mean == 1.0


def test_lsp_compares_skeletons_by_name() -> None:
    rng = np.random.default_rng(1)
    coco = rng.uniform(0, 100, (6, 17, 2))
    lsp, visible = np.zeros((6, 14, 2)), np.zeros((6, 14))
    for name in LIMB_KEYPOINTS:
        lsp[:, LSP14.index(name)], visible[:, LSP14.index(name)] = coco[:, COCO17.index(name)], 2
    assert lsp_pck(coco, lsp, visible, LSP14, predicted_skeleton=COCO17).mean == 1.0
    with pytest.raises(ValueError, match=r"predicted: expected shape \(6, 14, 2\), got \(6, 17, 2\)"):
        lsp_pck(coco, lsp, visible, LSP14)


@pytest.mark.shared
def test_lsp_figure_of_the_network(shared: Path) -> None:
    """The data set's description says what the network that filled in the points reaches when its points are known."""
    folder = shared / "data" / "lspet"
    points = json.loads((folder / "lspet_network17.json").read_text())
    truth = json.loads((folder / "lspet_val.json").read_text())["annotations"]
    predicted = np.array([points[str(a["id"])] for a in truth])[..., :2]
    keypoints = np.array([a["keypoints"] for a in truth]).reshape(-1, 14, 3)
    result = lsp_pck(predicted, keypoints[..., :2], keypoints[..., 2], LSP14, predicted_skeleton=COCO17)
    agreement = 0.71  # of limbs within 0.2 torso, over training and validation photos
    assert result.mean == pytest.approx(agreement, abs=0.03)
    filled = json.loads((folder / "lspet_val_coco17.json").read_text())["annotations"]
    keypoints = np.array([a["keypoints"] for a in filled]).reshape(-1, 17, 3)
    assert lsp_pck(predicted, keypoints[..., :2], keypoints[..., 2], COCO17).mean == result.mean


# --- reference figures --------------------------------------------------------------------------------------------
@pytest.mark.shared
def test_equal_to_the_reference(shared: Path) -> None:
    people = json.loads((shared / "reference" / "datasets.json").read_text())["coco"]["records"]
    truth = np.array([p["keypoints"][0] for p in people])
    visible = np.array([p["keypoints_visible"][0] for p in people])
    boxes = np.array([p["bbox"][0] for p in people])
    seen = set()
    for entry in json.loads((shared / "reference" / "metrics.json").read_text()):
        kind = entry["metric"]["type"]
        predicted = np.array([p["keypoints"] for p in entry["predictions"]], dtype=object)
        if entry["dataset"] != "coco" or kind == "CocoMetric":
            continue
        predicted = predicted.astype(np.float64)
        if kind == "PCKAccuracy":
            sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
            got = {"PCK": pck(predicted, truth, visible, sides, entry["metric"]["thr"]).mean_of_joints}
        elif kind == "EPE":
            got = {"EPE": epe(predicted, truth, visible)}
        else:
            options = entry["metric"]
            got = {"AUC": auc(predicted, truth, visible, options["norm_factor"], options["num_thrs"])}
        assert got == pytest.approx(entry["values"], abs=1e-5)
        seen.add(kind)
    assert seen == {"PCKAccuracy", "EPE", "AUC"}
