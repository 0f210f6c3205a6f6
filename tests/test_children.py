"""Rule R8: what a task or thread started inside a block inherits."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
import weakref

from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import pytest

from aura_context import (
    PlanContext,
    VarContext,
    _stack,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    RunContext,
    TenantContext,
    Thing,
    abandon,
    fresh,
    held,
    holding,
    leave,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class TestR8Children:
    def test_a_thread_with_a_copy_keeps_the_plan(self) -> None:
        left = threading.Event()
        seen: list[object] = []

        def thread() -> None:
            left.wait()
            seen.append(held())
            seen.append(active_contexts())

        with plan_context("p"):
            child = threading.Thread(target=copy_context().run, args=(thread,))
            child.start()
        left.set()
        child.join()
        assert seen == ["p", ()]

    def test_active_contexts_lists_what_was_inherited_and_is_open(self) -> None:
        outer, inner = opened("outer"), opened("inner")
        child = copy_context()
        assert child.run(active_contexts) == (outer, inner)
        leave(inner)
        assert child.run(active_contexts) == (outer,)
        own = child.run(opened, "own")
        assert child.run(active_contexts) == (outer, own)
        leave(outer)
        assert child.run(active_contexts) == (own,)
        child.run(leave, own)

    @pytest.mark.parametrize("in_order", [False, True])
    @pytest.mark.parametrize("child_enters", [False, True])
    def test_a_child_does_not_keep_the_parents_context_alive(
        self, child_enters: bool, in_order: bool
    ) -> None:
        only_here: ContextVar[Thing | None] = ContextVar("only_here", default=None)

        def parent() -> tuple[Context, weakref.ref[Thing]]:
            value = Thing()
            outer, inner = opened("outer"), opened("inner")
            child = copy_context()
            if child_enters:
                child.run(opened, "child")
            only_here.set(value)
            blocks = [outer, inner]
            for block in blocks[::-1] if in_order else blocks:
                leave(block)
            return child, weakref.ref(value)

        child, value = fresh(parent)
        gc.collect()
        assert value() is None
        assert child[current_plan_name] == ("child" if child_enters else "inner")

    def test_nor_walks_over_what_the_parent_has_left(self) -> None:
        """Once the child has entered a block, the stack it inherited is trimmed."""
        with plan_context("a"), plan_context("b"), plan_context("c"):
            child = copy_context()

        def enter_and_leave() -> object:
            with TenantContext("t"):
                pass
            return _stack.stack.get()

        assert child.run(enter_and_leave) is _stack.EMPTY

    def test_nor_what_the_parent_had_bound_before(self) -> None:
        class ValueContext(VarContext[Thing | None]):
            var = ContextVar("value", default=None)

        def parent() -> tuple[Context, weakref.ref[Thing]]:
            value = Thing()
            with ValueContext(value), ValueContext(None):
                return copy_context(), weakref.ref(value)

        child, value = fresh(parent)
        gc.collect()
        assert value() is None
        assert child[ValueContext.var] is None

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_nor_does_one_that_has_seen_an_abandoned_block(self) -> None:
        only_here: ContextVar[Thing | None] = ContextVar("only_here", default=None)

        def parent() -> tuple[Context, weakref.ref[Thing]]:
            value = Thing()
            generator = holding("lost")
            next(generator)
            child = copy_context()
            only_here.set(value)
            abandon(generator)
            return child, weakref.ref(value)

        child, value = fresh(parent)
        child.run(opened, "child")
        gc.collect()
        assert value() is None

    @pytest.mark.parametrize("overlap", [0, 1, 2, 5])
    @pytest.mark.parametrize("abandoning", [False, True])
    def test_a_chain_of_generations_does_not_grow(
        self, overlap: int, abandoning: bool
    ) -> None:
        def generations(count: int) -> None:
            window: list[tuple[Context, PlanContext]] = []
            context = Context()
            for number in range(count):
                if abandoning:
                    context.run(plan_context("lost").__enter__)
                window.append((context, context.run(opened, str(number))))
                context = context.run(copy_context)
                while len(window) > overlap:
                    parent, block = window.pop(0)
                    parent.run(leave, block)
            for parent, block in window:
                parent.run(leave, block)

        generations(100)
        gc.collect()
        tracemalloc.start()
        try:
            generations(500)
            gc.collect()
            little = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            generations(5_000)
            much = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert much < 2 * little + 100_000

    def test_one_context_whose_blocks_overlap_does_not_grow(self) -> None:
        before = opened("0")
        gc.collect()
        count = len(gc.get_objects())
        for number in range(1, 2_000):
            block = opened(str(number))
            leave(before)
            before = block
        leave(before)
        assert held() == UNSET
        gc.collect()
        assert len(gc.get_objects()) < count + 100

    def test_nor_does_the_stack_of_one_whose_blocks_overlap_by_two(self) -> None:
        before = opened("0")
        for number in range(1_000):
            first, second = opened(f"{number} a"), opened(f"{number} b")
            leave(first)
            leave(before)
            before = second
        length, entry = 0, _stack.stack.get()
        while entry is not _stack.EMPTY:
            length, entry = length + 1, entry.below
        leave(before)
        assert length < 10

    def test_a_hundred_thousand_open_blocks_are_dropped_without_recursion(self) -> None:
        def enter_many() -> list[PlanContext]:
            return [opened(str(number)) for number in range(100_000)]

        blocks = fresh(enter_many)
        assert len(blocks) == 100_000

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_the_cost_does_not_depend_on_how_many_blocks_are_open(self) -> None:
        def steps_with(count: int) -> int:
            generator = holding("lost")
            next(generator)
            blocks = [RunContext(number).__enter__() for number in range(count)]
            abandon(generator)
            with plan_context("once"):  # looks at all, so that later ones need not
                pass
            steps = steps_of(lambda: leave(opened("usual")))
            for block in reversed(blocks[1:]):
                leave(block)
            return steps + steps_of(lambda: leave(blocks[0]))

        assert fresh(lambda: steps_with(10)) == fresh(lambda: steps_with(1_000))


def steps_of(function: Callable[[], None]) -> int:
    """Return how many lines of this package the function runs."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if not frame.f_globals["__name__"].startswith("aura_context"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


