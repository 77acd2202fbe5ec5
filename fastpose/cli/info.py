"""``fastpose info``: versions, native core, devices, carried model."""

from __future__ import annotations

import json
import os
import platform
from typing import Any

import click

__all__ = ["info"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Say what FastPose runs on here: paste it into a report of a problem."""
    facts = _facts()
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else "-" if value is None else str(value)
        click.echo(f"{name:<{width}}  {text}")


def _facts() -> dict[str, Any]:
    # Imported here: the command line's help must not wait for torch.
    import cv2
    import numpy as np
    import torch

    from .._version import __version__
    from ..ops._native import C, load_error

    facts: dict[str, Any] = {
        "fastpose": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    reason = load_error()
    if reason is not None:
        facts["native core"] = f"missing: {reason}"
    else:
        build = C.build_info()
        facts["native core"] = f"{build['version']}, compiler {build['compiler']}"
        facts["simd"] = f"{build['simd']} of {'/'.join(build['simd_supported'])}"
        facts["cuda in core"] = f"{build['cuda']}, for {build['cuda_archs']}" if build["cuda"] else "no (CPU only)"
    facts["cuda in torch"] = torch.version.cuda or "no (CPU only)"
    facts["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()} CPUs"
    facts["devices"] = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
    facts["carried model"] = _carried()
    return facts


def _carried() -> str:
    from ..models import WeightsError, load_model
    from ..predict.predictor import carried_file

    try:
        file = carried_file()
        model = load_model(file)
    except WeightsError as error:
        return f"missing: {error}"
    count = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{model.name}, {count / 1e6:.2f} M parameters, {file.stat().st_size / 1e6:.1f} MB, {model.spec.skeleton.name}"
    )
