"""What was measured, as Markdown tables and as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from fastpose._version import __version__
from fastpose.ops._native import C

from .harness import COPY, OP, Case, Cell, cache_sizes, quartiles, thrash_bytes
from .peers import versions

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
BEGIN, END = "<!-- results: begin (written by `python -m benchmarks`) -->", "<!-- results: end -->"
CONDITIONS = ((1, "cold"), (1, "warm"), (2, "cold"), (2, "warm"))

Cells = dict[tuple[int, str], Cell]


def processor() -> str:
    """The model name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def device() -> str:
    """Processor and SIMD level as a file name."""
    plain = re.sub(r"\((r|tm)\)", "", processor().lower())
    return "-".join(re.findall(r"[a-z0-9]+", plain)) + "-" + C.build_info()["simd"]


def commit() -> str:
    """The short commit, with a star if anything but the benchmarks' own results differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=FOLDER.parent, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "csrc", "fastpose", "benchmarks/*.py")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("*" if changed else "")


def machine(load_before: tuple[float, ...]) -> dict[str, Any]:
    """Where and with what the run was made."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "simd": C.build_info()["simd"],
        "caches": cache_sizes(),
        "thrashed_bytes": thrash_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "fastpose": __version__,
        "commit": commit(),
        "versions": versions(),
        "load_average": {"before": round(load_before[0], 2), "after": round(os.getloadavg()[0], 2)},
    }


def write_json(cases: list[Case], cells: dict[str, Cells], about: dict[str, Any]) -> Path:
    """One file a device; times in microseconds, lower quartile, median and upper quartile."""
    results = []
    for case in cases:
        for (count, caches), cell in cells[case.name].items():
            contenders = {}
            for name, rounds in cell.seconds.items():
                contenders[name] = {
                    "us": [round(value * 1e6, 3) for value in cell.spread(name)],
                    "times_fastpose": [round(value, 4) for value in cell.ratio(name)],
                    "rounds": len(rounds),
                }
            entry = {"case": case.name, "threads": count, "caches": caches, "contenders": contenders}
            if case.calls > 1:
                entry["calls"] = case.calls
            if COPY in cell.seconds:
                entry["fraction_of_copy"] = [round(value, 4) for value in cell.ratio(COPY)]
            results.append(entry | ({"absent": cell.absent} if cell.absent else {}))
    path = FOLDER / "results" / f"{device()}.json"
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({"machine": about, "results": results}, indent=1, ensure_ascii=False)
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text) + "\n")
    return path


