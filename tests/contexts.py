"""Contexts, and words about Contexts, that the tests share."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import sysconfig
import threading

from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pytest

from aura_context import (
    PlanContext,
    VarContext,
    current_plan_name,
    plan_context,
)


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aura_context._context import BaseContext


R = TypeVar("R")
Values: TypeAlias = Generator[Any, Any, Any]
AsyncValues: TypeAlias = AsyncGenerator[Any, Any]
Elsewhere: TypeAlias = Callable[[Callable[[], object]], object]

UNSET = "<unset>"

current_tenant: ContextVar[str | None] = ContextVar("current_tenant", default=None)
current_run: ContextVar[int] = ContextVar("current_run", default=0)


class TenantContext(VarContext[str | None]):
    var = current_tenant


class RunContext(VarContext[int]):
    var = current_run


class Boom(Exception):
    """An exception of the body, of its consumer, of a job or task."""


class Thing:
    """What a weak reference can refer to."""


def needs(library: str) -> pytest.MarkDecorator:
    """Skip a test on free-threaded Pythons, where they have none of this library."""
    missing = importlib.util.find_spec(library) is None
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return pytest.mark.skipif(
        free_threaded and missing, reason=f"{library} is not for free-threaded Pythons"
    )


def held(var: ContextVar[Any] = current_plan_name) -> Any:
    """Return what this Context holds for the variable, its default not counting."""
    return copy_context().get(var, UNSET)


def fresh(function: Callable[[], R]) -> R:
    """Run the function where nothing is set."""
    return Context().run(function)


def here(function: Callable[[], R]) -> R:
    """Run the function as it is."""
    return function()


def in_thread(function: Callable[[], R]) -> R:
    """Run the function in a thread of its own."""
    results: list[R] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def copied(function: Callable[[], R]) -> R:
    """Run the function in a copy of this Context, as a child task would be."""
    return copy_context().run(function)


def merged(function: Callable[[], R]) -> R:
    """Run the function in a copy, then set here what differs, as asgiref does."""
    child = copy_context()
    try:
        return child.run(function)
    finally:
        for var, value in child.items():
            if copy_context().get(var, UNSET) != value:
                var.set(value)


def leave(context: BaseContext) -> None:
    """Leave the context's innermost block."""
    context.__exit__(None, None, None)


def opened(plan_name: str | None) -> PlanContext:
    """Return a context of that plan with a block open."""
    return plan_context(plan_name).__enter__()


def holding(plan_name: str | None) -> Generator[None, None, None]:
    """Hold a block across a yield, as one should not."""
    with plan_context(plan_name):
        yield
        yield


async def async_holding(plan_name: str) -> AsyncGenerator[None, None]:
    """Hold a block across a yield, as one should not."""
    async with plan_context(plan_name):
        yield
        yield


async def collected(values: AsyncValues) -> list[object]:
    return [value async for value in values]


async def awaited(result: Awaitable[R]) -> R:
    return await result


def outcome(result: Any) -> object:
    """Return what a function of any of the four kinds says it has seen."""
    if inspect.isgenerator(result):
        [result] = list(result)
    elif inspect.isasyncgen(result):
        [result] = asyncio.run(collected(result))
    elif inspect.isawaitable(result):
        result = asyncio.run(awaited(result))
    return result


def abandon(generator: Generator[None, None, None]) -> None:
    """Close a generator in another Context, which abandons the block it holds."""
    Context().run(generator.close)
    gc.collect()  # where there is no reference counting
