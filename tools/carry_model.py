"""Put a trained network into the package, in int8: fastpose/models/carried/ARCHITECTURE.safetensors.

    python tools/carry_model.py runs/slim/best.safetensors resnet18_slim_refined.people_160x160

The network must have exactly the PoseSpec of the zoo entry that it becomes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fastpose.models import find_entry, load_model, save_model


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="what `fastpose train` wrote")
    parser.add_argument("entry", help="zoo entry that it is the weights of")
    arguments = parser.parse_args()
    entry = find_entry(arguments.entry)
    if entry is None or "carried" not in entry.weights:
        raise SystemExit(f"{arguments.entry}: no zoo entry of that name carries its weights in the package")
    model = load_model(arguments.trained)
    if model.spec != entry.spec or model.architecture != entry.architecture:
        raise SystemExit(f"{arguments.trained}: is not the network of {entry.name}: {model.architecture}, {model.spec}")
    model.name = entry.name
    package = Path(__file__).resolve().parents[1] / "fastpose" / "models" / "carried"
    out = package / entry.weights["carried"]
    save_model(model, out, dtype=torch.int8)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
