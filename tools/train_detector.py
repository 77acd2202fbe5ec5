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
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from dense_teacher import DenseTeacher, FeatureLoss, Taught, believed, distillation_loss
from label_people import fused, read_lines
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastpose.data.dataset import PhotoStore
from fastpose.data.readers import read_photos
from fastpose.detection.network import STRIDES, PersonNet, decode_boxes, place_centers
from fastpose.detection.person_detector import DetectorSpec, PersonDetector, save_detector
from fastpose.evaluate import box_results, detect_people, read_annotated_boxes
from fastpose.metrics import score_boxes
from fastpose.ops import affine_crop
from fastpose.train.checkpoint import load_state, save_state

Array = NDArray[Any]


# Photos and boxes


@dataclass
class Photos:
    """Photos with their boxes.

    Attributes:
        files: The photos.
        boxes: Of each photo [N, 5], xyxy in pixels and how sure it is that this is a person; 0 < score.
        ignored: Of each photo [M, 4], where nothing is known.
        weights: How often each is shown, relative to the others.
    """

    files: list[Path] = field(default_factory=list)
    boxes: list[Array] = field(default_factory=list)
    ignored: list[Array] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add_set(self, root: Path, settings: dict[str, Any]) -> None:
        """Add one set of the recipe; its ``share`` of what is shown is spread evenly over its photos."""
        folder = root / settings["photos"]
        if "annotations" in settings:
            rows = list(_annotated(root / settings["annotations"]))
        else:
            rows = list(_taught(root / settings["labels"], settings.get("least", 0.15)))
        for name, boxes, ignored in rows:
            if settings.get("nobody"):  # a set that is known to show no people, whatever a detector thinks
                boxes, ignored = np.empty((0, 5)), np.empty((0, 4))
            self.files.append(folder / name)
            self.boxes.append(boxes.reshape(-1, 5).astype(np.float32))
            self.ignored.append(ignored.reshape(-1, 4).astype(np.float32))
            self.weights.append(settings["share"] / len(rows))
        print(f"{settings['photos']}: {len(rows)} photos, {sum(len(row[1]) for row in rows)} boxes")


