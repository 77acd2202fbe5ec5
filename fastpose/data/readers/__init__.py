"""Readers of annotation files, one data set a file; each returns :class:`fastpose.data.records.PoseRecords`."""

from fastpose.data.readers.aic import read_aic
from fastpose.data.readers.coco import read_coco, read_photos
from fastpose.data.readers.crowdpose import read_crowdpose
from fastpose.data.readers.detections import DetectionFile, FoundBoxes
from fastpose.data.readers.exlpose import read_exlpose
from fastpose.data.readers.formats import list_formats, read_annotations
from fastpose.data.readers.humanart import read_humanart
from fastpose.data.readers.jhmdb import read_jhmdb
from fastpose.data.readers.lsp import read_lsp
from fastpose.data.readers.mpii import read_mpii
from fastpose.data.readers.mpii_trb import read_mpii_trb
from fastpose.data.readers.posetrack18 import read_posetrack18
from fastpose.data.readers.ultralytics import read_ultralytics

__all__ = [
    "DetectionFile",
    "FoundBoxes",
    "list_formats",
    "read_aic",
    "read_annotations",
    "read_coco",
    "read_crowdpose",
    "read_exlpose",
    "read_humanart",
    "read_jhmdb",
    "read_lsp",
    "read_mpii",
    "read_mpii_trb",
    "read_photos",
    "read_posetrack18",
    "read_ultralytics",
]
