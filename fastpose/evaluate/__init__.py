"""A model's published metric on a data set: people from a loader, keypoints from a network, figures from a metric."""

from .evaluator import Evaluator, Predictions
from .files import read_predictions, write_predictions
from .truth import default_metric, has_annotations, read_annotated, truth_of_records

__all__ = [
    "Evaluator",
    "Predictions",
    "default_metric",
    "has_annotations",
    "read_annotated",
    "read_predictions",
    "truth_of_records",
    "write_predictions",
]
