"""The same framework, without the leaks."""

from __future__ import annotations

import asyncio

from typing import TYPE_CHECKING

from aura_context import ContextThreadPoolExecutor, current_plan_name, plan_context


if TYPE_CHECKING:
    from collections.abc import Callable


current_plan = current_plan_name


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
        loop.set_default_executor(ContextThreadPoolExecutor())
        try:
            return [await loop.run_in_executor(None, step) for step in steps]
        finally:
            await closing.wait()
