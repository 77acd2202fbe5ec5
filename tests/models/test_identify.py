"""Which network a file of weights belongs to."""

from __future__ import annotations

import pytest
import torch

from fastpose.models import create_model, find_matches


def state(name, **options):
    with torch.device("meta"):
        return create_model(name, **options).state_dict()


@pytest.mark.parametrize(
    ("name", "count"),
    [("litehrnet18.coco_256x192", 17), ("litehrnet18.mpii_256x256", 16), ("vipnas_mobilenetv3.coco_256x192", 17)],
)
def test_the_entry_itself_comes_among_the_first(name, count):
    matches = find_matches(state(name))
    assert name in [match.entry.name for match in matches if match.num_keypoints == match.entry.spec.num_keypoints]
    assert {match.num_keypoints for match in matches} == {count}
    exact = [match.entry.spec.num_keypoints == count for match in matches]
    assert exact == sorted(exact, reverse=True)


@pytest.mark.parametrize(
    "name", ["litehrnet18.coco_256x192", "mspn50_x2.coco_256x192", "mobilenetv2_rle_pretrained.coco_256x192"]
)
def test_other_keypoints_are_counted(name):
    matches = {match.entry.name: match.num_keypoints for match in find_matches(state(name, num_keypoints=21))}
    assert matches[name] == 21


def test_what_fits_nothing():
    tensors = state("litehrnet18.coco_256x192")
    assert find_matches({}) == []
    assert find_matches(tensors | {"more.weight": torch.zeros(3)}) == []
    missing = dict(tensors)
    missing.popitem()
    assert find_matches(missing) == []
    # The last layer's two entries say two numbers of keypoints.
    contradicting = tensors | {"head.final_layer.bias": torch.zeros(18)}
    assert find_matches(contradicting) == []


def test_a_file_that_claims_any_number_of_keypoints_matches_nothing():
    tensors = state("litehrnet18.coco_256x192")
    claimed = dict(tensors)
    for name in ("head.final_layer.weight", "head.final_layer.bias"):
        claimed[name] = torch.empty(10**12, 0, device="meta")
    assert find_matches(claimed) == []
