from __future__ import annotations

import sys

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import pytest

from hypothesis import settings

import aura_context


if TYPE_CHECKING:
    from collections.abc import Callable


# A busy machine is no failure.
settings.register_profile("patient", deadline=None, print_blob=True)
settings.load_profile("patient")


def pytest_report_header() -> str:
    """Say which package is tested: the installed one, or the checkout's."""
    return f"aura_context: {aura_context.__file__}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Skip what starts a thread where there are none."""
    if sys.platform == "emscripten":
        item.runtest = partial(run_without_threads, item.runtest)


def run_without_threads(run: Callable[[], None]) -> None:
    try:
        copy_context().run(run)  # what it leaves half done is nobody's
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        pytest.skip("Emscripten has no threads")


native = pytest.mark.skipif(
    sys.platform == "emscripten", reason="Emscripten runs none but asyncio's own loop"
)


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=native),
        pytest.param("trio", id="trio", marks=native),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test that is marked with anyio on each of these."""
    return request.param
