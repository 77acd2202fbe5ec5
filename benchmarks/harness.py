"""Times an op and its peers as neighbours: round by round, in random order, with warm or thrashed caches."""

from __future__ import annotations

import gc
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fastpose.ops._native import C

OP = "fastpose"
COPY = "copy"
MIN_ROUNDS = 3
# Seconds before a call on several threads: OpenMP's threads, which torch's peers and the thrashing have just used, spin
# for about 10 ms before they sleep, and would take a core from whoever comes next.
SETTLE = 0.015
MAX_ROUNDS = 400

Thunk = Callable[[], Any]


class AbsentError(Exception):
    """A peer that cannot run here; the message says why."""


@dataclass(frozen=True)
class Goal:
    """How many times as fast as its best peer of that name the op is meant to be, on one thread with cold caches."""

    against: str
    """Start of the peer's name; of several the fastest counts."""
    ratio: float
    of: str = OP


@dataclass
class Case:
    """One op on one input.

    Attributes:
        name: Starts with the op's name.
        inputs: Makes the data that all contenders work on.
        contenders: From the data to the call to be timed; `fastpose` must be one of them. May raise AbsentError. What
            is made before the call (a codec object, an output) is not timed.
        check: Raises AssertionError where a peer's result (second) is not the op's (first).
        moved: Bytes that must cross the memory bus, given the data: each input read once, each output written once.
            None where arithmetic is the limit.
        goals: See Goal.
        one_thread: Contenders that are timed on one thread only.
        calls: How often a contender does its work in one timed call.
        conditions: (threads, caches) under which it is timed; None: all.
        data, moved_bytes: The inputs and ``moved`` of them, once they are made.
        ready: Contenders whose calls are made and whose results were found right.
    """

    name: str
    inputs: Callable[[], Any]
    contenders: dict[str, Callable[[Any], Thunk]]
    check: Callable[[Any, Any], None]
    moved: Callable[[Any], int] | None = None
    goals: tuple[Goal, ...] = ()
    one_thread: frozenset[str] = frozenset()
    calls: int = 1
    conditions: tuple[tuple[int, str], ...] | None = None
    data: Any = field(default=None, repr=False)
    moved_bytes: int = 0
    ready: dict[str, Thunk] = field(default_factory=dict, repr=False)

    @property
    def op(self) -> str:
        """The op's name."""
        return self.name.split()[0]

    def names(self) -> list[str]:
        """The contenders, the op first, and the copy of as many bytes as must move."""
        return [*self.contenders, *([COPY] if self.moved else [])]

    def prepare(self, name: str) -> Thunk:
        """The call to be timed, run once and its result held against that of the op.

        Raises:
            AbsentError: The peer is not installed, or cannot run here.
            AssertionError: Its result is another.
        """
        if self.data is None:
            self.data = self.inputs()
            self.moved_bytes = self.moved(self.data) if self.moved else 0
        if name in self.ready:
            return self.ready[name]
        if name == COPY:
            return self._copy()
        call = self.contenders[name](self.data)
        ours = _frozen(self.contenders[OP](self.data)())
        theirs = call()
        try:
            self.check(ours, theirs)
        except AssertionError as error:
            raise AssertionError(f"{self.name}: {name} gives something else than {OP}: {error}") from error
        self.ready[name] = call
        return call

    def release(self) -> None:
        """Forgets the data and the calls."""
        self.data = None
        self.ready.clear()

    def _copy(self) -> Thunk:
        half = self.moved_bytes // 2
        source, target = torch.zeros(half, dtype=torch.uint8), torch.zeros(half, dtype=torch.uint8)
        return lambda: target.copy_(source)


def _frozen(result: Any) -> Any:
    """A copy that later calls cannot overwrite."""
    if isinstance(result, torch.Tensor):
        return result.detach().clone()
    if isinstance(result, np.ndarray):
        return result.copy()
    if isinstance(result, (tuple, list)):
        return type(result)(_frozen(part) for part in result)
    return result


def at_level(level: str, make: Callable[[Any], Thunk]) -> Callable[[Any], Thunk]:
    """The op held to one SIMD level. The switch is part of the timed call and costs some 0.2 µs."""

    def build(data: Any) -> Thunk:
        info = C.build_info()
        if level not in info["simd_supported"]:
            raise AbsentError(f"this processor has no {level}")
        call, usual = make(data), info["simd"]

        def run() -> Any:
            C.set_simd_level(level)
            try:
                return call()
            finally:
                C.set_simd_level(usual)

        return run

    return build


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under torch.compile, for fixed shapes.

    Raises:
        AbsentError: FASTPOSE_BENCH_COMPILE=0 is set.
    """
    if os.environ.get("FASTPOSE_BENCH_COMPILE") == "0":
        raise AbsentError("FASTPOSE_BENCH_COMPILE=0")
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False, fullgraph=True)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """The same number of threads for torch, FastPose (which asks torch) and OpenCV. NumPy's loops have one always."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


