"""Visibility of the mirrored crop: left and right change places before it is averaged."""

from __future__ import annotations

import numpy as np
from sided_model import photo_of, sided_model

from fastpose.predict import Predictor


def test_left_and_right_change_places_in_the_mirror() -> None:
    # The left eye alone is to be seen: it stands in the right half, and in the left half of the mirrored crop, where
    # the network calls it the right one.
    photo = photo_of((128, 96), [("left_eye", 72.0, 40.0, 7.0, 1.0)])
    predictor = Predictor(sided_model(visibility=True), device="cpu")
    box = np.array([[9.6, 12.8, 86.4, 115.2]], np.float32)  # enlarged by 1.25 it is the photo
    straight, averaged = (predictor(photo, box, flip_test=flip).visibility for flip in (False, True))
    assert straight is not None
    assert averaged is not None
    nose, left, right = averaged[0]
    assert left > 0.95
    assert max(nose, right) < 0.05
    np.testing.assert_allclose(averaged, straight, atol=0.02)
