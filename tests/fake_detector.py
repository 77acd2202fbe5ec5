"""A detector whose answers are known, and which keeps a diary."""

from __future__ import annotations

import torch

from fastpose.detection import BatchDetector


class FakeDetector(BatchDetector):
    """Finds what a function finds in each photo.

    Attributes:
        asked: photos of each call.
        thresholds: what each call said.
        log: "submit 0", "read 0", … in the order in which batches were submitted and read.
        pixels: the photos of the last call, as they came.
    """

    threshold = 0.5

    def __init__(self, find, device="cpu"):
        self.find, self.device = find, torch.device(device)
        self.asked, self.thresholds, self.log, self.pixels = [], [], [], []

    def submit(self, images, threshold=None):
        number = len(self.asked)
        self.log.append(f"submit {number}")
        self.asked.append(len(images))
        self.thresholds.append(threshold)
        self.pixels = list(images)
        return _Pending(self, number, list(images))


class _Pending:
    def __init__(self, detector, number, images):
        self.detector, self.number, self.images = detector, number, images

    def read(self):
        self.detector.log.append(f"read {self.number}")
        return [self.detector.find(image) for image in self.images]
