"""The options of affine_crop: counted by their values at the time of the call; fractions where 0..255 is meant."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fastpose import ops
from fastpose.ops import _crop_options

PHOTO = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
MATRICES = np.eye(2, 3)[None]
Make = Callable[[float], Any]
HOLDERS: dict[str, tuple[Make, Callable[[Any, float], Any]]] = {
    "tensor": (lambda x: torch.full((3,), x), lambda holder, x: holder.fill_(x)),
    "number in a tensor": (lambda x: torch.tensor(x), lambda holder, x: holder.fill_(x)),
    "tuple of tensors": (lambda x: (torch.tensor(x),) * 3, lambda holder, x: holder[0].fill_(x)),
    "parameter": (
        lambda x: torch.nn.Parameter(torch.full((3,), x), requires_grad=False),
        lambda holder, x: holder.fill_(x),
    ),
    "array": (lambda x: np.full(3, x), lambda holder, x: holder.fill(x)),
    "list": (lambda x: [x] * 3, lambda holder, x: holder.__setitem__(slice(None), [x] * 3)),
}


def crop(**options: Any) -> Any:
    return ops.affine_crop(PHOTO, MATRICES, size=(9, 8), **options)


@pytest.mark.parametrize("option", ["mean", "std", "border_value"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_overwritten_between_calls_counts(option: str, holder: str) -> None:
    make, overwrite = HOLDERS[holder]
    value = make(20.0)
    shifted = np.array([[[1, 0, 2.0], [0, 1, 0]]])  # two columns of border
    for number in (20.0, 60.0, 20.0):
        overwrite(value, number)
        got = ops.affine_crop(PHOTO, shifted, size=(9, 8), **{option: value})
        wanted = ops.affine_crop(PHOTO, shifted, size=(9, 8), **{option: (number,) * 3})
        np.testing.assert_array_equal(got, wanted)


def test_a_tensor_at_the_place_of_a_former_one_is_another() -> None:
    results = []
    for number in (10.0, 20.0, 30.0):
        mean = torch.full((3,), number)  # likely at the address of the last one
        results.append(crop(mean=mean)[0, 0, 0, 0])
        del mean
    np.testing.assert_allclose(np.diff(results), -10.0, atol=1e-4)


def test_only_values_are_remembered() -> None:
    _crop_options._PLANS.clear()
    for _ in range(3):
        crop(mean=torch.zeros(3))
        crop(mean=(torch.tensor(1.0),) * 3)
    assert not _crop_options._PLANS
    for _ in range(3):
        crop(mean=(1.0, 2.0, 3.0), std=np.float32(2), border="replicate")
    assert len(_crop_options._PLANS) == 1


def test_numbers_of_every_kind() -> None:
    wanted = crop(mean=(7.0, 7.0, 7.0), std=(2.0, 2.0, 2.0))
    for seven, two in ((7, 2), (np.float32(7), np.int64(2)), (torch.tensor(7), np.array(2)), ([7] * 3, (2, 2.0, 2))):
        np.testing.assert_array_equal(crop(mean=seven, std=two), wanted)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mean": "123"}, ValueError, "mean: expected a number or three"),
        ({"std": np.ones(4)}, ValueError, "std: expected a number or three"),
        ({"mean": torch.zeros(3, requires_grad=True)}, TypeError, "mean: affine_crop has no gradient"),
        ({"swap_rb": "no"}, TypeError, "swap_rb: expected True or False, got 'no'"),
        ({"antialias": None}, TypeError, "antialias: expected True or False"),
        ({"border": ["constant"]}, ValueError, "border: expected 'constant' or 'replicate'"),
        ({"size": (9.5, 8)}, ValueError, "size: expected"),
        ({"size": "98"}, ValueError, "size: expected"),
        ({"size": (float("inf"), 8)}, ValueError, "size: expected"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        ops.affine_crop(PHOTO, MATRICES, **{"size": (9, 8), **options})


# --- values from 0 to 1 where 0 to 255 is meant ------------------------------------------------------------------
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
FRACTIONS = (PHOTO / np.float32(255)).astype(np.float32)
WARNING = r"^images: expected float values from 0 to 255.*mean=\(123\.675, .*between 0 and 1: multiply"
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda a: a,
    "float64": lambda a: a.astype(np.float64),
    "tensor": torch.from_numpy,
    "batch": lambda a: torch.from_numpy(a)[None],
    "list": lambda a: [a],
    "requires grad": lambda a: torch.from_numpy(a).requires_grad_(),
    "other memory": lambda a: torch.from_numpy(np.repeat(a, 2, 1))[:, ::2],
    "one of two": lambda a: np.stack((a * 255, a)),
}


def warned(images: Any, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ops.affine_crop(images, np.eye(2, 3)[None], [0], size=(4, 4), **options)
    assert all(warning.filename == __file__ for warning in caught), "names the caller's line"
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("form", FORMS)
def test_fractions_are_warned_of(form: str) -> None:
    with pytest.warns(UserWarning, match=WARNING):
        ops.affine_crop(FORMS[form](FRACTIONS), np.eye(2, 3)[None], [0], size=(4, 4), mean=MEAN, std=STD)
    assert len(warned(FORMS[form](FRACTIONS), mean=MEAN, std=STD)) == 1
    assert len(warned(FORMS[form](FRACTIONS), std=255.0)) == 1
    assert len(warned(FORMS[form](FRACTIONS), mean=127.5)) == 1


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (FRACTIONS * 255, {"mean": MEAN, "std": STD}),
        (FRACTIONS, {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
        (FRACTIONS, {}),
        (np.zeros_like(FRACTIONS), {"mean": MEAN, "std": STD}),  # a black photo
        (np.round(FRACTIONS), {"mean": MEAN, "std": STD}),  # nearly so: whole numbers
        (FRACTIONS - 0.5, {"mean": MEAN, "std": STD}),
        (PHOTO // 255, {"mean": MEAN, "std": STD}),
    ],
)
def test_nothing_else_is_warned_of(images: np.ndarray, options: dict[str, Any]) -> None:
    assert warned(images, **options) == []


def test_one_bright_pixel_says_that_it_is_another_scale() -> None:
    photo = np.zeros((200, 300, 3), np.float32) + np.float32(0.25)
    assert len(warned(photo, mean=MEAN, std=STD)) == 1
    photo[101, 203, 1] = 40  # in no sample
    assert warned(photo, mean=MEAN, std=STD) == []
