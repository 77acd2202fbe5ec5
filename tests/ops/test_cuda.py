"""What all ops share on CUDA: the CPU's results, graphs, streams, no waiting, strides, devices, the registered ops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from cuda_calls import CALLS, DEVICE, FLIP, SIGMAS, Call, crop_inputs, matrices, people, photos, to_device
from heatmap_cases import CODECS, INPUT, KINDS, network_maps, poses
from torch import Tensor

from fastpose import _C, ops
from fastpose.ops._codec import codec_values

pytestmark = pytest.mark.cuda
every_call = pytest.mark.parametrize("name", CALLS)


def assert_close(call: Call, ours: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    assert len(ours) == len(wanted)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu(), atol=call.atol, rtol=call.rtol, equal_nan=True)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Any synchronisation that torch knows of is an error."""
    torch.cuda.synchronize(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_core_has_cuda() -> None:
    assert _C.with_cuda
    assert _C.build_info()["cuda_devices"] == torch.cuda.device_count()


@every_call
def test_equals_the_cpu(name: str) -> None:
    call = CALLS[name]
    for seed in range(4):
        tensors = call.inputs(seed)
        ours = call(*to_device(tensors))
        assert all(each.device.type == DEVICE.type for each in ours)
        assert_close(call, ours, call(*tensors))


@every_call
def test_does_not_wait(name: str) -> None:
    call = CALLS[name]
    tensors = to_device(call.inputs(0))
    call(*tensors)
    with no_waiting():
        call(*tensors)


@every_call
def test_does_not_change_its_inputs(name: str) -> None:
    call = CALLS[name]
    tensors = to_device(call.inputs(0))
    before = [tensor.clone() for tensor in tensors]
    call(*tensors)
    for tensor, was in zip(tensors, before, strict=True):
        assert torch.equal(tensor, was)


@every_call
def test_a_graph_can_be_replayed_with_other_data(name: str) -> None:
    call = CALLS[name]
    static = to_device(call.inputs(0))
    side = torch.cuda.Stream(DEVICE)
    side.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(side):
        for _ in range(2):
            call(*static)
    torch.cuda.current_stream(DEVICE).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call(*static)
    for seed in (0, 1, 2, 1):
        other = call.inputs(seed)
        for tensor, values in zip(static, other, strict=True):
            tensor.copy_(values)
        graph.replay()
        assert_close(call, results, call(*other))


@every_call
def test_runs_on_the_current_stream(name: str) -> None:
    call = CALLS[name]
    given = [to_device(call.inputs(seed)) for seed in (1, 2)]
    late = [tuple(tensor.clone() for tensor in to_device(call.inputs(0))) for _ in given]
    call(*late[0])
    torch.cuda.synchronize(DEVICE)
    streams = [torch.cuda.Stream(DEVICE) for _ in given]
    results = []
    for stream, tensors, source in zip(streams, late, given, strict=True):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)  # about 10 ms: on any other stream the op would see the old data
            for tensor, values in zip(tensors, source, strict=True):
                tensor.copy_(values)
            results.append(call(*tensors))
    torch.cuda.synchronize(DEVICE)
    for seed, ours in zip((1, 2), results, strict=True):
        assert_close(call, ours, call(*call.inputs(seed)))


def spread(tensor: Tensor) -> Tensor:
    """The same values with gaps between them."""
    if tensor.ndim == 0:
        return tensor
    wide = torch.stack([tensor, tensor.flip(0)], -1)
    return wide[..., 0]


@every_call
def test_strides_do_not_matter(name: str) -> None:
    call = CALLS[name]
    tensors = to_device(call.inputs(3))
    assert not spread(tensors[0]).is_contiguous()
    for a, b in zip(call(*(spread(tensor) for tensor in tensors)), call(*tensors), strict=True):
        # Gradients of photos are added in any order.
        torch.testing.assert_close(a, b, atol=1e-3 if "backward" in name else 0.0, rtol=0.0)


@every_call
def test_the_second_run_gives_the_same_bits(name: str) -> None:
    call = CALLS[name]
    if "backward" in name:
        pytest.skip("atomic additions come in any order")
    tensors = to_device(call.inputs(5))
    first = [each.clone() for each in call(*tensors)]
    for _ in range(5):
        for a, b in zip(call(*tensors), first, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["affine_crop", "heatmap_decode dark", "heatmap_encode udp", "oks", "oks_nms"])
def test_compiles_whole(name: str) -> None:
    call = CALLS[name]
    tensors = to_device(call.inputs(0))
    compiled = torch.compile(call.run, fullgraph=True, backend="aot_eager")
    result = compiled(*tensors)
    assert_close(call, result if isinstance(result, tuple) else (result,), call(*tensors))


# --- the registered ops -----------------------------------------------------------------------------------------------
def test_opcheck_affine_crop() -> None:
    images, crops, index, flip, gain = to_device(crop_inputs(0))
    ones, zeros = [1.0] * 3, [0.0] * 3
    rest = (crops, index, [4, 5], ones, zeros, zeros, True, False, True, flip, gain, None, torch.float32, False)
    torch.library.opcheck(torch.ops.fastpose.affine_crop.default, ([images], *rest))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")  # bits differ between runs of the gradient
    leaf = images.float().requires_grad_()
    torch.library.opcheck(torch.ops.fastpose.affine_crop.default, ([leaf], *rest), test_utils=tests)


