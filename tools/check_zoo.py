"""Check every entry of the zoo, one line each: what it is against the carried figures, and that it learns.

    python tools/check_zoo.py [DATA] [--pattern 'hrnet*'] [--results check_zoo.json] [--again]

For each entry: it builds; its state dict has the official names, shapes, dtypes and order; so many parameters; a
checkpoint in the official layout, filled by name, loads; the outputs then agree with the reference figures (largest
relative error). With DATA, a folder of samples of the data sets (which files, `zoo_samples.py` says): the loss of a few
training steps on two people (hands, animals, …) of the entry's own data set is finite and falls. A network that learns
from another one has that beside it, with weights given by name.

Results are kept in a file after every entry: an interrupted run goes on where it was, and entries that share figures
share the comparison. What did not succeed is tried again. All of them take about an hour on one core; the largest
network needs about 13 GB to train. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fastpose.data.dataset import PoseDataset, Source
from fastpose.data.loader import Batch, Loader
from fastpose.models import (
    PoseModel,
    ZooEntry,
    build_loss,
    build_model,
    create_model,
    find_entry,
    list_entries,
    load_checkpoint,
    save_model,
)
from fastpose.train.distillation import Distillation, build_distillation
from fastpose.train.optim import build_optimizer, set_learning_rate
from fastpose.train.recipe import Recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "models"))

import model_figures as figures
from zoo_samples import two_people

Json = dict[str, Any]

# Recipes warm up from far below their rate. Most networks bear the first at once; transformers need the second.
LEARNING_RATES = (1e-4, 1e-5)
STEPS = 6


def check_network(entry: ZooEntry, known: list[Json]) -> Json:
    """State dict, parameters, loading and outputs of an entry.

    Args:
        entry: of the zoo.
        known: results of other entries, of which one may have compared the same network.

    Returns:
        `keys`, `parameters`, `loads`: whether each is right; `error`: of the outputs; `figures`: whose they are.
    """
    owner = figures.twin_of(entry).alias
    official, skeleton = figures.figures_of(owner), entry.spec.skeleton
    if official is None and entry.name in figures.SIBLINGS:
        # The same network with other keypoints: it is compared with its sibling's.
        sibling = find_entry(figures.SIBLINGS[entry.name])
        assert sibling is not None
        official, skeleton, owner = figures.figures_of(sibling.alias), sibling.spec.skeleton, sibling.alias
    with figures.without_initialisation():
        model = build_model(entry.architecture, entry.spec.replace(skeleton=skeleton), entry.arguments)
    count = sum(parameter.numel() for parameter in model.parameters())
    if official is None:
        return {"parameters": count == entry.parameters, "figures": None}
    result = {
        "keys": figures.same_state_dict(model, official),
        "parameters": count == official["parameters"],
        "figures": official["same_architecture"][0],
    }
    compared = next((r for r in known if r.get("figures") == result["figures"] and r.get("error") is not None), None)
    if compared is not None and owner is not None:
        return {**result, "loads": compared["loads"], "error": compared["error"], "compared_as": compared["name"]}
    load_official(model)
    outputs = figures.all_outputs(model, figures.input_by_name(model.spec.input_size))
    return {**result, "loads": True, "error": figures.largest_error(outputs, official)}


def load_official(model: PoseModel) -> None:
    """Write a checkpoint in the official layout, every value given by its name, and load it."""
    state = {}
    for name, tensor in model.state_dict().items():
        value = figures.value_by_name(name, tuple(tensor.shape)) if tensor.is_floating_point() else tensor
        state[name] = torch.as_tensor(value, dtype=tensor.dtype).clone()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "official.pth"
        torch.save({"meta": {}, "state_dict": state}, file)
        del state
        load_checkpoint(model, file)


def check_training(entry: ZooEntry, data: Path) -> Json:
    """Losses of a few steps on two people, with the optimizer and the loss of the entry's recipe."""
    dataset = PoseDataset([Source(two_people(entry, data))], entry.spec.skeleton)
    batch = next(iter(Loader(dataset, entry.spec, batch_size=2, workers=1).epoch()))
    for rate in LEARNING_RATES:
        losses = train(entry, batch, rate)
        result = {"losses": losses, "rate": rate, "learns": math.isfinite(sum(losses)) and losses[-1] < losses[0]}
        gc.collect()
        if result["learns"]:
            break
    return result


