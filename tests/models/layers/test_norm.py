"""norm_act: the fused op where it may stand for the layers, the layers everywhere else; the same results."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook

from fastpose import create_model
from fastpose.models import fuse_batchnorm
from fastpose.models.layers import NormSequential, norm, norm_act, run_checkpointed
from fastpose.train.sync_norm import SyncBatchNorm


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Grows by one with every call of the op; whether it had a ReLU."""
    calls: list[bool] = []

    def spy(*arguments: Any, relu: bool, **options: Any) -> Tensor:
        calls.append(relu)
        return real(*arguments, relu=relu, **options)

    real = norm.batch_norm_act
    monkeypatch.setattr(norm, "batch_norm_act", spy)
    return calls


def channels_last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def plainly(layer: nn.Module, x: Tensor, activation: Any = None, shortcut: Tensor | None = None) -> Tensor:
    x = layer(x)
    if shortcut is not None:
        x = x + shortcut
    return x if activation is None else activation(x)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    "activation", [None, nn.ReLU(inplace=True), F.relu_, nn.Sigmoid()], ids=["none", "ReLU", "relu_", "Sigmoid"]
)
@pytest.mark.parametrize("with_shortcut", [False, True])
def test_equals_the_layers(
    fused: list[bool], momentum: float | None, activation: Callable[[Tensor], Tensor] | None, with_shortcut: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(6, momentum=momentum)
    other = copy.deepcopy(layer)
    for _ in range(3):
        x, shortcut = channels_last(4, 6, 5, 3), channels_last(4, 6, 5, 3) if with_shortcut else None
        results = []
        for module, run in ((layer, norm_act), (other, plainly)):
            leaf = x.clone().requires_grad_()
            y = run(module, leaf * 1, activation, shortcut)
            y.square().sum().backward()
            results.append((y, leaf.grad, *(p.grad for p in module.parameters()), *module.buffers()))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)
    assert layer.num_batches_tracked == 3
    assert fused == 3 * [activation is F.relu_ or isinstance(activation, nn.ReLU)]


class Doubled(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def plain_cases() -> dict[str, tuple[nn.Module, Tensor]]:
    frozen = nn.BatchNorm2d(4).eval()
    mixed = nn.BatchNorm2d(4).bfloat16()
    return {
        "evaluation": (frozen, channels_last(2, 4, 3, 3)),
        "rows first": (nn.BatchNorm2d(4), torch.randn(2, 4, 3, 3)),
        "strided": (nn.BatchNorm2d(4), channels_last(2, 8, 3, 3)[:, ::2]),
        "float64": (nn.BatchNorm2d(4).double(), channels_last(2, 4, 3, 3, dtype=torch.float64)),
        "bfloat16 weights": (mixed, channels_last(2, 4, 3, 3, dtype=torch.bfloat16)),
        "without weights": (nn.BatchNorm2d(4, affine=False), channels_last(2, 4, 3, 3)),
        "without statistics": (nn.BatchNorm2d(4, track_running_stats=False), channels_last(2, 4, 3, 3)),
        "another class": (Doubled(4), channels_last(2, 4, 3, 3)),
        "of all processes": (nn.SyncBatchNorm(4).eval(), channels_last(2, 4, 3, 3)),
        "ours of all processes": (SyncBatchNorm(4).eval(), channels_last(2, 4, 3, 3)),
        "folded": (nn.Identity(), channels_last(2, 4, 3, 3)),
    }


@pytest.mark.parametrize("name", plain_cases())
def test_anything_else_goes_the_ordinary_way(fused: list[bool], name: str) -> None:
    layer, x = plain_cases()[name]
    other = copy.deepcopy(layer)
    shortcut = torch.randn_like(x)
    wanted = plainly(other, x, nn.ReLU(), shortcut)
    assert torch.equal(norm_act(layer, x, nn.ReLU(), shortcut), wanted)
    for a, b in zip(layer.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)
    assert not fused


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (0, 4, 3, 3)], ids=str)
def test_too_few_values_fail_as_torch_says(fused: list[bool], shape: tuple[int, ...]) -> None:
    def outcome(run: Callable[..., Tensor]) -> Any:
        try:
            return run(nn.BatchNorm2d(4), channels_last(*shape)).shape
        except (ValueError, RuntimeError) as error:
            return str(error)

    assert outcome(norm_act) == outcome(plainly)
    assert not fused