def _annotated(file: Path) -> Iterator[tuple[str, Array, Array]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    people: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        people[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        rows = np.array([[*a["bbox"], 1.0] for a in people[image["id"]]], float).reshape(-1, 5)
        rows[:, 2:4] += rows[:, :2]
        crowd = np.array([a.get("iscrowd", 0) for a in people[image["id"]]], bool)
        yield image["file_name"], rows[~crowd], rows[crowd, :4]


def _taught(file: Path, least: float) -> Iterator[tuple[str, Array, Array]]:
    for line in read_lines(file):
        rows = fused(line)
        height, width = line["size"]
        rows[:, :4] = np.clip(rows[:, :4], 0, [width, height, width, height])
        # Two thirds of the detectors' scores are as sure as they get.
        rows[:, 4] = np.minimum(rows[:, 4] / 0.7, 1.0)
        yield line["photo"], rows[rows[:, 4] >= least / 0.7], np.empty((0, 4))


# Pictures


@dataclass
class Sample:
    """A picture to train on: what is shown where, and the boxes in its pixels."""

    image: Array
    boxes: list[Array]
    ignored: list[Array]


class PictureMaker:
    """Pictures of one photo or of four, at random places, sizes and colours; those of a step depend on its number."""

    def __init__(self, photos: Photos, spec: DetectorSpec, seed: int, cache: int) -> None:
        self.photos, self.spec, self.seed = photos, spec, seed
        weights = np.array(photos.weights)
        self._bounds = np.cumsum(weights / weights.sum())
        self.store = PhotoStore(photos.files, cache)

    def batch(self, step: int, count: int, size: int) -> tuple[Tensor, list[Array], list[Array]]:
        """Pictures [B, 3, size, size], normalised, boxes [N, 5] of each, and what is ignored [M, 4]."""
        random = np.random.default_rng((self.seed, step))
        samples = [self._picture(random, size) for _ in range(count)]
        pixels = torch.from_numpy(np.stack([sample.image for sample in samples]))
        normal = (pixels.float() - torch.tensor(self.spec.mean)) / torch.tensor(self.spec.std)
        boxes = [np.concatenate(sample.boxes) for sample in samples]
        ignored = [np.concatenate(sample.ignored) for sample in samples]
        return normal.permute(0, 3, 1, 2), boxes, ignored

    def _picture(self, random: np.random.Generator, size: int) -> Sample:
        sample = Sample(np.full((size, size, 3), round(self.spec.border), np.uint8), [], [])
        if random.random() < 0.5:
            # From a person that fills twice the picture to a photo that fills a third of it.
            scale = float(np.exp(random.uniform(np.log(0.4), np.log(1.8))))
            self._place(sample, random, (0, 0, size, size), scale)
            return sample
        x, y = (random.uniform(0.3, 0.7, 2) * size).astype(int).tolist()
        for region in ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)):
            self._place(sample, random, region, float(np.exp(random.uniform(np.log(0.3), np.log(1.1)))))
        return sample

    def _place(
        self, sample: Sample, random: np.random.Generator, region: tuple[int, int, int, int], scale: float
    ) -> None:
        """Show a photo in a region of the picture (xyxy); scale 1: its longer side is as long as the picture."""
        number = int(np.searchsorted(self._bounds, random.random()))
        number = min(number, len(self._bounds) - 1)
        photo = self.store.read(number)
        if photo is None:
            return
        size = sample.image.shape[0]
        x0, y0, x1, y1 = region
        width, height = x1 - x0, y1 - y0
        factor = scale * size / max(photo.shape[:2])
        stretch = float(np.exp(random.uniform(-0.1, 0.1)))
        factors = np.array([factor * stretch, factor / stretch])
        shown = factors * (photo.shape[1], photo.shape[0])
        # Anywhere inside if the photo is smaller than the region, else any part of it that fills the region.
        offset = random.random(2) * ((width, height) - shown)
        flip = random.random() < 0.5
        matrix = np.array([[factors[0], 0, offset[0] + (factors[0] - 1) / 2],
                           [0, factors[1], offset[1] + (factors[1] - 1) / 2]])  # fmt: skip
        gain, offsets = _colour(random)
        crop = affine_crop(
            photo, matrix[None], size=(height, width), border_value=self.spec.border, antialias=True, flip=[flip],
            gain=gain, offset=offsets, dtype=np.uint8, layout="nhwc",
        )  # fmt: skip
        sample.image[y0:y1, x0:x1] = crop[0]
        for rows, kept, least in (
            (self.photos.boxes[number], sample.boxes, 0.3), (self.photos.ignored[number], sample.ignored, 0.0)
        ):  # fmt: skip
            moved = rows.copy()
            moved[:, :4] = rows[:, :4] * np.tile(factors, 2) + np.tile(offset, 2)
            if flip:
                moved[:, [0, 2]] = width - moved[:, [2, 0]]
            whole = _areas(moved)
            moved[:, :4] = np.clip(moved[:, :4], 0, [width, height, width, height])
            visible = _areas(moved) / np.maximum(whole, 1e-6)
            moved[:, :4] += (x0, y0, x0, y0)
            fits = (moved[:, 2:4] - moved[:, :2]).min(1) >= 3
            kept.append(moved[fits & (visible >= least)])
            if least:  # what is left of others is no background
                sample.ignored.append(moved[~(fits & (visible >= least)) & (visible > 0), :4])


def _areas(rows: Array) -> Array:
    return np.asarray(np.clip(rows[:, 2:4] - rows[:, :2], 0, None).prod(1))


def _colour(random: np.random.Generator) -> tuple[Array, Array]:
    """Gain and offset [1, 3] of a change of contrast, brightness and the channels' gains."""
    contrast = 1 + random.uniform(-0.3, 0.3)
    gain = contrast * (1 + random.uniform(-0.15, 0.15, 3))
    offset = (1 - contrast) * 127.5 + random.uniform(-30, 30)
    if random.random() < 0.3:
        gain, offset = np.ones(3), 0.0
    return gain[None].astype(np.float32), np.full((1, 3), offset, np.float32)


