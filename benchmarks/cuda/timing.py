"""Times contenders on a CUDA device by events, over copies of the data that do not fit the L2 cache together."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

OP, COPY = "fastpose", "copy"
IN_GRAPH = " [graph]"


class AbsentError(Exception):
    """A contender that cannot run here; the message says why."""


@dataclass
class Case:
    """One op on one input.

    Attributes:
        name: Starts with the op's name.
        moved: Bytes that must cross the memory bus: each input read once, each output written once; a copy of as many
            judges the contenders. None where arithmetic is the limit.
        make: Makes the inputs; called once for each copy of them.
        contenders: From the inputs to a result; the first one is the op. May raise AbsentError.
        check: Raises AssertionError where a result (second) is not the op's (first).
        captured: Contenders that are also timed inside a CUDA graph: without what a launch costs on the host.
    """

    name: str
    moved: int | None
    make: Callable[[], Any]
    contenders: dict[str, Callable[[Any], Any]]
    check: Callable[[Any, Any], None]
    captured: frozenset[str] = frozenset({OP})


@dataclass
class Clock:
    """Measures on one device.

    Attributes:
        device: A CUDA device; the CPU for a dry run, whose figures say nothing.
        rounds: How often each contender is timed.
        seconds: About how long one timing of one contender may take.
    """

    device: torch.device
    rounds: int = 15
    seconds: float = 0.005
    random: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def on_gpu(self) -> bool:
        """Whether this is no dry run."""
        return self.device.type == "cuda"

    def cache_bytes(self) -> int:
        """Of the device's L2."""
        if not self.on_gpu:
            return 1 << 20
        return int(getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 0) or 64 << 20)

    def copies(self, moved: int | None) -> int:
        """How many copies of the data are walked through: together four times the L2 or more."""
        return max(2, min(64, -(-4 * self.cache_bytes() // max(moved or 1, 1)))) if self.on_gpu else 2

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def elapsed(self, call: Callable[[], Any], repeats: int = 1) -> float:
        """Seconds from the first to the last work on the device of so many calls."""
        if not self.on_gpu:
            before = time.perf_counter()
            for _ in range(repeats):
                call()
            return time.perf_counter() - before
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def capture(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """The call as a CUDA graph (on the CPU the call itself)."""
        if not self.on_gpu:
            return call
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(2):
                call()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The outer context brings the caller's stream back, which the inner one does not do after a failure.
        with torch.cuda.stream(torch.cuda.current_stream(self.device)), torch.cuda.graph(graph):
            call()
        return graph.replay

    def measure(self, calls: dict[str, tuple[Callable[[], Any], int]]) -> dict[str, list[float]]:
        """Seconds of one unit of work of each of the calls, round by round in random order.

        Args:
            calls: From a name to a call and how many units of work it does.
        """
        repeats, rounds = {}, {}
        for name, (call, _) in calls.items():
            self.wait()
            once = max(self.elapsed(call), 1e-7)
            repeats[name] = max(1, min(200, round(self.seconds / once)))
            # What takes long (the stand-ins on the CPU) joins the first rounds only.
            rounds[name] = self.rounds if once < 0.02 else min(self.rounds, 5 if once < 0.2 else 3)
        found: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(self.rounds):
            names = [name for name in calls if turn < rounds[name]]
            self.random.shuffle(names)
            for name in names:
                call, units = calls[name]
                found[name].append(self.elapsed(call, repeats[name]) / (repeats[name] * units))
        return found


def quartiles(values: list[float], digits: int = 3, scale: float = 1e6) -> list[float]:
    """Lower quartile, median, upper quartile; in microseconds if nothing else is said."""
    if len(values) == 1:
        values = values * 2
    return [round(value * scale, digits) for value in statistics.quantiles(values, n=4, method="inclusive")]


def run_case(case: Case, clock: Clock) -> dict[str, Any]:
    """Times one case.

    Args:
        case: What.
        clock: Where and how long.

    Returns:
        What the JSON file says about the case: times in µs (lower quartile, median, upper quartile), as called and
        inside a CUDA graph; the time of a copy of as many bytes, in a graph, over the contender's; what was left out
        and why; what gave other results; what the op itself failed with.
    """
    data = [case.make() for _ in range(clock.copies(case.moved))]
    calls: dict[str, tuple[Callable[[], Any], int]] = {}
    absent: dict[str, str] = {}
    wrong: dict[str, str] = {}
    failed: dict[str, str] = {}
    ours = None
    contenders = dict(case.contenders)
    if case.moved:
        half = case.moved // 2
        pairs = [tuple(torch.empty(half, dtype=torch.uint8, device=clock.device) for _ in range(2)) for _ in data]
        copies = iter(range(1 << 62))
        contenders[COPY] = lambda _: (lambda pair: pair[0].copy_(pair[1]))(pairs[next(copies) % len(pairs)])
    for name, contender in contenders.items():

        def everyone(contender: Callable[[Any], Any] = contender) -> None:
            for each in data:
                contender(each)

        try:
            result = contender(data[0])
            if name == OP:
                ours = result
            elif name != COPY:
                case.check(ours, result)
            everyone()
            clock.wait()
            calls[name] = (everyone, len(data))
            if name in case.captured or name == COPY:
                calls[name + IN_GRAPH] = (clock.capture(everyone), len(data))
        except AbsentError as error:
            absent[name] = str(error)
        except AssertionError as error:
            wrong[name] = str(error).strip().splitlines()[0] if str(error).strip() else "another result"
        except Exception as error:
            # The contenders may lack something here; the op may not.
            where = failed if name.startswith(OP) else absent
            where[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    found = clock.measure(calls)
    # The shortest of the op's times: inside a graph where there is one.
    own = found.get(OP + IN_GRAPH) or found.get(OP)
    copy = found.get(COPY + IN_GRAPH)
    report = {}
    for name, seconds in found.items():
        entry: dict[str, Any] = {"us": quartiles(seconds)}
        if own is not None:
            entry["times_fastpose"] = quartiles([a / b for a, b in zip(seconds, own, strict=False)], scale=1)
        if copy is not None:
            entry["of_copy"] = round(statistics.median(copy) / statistics.median(seconds), 4)
        report[name] = entry
    result = {"case": case.name, "copies": len(data), "moved_bytes": case.moved, "contenders": report}
    found_out = {"absent": absent, "wrong": wrong, "failed": failed}
    return result | {kind: why for kind, why in found_out.items() if why}


def copy_bandwidth(clock: Clock) -> float:
    """Bytes a second, read and written together, of a copy far larger than the L2."""
    size = 1 << (30 if clock.on_gpu else 20)
    source, target = (torch.empty(size, dtype=torch.uint8, device=clock.device) for _ in range(2))
    seconds = clock.measure({COPY: (lambda: target.copy_(source), 1)})[COPY]
    return 2 * size / statistics.median(seconds)
