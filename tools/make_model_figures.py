"""Reduce the reference outputs of networks to what a test can carry: tests/data/model_figures.json.

    python tools/make_model_figures.py REFERENCE/models REFERENCE/models_wider

REFERENCE/models holds NAME.json (state-dict names, shapes and dtypes in order, number of parameters, configurations
that share the architecture) and NAME.npz (outputs of one forward pass) for weights and an input drawn by name (see
tests/models/model_figures.py). NAME is the name of an official configuration, as the zoo entries' aliases are. Kept of
every output: shape, step between stored values along each axis, largest magnitude, sum of magnitudes, root of the sum
of squares, and 64 values spread evenly over it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 64


def short(value: float) -> float:
    """Seven digits: what float32 holds."""
    return float(f"{value:.7g}")


def figures(folder: Path, name: str) -> dict[str, Any]:
    """The compact figures of one network."""
    facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    outputs = []
    with np.load(folder / f"{name}.npz") as arrays:
        for key in arrays.files:
            stored = arrays[key].astype(np.float64)
            shape = facts["outputs"][key][0]
            steps = [round(whole / kept) for whole, kept in zip(shape, stored.shape, strict=True)]
            picked = stored.ravel()[np.linspace(0, stored.size - 1, SAMPLES).astype(int)]
            outputs.append(
                {
                    "shape": shape,
                    "steps": facts.get("stored_every", {}).get(key, steps),
                    "largest": short(np.abs(stored).max()),
                    "l1": short(np.abs(stored).sum()),
                    "l2": short(np.sqrt(np.square(stored).sum())),
                    "samples": [short(value) for value in picked],
                }
            )
    return {
        "same_architecture": sorted(Path(config).stem for config in facts["same_architecture"]),
        "parameters": facts["params"],
        "state_dict": len(facts["keys"]),
        "state_dict_sha256": hashlib.sha256(json.dumps(facts["keys"]).encode()).hexdigest(),
        "outputs": outputs,
    }


def main() -> None:
    """Write the file, one network a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    default = Path(__file__).resolve().parents[1] / "tests" / "data" / "model_figures.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    files = sorted((file for folder in arguments.folders for file in folder.glob("*.json")), key=lambda file: file.stem)
    names = [file.stem for file in files]
    lines = [
        f"{json.dumps(file.stem)}: {json.dumps(figures(file.parent, file.stem), separators=(',', ':'))}"
        for file in files
    ]
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{arguments.out}: {len(names)} networks, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
