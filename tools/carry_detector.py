"""Put a trained detector into the package, in int8: fastpose/detection/carried/person_net.safetensors.

    python tools/carry_detector.py runs/detector/best.safetensors --threshold 0.4

Of several files of one training the mean of the weights is taken. ``--threshold`` is the score from which on a box is
a person, and ``--side`` the longer side at which photos are looked at; by default as in the (last) trained file.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from fastpose.detection.person_detector import read_detector, save_detector
from fastpose.detection.sources import carried_detector_file


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, nargs="+", help="what tools/train_detector.py wrote")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--side", type=int)
    arguments = parser.parse_args()
    net, spec = read_detector(arguments.trained[-1])
    states = [read_detector(file)[0].state_dict() for file in arguments.trained]
    net.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    changes = {name: getattr(arguments, name) for name in ("threshold", "side") if getattr(arguments, name) is not None}
    out = carried_detector_file()
    save_detector(net, dataclasses.replace(spec, **changes), out, dtype=torch.int8)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
