"""Pose networks: backbones, heads, names, weights, and the zoo."""

from . import backbones  # noqa: F401  (registers the architectures)
from .factory import create_model, list_models, load_body
from .features import FeatureExtractor
from .fuse import fuse_batchnorm
from .heads import HeatmapHead, RegressionHead, VisibilityHead
from .identify import Match, find_matches
from .losses import RLELoss, heatmap_mse, smooth_l1, visibility_loss
from .objective import Loss, LossSettings, StageLoss, build_loss
from .pose_model import PoseModel
from .registry import build_model, list_architectures, register_model
from .weights import WeightsError, load_backbone, load_checkpoint, load_model, read_checkpoint, save_model
from .zoo import ZooEntry, find_entry, list_entries

__all__ = [
    "FeatureExtractor",
    "HeatmapHead",
    "Loss",
    "LossSettings",
    "Match",
    "PoseModel",
    "RLELoss",
    "RegressionHead",
    "StageLoss",
    "VisibilityHead",
    "WeightsError",
    "ZooEntry",
    "build_loss",
    "build_model",
    "create_model",
    "find_entry",
    "find_matches",
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
    "smooth_l1",
    "visibility_loss",
]