@dataclass
class Batch:
    """Pictures [B, 3, size, size], normalised; boxes [N, 5] of each; what is ignored [M, 4]; what the teacher says."""

    images: Tensor
    boxes: list[Array]
    ignored: list[Array]
    taught: Taught | None

    def mirrored(self) -> Batch:
        """The same seen in a mirror."""
        size = self.images.shape[-1]
        boxes, ignored = ([_mirrored(rows, size) for rows in part] for part in (self.boxes, self.ignored))
        taught = None
        if self.taught is not None:
            order = _mirrored_places(size)
            left, upper, right, lower = self.taught.boxes[:, order].unbind(-1)
            corners = torch.stack([size - right, upper, size - left, lower], -1)
            taught = Taught(self.taught.scores[:, order], corners, [x.flip(3) for x in self.taught.features])
        return Batch(self.images.flip(3), boxes, ignored, taught)


def _mirrored(rows: Array, size: int) -> Array:
    moved = rows.copy()
    moved[:, [0, 2]] = size - rows[:, [2, 0]]
    return moved


def _mirrored_places(size: int) -> Tensor:
    """Number of the place that each place is in a mirror [A]."""
    parts, before = [], 0
    for stride in STRIDES:
        side = size // stride
        parts.append((torch.arange(side * side).reshape(side, side) + before).flip(1).flatten())
        before += side * side
    return torch.cat(parts)


def batches_ahead(
    maker: PictureMaker,
    teacher: DenseTeacher | None,
    first: int,
    last: int,
    count: int,
    size: int,
    *,
    labels: float = 0.0,
    echoes: int = 1,
) -> Iterator[Batch]:
    """The batches of the steps, made by a thread.

    Pictures and what the teacher says of them take as long as learning from them, so each is shown ``echoes`` times,
    in a mirror from the second time on (Choi et al., "Faster Neural Network Training with Data Echoing", 2019).
    """
    ready: queue.Queue[Any] = queue.Queue(4)

    def produce() -> None:
        try:
            random = np.random.default_rng(first)
            kept: deque[Batch] = deque(maxlen=64)
            for step in range(first, last):
                if step % echoes and kept:
                    ready.put(kept[random.integers(len(kept))])
                    continue
                images, boxes, ignored = maker.batch(step, count, size)
                taught = teacher(images) if teacher is not None and random.random() >= labels else None
                new = Batch(images, boxes, ignored, taught)
                if echoes > 1:
                    kept.append(new.mirrored())
                ready.put(new)
        except BaseException as error:  # handed to the consumer
            ready.put(error)

    threading.Thread(target=produce, daemon=True).start()
    for _ in range(first, last):
        item = ready.get()
        if isinstance(item, BaseException):
            raise item
        yield item


# Loss


def pad_rows(rows: list[Array], width: int) -> tuple[Tensor, Tensor]:
    """Rows of each picture as one tensor [B, N, width], and which of them are there [B, N]."""
    most = max(1, *(len(r) for r in rows))
    padded = torch.zeros(len(rows), most, width)
    there = torch.zeros(len(rows), most, dtype=torch.bool)
    for i, r in enumerate(rows):
        padded[i, : len(r)] = torch.from_numpy(np.asarray(r[:, :width], np.float32))
        there[i, : len(r)] = True
    return padded, there


