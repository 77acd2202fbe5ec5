"""The network that finds people: what its outputs stand for."""

from __future__ import annotations

import pytest
import torch

from fastpose.detection.network import PersonNet, decode_boxes, fold_norms, place_centers


@pytest.fixture
def net():
    torch.manual_seed(0)
    return PersonNet(widths=(8, 8, 16, 16, 16), depths=(0, 1, 1, 1), neck=16).eval()


@pytest.mark.parametrize("size", [(64, 96), (320, 320)])
def test_there_is_an_output_for_every_place(net, size):
    with torch.no_grad():
        logits, distances = net(torch.randn(2, 3, *size))
    centers, strides = place_centers(size)
    places = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    assert logits.shape == (2, places)
    assert distances.shape == (2, places, 4)
    assert centers.shape == (places, 2)
    assert strides.shape == (places,)
    assert (distances > 0).all()
    assert logits.dtype == distances.dtype == torch.float32


def test_the_places_are_where_the_network_looks(net):
    """A change in a corner of the picture changes the outputs of the places near it most."""
    size = (256, 256)
    centers, strides = place_centers(size)
    x = torch.zeros(1, 3, *size)
    changed = x.clone()
    changed[:, :, 200:208, 40:48] = 3.0  # around (44, 204)
    with torch.no_grad():
        difference = (net(changed)[0] - net(x)[0])[0].abs()
    finest = strides == 8
    best = centers[finest][difference[finest].argmax()]
    assert (best - torch.tensor([44.0, 204.0])).abs().max() <= 24


def test_centers_are_in_the_middle_of_their_cells():
    centers, strides = place_centers((32, 64))
    assert centers[:3].tolist() == [[4, 4], [12, 4], [20, 4]]
    assert centers[8].tolist() == [4, 12]
    assert centers[-2:].tolist() == [[16, 16], [48, 16]]
    assert strides.tolist() == [8] * 32 + [16] * 8 + [32] * 2


def test_boxes_are_distances_from_the_centers():
    centers = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    distances = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])
    assert decode_boxes(distances, centers).tolist() == [[[9, 18, 13, 24], [25, 34, 37, 48]]]


def test_the_network_starts_unsure_and_trains_in_bfloat16(net):
    net.train()
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits, distances = net(x)
    assert logits.sigmoid().mean() < 0.05
    (logits.mean() + distances.log().mean()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_folded_copy_gives_the_same(net):
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2.0)
    folded = fold_norms(net)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for before, after in zip(net(x), folded(x), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in each.modules()) for each in (net, folded)]
    assert norms[1] == 6 < norms[0]  # those of the head, which shares its convolutions
