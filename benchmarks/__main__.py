"""`python -m benchmarks`: measures, prints the tables, writes results/DEVICE.json and the tables of the README."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

from . import (
    bench_affine_crop,
    bench_box_nms,
    bench_heatmap_decode,
    bench_heatmap_encode,
    bench_heatmap_loss,
    bench_layers,
    bench_oks,
    bench_oks_nms,
    bench_overhead,
    bench_simcc,
)
from .harness import Case, measure
from .report import CONDITIONS, Cells, machine, rewrite_readme, tables, write_json

MODULES = (
    *(bench_affine_crop, bench_heatmap_encode, bench_heatmap_decode, bench_heatmap_loss, bench_oks, bench_oks_nms),
    *(bench_box_nms, bench_simcc, bench_layers, bench_overhead),
)
WEIGHTS = {(1, "cold"): 2.0}
"""The condition of the goals gets twice the time of the others."""


def _weight(case: Case, condition: tuple[int, str]) -> float:
    """Share of the time, 0 where the case is not measured so. Calls of a microsecond need little of it."""
    if case.conditions is not None and condition not in case.conditions:
        return 0.0
    return WEIGHTS.get(condition, 1.0) / (1 if case.calls == 1 else 4)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", help="run the cases whose name contains one of these (nothing is written)")
    parser.add_argument("--seconds", type=float, default=330.0, help="for the whole run (default: %(default)g)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    parser.add_argument("--caches", nargs="+", default=["cold", "warm"], choices=["cold", "warm"])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the order")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: only the time that the thread had a core, for a busy machine (one thread; nothing is written)",
    )
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    options = parser.parse_args()

    cases = [case for module in MODULES for case in module.CASES]
    if options.only:
        cases = [case for case in cases if any(word in case.name for word in options.only)]
    if not cases:
        parser.error("no case has such a name")
    clock = time.thread_time if options.clock == "cpu" else time.perf_counter
    if options.clock == "cpu":
        options.threads, options.dry = [1], True
    conditions = [c for c in CONDITIONS if c[0] in options.threads and c[1] in options.caches]
    order, load = random.Random(options.seed), os.getloadavg()
    deadline = time.monotonic() + options.seconds
    left = sum(_weight(case, condition) for case in cases for condition in conditions)
    cells: dict[str, Cells] = {case.name: {} for case in cases}
    for case in order.sample(cases, len(cases)):
        for condition in conditions:
            weight = _weight(case, condition)
            if weight == 0:
                continue
            # What preparing takes (data, checks, compiling) comes off what is left for all.
            budget = max(deadline - time.monotonic(), 0.0) * weight / left
            begin = time.monotonic()
            cells[case.name][condition] = measure(case, *condition, 0.8 * budget, order, clock)
            left -= weight
            print(f"{case.name}, {condition}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
        case.release()
    about = machine(load) | {"seed": options.seed}
    report = tables(cases, cells, about)
    print(report)
    if not options.only and not options.dry:
        path = write_json(cases, cells, about)
        rewrite_readme(report)
        print(f"written: {path} and benchmarks/README.md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
