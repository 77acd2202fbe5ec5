"""Where people are: `Detections`, and what makes them."""

from .batch import BatchDetector, PendingDetections
from .detections import Detections, Detector, as_detections, run_detector
from .sources import CARRIED_DETECTOR, find_detector

__all__ = [
    "CARRIED_DETECTOR",
    "BatchDetector",
    "Detections",
    "Detector",
    "PendingDetections",
    "as_detections",
    "find_detector",
    "run_detector",
]
