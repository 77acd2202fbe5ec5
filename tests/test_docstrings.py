"""Examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings

import pytest

import fastpose


def _examples() -> list[doctest.DocTest]:
    found = []
    for entry in pkgutil.walk_packages(fastpose.__path__, "fastpose."):
        if entry.name.rpartition(".")[2] in ("__main__", "_C"):
            continue
        module = importlib.import_module(entry.name)
        tests = doctest.DocTestFinder(exclude_empty=True).find(module)
        found += [test for test in tests if test.examples and not entry.name.startswith("fastpose.ops.")]  # tests/ops
    return found


@pytest.mark.parametrize("example", _examples(), ids=lambda test: test.name)
def test_example(example: doctest.DocTest) -> None:
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert not result.failed, "".join(report)


def test_there_are_examples_of_what_users_meet_first() -> None:
    names = {test.name for test in _examples()}
    assert {"fastpose.predict.predictor.load", "fastpose.codecs.build_codec"} <= names
    assert {"fastpose.detection.detections.Detections", "fastpose.devices.pick_device"} <= names
