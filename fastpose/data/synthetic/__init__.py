"""Rendered scenes and sequences of people whose joints are known: figures, made of shapes, before backdrops."""

from .pictures import is_scene, paint_scene
from .scenes import render_scene, synthetic_records
from .sequences import synthetic_sequence

__all__ = ["is_scene", "paint_scene", "render_scene", "synthetic_records", "synthetic_sequence"]
