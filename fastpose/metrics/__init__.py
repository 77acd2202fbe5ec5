"""Published metrics: PCK and its relatives, COCO AP and AR."""

from fastpose.metrics.coco import coco_ap, coco_results, score_poses
from fastpose.metrics.pck import PCKResult, auc, epe, lsp_pck, pck, torso_size

__all__ = ["PCKResult", "auc", "coco_ap", "coco_results", "epe", "lsp_pck", "pck", "score_poses", "torso_size"]