def train(entry: ZooEntry, batch: Batch, rate: float) -> list[float]:
    """Losses from fresh weights on, until one after the second step is below the first."""
    parts = {"model": {"name": entry.name}, "data": {"train": [{"synthetic": {}}]}}
    recipe = Recipe.model_validate({**parts, **entry.recipe})
    settings = recipe.train
    torch.manual_seed(0)
    model = build_model(entry.architecture, entry.spec, entry.arguments).train()
    loss = build_loss(model.head, entry.spec, settings.loss)
    taught = beside_teacher(recipe, model)
    optimizer = build_optimizer(model, settings.optimizer, taught.align if taught else None)
    set_learning_rate(optimizer, rate)
    losses: list[float] = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        output, distance = taught(batch.images) if taught else (model(batch.images), 0.0)
        value = loss(output, batch.keypoints, batch.weights, batch.annotated)
        if taught:
            value = taught.labels * value + distance
        losses.append(value.item())
        if len(losses) > 2 and losses[-1] < losses[0]:
            break
        value.backward()
        optimizer.step()
    return losses


def beside_teacher(recipe: Recipe, model: PoseModel) -> Distillation | None:
    """The network beside the teacher of its recipe, if it has one, whose weights are given by name.

    They spare a download, and fresh ones would not do: their answer is the same everywhere, as the network's is.
    """
    settings = recipe.train.distill
    if settings is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "teacher.safetensors"
        teacher = create_model(settings.teacher)
        load_official(teacher)
        save_model(teacher, file)
        del teacher
        own = settings.model_copy(update={"teacher": str(file), "weights": None})
        train = recipe.train.model_copy(update={"distill": own})
        return build_distillation(recipe.model_copy(update={"train": train}), model)


def is_right(result: Json, trained: bool) -> bool:
    """Whether nothing is wrong, and nothing is missing."""
    right = "failure" not in result and result.get("parameters", False)
    if result.get("figures"):
        right = right and result["keys"] and result["loads"] and result["error"] <= figures.tolerance(result["figures"])
    return bool(right and (result.get("learns", False) if trained else True))


def line(result: Json, trained: bool) -> str:
    """One row of the table."""
    flags = "".join(
        letter if result.get(key) else "-" for letter, key in (("k", "keys"), ("p", "parameters"), ("l", "loads"))
    )
    error = f"{result['error']:.1e}" if result.get("error") is not None else "-"
    losses = result.get("losses")
    course = f"{losses[0]:.5g} → {losses[-1]:.5g} ({len(losses)})" if losses else "-"
    verdict = "ok" if is_right(result, trained) else f"WRONG {result.get('failure', '')}"
    return f"{result['name']:<48} {flags:<4} {error:>8}  {course:<28} {result['seconds']:6.1f} s  {verdict}"


def check(entry: ZooEntry, data: Path | None, known: list[Json]) -> Json:
    """All checks of an entry; what fails is a result too."""
    began = time.perf_counter()
    result: Json = {"name": entry.name}
    try:
        result.update(check_network(entry, known))
        gc.collect()
        # Weights, gradients, two moments and what the optimizer and the activations need beside them.
        needed = 20 * entry.parameters
        if data is not None and needed > 1e9 and needed > (free := free_memory()):
            result["failure"] = f"not trained: needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} are free"
        elif data is not None:
            result.update(check_training(entry, data))
    except Exception as error:
        result["failure"] = f"{type(error).__name__}: {error}".splitlines()[0]
    gc.collect()
    return {**result, "seconds": round(time.perf_counter() - began, 1)}


def free_memory() -> int:
    """Bytes that can be had, files that are kept in memory meanwhile included where the system tells them."""
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Check what fits the pattern and is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--pattern", default="*", help="of names, shell-style")
    parser.add_argument("--results", type=Path, default=Path("check_zoo.json"))
    parser.add_argument("--again", action="store_true", help="forget the results so far")
    arguments = parser.parse_args()
    results: dict[str, Json] = {}
    if not arguments.again:
        with contextlib.suppress(FileNotFoundError):
            results = json.loads(arguments.results.read_text(encoding="utf-8"))
    trained = arguments.data is not None
    print(f"{'entry':<48} {'':<4} {'parity':>8}  {'loss (steps)':<28}  k keys, p parameters, l loads")
    entries = list_entries(arguments.pattern)
    # Small ones first: what is wrong with a family shows early.
    for entry in sorted(entries, key=lambda entry: entry.gflops):
        if not is_right(results.get(entry.name, {}), trained):
            results[entry.name] = check(entry, arguments.data, list(results.values()))
            arguments.results.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(line(results[entry.name], trained), flush=True)
    wrong = [entry.name for entry in entries if not is_right(results[entry.name], trained)]
    print(f"{len(entries)} entries, {len(wrong)} not right{': ' if wrong else ''}{', '.join(wrong)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