@pytest.mark.parametrize("name", KINDS)
def test_opcheck_heatmaps(name: str) -> None:
    codec = KINDS[name]
    values = codec_values(codec, INPUT)
    points, visible = to_device(poses(2, 17))
    maps = network_maps(codec, 2, 17).to(DEVICE)
    inverse = matrices(2, 0).to(DEVICE)
    registered = torch.ops.fastpose
    torch.library.opcheck(registered.heatmap_encode.default, (points, visible, None, *values))
    decode = (maps, maps.clone(), FLIP.to(DEVICE), True, inverse, *values)
    torch.library.opcheck(registered.heatmap_decode.default, decode)
    loss = (maps.clone().requires_grad_(), points, visible, None, 2, True, *values)
    torch.library.opcheck(registered.heatmap_loss.default, loss)


def test_opcheck_poses() -> None:
    given, scores, areas, image, sigmas = to_device(people(0, 9))
    torch.library.opcheck(torch.ops.fastpose.oks.default, (given, given, areas, sigmas, None, None))
    for soft in (False, True):
        arguments = (given, scores, areas, sigmas, image, 0.5, soft, 5)
        torch.library.opcheck(torch.ops.fastpose.oks_nms.default, arguments)


def test_opcheck_boxes() -> None:
    given, scores, _, image, _ = to_device(people(0, 9))
    for method in (0, 1, 2):
        arguments = (given[:, :2, :2].reshape(9, 4), scores, image % 2, image, 0.5, method, 0.5, 0.1, 5)
        torch.library.opcheck(torch.ops.fastpose.box_nms.default, arguments)


# --- devices ----------------------------------------------------------------------------------------------------------
def wrong_devices() -> dict[str, tuple[Any, str]]:
    """From what is wrong to a call that must refuse it and the argument that it must name."""
    codec = CODECS["gaussian"]
    maps = network_maps(codec, 1, 17)
    points, visible = poses(1, 17)
    index = torch.zeros(1, dtype=torch.int64)
    one, options = matrices(1, 0), {"size": (4, 5)}
    given, _, areas, _, _ = people(0, 4)

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(DEVICE)

    return {
        "photos on both": (
            lambda: ops.affine_crop([moved(photos(0)[0]), photos(0)[1]], one, index, **options),
            "images",
        ),
        "crops elsewhere": (
            lambda: ops.affine_crop(moved(photos(0)), one, index, out=torch.empty(1, 3, 4, 5), **options),
            "out|images",
        ),
        "photos on the CPU, matrices on the GPU": (
            lambda: ops.affine_crop(photos(0), moved(one), moved(index), **options),
            "matrices",
        ),
        "mirrored maps": (
            lambda: ops.heatmap_decode(moved(maps), codec, INPUT, flipped=maps, flip_index=COCO_FLIP),
            "flipped",
        ),
        "keypoints to fill": (
            lambda: ops.heatmap_decode(moved(maps), codec, INPUT, out=torch.empty(1, 17, 2)),
            "out",
        ),
        "heatmaps to fill": (
            lambda: ops.heatmap_encode(moved(points), visible, codec, INPUT, out=torch.empty(1, 17, 64, 48)),
            "out",
        ),
        "a given target": (
            lambda: ops.heatmap_loss(moved(maps), None, visible, codec, INPUT, target=maps),
            "target",
        ),
        "the second poses": (lambda: ops.oks(moved(given), given, areas, SIGMAS), "poses_b"),
        "similarities to fill": (
            lambda: ops.oks(moved(given), moved(given), areas, SIGMAS, out=torch.empty(4, 4)),
            "out",
        ),
        "kept poses to fill": (
            lambda: ops.oks_nms(moved(given), areas, areas, SIGMAS, out=torch.empty(4, dtype=torch.int64)),
            "out",
        ),
    }


COCO_FLIP = FLIP.tolist()


@pytest.mark.parametrize("case", wrong_devices())
def test_names_what_lies_elsewhere(case: str) -> None:
    call, text = wrong_devices()[case]
    with pytest.raises((TypeError, ValueError), match=text):
        call()


def test_small_arguments_may_stay_on_the_cpu() -> None:
    images, crops, index, flip, gain = crop_inputs(0)
    there = images.to(DEVICE)
    options = {"size": (33, 29), "antialias": True, "swap_rb": True}
    wanted = ops.affine_crop(images, crops, index, flip=flip, gain=gain, **options)
    # Parameters in host memory travel with the launch; lists and arrays are as good as tensors.
    for given in ((crops, index, flip, gain), (crops.numpy(), index.tolist(), flip.tolist(), gain.numpy())):
        ours = ops.affine_crop(there, given[0], given[1], flip=given[2], gain=given[3], **options)
        torch.testing.assert_close(ours.cpu(), wanted, atol=0.02, rtol=0)
    points, visible = poses(2, 17)
    ours, _ = ops.heatmap_encode(points.to(DEVICE), visible, CODECS["udp"], INPUT, joint_weights=[1.0] * 17)
    torch.testing.assert_close(ours.cpu(), ops.heatmap_encode(points, visible, CODECS["udp"], INPUT)[0])
