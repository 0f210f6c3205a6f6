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
    found = [
        test
        for module in walked
        for test in finder.find(importlib.import_module(module.name))
    ]
    # A public class is of the package, and its methods of a module below. The finder
    # would pass over those, unless it asks nothing about modules.
    found += doctest.DocTestFinder(recurse=False).find(aura_context)
    for name in aura_context.__all__:
        public, path = getattr(aura_context, name), f"aura_context.{name}"
        found += finder.find(public, path, module=False, globs=vars(aura_context))  # pyright: ignore[reportArgumentType] - False is documented
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


def test_examples_of_public_methods_are_found() -> None:
    names = [example.name for example in examples()]
    assert len(set(names)) == len(names)
    assert {
        "aura_context",
        "aura_context.PlanContext",
        "aura_context.Snapshot.run",
        "aura_context.VarContext.require",
        "aura_context._context.BaseContext.__call__",
        "aura_context.active_contexts",
        "aura_context.carry",
        "aura_context.integrations.asgi.ContextMiddleware",
    } <= set(names)
