"""Readers of annotation files, one data set a file; each returns :class:`fastpose.data.records.PoseRecords`."""

from fastpose.data.readers.coco import read_coco

__all__ = ["read_coco"]
