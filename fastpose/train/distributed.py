"""Training on several processes: how they meet, and how a network is shared out to them.

Everything here is trivial for one process, so that a loop written with it needs no second version.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import itertools
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.loader import Batch
from ..models import PoseModel
from ..world import FirstProcessError, TrainingError, World
from .overrides import RecipeError
from .sync_norm import synchronise_norms

__all__ = ["DistributedModel", "FirstProcessError", "TrainingError", "World", "join_processes"]

# A part of a network with this share of its parameters is sharded by itself; smaller ones go together with the rest.
_BLOCK = 0.01


_meetings = itertools.count()


@contextmanager
def join_processes(device: torch.device, timeout: float = 30.0) -> Iterator[World]:
    """Meet the other processes of ``torchrun``, if it started this one, and part at the end of the block.

    Where the caller has begun torch.distributed, that is taken and left running. Otherwise nothing in the block may
    outlive it that holds the processes' group, as DistributedDataParallel does: make it in a function of its own.

    Args:
        device: What this process computes on; a GPU is its default within the block.
        timeout: Minutes that they wait for each other.

    Yields:
        The processes.

    Raises:
        TrainingError: They do not find each other, or one of them ended within the block, or hangs.
    """
    running = dist.is_available() and dist.is_initialized()
    joins = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not running
    before = torch.cuda.current_device() if device.type == "cuda" else None
    if device.type == "cuda" and (joins or running):
        torch.cuda.set_device(device)
    lost = False
    try:
        if joins:
            store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
            # One that met before would find the addresses of then, which nobody listens to any more.
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore(f"fastpose/{next(_meetings)}", store),  # type: ignore[attr-defined]
                rank=rank,
                world_size=size,
                timeout=datetime.timedelta(minutes=timeout),
            )
        yield World()
    except BaseException as error:
        if joins:
            _clear_frames(error)
        lost = (joins or running) and isinstance(error, RuntimeError) and _is_lost(error)
        if not lost:
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"another process of the run has ended, hangs or cannot be reached ({reason})") from error
    finally:
        if before is not None:
            torch.cuda.set_device(before)
        # NCCL would wait for work that nobody finishes any more.
        if joins and dist.is_initialized() and not (lost and device.type == "cuda"):
            dist.destroy_process_group()


def _clear_frames(error: BaseException) -> None:
    """Let go of what the calls that failed held.

    DistributedDataParallel among it would hold the processes' group until it is freed itself, with the interpreter's
    lock, which a thread of gloo that the group waits for then may need.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__context__