@cache
def _thrash_buffer() -> torch.Tensor:
    return torch.zeros(thrash_bytes() // 4)


@cache
def cache_sizes() -> dict[str, int]:
    """Bytes of each level of the first core's data caches, as the kernel reports them; empty where it does not."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            text = (index / "size").read_text().strip()
            unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
            sizes["L" + (index / "level").read_text().strip()] = int(text.rstrip("KM")) * unit
    return sizes


def thrash_bytes() -> int:
    """Twice the last cache, but 32 to 64 MiB: a server's shared cache of hundreds of MB is not one guest's to empty."""
    last = max(cache_sizes().values(), default=32 << 20)
    return min(max(2 * last, 32 << 20), 64 << 20)


def thrash() -> None:
    """Reads and writes more memory than the private caches hold, on every thread in use."""
    _thrash_buffer().add_(1.0)


@dataclass
class Cell:
    """The times of one case under one condition.

    Attributes:
        seconds: Contender → round → seconds.
        absent: Contender → why it is missing.
    """

    case: str
    threads: int
    caches: str
    seconds: dict[str, dict[int, float]]
    absent: dict[str, str]

    def spread(self, name: str) -> tuple[float, float, float]:
        """Lower quartile, median, upper quartile of the seconds."""
        return quartiles(list(self.seconds[name].values()))

    def ratio(self, peer: str, of: str = OP) -> tuple[float, float, float]:
        """Quartiles of peer's time over that of ``of`` in the same round: above 1, ``of`` is the faster one."""
        base = self.seconds[of]
        return quartiles([value / base[turn] for turn, value in self.seconds[peer].items() if turn in base])

    def best(self, prefix: str) -> str | None:
        """The fastest contender whose name starts so."""
        names = [name for name in self.seconds if name.startswith(prefix)]
        return min(names, key=lambda name: self.spread(name)[1], default=None)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


def measure(
    case: Case,
    count: int,
    caches: str,
    budget: float,
    order: random.Random,
    clock: Callable[[], float] = time.perf_counter,
) -> Cell:
    """Runs all contenders of a case for about ``budget`` seconds.

    In every round each contender runs once, in fresh random order. One that takes longer than all the others together
    joins only every n-th round, so that it does not eat the others' share.
    """
    calls: dict[str, Thunk] = {}
    absent: dict[str, str] = {}
    with threads(count):
        for name in case.names():
            if count > 1 and name in case.one_thread:
                continue
            try:
                calls[name] = case.prepare(name)
            except AbsentError as reason:
                absent[name] = str(reason)
        cold = caches == "cold"
        cost = {name: _timed(call, cold, clock)[1] for name, call in calls.items()}
        for name in cost:
            if cost[name] < 0.2:  # the first calls may have been slower than the next
                cost[name] = min(cost[name], _timed(calls[name], cold, clock)[1])
        total = sum(cost.values())
        stride = {
            name: 1 if name == OP else max(1, math.floor(own / max(total - own, 1e-9))) for name, own in cost.items()
        }
        seconds: dict[str, dict[int, float]] = {name: {} for name in calls}
        deadline = time.perf_counter() + budget
        gc.collect()
        gc.disable()
        try:
            turn = 0
            while turn < MIN_ROUNDS or (turn < MAX_ROUNDS and time.perf_counter() < deadline):
                names = [name for name in calls if turn % stride[name] == 0]
                order.shuffle(names)
                for name in names:
                    seconds[name][turn] = _timed(calls[name], cold, clock)[0]
                turn += 1
        finally:
            gc.enable()
    return Cell(case.name, count, caches, seconds, absent)


def _timed(call: Thunk, cold: bool, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """Seconds of the call by ``clock``, and by the clock on the wall together with what goes before it.

    Before it goes the thrashing, or the same call once more: the contenders of a round together touch more memory than
    the caches hold, and each would find what its predecessor left.
    """
    begin = time.perf_counter()
    if cold:
        thrash()
    else:
        call()
    if torch.get_num_threads() > 1:
        time.sleep(SETTLE)
    if cold:
        clock()  # the thrashing also threw out the interpreter's way to the clock: 30 µs that are nobody's
        _nothing()
        clock()
    start = clock()
    result = call()
    end = clock()
    del result
    return end - start, time.perf_counter() - begin


def _nothing() -> None:
    """Is called like a contender."""


def bench(cases: list[Case]) -> Callable[..., None]:
    """A pytest-benchmark test of every contender of every case under every condition."""
    rows, ids = [], []
    for caches in ("warm", "cold"):
        for case in cases:
            for name in case.names():
                for count in (1, 2)[: 1 if name in case.one_thread else 2]:
                    if case.conditions is None or (count, caches) in case.conditions:
                        rows.append((case, name, count, caches))
                        ids.append(f"{case.name}-{name}-{count}-{caches}")

    @pytest.mark.parametrize(("case", "name", "count", "caches"), rows, ids=ids)
    def test(benchmark: Any, case: Case, name: str, count: int, caches: str) -> None:
        benchmark.group = f"{case.name}, {count} thread{'s' * (count > 1)}, {caches}"
        with threads(count):
            try:
                call = case.prepare(name)
            except AbsentError as reason:
                pytest.skip(f"{name}: {reason}")
            call()
            once = max(_timed(call, caches == "cold")[1], 1e-6)
            rounds = int(min(max(0.3 / once, MIN_ROUNDS), MAX_ROUNDS))
            benchmark.pedantic(call, setup=thrash if caches == "cold" else None, rounds=rounds)

    return test
