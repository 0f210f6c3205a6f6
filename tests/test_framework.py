"""A framework with three leaks, and the same one with none."""

from __future__ import annotations

import asyncio
import sys

from typing import Any, Literal

import pytest

from typing_extensions import override

from .examples import load


BEFORE, AFTER = "framework_before", "framework_after"
inherits = getattr(sys.flags, "thread_inherit_context", False)


class Closing(asyncio.Event):
    """Says when it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    @override
    async def wait(self) -> Literal[True]:
        self.reached.set()
        return await super().wait()


@pytest.mark.parametrize(("name", "left"), [(BEFORE, "nightly"), (AFTER, None)])
def test_an_error_before_the_try(name: str, left: str | None) -> None:
    framework: Any = load(name)

    async def main() -> str | None:
        with pytest.raises(ValueError, match="a plan needs a step"):
            await framework.run_plan("nightly", [], asyncio.Event())
        plan: str | None = framework.current_plan.get()
        return plan

    assert asyncio.run(main()) == left


@pytest.mark.parametrize(("name", "left"), [(BEFORE, "nightly"), (AFTER, None)])
def test_a_cancellation_in_the_finally(name: str, left: str | None) -> None:
    framework: Any = load(name)

    async def main() -> str | None:
        closing = Closing()

        async def host() -> str | None:
            with pytest.raises(asyncio.CancelledError):
                await framework.run_plan("nightly", [str], closing)
            plan: str | None = framework.current_plan.get()
            return plan

        task = asyncio.create_task(host())
        await closing.reached.wait()
        task.cancel()
        return await task

    assert asyncio.run(main()) == left


@pytest.mark.parametrize(
    ("name", "seen"), [(BEFORE, "nightly" if inherits else None), (AFTER, "nightly")]
)
def test_a_step_in_a_thread(name: str, seen: str | None) -> None:
    framework: Any = load(name)

    async def main() -> list[str | None]:
        closing = asyncio.Event()
        closing.set()
        steps = [framework.current_plan.get]
        plans: list[str | None] = await framework.run_plan("nightly", steps, closing)
        return plans

    assert asyncio.run(main()) == [seen]