def _is_lost(error: RuntimeError) -> bool:
    """Whether it is about the connection between processes; gloo's are plain errors that name its source files."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "Connection" in str(error)


class DistributedModel:
    """A network whose gradients are added up over all processes.

    Args:
        world: The processes.
        model: The network; its weights become those of the first process. Not yet given to an optimizer.
        average: Another network that is to be kept in the same way (a moving average), or None.
        around: A module that has the network as a part, and is called and trained instead of it; not ``sharded``.
        sharded: Each process keeps a part of weights, gradients and the optimizer's state only (FSDP2: Zhao et al.,
            "PyTorch FSDP", VLDB 2023), block by block.
        sync_batchnorm: Let BatchNorm take its statistics over the crops of all processes.

    Attributes:
        forward: What to call with a batch, instead of the network.

    Raises:
        RecipeError: ``sharded`` needs a newer torch or several processes.
    """

    def __init__(
        self,
        world: World,
        model: PoseModel,
        average: PoseModel | None = None,
        *,
        around: nn.Module | None = None,
        sharded: bool = False,
        sync_batchnorm: bool = False,
    ) -> None:
        self._world, self._model = world, model
        self._plain: PoseModel | None = None
        whole: nn.Module = around or model
        self.forward = whole
        networks = [model] if average is None else [model, average]
        if sharded and not world.running:
            raise RecipeError("train.sharded: there is one process only; start several with torchrun")
        for network in (whole, *networks[1:]):
            world.copy_from_main([*network.parameters(), *network.buffers()])
        if sharded:
            self._plain = copy.deepcopy(model).requires_grad_(False)
        if sync_batchnorm and world.running:
            synchronise_norms(model)
        if sharded:
            for network in networks:
                _shard(network)
        elif world.running:
            device = next(model.parameters()).device
            # Channels last and first are the same memory for a 1x1 kernel, by other numbers.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self.forward = nn.parallel.DistributedDataParallel(
                whole, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
            )
        self._parameters = [parameter for parameter in whole.parameters() if parameter.requires_grad]

    def set_grad_sync(self, enabled: bool) -> None:
        """Whether backward passes add up gradients over the processes: those before the last of a step need not.

        Args:
            enabled: For the forward pass that comes next, and its backward pass.
        """
        if isinstance(self.forward, nn.parallel.DistributedDataParallel):
            self.forward.require_backward_grad_sync = enabled
        elif self._plain is not None:
            self._model.set_requires_gradient_sync(enabled)  # type: ignore[operator]

    def pad_empty(self, batch: Batch, crops: int = 1) -> Batch:
        """The batch; for a sharded network so many blank crops without labels instead of none.

        Every process must have a gradient of every parameter, and those of a sharded one cannot be given by hand.
        BatchNorm takes the blank crops into its statistics.
        """
        if self._plain is None or len(batch.images):
            return batch
        tensors = {name: getattr(batch, name) for name in ("images", "keypoints", "weights", "annotated")}
        blank: dict[str, Any] = {name: tensor.new_zeros(crops, *tensor.shape[1:]) for name, tensor in tensors.items()}
        return dataclasses.replace(batch, **blank)

    def backward(self, loss: Tensor, *, empty: bool = False) -> None:
        """Gradients of the sum of all processes' losses.

        Args:
            loss: Of this process, a scalar.
            empty: It is of no crops and may be NaN (unless :meth:`pad_empty` gave some): the gradients are zero, but
                every parameter has one.
        """
        # Some layers give none to their parameters then, and the other processes would wait for it.
        if empty and self._plain is None:
            loss = loss + torch.stack([parameter.sum() for parameter in self._parameters]).sum() * 0
        (loss * self._world.size).backward()  # what is exchanged is the mean

    def scale_grads(self, factor: float) -> None:
        """Multiply all gradients."""
        if factor != 1:
            torch._foreach_mul_([p.grad for p in self._parameters if p.grad is not None], factor)

    def clip_grad_norm(self, largest: float | None) -> Tensor:
        """Scale all gradients down to this norm where theirs is larger; their norm before that, a scalar."""
        norm = nn.utils.clip_grad_norm_(self._parameters, largest or float("inf"))
        full: Tensor = getattr(norm, "full_tensor", lambda: norm)()  # of sharded gradients it is a part
        return full

    def full_model(self, model: PoseModel) -> PoseModel:
        """The network, or its average, as it is validated and saved: complete, and the same in all processes.

        Running statistics, which each process takes of its own crops, become those of the first one.
        """
        if self._plain is not None:
            self._plain.load_state_dict(_full_state(model, on_cpu=False))
            model = self._plain
        self._world.copy_from_main(list(model.buffers()))
        return model

    def state_dict(self, model: PoseModel) -> dict[str, Tensor]:
        """State of the network, or of its average, in the first process; others may get an empty one."""
        return model.state_dict() if self._plain is None else _full_state(model, on_cpu=True)

    def load_state_dict(self, model: PoseModel, state: dict[str, Any]) -> None:
        """Give the network, or its average, a state that :meth:`state_dict` made, sharded or not; in all processes.

        Raises:
            RuntimeError: It is of another network.
        """
        if self._plain is None:
            model.load_state_dict(state)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True))

    def optimizer_state_dict(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """State of the optimizer, parameters by number as torch does it, in the first process."""
        if self._plain is None:
            return optimizer.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        named: Any = get_optimizer_state_dict(self._model, optimizer, options=options)
        if not self._world.main:
            return {}
        numbers = {name: number for number, name in enumerate(self._names(optimizer))}
        groups = [group | {"params": [numbers[name] for name in group["params"]]} for group in named["param_groups"]]
        return {"state": {numbers[name]: state for name, state in named["state"].items()}, "param_groups": groups}

    def load_optimizer_state_dict(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Give the optimizer a state that :meth:`optimizer_state_dict` made, sharded or not.

        Raises:
            ValueError: It is of other parameters.
        """
        if self._plain is None:
            optimizer.load_state_dict(state)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        names = self._names(optimizer)
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        if len(numbers) != len(names):
            raise ValueError(f"optimizer: expected {len(names)} parameters, got {len(numbers)}")
        name_of = dict(zip(numbers, names, strict=True))
        named: dict[str, Any] = {
            "state": {name_of[number]: value for number, value in state["state"].items()},
            "param_groups": [
                group | {"params": [name_of[number] for number in group["params"]]} for group in state["param_groups"]
            ],
        }
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self._model, optimizer, named, options=options)

    def _names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """Names of the optimizer's parameters, in its order."""
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _full_state(model: nn.Module, *, on_cpu: bool) -> dict[str, Any]:
    """State of a sharded network put together: on the CPU for the first process, or for everyone where it is."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=on_cpu))


def _shard(model: nn.Module) -> None:
    """Leave each process its part of every block's parameters, and of all others together."""
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise RecipeError(f"train.sharded: needs torch 2.6 or newer, this is {torch.__version__}") from None
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # others it does not take
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The outermost members of lists and sequences that hold a good part of the parameters, and are called."""
    least = _BLOCK * sum(parameter.numel() for parameter in model.parameters())
    found: list[nn.Module] = []

    def search(module: nn.Module) -> None:
        repeated = isinstance(module, nn.ModuleList | nn.Sequential)
        for child in module.children():
            called = type(child).forward is not nn.Module.forward
            large = sum(parameter.numel() for parameter in child.parameters()) >= least
            if repeated and called and large:
                found.append(child)
            else:
                search(child)

    search(model)
    return found
