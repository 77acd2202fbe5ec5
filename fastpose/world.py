"""The processes that run together, and what they agree on; trivial for one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["FirstProcessError", "TrainingError", "World"]

Value = TypeVar("Value")


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why."""


class FirstProcessError(TrainingError):
    """The first process cannot go on, and says why itself."""


class World:
    """The processes that run together: those of torch.distributed where it runs, else this one alone.

    Each method but `count` is called by all of them, in the same order.

    Attributes:
        running: Whether torch.distributed runs.
        rank: Of this process, from 0.
        size: Number of processes.
        main: Whether this is the first one, which writes and speaks for all.
    """

    def __init__(self) -> None:
        self.running = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if self.running else (0, 1)
        self.main = self.rank == 0
        self._group: Any = None  # the default one, if it can do what lies in the memory of the CPU
        self._store: Any = dist.distributed_c10d._get_default_store() if self.size > 1 else None
        self._counts: Counter[str] = Counter()  # of this process alone
        if self.size > 1 and "gloo" not in str(dist.get_backend_config()):
            self._group = dist.new_group(backend="gloo")

    def sum(self, *values: float) -> list[float]:
        """Each value, added up over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._group)
        return total.tolist()

    def count(self, name: str, amount: int = 0) -> int:
        """Add to a number that all processes share; any of them may do so at any moment, and waits for no other.

        Args:
            name: Of the number, which is 0 when the processes meet.
            amount: To be added.

        Returns:
            The number after that.

        Example:
            >>> world = World()
            >>> world.count("photos", 3), world.count("photos")
            (3, 3)
        """
        if self.size == 1:
            self._counts[name] += amount
            return self._counts[name]
        count: int = self._store.add(f"fastpose/{name}", amount)
        return count

    def any(self, flag: bool) -> bool:
        """Whether it is so in at least one process."""
        return self.sum(flag)[0] > 0

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def from_main(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, in all of them.

        Raises:
            FirstProcessError: It could not be made; the first process raises what went wrong.
        """
        if self.size == 1:
            return make()
        made: list[Any] = [False, None]
        problem: Exception | None = None
        if self.main:
            try:
                made = [True, make()]
            except Exception as error:  # whatever it is, the others must not wait
                problem = error
        dist.broadcast_object_list(made, src=0, group=self._group)
        if problem is not None:
            raise problem
        if not made[0]:
            raise FirstProcessError("the first process cannot go on")
        value: Value = made[1]
        return value

    def failure(self, message: str) -> TrainingError:
        """What all processes raise together: the first one says why."""
        return TrainingError(message) if self.main else FirstProcessError(message)

    def copy_from_main(self, tensors: list[Tensor]) -> None:
        """Give tensors the values that they have in the first process."""
        if self.running:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)
