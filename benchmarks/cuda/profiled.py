"""What Nsight Compute looks at: `ncu --set full python -m benchmarks.cuda.profiled`, each op twice on 256 people.

Inputs are those of the benchmarks. Named on the command line: the device (CUDA if none is).
"""

from __future__ import annotations

import sys

import torch

from .ops import crop_case, encode_case, loss_case
from .timing import OP

PEOPLE = 256


def main() -> int:
    """Twice, as the first launch of a kernel loads it."""
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    people = PEOPLE if device.type == "cuda" else 2
    cases = [crop_case(people, device, torch.float32, nhwc=False), crop_case(people, device, torch.bfloat16, nhwc=True)]
    cases += [loss_case(people, device, dtype) for dtype in (torch.float32, torch.bfloat16)]
    cases.append(encode_case(people, device, "gaussian"))
    for case in cases:
        data = case.make()
        for _ in range(2):
            case.contenders[OP](data)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        print(case.name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
