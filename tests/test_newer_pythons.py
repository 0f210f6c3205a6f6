"""What newer Pythons can do with ContextVars, together with blocks of ours.

What they change for a thread is tried on every Python, by doing as they do.
"""

from __future__ import annotations

import asyncio
import sys
import threading

from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import pytest

from typing_extensions import override

from aura_context import (
    ContextExecutor,
    ContextThreadPoolExecutor,
    Snapshot,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)

from .contexts import UNSET, copied, held, leave, opened


if TYPE_CHECKING:
    from collections.abc import Generator


def bound_raw(value: str | None) -> Any:
    """Set the variable raw, for ``with``; Any, as checkers at 3.11 know of none."""
    return current_plan_name.set(value)


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="before Python 3.14 a Token is of no use to with"
)
class TestWithToken:
    def test_inside_a_block(self) -> None:
        with plan_context("ours") as ours:
            with bound_raw("raw"):
                assert held() == "raw"
                assert active_contexts() == (ours,)
            assert held() == "ours"
        assert held() == UNSET

    def test_around_a_block(self) -> None:
        with bound_raw("raw"):
            with plan_context("ours"):
                assert held() == "ours"
            assert held() == "raw"
        assert held() == UNSET

    def test_many_deep_and_on_exception(self) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            plan_context("a"),
            bound_raw("b"),
            plan_context("c"),
            bound_raw("d"),
        ):
            raise ZeroDivisionError
        assert held() == UNSET

    @pytest.mark.parametrize("raw", ["same", "other", None])
    def test_inside_a_block_that_had_nothing_to_set(self, raw: str | None) -> None:
        with bound_raw("same"):
            with plan_context("same"):
                with bound_raw(raw):
                    assert held() == raw
                assert held() == "same"
            assert held() == "same"
        assert held() == UNSET

    def test_a_token_left_after_the_block_around_it_brings_its_value_back(self) -> None:
        """As `reset` always does: a token knows what was there, not who left."""
        block = opened("ours")
        token = bound_raw("raw")
        leave(block)
        assert held() == UNSET
        token.__exit__(None, None, None)
        assert held() == "ours"
        assert active_contexts() == ()

    def test_and_so_does_a_block_left_after_the_token_around_it(self) -> None:
        token = bound_raw("raw")
        block = opened("ours")
        token.__exit__(None, None, None)
        assert held() == UNSET
        leave(block)
        assert held() == "raw"

    def test_blocks_in_any_order_around_a_token(self) -> None:
        outer, inner = opened("outer"), opened("inner")
        with bound_raw("raw"):
            leave(outer)
            assert held() == "raw"
        assert held() == "inner"
        leave(inner)
        assert held() == UNSET

    def test_captured_like_any_raw_value(self) -> None:
        with bound_raw("raw"):
            snapshot = Snapshot.capture()
        with snapshot:
            assert held() == "raw"

    def test_held_by_a_decorated_generator(self) -> None:
        @plan_context("ours")
        def rows() -> Generator[str, None, None]:
            with bound_raw("raw"):
                yield held()
                yield held()
            yield held()

        steps = rows()
        for expected in ("raw", "raw", "ours"):
            assert next(steps) == expected
            assert held() == UNSET
        steps.close()

    def test_but_not_where_the_steps_wander_between_contexts(self) -> None:
        """A block of ours does (F2); a token is of one Context."""

        @plan_context("ours")
        def rows() -> Generator[str, None, None]:
            with bound_raw("raw"):
                yield held()

        steps = rows()
        assert next(steps) == "raw"
        with pytest.raises(ValueError, match="different Context"):
            Context().run(next, steps)
        assert held() == UNSET

    def test_tasks_do_not_see_each_other(self) -> None:
        async def main() -> None:
            barrier = asyncio.Barrier(10)

            async def work(name: str) -> None:
                async with plan_context(name):
                    await barrier.wait()
                    with bound_raw(f"{name}, raw"):
                        await barrier.wait()
                        assert held() == f"{name}, raw"
                        async with plan_context("inner"):
                            await barrier.wait()
                            assert held() == "inner"
                        await barrier.wait()
                        assert held() == f"{name}, raw"
                    await barrier.wait()
                    assert held() == name
                assert held() == UNSET

            async with asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(work(f"plan {number}"))

        asyncio.run(main())


class InheritingThread(threading.Thread):
    """Starts as with ``-X thread_inherit_context=1``: with a copy of the Context."""

    inherited: Context

    @override
    def start(self) -> None:
        self.inherited = copy_context()
        super().start()

    @override
    def run(self) -> None:
        self.inherited.run(super().run)


class TestThreadInheritContext:
    def test_a_thread_keeps_the_plan_it_was_started_for(self) -> None:
        left = threading.Event()
        seen: list[object] = []

        def work() -> None:
            left.wait()
            seen.extend([held(), active_contexts()])

        with plan_context("starter"):
            thread = InheritingThread(target=work)
            thread.start()
        left.set()
        thread.join()
        assert seen == ["starter", ()]

    @pytest.mark.parametrize("plan", ["mine", None])
    def test_a_worker_has_the_plan_of_who_started_it_and_a_carried_job_the_callers(
        self, monkeypatch: pytest.MonkeyPatch, plan: str | None
    ) -> None:
        monkeypatch.setattr(threading, "Thread", InheritingThread)
        with ThreadPoolExecutor(1) as bare, ContextThreadPoolExecutor(1) as ours:
            executors = (ours, ContextExecutor(bare))
            with plan_context("starter"):
                for executor in executors:
                    executor.submit(held).result()
            with plan_context(plan):
                assert bare.submit(held).result() == "starter"
                assert bare.submit(carry(held)).result() == plan
                for executor in executors:
                    assert executor.submit(held).result() == plan
                    assert list(executor.map(copied, [held])) == [plan]
            for executor in executors:
                assert executor.submit(current_plan_name.get).result() is None
            assert bare.submit(held).result() == "starter"
