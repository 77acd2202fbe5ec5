"""`python -m benchmarks.cuda ops|pipeline|training|loading --out FOLDER`: a part's times, into FOLDER/DEVICE.json.

`--device cpu --dry` runs the same code on the CPU with small inputs: it shows that the code works, and no time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ..peers import versions
from ..report import commit, processor
from .timing import Clock, copy_bandwidth


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("part", choices=("ops", "pipeline", "training", "loading"))
    parser.add_argument("--out", type=Path, required=True, help="folder for DEVICE.json; other parts in it are kept")
    parser.add_argument("--name", help="of the file, instead of the device's")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry", action="store_true", help="small inputs, one round")
    parser.add_argument("--only", default="", help="cases whose name contains this; others in the file are kept")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further case after so long")
    return parser.parse_args(arguments)


def machine(device: torch.device) -> dict[str, Any]:
    """Where and with what the run is made."""
    found: dict[str, Any] = {"device": processor(), "commit": _commit(), "versions": versions()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "processor": processor(),
        }
    return found


def _commit() -> str:
    """As in the CPU's report; `FASTPOSE_COMMIT` where the checkout came without git."""
    try:
        return os.environ.get("FASTPOSE_COMMIT") or commit()
    except OSError:
        return "unknown"


def slug(name: str) -> str:
    """A device's name as a file name."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def write(path: Path, part: str, about: dict[str, Any], results: Any) -> None:
    """Puts one part into the file, which a kill in the middle leaves as it was; short lists stay on one line."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    text = json.dumps(known | {"machine": about, part: results}, indent=1, ensure_ascii=False)
    beside = path.with_suffix(".part")
    beside.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text) + "\n")
    beside.replace(path)


def main() -> int:
    """Times, prints a line a case, writes after each case, so that a run cut short leaves what it has."""
    arguments = parse()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return 0
    clock = Clock(device, rounds=2 if arguments.dry else 15, seconds=1e-4 if arguments.dry else 0.005)
    about = machine(device) | ({"dry": True} if arguments.dry else {})
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.name or slug(about['device'])}.json"
    start = time.monotonic()
    results: dict[str, Any] = {"cases": []}
    if arguments.only and path.is_file():
        results = json.loads(path.read_text()).get(arguments.part, results)
    failed = 0
    for result in _parts(arguments, clock, results):
        results["cases"] = [case for case in results["cases"] if case["case"] != result["case"]] + [result]
        write(path, arguments.part, about, results)
        failed += bool(result.get("wrong") or result.get("failed"))
        print(line(result), flush=True)
        if time.monotonic() - start > arguments.seconds:
            print(f"stopped after {arguments.seconds:g} s; the rest was not timed", flush=True)
            results["stopped"] = True
            write(path, arguments.part, about, results)
            break
    print(path)
    return 1 if failed else 0


def _parts(arguments: argparse.Namespace, clock: Clock, results: dict[str, Any]) -> Any:
    if arguments.part == "ops":
        from .ops import cases
        from .timing import run_case

        bandwidth = copy_bandwidth(clock)
        results["copy_bytes_per_second"] = round(bandwidth)
        print(f"copy: {bandwidth / 1e9:.0f} GB/s, read and written", flush=True)
        people, crowd = ((4,), 6) if arguments.dry else ((256, 1024), 4096)
        for case in cases(clock.device, people, crowd):
            if arguments.only in case.name:
                yield run_case(case, clock)
                if clock.on_gpu:
                    torch.cuda.empty_cache()
    else:
        from . import loading, pipeline

        parts = {"pipeline": pipeline.pipeline, "training": pipeline.training, "loading": loading.loading}
        yield from parts[arguments.part](clock, dry=arguments.dry, only=arguments.only)


def line(result: dict[str, Any]) -> str:
    """One case for the eye."""
    parts = [result["case"]]
    for name, entry in result["contenders"].items():
        share = f" {100 * entry['of_copy']:.0f}% of a copy" if "of_copy" in entry else ""
        share += f" {100 * entry['of_network']:.0f}% of the network" if "of_network" in entry else ""
        share += f" {100 * entry['of_resident']:.0f}% of a resident batch" if "of_resident" in entry else ""
        speed = f" {entry['people_per_second']:.0f}/s" if "people_per_second" in entry else ""
        parts.append(f"  {name}: {entry['us'][1]:.1f} µs{share}{speed}")
    for kind in ("absent", "wrong", "failed"):
        parts += [f"  {kind}: {name}: {why}" for name, why in result.get(kind, {}).items()]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