def tables(cases: list[Case], cells: dict[str, Cells], about: dict[str, Any]) -> str:
    """The whole report."""
    caches = ", ".join(f"{name} {size >> 10} KiB" for name, size in about["caches"].items())
    packages = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    load = about["load_average"]
    parts = [
        f"{about['processor']}, {about['cores']} cores, {about['simd']}; {caches}; {about['thrashed_bytes'] >> 20} MiB "
        f"thrashed; commit {about['commit']}; {packages}. Load average {load['before']} before the run, "
        f"{load['after']} after it.",
        _goals(cases, cells),
        _limits(cases, cells),
        _losses(cases, cells),
        _overhead(cases, cells),
    ]
    ops = dict.fromkeys(case.op for case in cases if case.calls == 1)
    parts += [_op(op, [case for case in cases if case.op == op], cells) for op in ops]
    absent = {
        f"{name}: {why}" for found in cells.values() for cell in found.values() for name, why in cell.absent.items()
    }
    if absent:
        parts.append("### Absent\n\n" + "\n".join(f"- {line}" for line in sorted(absent)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _goals(cases: list[Case], cells: dict[str, Cells]) -> str:
    lines = [
        "### Goals (one thread, caches thrashed)",
        "",
        "| case | who | against | goal | reached [quartiles] |",
        "|---|---|---|---:|---:|",
    ]
    for case in cases:
        cell = cells[case.name].get((1, "cold"))
        for goal in case.goals if cell else ():
            assert cell is not None
            peer = cell.best(goal.against)
            if peer is None or goal.of not in cell.seconds:
                reached, peer = "not measured", goal.against
            else:
                ratio = cell.ratio(peer, goal.of)
                reached = ("**" if ratio[1] >= goal.ratio else "") + _ratio(ratio)
                reached += "**" if ratio[1] >= goal.ratio else ""
            lines.append(f"| {case.name} | {goal.of} | {peer} | ×{goal.ratio:g} | {reached} |")
    return "\n".join(lines)


def _limits(cases: list[Case], cells: dict[str, Cells]) -> str:
    lines = [
        "### Fraction of the machine's limit",
        "",
        "Time of a plain copy that moves as many bytes as the op must, over the op's time.",
        "",
        "| case | MB | copy, 1 thread cold | " + " | ".join(_condition(*c) for c in CONDITIONS) + " |",
        "|---|---:|---:|" + "---:|" * len(CONDITIONS),
    ]
    for case in cases:
        if case.moved is None:
            continue
        moved, found = case.moved_bytes, cells[case.name]
        cold = found.get((1, "cold"))
        speed = "" if cold is None else f"{moved / cold.spread(COPY)[1] / 1e9:.1f} GB/s"
        row = [f"{100 * found[c].ratio(COPY)[1]:.0f} %" if c in found else "" for c in CONDITIONS]
        lines.append(f"| {case.name} | {moved / 1e6:.1f} | {speed} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _losses(cases: list[Case], cells: dict[str, Cells]) -> str:
    lines = ["### Where a peer is faster", ""]
    for case in cases:
        for condition, cell in cells[case.name].items():
            for name in cell.seconds:
                # Filling with zeros, copying and the op's own binding are limits, not peers.
                if name.startswith((OP, COPY, "zero_", "binding")):
                    continue
                ratio = cell.ratio(name)
                if ratio[1] < 1:
                    lines.append(f"- {case.name}, {_condition(*condition)}: {name} {_ratio(ratio)}")
    return "\n".join(lines if len(lines) > 2 else [*lines, "Nowhere in this run."])


def _overhead(cases: list[Case], cells: dict[str, Cells]) -> str:
    lines = [
        "### What a call costs beside the work",
        "",
        "One call on a tiny input, µs, one thread, warm: of the op, and of the native binding by hand (outputs that",
        "the op allocates are allocated by NumPy or torch). Goal: at most 1 µs between them, bold where it is reached.",
        "",
        "| op | op | binding | between [quartiles] |",
        "|---|---:|---:|---:|",
    ]
    for case in cases:
        cell = cells[case.name].get((1, "warm"))
        if case.calls == 1 or cell is None:
            continue
        own, bare = cell.seconds[OP], cell.seconds["binding"]
        op, binding = (cell.spread(name)[1] / case.calls * 1e6 for name in (OP, "binding"))
        low, middle, high = quartiles([(own[turn] - bare[turn]) / case.calls * 1e6 for turn in own if turn in bare])
        mark = "**" if middle <= 1 else ""
        between = f"{mark}{middle:.2f} [{low:.2f}, {high:.2f}]{mark}"
        lines.append(f"| {case.name.removeprefix(case.op).strip()} | {op:.2f} | {binding:.2f} | {between} |")
    return "\n".join(lines) if len(lines) > 7 else ""


def _op(op: str, cases: list[Case], cells: dict[str, Cells]) -> str:
    lines = [
        f"### {op}",
        "",
        "Median time, and how many times the op's (median of the ratios of neighbours in time, quartiles).",
        "",
        "| case | contender | µs, 1 thread cold | " + " | ".join(_condition(*c) for c in CONDITIONS) + " |",
        "|---|---|---:|" + "---:|" * len(CONDITIONS),
    ]
    for case in cases:
        found, title = cells[case.name], case.name.removeprefix(op).strip()
        for name in case.names():
            if not any(name in cell.seconds for cell in found.values()):
                continue
            first = found.get((1, "cold"))
            time = "" if first is None or name not in first.seconds else _microseconds(first.spread(name)[1])
            row = []
            for condition in CONDITIONS:
                cell = found.get(condition)
                if cell is None or name not in cell.seconds:
                    row.append("")
                else:
                    row.append(f"{_microseconds(cell.spread(name)[1])} µs" if name == OP else _ratio(cell.ratio(name)))
            lines.append(f"| {title} | {name} | {time} | " + " | ".join(row) + " |")
            title = ""
    return "\n".join(lines)


def _condition(count: int, caches: str) -> str:
    return f"{count} thread{'s' * (count > 1)} {caches}"


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.{0 if seconds > 1e-4 else 1}f}"


def _ratio(values: tuple[float, float, float]) -> str:
    low, middle, high = values
    digits = 2 if middle < 10 else 1 if middle < 100 else 0
    return f"×{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def rewrite_readme(report: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Puts the report between two markers.

    Raises:
        ValueError: The markers are missing.
    """
    text = README.read_text()
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"{README}: expected the lines {marks[0]!r} and {marks[1]!r}")
    README.write_text(f"{before}{begin}\n\n{report}\n{end}{after}")
