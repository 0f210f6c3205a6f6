"""Runs the snippets of the documentation, and each test in a Context of its own.

It is here and not in ``tests/`` because pytest asks a conftest only about the files
beside and below it.
"""

from __future__ import annotations

import gc
import sys

from contextvars import Context, copy_context

import pytest

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README*.md", "docs/*.md", "docs/**/*.md"],
    # Its files import each other, so tests/test_tutorial.py runs them as programs.
    excludes=["docs/tutorial.md"],
).pytest()

# CPython 3.11 can collect garbage inside of ContextVar.set, and crashes if a finaliser
# sets variables just then. So there it collects between two tests, and not in them.
COLLECTS_ANYWHERE = sys.version_info < (3, 12)
if COLLECTS_ANYWHERE:
    gc.disable()

# From before any test is imported: what an import leaves open or set is in no copy.
CLEAN = copy_context()
OF_PAGE = pytest.StashKey[Context]()


def is_snippet(item: pytest.Item) -> bool:
    """Return whether this is a part of a page, which goes on from the part before."""
    return not isinstance(item, pytest.Function)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """Run the test in a Context of its own: its fixtures' setup and teardown too.

    So what it leaves open or set raw is gone with it. The snippets of a page share one.
    """
    context = CLEAN.copy()
    if is_snippet(item) and item.parent:
        context = item.parent.stash.setdefault(OF_PAGE, context)
    # All that other plugins do for a test is done once more, inside.
    run = item.config.pluginmanager.subset_hook_caller(
        "pytest_runtest_protocol", [sys.modules[__name__]]
    )
    result: object = context.run(run, item=item, nextitem=nextitem)
    if nextitem is None or nextitem.path != item.path:
        # What this file's tests left suspended in a block is closed before the next
        # file's, as a finaliser that uses blocks may do what a test expects not yet.
        Context().run(gc.collect)
    elif COLLECTS_ANYWHERE:
        gc.collect(1)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Leave a page, or a class of tests, to one process where xdist shares them out."""
    if getattr(config.option, "dist", None) == "load":
        config.option.dist = "loadscope"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the snippets of each page in their order, however all were shuffled."""
    snippets = [item for item in items if is_snippet(item)]
    pages = {item.parent: number for number, item in enumerate(snippets)}

    def place(item: pytest.Item) -> tuple[int, int]:
        return pages[item.parent], item.reportinfo()[1] or 0

    ordered = iter(sorted(snippets, key=place))
    items[:] = [next(ordered) if is_snippet(item) else item for item in items]
