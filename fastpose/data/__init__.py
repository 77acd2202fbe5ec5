"""People and photos: annotation readers, photos, augmentation, batches, rendered scenes."""

from .photo_files import find_images
from .readers import list_formats, read_annotations
from .records import DataError, PoseRecords, concatenate
from .writer import write_coco

__all__ = ["DataError", "PoseRecords", "concatenate", "find_images", "list_formats", "read_annotations", "write_coco"]