def pair_ious(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one, of boxes [..., 4] pair by pair."""
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b))
    union = area_a + area_b - inter
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    iou = inter / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def assign(
    scores: Tensor, predicted: Tensor, boxes: Tensor, there: Tensor, centers: Tensor, strides: Tensor, topk: int = 10
) -> tuple[Tensor, Tensor, Tensor]:
    """Which places answer for which box (task alignment, Feng et al., "TOOD", ICCV 2021).

    Args:
        scores: [B, A], 0 to 1.
        predicted: [B, A, 4].
        boxes: [B, N, 5], xyxy and how sure each is.
        there: [B, N].
        centers: [A, 2].
        strides: [A].
        topk: Places of a box.

    Returns:
        Number of the box of each place [B, A]; whether it has one [B, A]; and the score that it should say [B, A].
    """
    # One tensor [B, N, A] a coordinate: tensors with the four side by side take several times as long.
    left, upper, right, lower = boxes[..., :4, None].unbind(2)
    from_left, from_upper, to_right, to_lower = predicted[:, None].unbind(3)
    x, y = centers.unbind(1)
    across, down = (left + right) / 2 - x, (upper + lower) / 2 - y
    inside = (x > left) & (x < right) & (y > upper) & (y < lower)
    # Near the box's middle too: a small box may hold no centre at all.
    near = torch.maximum(across.abs(), down.abs()) < strides * 1.5
    allowed = (inside | near) & there[..., None]
    width = (torch.minimum(right, to_right) - torch.maximum(left, from_left)).clamp_(min=0)
    common = (torch.minimum(lower, to_lower) - torch.maximum(upper, from_upper)).clamp_(min=0).mul_(width)
    both = (right - left) * (lower - upper) + (to_right - from_left) * (to_lower - from_upper)
    ious = common / (both - common).clamp_(min=1e-6) * allowed
    alignment = scores[:, None].clamp(min=1e-4).sqrt() * ious.square().square_()
    # A box that nothing fits yet takes the places nearest to its middle.
    distance = (across.square_() + down.square_()) / strides.square()
    alignment = (alignment + 1e-9 + 1e-6 / (1 + distance)) * allowed
    chosen = torch.zeros_like(allowed)
    top = alignment.topk(min(topk, alignment.shape[-1]), dim=-1).indices
    # As many as the best fits add up to, at least one (Ge et al., "YOLOX", 2021).
    count = ious.topk(min(topk, ious.shape[-1]), dim=-1).values.sum(-1).round().clamp(min=1)
    chosen.scatter_(-1, top, torch.arange(top.shape[-1]) < count[..., None])
    chosen &= allowed
    # A place that several boxes want answers for the one that it fits best.
    best = torch.where(chosen, alignment, -1.0).argmax(1)
    chosen &= torch.zeros_like(chosen).scatter_(1, best[:, None], True)
    positive = chosen.any(1)
    # The best place of every box should say how sure the box is, times how well it fits.
    aligned = torch.where(chosen, alignment, 0.0)
    peak = aligned.amax(-1, keepdim=True).clamp(min=1e-12)
    fit = torch.where(chosen, ious, 0.0).amax(-1, keepdim=True)
    quality = (aligned / peak * fit * boxes[..., 4:]).gather(1, best[:, None])[:, 0]
    return best, positive, torch.where(positive, quality, 0.0)


def detection_loss(
    output: tuple[Tensor, Tensor], boxes: list[Array], ignored: list[Array], centers: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """Quality focal loss of the scores (Li et al., 2020) and generalised IoU loss of the boxes: two scalars."""
    logits, distances = output
    predicted = decode_boxes(distances, centers)
    targets, there = pad_rows(boxes, 5)
    scores = logits.sigmoid()
    best, positive, quality = assign(scores.detach(), predicted.detach(), targets, there, centers, strides)
    areas, known = pad_rows(ignored, 4)
    (x, y), (left, upper, right, lower) = centers.unbind(1), areas[:, :, None].unbind(3)
    hidden = (x > left) & (x < right) & (y > upper) & (y < lower) & known[..., None]
    counts = positive | ~hidden.any(1)
    focus = (scores.detach() - quality).abs().pow(2)
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    total = quality.sum().clamp(min=1.0)
    score_loss = (focus * entropy * counts).sum() / total
    wanted = targets[..., :4].gather(1, best[..., None].expand(-1, -1, 4))
    _, giou = pair_ious(predicted[positive], wanted[positive])
    box_loss = ((1 - giou) * quality[positive]).sum() / total
    return score_loss, box_loss


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
