"""A framework with three leaks, and the same one with none."""

from __future__ import annotations

import asyncio
import difflib
import re
import shlex
import sys
import threading

from typing import Any, Literal

import pytest

from typing_extensions import override

from .examples import EXAMPLES, load


PAGE = EXAMPLES.parent / "how-to" / "existing-framework.md"
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

    assert framework.run(main()) == left


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

    assert framework.run(main()) == left


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

    assert framework.run(main()) == [seen]


@pytest.mark.parametrize("name", [BEFORE, AFTER])
def test_all_plans_share_one_executor(name: str) -> None:
    framework: Any = load(name)

    def pool() -> str:
        return threading.current_thread().name.rpartition("_")[0]

    async def main() -> set[str]:
        closing = asyncio.Event()
        closing.set()
        pools = [await framework.run_plan("p", [pool], closing) for _ in range(3)]
        return {each for (each,) in pools}

    assert len(framework.run(main())) == 1


def test_what_the_page_greps_for_finds_the_leaks() -> None:
    (command,) = re.findall(r"(?m)^grep .*$", PAGE.read_text("utf-8"))
    pattern = shlex.split(command)[2]
    lines = {
        name: [
            line.strip()
            for line in (EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()
            if re.search(pattern, line)
        ]
        for name in (BEFORE, AFTER)
    }
    run = "return [await loop.run_in_executor(None, step) for step in steps]"
    assert lines == {
        BEFORE: ["token = current_plan.set(name)", run, "current_plan.reset(token)"],
        AFTER: ["loop.set_default_executor(ContextThreadPoolExecutor())", run],
    }


def test_the_page_shows_every_line_that_changes() -> None:
    before, after = (
        (EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()
        for name in (BEFORE, AFTER)
    )
    changes = difflib.unified_diff(before, after, BEFORE, AFTER, lineterm="", n=1)
    (shown,) = re.findall(r"(?ms)^```diff\n(.*?)\n```$", PAGE.read_text("utf-8"))
    assert shown.splitlines() == [
        line for line in changes if not line.startswith(("---", "+++"))
    ]
