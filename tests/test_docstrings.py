"""Every example in a docstring of the package runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import aura_context


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    walked = pkgutil.walk_packages(aura_context.__path__, "aura_context.")
    names = ["aura_context", *(module.name for module in walked)]
    found = [
        test for name in names for test in finder.find(importlib.import_module(name))
    ]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example_runs(example: doctest.DocTest) -> None:
    report: list[str] = []
    results = doctest.DocTestRunner().run(example, out=report.append)
    assert results.failed == 0, "".join(report)
