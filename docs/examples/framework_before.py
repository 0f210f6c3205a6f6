"""A small framework that runs the steps of its plans in threads."""

from __future__ import annotations

import asyncio

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any


T = TypeVar("T")

current_plan: ContextVar[str | None] = ContextVar("current_plan", default=None)


def run(application: Coroutine[Any, Any, T]) -> T:
    """Run an application on a loop of its own."""

    async def main() -> T:
        return await application

    return asyncio.run(main())


def check(steps: list[Callable[[], str]]) -> None:
    """Refuse a plan that has nothing to do."""
    if not steps:
        msg = "a plan needs a step"
        raise ValueError(msg)


async def run_plan(
    name: str, steps: list[Callable[[], str]], closing: asyncio.Event
) -> list[str]:
    """Run the steps of a plan in threads."""
    token = current_plan.set(name)
    check(steps)  # leak 1: an error here comes before the try
    loop = asyncio.get_running_loop()
    try:
        # leak 3: the bare executor does not carry the plan
        return [await loop.run_in_executor(None, step) for step in steps]
    finally:
        await closing.wait()  # leak 2: a cancellation here skips the reset
        current_plan.reset(token)
