"""The examples in the docstrings of the ops, run as they stand there."""

from __future__ import annotations

import doctest
import importlib

import pytest

from fastpose import ops


@pytest.mark.parametrize("name", ops.__all__)
def test_the_example_runs(name: str) -> None:
    module = importlib.import_module(f"fastpose.ops.{name}")
    found = [test for test in doctest.DocTestFinder().find(getattr(ops, name), name, module, globs={}) if test.examples]
    assert found, f"{name} has no example"
    report: list[str] = []
    for test in found:
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.append)
    assert not report, "".join(report)
