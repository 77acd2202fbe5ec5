"""Published metrics: COCO's AP and its relatives, PCK and its relatives."""

from fastpose.metrics.coco import coco_ap, crowdpose_ap
from fastpose.metrics.pck import PCKResult, auc, epe, lsp_pck, pck, torso_size
from fastpose.metrics.pckh import jhmdb_pck, mpii_pckh, trb_accuracy
from fastpose.metrics.posetrack import posetrack_ap
from fastpose.metrics.scoring import coco_results, score_poses

__all__ = [
    "PCKResult",
    "auc",
    "coco_ap",
    "coco_results",
    "crowdpose_ap",
    "epe",
    "jhmdb_pck",
    "lsp_pck",
    "mpii_pckh",
    "pck",
    "posetrack_ap",
    "score_poses",
    "torso_size",
    "trb_accuracy",
]
