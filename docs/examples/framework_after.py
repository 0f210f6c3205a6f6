"""A small framework that runs the steps of its plans in threads."""

from __future__ import annotations

import asyncio

from typing import TYPE_CHECKING, TypeVar

from aura_context import ContextThreadPoolExecutor, current_plan_name, plan_context


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any


T = TypeVar("T")

current_plan = current_plan_name


def run(application: Coroutine[Any, Any, T]) -> T:
    """Run an application on a loop of its own."""

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ContextThreadPoolExecutor())
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
    async with plan_context(name):
        check(steps)
        loop = asyncio.get_running_loop()
        try:
            return [await loop.run_in_executor(None, step) for step in steps]
        finally:
            await closing.wait()
