"""People and photos: annotation readers, photos, augmentation, batches, rendered scenes."""
