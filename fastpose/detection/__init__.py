"""Where people are: `Detections`, and what makes them."""

from .detections import Detections, Detector, as_detections, run_detector

__all__ = ["Detections", "Detector", "as_detections", "run_detector"]
