"""A model's published metric on a data set: people from a loader, keypoints from a network, figures from a metric."""

from .boxes import FoundPeople, best_of_photos, box_results, detect_people
from .evaluator import Evaluator, Predictions
from .files import read_predictions, write_predictions
from .following import Tracker, follow_people
from .tracks import PredictedTracks, TrueSequence, read_sequences, read_tracks, score_sequences
from .truth import (
    default_metric,
    has_annotations,
    read_annotated,
    read_annotated_boxes,
    truth_of_boxes,
    truth_of_records,
)

__all__ = [
    "Evaluator",
    "FoundPeople",
    "PredictedTracks",
    "Predictions",
    "Tracker",
    "TrueSequence",
    "best_of_photos",
    "box_results",
    "default_metric",
    "detect_people",
    "follow_people",
    "has_annotations",
    "read_annotated",
    "read_annotated_boxes",
    "read_predictions",
    "read_sequences",
    "read_tracks",
    "score_sequences",
    "truth_of_boxes",
    "truth_of_records",
    "write_predictions",
]
