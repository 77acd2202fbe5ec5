"""How the fuzz tests of the ops draw their arguments, and run a call so that every run must agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastpose import _C

EXAMPLES = os.environ.get("FASTPOSE_FUZZ_EXAMPLES")
LEVELS = _C.build_info()["simd_supported"]
ODD = np.array([0.0, -0.0, 1e-45, -1e-38, 0.5, -1.0, 255.0, 2147483648.0, -1e15, 1e30, -1e30])
NOT_FINITE = np.array([np.nan, np.inf, -np.inf])


def fuzz(default: int) -> Callable[[Any], Any]:
    """Runs the test with seeds of `random`, from which everything about the arguments follows."""

    def decorate(test: Any) -> Any:
        limits = settings(
            max_examples=int(EXAMPLES) if EXAMPLES else default,
            derandomize=EXAMPLES is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        return limits(given(st.integers(0, 2**32 - 1), st.data())(test))

    return decorate


class Source:
    """Draws the parts of an example: decisions from hypothesis, which shrinks them, contents from a generator."""

    def __init__(self, seed: int, data: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.data = data
        self.tensors = self.flag()

    def flag(self) -> bool:
        return bool(self.data.draw(st.booleans()))

    def pick(self, values: Any) -> Any:
        return self.data.draw(st.sampled_from(values))

    def count(self, low: int, high: int) -> int:
        return int(self.data.draw(st.integers(low, high)))

    def numbers(self, shape: tuple[int, ...], low: float, high: float, odd: bool = True) -> np.ndarray:
        """Float64 from low to high, with some values that are huge, tiny or not finite if `odd` and it so happens."""
        values = self.rng.uniform(low, high, shape)
        values = np.where(self.rng.random(shape) < 0.3, np.floor(values), values)
        share = self.pick([0.0, 0.0, 0.02, 0.3]) if odd else 0.0
        strange = self.rng.choice(np.concatenate([ODD, NOT_FINITE]), shape)
        return np.where(self.rng.random(shape) < share, strange, values)

    def memory(self, array: np.ndarray) -> Any:
        """The same values elsewhere in memory, as an array or a tensor."""
        kind = self.pick(["plain", "plain", "backwards", "transposed", "every second", "read-only"])
        if kind == "transposed":
            array = np.array(array.T, order="C").T
        elif kind == "every second" and array.ndim:
            wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
            wide[..., ::2] = array
            array = wide[..., ::2]
        elif kind == "backwards" and array.ndim and not self.tensors:
            array = array[::-1].copy()[::-1]
        elif kind == "read-only" and not self.tensors:
            array = array.copy()
            array.setflags(write=False)
        return torch.from_numpy(array) if self.tensors else array

    def run(self, call: Callable[[], Any]) -> list[np.ndarray]:
        """What the call gives at some SIMD level: the same bits for both numbers of threads."""
        threads = torch.get_num_threads()
        results = []
        try:
            _C.set_simd_level(self.pick(LEVELS))
            for count in (1, 2):
                torch.set_num_threads(count)
                results.append(arrays(call()))
        finally:
            _C.set_simd_level("")
            torch.set_num_threads(threads)
        for one, two in zip(*results, strict=True):
            assert one.dtype == two.dtype
            assert one.shape == two.shape
            assert one.tobytes() == two.tobytes()
        return results[0]


def arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, tuple) else (result,)
    return [part.detach().numpy() if isinstance(part, torch.Tensor) else np.asarray(part) for part in parts]


def tensor(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value, order="C"))
