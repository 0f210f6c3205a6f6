"""What everyone writes: set and reset in a generator of `contextlib`'s."""

from __future__ import annotations

import inspect

from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from . import Candidate


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

plan_name: ContextVar[str | None] = ContextVar("plan_name", default=None)


@contextmanager
def bound(value: str) -> Generator[None, None, None]:
    """Bind the plan's name for a block."""
    token = plan_name.set(value)
    try:
        yield
    finally:
        plan_name.reset(token)


@asynccontextmanager
async def async_bound(value: str) -> AsyncGenerator[None, None]:
    """Bind the plan's name for an async block."""
    with bound(value):
        yield


def decorator(value: str) -> Callable[[Any], Any]:
    """Return the one of the two that suits the function."""

    def decorate(function: Any) -> Any:
        is_async = inspect.iscoroutinefunction(function)
        return async_bound(value)(function) if is_async else bound(value)(function)

    return decorate


CANDIDATE = Candidate(
    title="by hand",
    distribution=None,
    block=bound,
    get=plan_name.get,
    raw_set=plan_name.set,
    instance=bound,
    async_block=async_bound,
    decorator=decorator,
)
