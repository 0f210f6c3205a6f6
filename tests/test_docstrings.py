"""Every example in a docstring of the package runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

from typing import TYPE_CHECKING, Any

import pytest

from typing_extensions import override

import aura_context


if TYPE_CHECKING:
    from types import TracebackType


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    walked = pkgutil.walk_packages(aura_context.__path__, "aura_context.")
    names = ["aura_context", *(module.name for module in walked)]
    found = [
        test for name in names for test in finder.find(importlib.import_module(name))
    ]
    return [test for test in found if test.examples]


class Runner(doctest.DocTestRunner):
    """Lets exceptions out, as other tests do."""

    @override
    def report_unexpected_exception(
        self,
        out: Any,
        test: doctest.DocTest,
        example: doctest.Example,
        exc_info: tuple[type[BaseException], BaseException, TracebackType],
    ) -> None:
        raise exc_info[1]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example_runs(example: doctest.DocTest) -> None:
    report: list[str] = []
    results = Runner().run(example, out=report.append)
    assert results.failed == 0, "".join(report)
