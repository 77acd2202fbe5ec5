"""What ``--boxes`` says."""

from __future__ import annotations

import json

import pytest

from fastpose.cli.boxes import parse_boxes
from fastpose.data.readers import DetectionFile


def test_boxes_on_the_command_line(tmp_path):
    assert parse_boxes([]) is None
    assert parse_boxes(["1,2,4,6", "0,0,5.5,5"]) == [[1, 2, 4, 6], [0, 0, 5.5, 5]]
    with pytest.raises(ValueError, match="or a JSON file, got 'typo'"):
        parse_boxes(["typo"])
    path = tmp_path / "1,2,3,4.json"  # a file's name may look like a box
    path.write_text(json.dumps([[1, 2, 4, 6, 0.5], [1, 2, 4, 6, 0.25]]))
    found = parse_boxes([str(path)], min_score=0.3)
    assert isinstance(found, DetectionFile)
    assert len(found) == 1
