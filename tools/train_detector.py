"""Train the detector that the package carries: fastpose/detection/network.py.

    python tools/train_detector.py detector.yaml runs/detector

Goes on where it was, if it was interrupted. The recipe names photos with their labels, how often each set is shown, and
the run's length; ``--steps`` and ``--size`` change what it says, also of a run that goes on. A set's boxes are COCO
annotations, or lines of ``tools/label_people.py boxes``: what several detectors saw, brought together; the fused score
is then what the network learns to say. With a ``teacher`` in the recipe the network learns what that says at every
place of a picture (tools/dense_teacher.py), and the boxes say where it is believed. ``labels``: the share
of batches that learn from the boxes all the same. ``echoes``: how often a picture is shown.

Every ``eval.every`` steps the averaged weights are measured on ``eval.annotations`` and written to
``last.safetensors``, the best ones to ``best.safetensors``; a line of ``log.csv`` says how good they were.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from dense_teacher import DenseTeacher, FeatureLoss, believed, distillation_loss
from detector_loss import detection_loss
from detector_pictures import Photos, PictureMaker, batches_ahead
from numpy.typing import NDArray
from torch import Tensor

from fastpose.data.readers import read_photos
from fastpose.detection.network import PersonNet, decode_boxes, place_centers
from fastpose.detection.person_detector import DetectorSpec, PersonDetector, save_detector
from fastpose.evaluate import box_results, detect_people, read_annotated_boxes
from fastpose.metrics import score_boxes
from fastpose.train.checkpoint import load_state, save_state

Array = NDArray[Any]


# Measuring


def measure(net: PersonNet, spec: DetectorSpec, annotations: Path, folder: Path) -> dict[str, float]:
    """The figures of the boxes that the network finds (see `fastpose.metrics.score_boxes`)."""
    photos = read_photos(annotations, folder)
    found = detect_people(PersonDetector(net, spec, device="cpu", threshold=0.01, most=100), photos)
    if found.failed:
        raise SystemExit(found.failed[0])
    truth = read_annotated_boxes(annotations, photos)
    return score_boxes(truth, box_results(found.records), spec.threshold).figures(None)


# The run


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="YAML")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, help="length of the run")
    parser.add_argument("--size", type=int, help="side of the pictures")
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text(encoding="utf-8"))
    steps, size = arguments.steps or recipe["steps"], arguments.size or recipe["size"]
    count, judged = recipe["batch_size"], recipe["eval"]
    root = Path(recipe["root"])
    torch.manual_seed(recipe["seed"])

    photos = Photos()
    for settings in recipe["sets"]:
        photos.add_set(root, settings)
    spec = DetectorSpec(**recipe["model"])
    maker = PictureMaker(photos, spec, recipe["seed"], int(recipe["cache_gb"] * 1e9))
    dense = recipe.get("teacher")
    features = dense.get("features", []) if dense else []
    teacher = DenseTeacher(root / dense["file"], dense["scores"], dense["boxes"], features) if dense else None

    net = spec.build().to(memory_format=torch.channels_last)
    maps: list[Tensor] = []  # that the head has seen last
    net.head.register_forward_pre_hook(lambda _, inputs: maps.__setitem__(slice(None), inputs[0]))
    alike = FeatureLoss(spec.neck, 64, len(features))
    average = spec.build().eval().requires_grad_(False)
    average.load_state_dict(net.state_dict())
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe["weight_decay"]}, {"params": rest, "weight_decay": 0.0}]
    if features:
        groups.append({"params": list(alike.parameters()), "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=recipe["lr"])

    arguments.out.mkdir(parents=True, exist_ok=True)
    state_file = arguments.out / "state.pt"
    first, best = 0, 0.0
    if state_file.exists():
        state = load_state(state_file)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        alike.load_state_dict(state["alike"])
        optimizer.load_state_dict(state["optimizer"])
        first, best = state["step"], state["best"]
        print(f"goes on at step {first}")

    def save(step: int) -> None:
        content = {"net": net, "average": average, "alike": alike, "optimizer": optimizer}
        states = {name: part.state_dict() for name, part in content.items()}
        save_state(state_file, {**states, "step": step, "best": best})

    centers, strides = place_centers((size, size))
    began = saved = time.time()
    sums = np.zeros(4)
    learning = {name: recipe[name] for name in ("labels", "echoes") if name in recipe}
    batches = batches_ahead(maker, teacher, first, steps, count, size, **learning)
    for step, batch in enumerate(batches, first):
        # Flat, then straight down over the last part: a run can be made longer at any time before that.
        left = (steps - step) / (steps * recipe["cooldown"])
        rate = recipe["lr"] * min(1.0, (step + 1) / recipe["warmup"], left)
        for group in optimizer.param_groups:
            group["lr"] = rate
        net.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe["bfloat16"]):
            output = net(batch.images.contiguous(memory_format=torch.channels_last))
        if batch.taught is None:
            score_loss, box_loss = detection_loss(output, batch.boxes, batch.ignored, centers, strides)
            unlike = torch.zeros(())
        else:
            known = [np.concatenate([a[:, :4], b[:, :4]]) for a, b in zip(batch.boxes, batch.ignored, strict=True)]
            scores = believed(batch.taught.scores, batch.taught.boxes, known)
            predicted = decode_boxes(output[1], centers)
            score_loss, box_loss = distillation_loss(output[0], predicted, scores, batch.taught.boxes)
            unlike = alike(maps, batch.taught.features) if features else torch.zeros(())
        loss = score_loss + 2.0 * box_loss + unlike
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([*net.parameters(), *alike.parameters()], recipe["clip_grad"])
        if torch.isfinite(norm):
            optimizer.step()
        decay = min(recipe["ema"], (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)
        sums += (score_loss.item(), box_loss.item(), unlike.item(), 1)
        if (step + 1) % 50 == 0:
            speed = (step + 1 - first) * count / (time.time() - began)
            means = " ".join(
                f"{name} {x:.4f}" for name, x in zip(("scores", "boxes", "maps"), sums / sums[3], strict=False)
            )
            print(f"step {step + 1}/{steps} {means} lr {rate:.2e} {speed:.0f} images/s", flush=True)
            sums[:] = 0
        if time.time() - saved > 240:
            save(step + 1)
            saved = time.time()
        if (step + 1) % judged["every"] == 0 or step + 1 == steps:
            figures = measure(average, spec, root / judged["annotations"], root / judged["photos"])
            save_detector(average, spec, arguments.out / "last.safetensors")
            if figures["AP"] >= best:
                best = figures["AP"]
                save_detector(average, spec, arguments.out / "best.safetensors")
            save(step + 1)
            saved = time.time()
            with (arguments.out / "log.csv").open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([step + 1, size, *(f"{k}={v:.4f}" for k, v in figures.items())])
            print(f"step {step + 1} {figures}", flush=True)


if __name__ == "__main__":
    main()
