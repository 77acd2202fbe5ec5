"""Rendered scenes of people whose joints are known: scenes of figures, made of shapes, before backdrops."""

from .scenes import is_scene, paint_scene, render_scene, synthetic_records

__all__ = ["is_scene", "paint_scene", "render_scene", "synthetic_records"]
