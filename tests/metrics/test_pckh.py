"""PCK of MPII, TRB and Sub-JHMDB: worked out by hand, and equal to reference figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastpose.metrics import jhmdb_pck, mpii_pckh, trb_accuracy
from fastpose.skeletons import JHMDB15, MPII16


def test_mpii_counts_pixels_from_one() -> None:
    truth = np.random.default_rng(0).uniform(10, 90, (3, 16, 2))
    perfect = mpii_pckh(truth - 1, truth, np.ones((3, 16)), [10.0] * 3)
    assert set(perfect.values()) == {1.0}
    aside, heads, visible = np.array([0.9, 0.0]), [10.0] * 3, np.ones((3, 16))  # at 0.1 a pixel is too far
    assert mpii_pckh(truth - 1 + aside, truth, visible, heads)["PCKh@0.1"] == 1.0
    assert mpii_pckh(truth + aside, truth, visible, heads)["PCKh@0.1"] == 0.0
    assert mpii_pckh(truth + aside, truth, visible, heads, origin=0.0)["PCKh@0.1"] == 1.0


def test_mpii_parts() -> None:
    truth, visible = np.zeros((2, 16, 2)), np.ones((2, 16))
    predicted = truth - 1
    for name in ("pelvis", "thorax", "left_wrist"):
        predicted[:, MPII16.index(name)] += 50
    predicted[0, MPII16.index("head_top")] += 50
    visible[1, MPII16.index("right_wrist")] = 0
    values = mpii_pckh(predicted, truth, visible, [10.0, 10.0])
    assert values["head@0.5"] == 0.5
    assert values["wrist@0.5"] == 0.5  # mean of the two sides, though one is annotated twice
    assert values["PCKh@0.5"] == pytest.approx(24 / 27)  # 14 joints of two people but one, all counted together
    assert values["mean of parts@0.5"] == pytest.approx((0.5 + 1 + 1 + 0.5 + 1 + 1 + 1) / 7)  # head … ankle, alike
    assert mpii_pckh(predicted, truth, visible, [10.0, np.nan])["PCKh@0.5"] == pytest.approx(12 / 14)
    assert mpii_pckh(predicted, truth, visible, [10.0] * 2, weights=[0, 2])["PCKh@0.5"] == pytest.approx(12 / 13)


def test_trb_skeleton_and_contour() -> None:
    truth, visible = np.zeros((1, 40, 2)), np.ones((1, 40))
    predicted = truth.copy()
    predicted[0, 13] = predicted[0, 14] = predicted[0, 15] = 0, 3.001
    visible[0, 39] = 0
    values = trb_accuracy(predicted, truth, visible, [6.0])
    assert values == pytest.approx({"skeleton": 13 / 14, "contour": 23 / 25, "mean": 36 / 39})
    predicted[0, 13] = 0, 2.999  # 0.3 of a diagonal of 10
    assert trb_accuracy(predicted, truth, visible, [6.0])["skeleton"] == 1.0
    assert np.isnan(trb_accuracy(predicted, truth, visible * 0, [6.0])["mean"])


def test_jhmdb_by_box_and_by_torso() -> None:
    truth = np.zeros((2, 15, 2))
    truth[0, JHMDB15.index("left_shoulder")] = 0, 10  # a torso of 10 pixels; the second person has none of its own
    predicted = truth.copy()
    predicted[1, JHMDB15.index("left_shoulder")] = 0, 20
    predicted[:, JHMDB15.index("head")] += 3
    values = jhmdb_pck(predicted, truth, np.ones((2, 15)), [[0, 0, 50, 20], [0, 0, 10, 20]])
    assert values["head PCK"] == 0.5  # 4.2 pixels of at most 10 and 4
    assert values["head tPCK"] == 0.0  # of at most 2 and 4
    assert values["shoulder PCK"] == 0.75
    assert values["tPCK@0.2"] == pytest.approx((13 + 0.5 + 0.0) / 15)


def test_errors() -> None:
    points = np.zeros((2, 16, 2))
    with pytest.raises(ValueError, match=r"visible: expected shape \[N, 16\], got \(2, 15\)"):
        mpii_pckh(points, points, np.ones((2, 15)), [1, 1])
    with pytest.raises(ValueError, match=r"visible: expected shape \[N, 40\]"):
        trb_accuracy(points, points, np.ones((2, 16)), [1, 1])
    with pytest.raises(ValueError, match=r"expected \(2, 15, 2\) twice and \(2, 4\)"):
        jhmdb_pck(points, points, np.ones((2, 15)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"weights: expected shape \(2,\)"):
        mpii_pckh(points, points, np.ones((2, 16)), [1, 1], weights=[1])


@pytest.mark.shared
@pytest.mark.parametrize("dataset", ["mpii", "jhmdb"])
def test_equal_to_the_reference(shared: Path, dataset: str) -> None:
    people = json.loads((shared / "reference" / "datasets.json").read_text())[dataset]["records"]
    truth = np.array([p["keypoints"][0] for p in people])
    visible = np.array([p["keypoints_visible"][0] for p in people])
    entries = json.loads((shared / "reference" / "metrics.json").read_text())
    (entry,) = (e for e in entries if e["dataset"] == dataset)
    predicted = np.array([p["keypoints"] for p in entry["predictions"]])
    if dataset == "mpii":
        ours = mpii_pckh(predicted, truth, visible, [p["head_size"] for p in entry["predictions"]])
        got = {f"{name} PCK": 100 * ours[f"{name.lower()}@0.5"] for name in ("Head", "Shoulder", "Elbow", "Wrist")}
        got |= {f"{name} PCK": 100 * ours[f"{name.lower()}@0.5"] for name in ("Hip", "Knee", "Ankle")}
        got |= {"PCK": 100 * ours["PCKh@0.5"], "PCK@0.1": 100 * ours["PCKh@0.1"]}
    else:
        ours = jhmdb_pck(predicted, truth, visible, [p["bbox"][0] for p in people])
        names = {"Head": "head", "Sho": "shoulder", "Elb": "elbow", "Wri": "wrist", "Hip": "hip", "Knee": "knee"}
        got = {
            f"{short} {kind}": ours[f"{name} {kind}"]
            for short, name in (names | {"Ank": "ankle"}).items()
            for kind in ("PCK", "tPCK")
        }
        got |= {"PCK": ours["PCK@0.2"], "tPCK": ours["tPCK@0.2"]}
    assert got == pytest.approx(entry["values"], abs=1e-4)
