"""From photos and boxes to keypoints: `load`, `Predictor`, `Poses`, and files of them."""

from ..models import CARRIED_MODEL
from .draw import draw_boxes, draw_poses
from .finder import find_people
from .people import People
from .predictor import Predictor, load
from .results import Poses
from .writers import open_writer, read_jsonl

__all__ = [
    "CARRIED_MODEL",
    "People",
    "Poses",
    "Predictor",
    "draw_boxes",
    "draw_poses",
    "find_people",
    "load",
    "open_writer",
    "read_jsonl",
]
