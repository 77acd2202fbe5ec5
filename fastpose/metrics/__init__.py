"""Published metrics: COCO's AP of poses and of boxes, and its relatives, PCK and its relatives, MOTA and IDF1."""

from fastpose.metrics.box_pck import BOX_PCK, BOX_PCK_5, BOX_PCK_10, box_pck
from fastpose.metrics.boxes import box_ap, score_boxes
from fastpose.metrics.coco import COCO_AP, coco_ap
from fastpose.metrics.coco_files import read_box_results, read_box_truth, read_results, read_truth, result_entries
from fastpose.metrics.crowdpose import CROWDPOSE_AP, crowdpose_ap
from fastpose.metrics.faces import FACE_NME, face_nme, face_sizes
from fastpose.metrics.jhmdb import JHMDB_PCK, jhmdb_pck
from fastpose.metrics.metric import Metric, Scores
from fastpose.metrics.mpii import MPII_PCKH, mpii_pckh
from fastpose.metrics.pck import LIMB_PCK, PCKResult, auc, epe, lsp_pck, nme, pck, torso_size
from fastpose.metrics.posetrack import POSETRACK_AP, posetrack_ap
from fastpose.metrics.posetrack_tracking import PoseTrackScores, posetrack_tracking
from fastpose.metrics.results import BoxResults, PoseResults
from fastpose.metrics.scoring import coco_results, rank_poses, score_poses
from fastpose.metrics.tracking import Tracks, TrackScores, score_tracks
from fastpose.metrics.trb import TRB_ACCURACY, trb_accuracy
from fastpose.metrics.truth import BoxTruth, Truth
from fastpose.metrics.wholebody import WHOLEBODY_AP, wholebody_ap

__all__ = [
    "COCO_AP",
    "METRICS",
    "BoxResults",
    "BoxTruth",
    "Metric",
    "PCKResult",
    "PoseResults",
    "PoseTrackScores",
    "Scores",
    "TrackScores",
    "Tracks",
    "Truth",
    "auc",
    "box_ap",
    "box_pck",
    "coco_ap",
    "coco_results",
    "crowdpose_ap",
    "epe",
    "face_nme",
    "face_sizes",
    "jhmdb_pck",
    "lsp_pck",
    "mpii_pckh",
    "nme",
    "pck",
    "posetrack_ap",
    "posetrack_tracking",
    "rank_poses",
    "read_box_results",
    "read_box_truth",
    "read_results",
    "read_truth",
    "result_entries",
    "score_boxes",
    "score_poses",
    "score_tracks",
    "torso_size",
    "trb_accuracy",
    "wholebody_ap",
]

METRICS = {
    metric.name: metric
    for metric in (
        *(COCO_AP, CROWDPOSE_AP, POSETRACK_AP, MPII_PCKH, TRB_ACCURACY, JHMDB_PCK, LIMB_PCK),
        *(WHOLEBODY_AP, FACE_NME, BOX_PCK, BOX_PCK_10, BOX_PCK_5),
    )
}
"""The metrics by what a user types."""
