"""Fixtures of the tests of networks."""

from __future__ import annotations

from collections.abc import Callable

import model_figures
import pytest
from torch import Tensor, nn

# Tests that run over all architectures build these too, and they take gigabytes.
_BIG = {"swin_large", "vitpose_large", "vitpose_huge"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run for a big architecture as slow."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("name") in _BIG:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def fill_by_name() -> Callable[[nn.Module], None]:
    """Give every floating-point entry of a state dict the values that its name and shape determine."""
    return model_figures.fill


@pytest.fixture(scope="session")
def input_by_name() -> Callable[[tuple[int, int]], Tensor]:
    """The input [1, 3, h, w] of that size."""
    return model_figures.input_by_name
