"""Pose networks: backbones, heads, names, weights, and the zoo."""

from . import backbones  # noqa: F401  (registers the architectures)
from .factory import create_model, list_models, load_body
from .features import FeatureExtractor
from .find import CARRIED_MODEL, carried_file, find_model
from .fuse import fuse_batchnorm
from .heads import HeatmapHead, MapsHead, RegressionHead, VisibilityHead
from .identify import Match, find_matches
from .losses import RLELoss, feature_distillation, heatmap_mse, vector_distillation, visibility_loss
from .objective import Loss, LossSettings, StageLoss, build_loss
from .output import Output
from .pose_model import PoseModel
from .registry import build_model, list_architectures, register_model
from .weights import WeightsError, load_backbone, load_checkpoint, load_model, read_checkpoint, save_model
from .zoo import ZooEntry, find_entry, list_entries

__all__ = [
    "CARRIED_MODEL",
    "FeatureExtractor",
    "HeatmapHead",
    "Loss",
    "LossSettings",
    "MapsHead",
    "Match",
    "Output",
    "PoseModel",
    "RLELoss",
    "RegressionHead",
    "StageLoss",
    "VisibilityHead",
    "WeightsError",
    "ZooEntry",
    "build_loss",
    "build_model",
    "carried_file",
    "create_model",
    "feature_distillation",
    "find_entry",
    "find_matches",
    "find_model",
    "fuse_batchnorm",
    "heatmap_mse",
    "list_architectures",
    "list_entries",
    "list_models",
    "load_backbone",
    "load_body",
    "load_checkpoint",
    "load_model",
    "read_checkpoint",
    "register_model",
    "save_model",
    "vector_distillation",
    "visibility_loss",
]
