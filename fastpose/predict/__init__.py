"""From photos and boxes to keypoints: `load`, `Predictor`, `Poses`."""

from ..models import CARRIED_MODEL
from .draw import draw_boxes, draw_poses
from .finder import find_people
from .people import People
from .predictor import Predictor, load
from .results import Poses

__all__ = ["CARRIED_MODEL", "People", "Poses", "Predictor", "draw_boxes", "draw_poses", "find_people", "load"]