def test_hooks_are_called(fused: list[bool]) -> None:
    x = channels_last(2, 4, 3, 3)
    layer, relu, seen = nn.BatchNorm2d(4), nn.ReLU(), []
    hook = layer.register_forward_hook(lambda *_: seen.append("norm"))
    norm_act(layer, x, relu)
    hook.remove()
    assert (seen, fused) == (["norm"], [])
    hook = relu.register_forward_pre_hook(lambda *_: seen.append("relu"))
    norm_act(layer, x, relu)
    hook.remove()
    assert (seen, fused) == (["norm", "relu"], [False])  # BatchNorm by itself
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    norm_act(layer, x, relu)
    handle.remove()
    assert seen[2:] == ["BatchNorm2d", "ReLU"]
    assert len(fused) == 1


def test_a_shortcut_of_another_kind_is_added_by_torch(fused: list[bool]) -> None:
    x = channels_last(2, 4, 3, 3)
    for shortcut in (torch.randn(2, 4, 3, 3), torch.randn(2, 4, 1, 1), x.double()):
        layer = nn.BatchNorm2d(4)
        torch.testing.assert_close(
            norm_act(layer, x, None, shortcut), plainly(nn.BatchNorm2d(4), x, None, shortcut), check_dtype=False
        )
    assert not fused


def test_traced_and_compiled_networks_hold_the_layers(fused: list[bool]) -> None:
    unit = NormSequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).to(memory_format=torch.channels_last)
    x = channels_last(2, 3, 5, 5)
    compiled = torch.compile(unit, backend="eager", fullgraph=True)
    traced = torch.jit.trace(unit, (x,), check_trace=False)
    torch.testing.assert_close(compiled(x), F.relu(unit[1](unit[0](x))))
    torch.testing.assert_close(traced(x), F.relu(unit[1](unit[0](x))))
    assert not fused


def test_sequence_equals_torchs(fused: list[bool]) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)]
    layers += [nn.Conv2d(4, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)]
    ours = NormSequential(*layers).to(memory_format=torch.channels_last)
    theirs = copy.deepcopy(nn.Sequential(*layers))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = channels_last(2, 3, 4, 4)
    torch.testing.assert_close(ours(x), theirs(x))
    assert fused == [True, False, False, False]
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert len(fused) == 4
    assert isinstance(ours[:2], NormSequential)


def test_checkpointing_gives_the_same(fused: list[bool]) -> None:
    torch.manual_seed(0)
    block = NormSequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).to(memory_format=torch.channels_last)
    other, x = copy.deepcopy(block), channels_last(2, 3, 4, 4)
    for module, run in ((block, block), (other, lambda x: run_checkpointed(other, x))):
        run(x).square().sum().backward()
        assert module[1].num_batches_tracked == 1
    for a, b in zip([*block.buffers(), *(p.grad for p in block.parameters())],
                    [*other.buffers(), *(p.grad for p in other.parameters())], strict=True):  # fmt: skip
        assert torch.equal(a, b)
    assert len(fused) == 3


def learn(network: nn.Module, x: Tensor, precision: torch.dtype) -> list[Tensor]:
    """Output, running statistics and gradients of one step, each in one row."""
    network = copy.deepcopy(network)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        y = network(x).last.float()
    y.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    parts = [y], network.buffers(), gradients
    return [torch.cat([x.detach().float().flatten() for x in part if x is not None]) for part in parts]


@pytest.mark.parametrize("name", ["resnet18_slim", "litehrnet18.coco_256x192", "hrnet_w32.coco_256x192"])
def test_networks_learn_the_same(fused: list[bool], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, pretrained=False).train().to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 64, 64)
    exact, rounded = (learn(network, x, precision) for precision in (torch.float32, torch.bfloat16))
    count = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert len(fused) == 2 * count  # every one of them
    monkeypatch.setattr(norm, "_is_fusible", lambda *_: False)
    torchs, torchs_rounded = (learn(network, x, precision) for precision in (torch.float32, torch.bfloat16))
    assert len(fused) == 2 * count
    for got, got_rounded, wanted, wanted_rounded in zip(exact, rounded, torchs, torchs_rounded, strict=True):
        assert (got - wanted).norm() < 1e-2 * wanted.norm()
        assert (got_rounded - wanted).norm() < 1.2 * (wanted_rounded - wanted).norm()


def test_folding_finds_the_pairs() -> None:
    network = create_model("resnet18_slim", pretrained=False).eval()
    folded = fuse_batchnorm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x).last, network(x).last, rtol=1e-3, atol=1e-5)
