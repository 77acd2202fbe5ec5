"""Small ONNX files that see: they find the blue rectangle of a photo, in the words of any family of detectors."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def photo(height, width, box=None):
    """A black photo with a blue rectangle."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if box is not None:
        x1, y1, x2, y2 = box
        pixels[y1:y2, x1:x2] = (255, 0, 0)
    return pixels


class Sees(nn.Module):
    """The rectangle, scored .9 if the picture is normalised as promised; the same a pixel beside it, scored .72; and
    the rectangle as something else, that is no person.

    Args:
        write: Puts boxes [B, 3, 4] xyxy, scores [B, 3], and classes [3] into a family's words; gets the picture's size.
        rgb: The order of channels that is promised.
        mean: One or three.
        std: The same.
        person: The class of people.
    """

    def __init__(self, write, *, rgb=True, mean=0.0, std=255.0, person=0):
        super().__init__()
        self.write, self.blue = write, 2 if rgb else 0
        self.mean, self.std = (v[self.blue] if isinstance(v, tuple) else v for v in (mean, std))
        self.labels = torch.tensor([person, person, 5])

    def forward(self, x, sizes=None):
        values = x[:, self.blue].float() * self.std + self.mean
        bright = (values > 200).float()
        columns, rows = bright.amax(1), bright.amax(2)
        ends = x.shape[3] - columns.flip(1).argmax(1), x.shape[2] - rows.flip(1).argmax(1)
        box = torch.stack([columns.argmax(1), rows.argmax(1), *ends], 1).float()
        score = values.amax((1, 2)) / 255 * 0.9
        boxes = torch.stack([box, box + torch.tensor([1.0, 0, 1, 0]), box], 1)
        scores = torch.stack([score, score * 0.8, score], 1)
        extent = torch.tensor([x.shape[3], x.shape[2]] * 2, dtype=torch.float32)
        return self.write(boxes, scores, self.labels, extent, sizes)


def _cxcywh(boxes):
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def _one_hot(scores, labels, count):
    return nn.functional.one_hot(labels, count).float() * scores[..., None]


def _spread(table, fillers):
    """The first row at the front, the others at the back, and what says nothing between them."""
    return torch.cat([table[:, :1], fillers.expand(table.shape[0], -1, -1), table[:, 1:]], 1)


def _grid():
    """Centres and strides of a 64x96 picture's 126 cells."""
    centers, strides = [], []
    for stride in (8, 16, 32):
        for y in range(64 // stride):
            for x in range(96 // stride):
                centers.append([(x + 0.5) * stride, (y + 0.5) * stride])
                strides.append([float(stride)])
    return torch.tensor(centers), torch.tensor(strides)


def yolox(boxes, scores, labels, *_, classes=80):
    table = torch.cat([_cxcywh(boxes), scores[..., None], _one_hot(torch.ones_like(scores), labels, classes)], -1)
    centers, _ = _grid()
    fillers = torch.cat([centers, torch.ones(len(centers), 2), torch.zeros(len(centers), 1 + classes)], 1)
    return _spread(table, fillers[1:-2])


def yolox_grid(*args):
    table = yolox(*args)
    centers, strides = _grid()
    xy = table[..., :2] / strides - (centers / strides - 0.5)
    return torch.cat([xy, (table[..., 2:4] / strides).log(), table[..., 4:]], -1)


def yolov5(*args):
    table = yolox(*args)
    return torch.cat([table, torch.zeros(1, 252, 85).expand(table.shape[0], -1, -1)], 1)


def yolov8(boxes, scores, labels, *_, classes=80):
    table = torch.cat([_cxcywh(boxes), _one_hot(scores, labels, classes)], -1)
    return _spread(table, torch.zeros(123, 4 + classes)).transpose(1, 2)


def yolo_nms(boxes, scores, labels, *_):
    table = torch.cat([boxes, scores[..., None], (labels.float() + 0 * scores)[..., None]], -1)
    return _spread(table, torch.zeros(297, 6))


def mmdeploy(boxes, scores, labels, *_):
    return torch.cat([boxes, scores[..., None]], -1), (labels + 0 * scores).long()


def _logits(scores, labels, count):
    there = nn.functional.one_hot(labels, count).float()
    return there * (scores / (1 - scores)).log()[..., None] - 30 * (1 - there)


def rtdetr(boxes, scores, labels, extent, _, classes=80):
    return _logits(scores, labels, classes), _cxcywh(boxes / extent)


def rfdetr(boxes, scores, labels, extent, _):
    return _cxcywh(boxes / extent), _logits(scores, labels, 91)


def detr(boxes, scores, labels, extent, _):
    logits = _logits(scores, labels, 92)
    return torch.cat([logits[..., :91], 0 * scores[..., None]], -1), _cxcywh(boxes / extent)


def rtdetr_boxes(boxes, scores, labels, extent, sizes):
    return (labels + 0 * scores).long(), boxes / extent * torch.cat([sizes, sizes], 1)[:, None], scores


def rtdetr_ultralytics(boxes, scores, labels, extent, _):
    return _spread(torch.cat([_cxcywh(boxes / extent), _one_hot(scores, labels, 80)], -1), torch.zeros(297, 84))


def torchvision(boxes, scores, labels, *_):
    return boxes[0], (labels + 0 * scores[0]).long(), scores[0]


def export(path, net, *, shape=(1, 3, 64, 96), dtype=torch.float32, dynamic=(), outputs=("output",), metadata=None):
    """Write a network as ONNX.

    Args:
        path: The file.
        net: Takes pictures, and maybe their sizes.
        shape: Of the pictures.
        dtype: Of the pictures.
        dynamic: Dimensions of the pictures that may be any.
        outputs: Names.
        metadata: Of the file.
    """
    import onnx

    given = [torch.zeros(shape, dtype=dtype)]
    names = ["images"]
    if "scores" in outputs and len(shape) == 4 and isinstance(net, Sees) and net.write is rtdetr_boxes:
        given.append(torch.ones(shape[0], 2, dtype=torch.int64))
        names.append("orig_target_sizes")
    axes = {name: {d: f"d{d}" for d in dynamic if d == 0 or name == "images"} for name in names}
    axes |= {name: {0: f"{name}0"} for name in outputs} if 0 in dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            tuple(given),
            str(path),
            input_names=names,
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    if metadata:
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, str(path))
    return path
