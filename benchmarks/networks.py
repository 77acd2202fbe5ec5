"""`python -m benchmarks.networks`: whole networks beside MMPose's, built from its own configs, in one process.

Each pair gets the same weights, gives the same outputs, and runs in turns, in changing order: forward in evaluation
mode, and forward with backward in training mode, float32, one thread. Ratios are the median of MMPose's time over ours
within a round, with quartiles; CPU time of the process, which other programs disturb less than the time on the wall.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastpose.models import PoseModel, create_model, find_entry, list_entries

from .harness import quartiles
from .peers import mmpose, versions
from .report import commit, processor

# One of every family; the smallest that the tables have.
FAMILIES = (
    *("resnet50", "resnetv1d50", "resnext50", "seresnet50", "scnet50", "resnest50", "hrnet_w32", "litehrnet18"),
    *("hrformer_small", "swin_tiny", "pvt_small", "pvtv2_b2", "vitpose_small", "cspnext_tiny_udp", "mspn50", "rsn18"),
    *("hourglass52", "cpm", "mobilenetv2", "shufflenetv1", "shufflenetv2", "alexnet", "vgg16_bn", "vipnas_resnet50"),
    *("vipnas_mobilenetv3", "resnet50_rle", "rtmpose_m", "rtmw_m", "resnet50_simcc"),
)
ROUNDS = 6, 60  # at least, at most
Network = Callable[[Tensor], list[Tensor]]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="zoo names, shell-style; by default one entry of every family")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure (default: %(default)g)")
    parser.add_argument("--batch", type=int, default=4, help="of the forward; backward has half (default: %(default)d)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, commit {commit()}; {', '.join(f'{k} {v}' for k, v in versions().items())}\n")
    print(f"| entry | ms, batch 1 | forward, batch 1 | batch {options.batch} | forward and backward |")
    print("|---|---:|---:|---:|---:|")
    for name in _names(options.patterns):
        print(_row(name, options.seconds, options.batch), flush=True)


def _names(patterns: list[str]) -> Iterator[str]:
    if patterns:
        yield from (e.name for e in list_entries() if e.alias and any(fnmatchcase(e.name, p) for p in patterns))
        return
    for family in FAMILIES:
        entry = find_entry(family)
        if entry is None:
            raise ValueError(f"{family}: no such zoo entry")
        yield entry.name


def _row(name: str, seconds: float, batch: int) -> str:
    ours = create_model(name)
    theirs = _official(name)
    for key, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(ours.state_dict()[key])
    pair = theirs, ours
    _same_outputs(pair)
    cells = [_measure(pair, size, train, seconds) for size, train in ((1, False), (batch, False), (batch // 2, True))]
    ratios = " | ".join(f"×{middle:.2f} [{low:.2f}, {high:.2f}]" for (low, middle, high), _ in cells)
    return f"| {name} | {cells[0][1] * 1e3:.1f} | {ratios} |"


def _official(name: str) -> nn.Module:
    """MMPose's network of that entry, from the config that its package carries."""
    entry = find_entry(name)
    assert entry is not None
    folder = Path(str(mmpose("mmpose").__path__[0])) / ".mim" / "configs"
    files = list(folder.glob(f"*_2d_keypoint/*/*/{entry.alias}.py"))
    if len(files) != 1:
        raise ValueError(f"{name}: expected one config {entry.alias}.py under {folder}, found {len(files)}")
    config = mmpose("mmengine").Config.fromfile(files[0]).model.to_dict()
    network: nn.Module = mmpose("mmpose.registry").MODELS.build(_plain(config))
    return network


def _plain(config: Any) -> Any:
    """Without starting weights, and with the BatchNorm that SyncBN is in one process."""
    if isinstance(config, dict):
        return {key: _plain(value) for key, value in config.items() if key not in ("init_cfg", "train_cfg")}
    if isinstance(config, list | tuple):
        return [_plain(value) for value in config]
    return "BN" if config == "SyncBN" else config


def _run(network: nn.Module, x: Tensor) -> list[Tensor]:
    return network(x).tensors() if isinstance(network, PoseModel) else list(_flat(network(x, None, mode="tensor")))


def _flat(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output:
            yield from _flat(part)


@torch.inference_mode()
def _same_outputs(pair: tuple[nn.Module, PoseModel]) -> None:
    x = torch.randn(1, 3, *pair[1].spec.input_size)
    first, second = (_run(network.eval(), x) for network in pair)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(a.abs().max()))


def _measure(
    pair: tuple[nn.Module, PoseModel], batch: int, train: bool, seconds: float
) -> tuple[tuple[float, float, float], float]:
    """Quartiles of theirs over ours, and our median of seconds."""
    x = torch.randn(batch, 3, *pair[1].spec.input_size)
    for network in pair:
        network.train(train)
    step = _train_step if train else _forward
    begin = time.perf_counter()
    for network in pair * 2:  # the first call of each prepares
        step(network, x)
    rounds = min(max(int(seconds / (time.perf_counter() - begin) * 2), ROUNDS[0]), ROUNDS[1])
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.process_time()
            step(pair[which], x)
            spent[which].append(time.process_time() - start)
    return quartiles([a / b for a, b in zip(*spent, strict=True)]), quartiles(spent[1])[1]


@torch.inference_mode()
def _forward(network: nn.Module, x: Tensor) -> None:
    _run(network, x)


def _train_step(network: nn.Module, x: Tensor) -> None:
    total = torch.stack([output.square().mean() for output in _run(network, x)]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
