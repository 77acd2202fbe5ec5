"""What scores mean: the figures of tools/people_figures.py."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich")
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import people_figures


def test_reliability_counts_every_keypoint_once():
    scores = np.array([0.0, 0.05, 0.1, 0.55, 1.0])
    right = np.array([False, True, True, True, False])
    rows = people_figures.reliability(right, scores, np.linspace(0, 1, 11))
    assert sum(row[2] for row in rows) == 5
    assert rows[0][2:] == (2, pytest.approx(0.025), 0.5)
    assert rows[-1][:3] == (pytest.approx(0.9), 1.0, 1)
