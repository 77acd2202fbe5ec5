"""From photos and boxes to keypoints: `load`, `Predictor`, `Poses`."""

from ..models import CARRIED_MODEL
from .draw import draw_poses
from .predictor import Predictor, load
from .results import Poses

__all__ = ["CARRIED_MODEL", "Poses", "Predictor", "draw_poses", "load"]
