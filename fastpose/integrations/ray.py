"""Poses of very many photos on a Ray cluster: `PosePredictor` is what Ray Data's ``map_batches`` calls.

Ray reads and shares out the photos, keeps one predictor an actor, writes the results, and restarts what fails.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..models import PoseModel
from ..predict import Poses, Predictor, load
from ..predict.predictor import PredictOptions

if TYPE_CHECKING:
    import pyarrow
    import torch
    from typing_extensions import Unpack

    from ..detection import Detector

__all__ = ["PosePredictor"]

Column = Sequence[Any] | npt.NDArray[Any]

_PHOTOS = ("bytes", "image", "path")  # columns of Ray's readers, in the order in which they are taken
_PIXELS = ("bytes", "image")  # those that are not passed on


class PosePredictor:
    """Finds the people of batches of photos; made once in each actor of Ray Data.

    Args:
        model: As for `fastpose.load`: a zoo name, or a file that every machine has; or a network. By default the
            carried one.
        photo_column: The column with the photos: paths, the bytes of files, or uint8 pixels [H, W, 3]. By default
            ``bytes`` (of ``ray.data.read_binary_files``), else ``image`` (of ``ray.data.read_images``), else ``path``.
        box_column: The column with each photo's boxes, [N, 4] xyxy px or as a `Predictor` takes them; by default the
            detector is asked.
        device: As for `fastpose.load`, as are the next three. Ray shows an actor the GPUs that are its own.
        dtype: What it computes in.
        engine: How the network runs.
        detector: Who finds people.
        options: Of a `Predictor`'s call. Two have other defaults here: bad photos are skipped
            (``on_error="skip"``), and pixels are in the order red, green, blue, as Ray reads them (``rgb=True``).

    Raises:
        WeightsError: As `fastpose.load`.
        ValueError: As `fastpose.load`.
        ImportError: The package ``pyarrow``, which Ray Data needs, is not installed.

    Example:
        >>> import numpy as np
        >>> find = PosePredictor(device="cpu", max_people=2)
        >>> columns = find({"image": np.zeros((3, 60, 80, 3), np.uint8), "number": np.arange(3)})
        >>> columns["number"].tolist(), columns["keypoints"].to_pylist()
        ([0, 1, 2], [[], [], []])
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PoseModel | None = None,
        *,
        photo_column: str | None = None,
        box_column: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        engine: str = "auto",
        detector: str | os.PathLike[str] | Detector | None = None,
        **options: Unpack[PredictOptions],
    ) -> None:
        try:
            import pyarrow  # noqa: F401 - to be said now, and not after the first batch
        except ImportError as error:
            raise ImportError(f"PosePredictor needs the package pyarrow (pip install pyarrow): {error}") from error
        how: dict[str, Any] = {"device": device, "dtype": dtype, "engine": engine, "detector": detector}
        self._predictor = Predictor(model, **how) if isinstance(model, PoseModel) else load(model, **how)
        self._photos, self._boxes = photo_column, box_column
        self._options: PredictOptions = {"on_error": "skip", "rgb": True, **options}

    def __call__(self, batch: Mapping[str, Column]) -> dict[str, Any]:
        """The poses of a batch.

        Args:
            batch: Columns of B rows, as ``batch_format="numpy"`` gives them: one with photos, any others.

        Returns:
            Columns of B rows: those that came in, but for pixels and the bytes of files; and, of the N people of a
            photo, lists with the names of the attributes of `Poses`: ``keypoints`` [N, K, 2] px, ``scores`` [N, K],
            ``boxes`` [N, 4], ``box_scores`` [N], ``person_scores`` [N], ``visibility`` [N, K] (null where the network
            does not say), ``image_size`` [2], ``dropped``, and ``error`` (null where the photo could be used). These
            are Arrow arrays, whose types are the same for every batch, also for one without anybody. A column of such
            a name that came in is replaced.

        Raises:
            KeyError: There is no column of photos, or of boxes.
        """
        column = self._photos or next((name for name in _PHOTOS if name in batch), None)
        for wanted in (column or " or ".join(_PHOTOS), self._boxes):
            if wanted is not None and wanted not in batch:
                raise KeyError(f"batch: expected a column {wanted}, got the columns {', '.join(batch)}")
        assert column is not None
        boxes = None if self._boxes is None else list(batch[self._boxes])
        found = self._predictor(list(batch[column]), boxes, **self._options)
        kept = {name: values for name, values in batch.items() if name not in _PIXELS}
        if not all(isinstance(photo, str) for photo in batch[column]):
            kept.pop(column, None)
        return kept | self._columns(found)

    def _columns(self, found: Sequence[Poses]) -> dict[str, Any]:
        import pyarrow

        counts = np.array([len(poses) for poses in found])
        shape = (0, self._predictor.spec.skeleton.num_keypoints)
        empty = {"keypoints": (*shape, 2), "scores": shape, "boxes": (0, 4), "box_scores": (0,), "person_scores": (0,)}
        columns = {
            name: _nested(
                np.concatenate([np.empty(none, np.float32), *(getattr(poses, name) for poses in found)]), counts
            )
            for name, none in empty.items()
        }
        seen = [np.empty(shape, np.float32), *(poses.visibility for poses in found if poses.visibility is not None)]
        unsaid = np.array([poses.visibility is None for poses in found])
        columns["visibility"] = _nested(np.concatenate(seen), np.where(unsaid, 0, counts), unsaid)
        columns["image_size"] = pyarrow.array(
            [list(poses.image_size) for poses in found], pyarrow.list_(pyarrow.int32())
        )
        columns["dropped"] = pyarrow.array([list(poses.dropped) for poses in found], pyarrow.list_(pyarrow.string()))
        columns["error"] = pyarrow.array([poses.error for poses in found], pyarrow.string())
        return columns


def _nested(
    values: npt.NDArray[np.float32], counts: npt.NDArray[np.int64], null: npt.NDArray[np.bool_] | None = None
) -> pyarrow.Array:
    """The people of all photos, [N, ...], as an Arrow array of a list a photo.

    Args:
        values: Of all people.
        counts: [B], how many are in each photo.
        null: [B], of which nothing is said.
    """
    import pyarrow

    inner = pyarrow.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        inner = pyarrow.ListArray.from_arrays(np.arange(0, len(inner) + 1, size, dtype=np.int32), inner)
    ends = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
    return pyarrow.ListArray.from_arrays(ends, inner, mask=None if null is None else pyarrow.array(null))
