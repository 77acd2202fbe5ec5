"""The one error of files of weights: reading, fetching and loading them."""

from __future__ import annotations

__all__ = ["WeightsError"]


class WeightsError(ValueError):
    """A file of weights that is not there, is damaged, would run code, or belongs to another network."""