class TestAsyncR8Children:
    def test_a_task_started_inside_keeps_the_plan(self) -> None:
        async def child(left: asyncio.Event) -> object:
            await left.wait()
            async with plan_context("own"):
                pass
            return held()

        async def main() -> None:
            left = asyncio.Event()
            async with plan_context("p"):
                task = asyncio.create_task(child(left))
            left.set()
            assert await task == "p"
            assert held() == UNSET

        asyncio.run(main())

    @pytest.mark.parametrize("parent_leaves", ["before", "after"])
    def test_a_chain_of_tasks_does_not_grow(self, parent_leaves: str) -> None:
        done: asyncio.Future[None]

        async def link(left: int, started: asyncio.Event | None) -> None:
            if started is not None and parent_leaves == "after":
                started.set()
            async with plan_context(str(left)):
                if started is not None and parent_leaves == "before":
                    started.set()
                if left == 0:
                    done.set_result(None)
                    return
                event = asyncio.Event()
                task = asyncio.create_task(link(left - 1, event))
                keep.add(task)
                task.add_done_callback(keep.discard)
                await event.wait()

        keep: set[asyncio.Task[None]] = set()

        async def chain(count: int) -> None:
            nonlocal done
            done = asyncio.get_running_loop().create_future()
            keep.add(asyncio.create_task(link(count, None)))
            await done

        async def main() -> None:
            await chain(100)
            tracemalloc.start()
            try:
                await chain(500)
                little = tracemalloc.get_traced_memory()[1]
                tracemalloc.reset_peak()
                await chain(5_000)
                much = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert much < 2 * little + 100_000

        asyncio.run(main())
