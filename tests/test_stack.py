"""Rules R1 to R12: entering and leaving."""

from __future__ import annotations

import asyncio
import dis
import gc
import inspect
import sys
import threading
import tracemalloc
import warnings
import weakref

from contextlib import ExitStack
from contextvars import Context, ContextVar, copy_context
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aura_context import (
    ForeignExitWarning,
    NotEnteredError,
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
    abandon,
    async_holding,
    copied,
    current_run,
    current_tenant,
    fresh,
    held,
    holding,
    leave,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import CodeType, FrameType
    from typing import Self


class Boom(Exception):
    """An exception of the body."""


class TestR1Restore:
    @pytest.mark.parametrize("before", [None, "outer", UNSET])
    def test_value_inside_and_exactly_restored(self, before: str | None) -> None:
        def body() -> None:
            if before != UNSET:
                current_plan_name.set(before)
            with plan_context("p"):
                assert held() == "p"
            assert held() == before

        fresh(body)

    def test_on_return_break_continue_and_exception(self) -> None:
        def returns() -> str | None:
            with plan_context("return"):
                return current_plan_name.get()

        assert returns() == "return"
        assert held() == UNSET
        for step in range(2):
            with plan_context("loop"):
                if step == 0:
                    continue
                break
        assert held() == UNSET
        with pytest.raises(Boom), plan_context("raise"):
            raise Boom
        assert held() == UNSET

    def test_on_generator_exit(self) -> None:
        generator = holding("g")
        next(generator)
        assert held() == "g"
        generator.close()
        assert held() == UNSET

    def test_raw_set_and_reset_inside_the_block(self) -> None:
        with plan_context("p"):
            token = current_plan_name.set("raw")
            assert current_plan_name.get() == "raw"
            current_plan_name.reset(token)
            assert current_plan_name.get() == "p"
            current_plan_name.set("left behind")
        assert held() == UNSET

    def test_raw_reset_from_inside_to_before_the_block(self) -> None:
        def body() -> None:
            token = current_plan_name.set("raw")
            with plan_context("p"):
                current_plan_name.reset(token)
                assert held() == UNSET
            assert held() == "raw"

        fresh(body)


@pytest.mark.anyio
class TestAsyncR1Restore:
    async def test_value_inside_and_exactly_restored(self) -> None:
        assert held() == UNSET
        async with plan_context("p"):
            assert held() == "p"
            await anyio.lowlevel.checkpoint()
            assert held() == "p"
        assert held() == UNSET

    async def test_on_exception(self) -> None:
        with pytest.raises(Boom):
            async with plan_context("raise"):
                raise Boom
        assert held() == UNSET

    async def test_on_cancellation(self) -> None:
        seen: list[object] = []
        entered = anyio.Event()

        async def cancelled() -> None:
            try:
                async with plan_context("p"):
                    entered.set()
                    await anyio.sleep_forever()
            finally:
                seen.append(held())

        async with anyio.create_task_group() as group:
            group.start_soon(cancelled)
            await entered.wait()
            group.cancel_scope.cancel()
        assert seen == [UNSET]

    async def test_tasks_do_not_see_each_other(self) -> None:
        seen: dict[str, list[str | None]] = {"a": [], "b": []}
        here, there = anyio.Event(), anyio.Event()

        async def task(name: str, mine: anyio.Event, other: anyio.Event) -> None:
            async with plan_context(name):
                mine.set()
                await other.wait()  # both are inside now
                seen[name].append(current_plan_name.get())
            seen[name].append(current_plan_name.get())

        async with anyio.create_task_group() as group:
            group.start_soon(task, "a", here, there)
            group.start_soon(task, "b", there, here)
        assert seen == {"a": ["a", None], "b": ["b", None]}


class TestR2SameValue:
    def test_an_equal_str_is_not_set(self) -> None:
        first = "".join(["na", "me"])
        second = "".join(["na", "me"])
        with plan_context(first), plan_context(second):
            assert current_plan_name.get() is first
        assert held() == UNSET

    def test_another_object_is_set_even_if_equal(self) -> None:
        class Name(str):
            __slots__ = ()

        special = Name("name")
        with plan_context("name"):
            with plan_context(special):
                assert current_plan_name.get() is special
            assert type(current_plan_name.get()) is str

    def test_unset_with_an_equal_default_is_set(self) -> None:
        with plan_context(None):
            assert held() is None
        assert held() == UNSET

    def test_raw_changes_inside_are_put_back(self) -> None:
        name = "".join(["na", "me"])
        with plan_context(name):
            with plan_context("name"):
                current_plan_name.set("raw")
            assert current_plan_name.get() is name
        assert held() == UNSET


class TestAsyncR2SameValue:
    def test_raw_changes_inside_are_put_back(self) -> None:
        async def main() -> None:
            async with plan_context("name"):
                async with plan_context("name"):
                    current_plan_name.set("raw")
                assert current_plan_name.get() == "name"
            assert held() == UNSET

        asyncio.run(main())


class TestR3OneInstance:
    def test_again_and_nested_in_itself(self) -> None:
        shared = plan_context("shared")
        with shared, plan_context("inner"):
            with shared, shared:
                assert current_plan_name.get() == "shared"
            assert current_plan_name.get() == "inner"
        assert held() == UNSET
        with shared:
            assert current_plan_name.get() == "shared"
        assert held() == UNSET

    def test_by_many_threads_at_once(self) -> None:
        shared = plan_context("shared")
        barrier = threading.Barrier(8)
        seen: list[tuple[str | None, object]] = []

        def thread() -> None:
            with shared:
                barrier.wait()
                inside = current_plan_name.get()
                barrier.wait()
            seen.append((inside, held()))

        threads = [threading.Thread(target=thread) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert seen == [("shared", UNSET)] * 8

    def test_nothing_of_a_block_is_kept_on_the_instance(self) -> None:
        shared = plan_context("shared")
        with shared:
            first = shared.__getstate__()
            with shared, plan_context("inner"), shared:
                assert shared.__getstate__() == first


@pytest.mark.anyio
class TestAsyncR3OneInstance:
    async def test_by_fifty_tasks_at_once(self) -> None:
        shared = plan_context("shared")
        seen: list[tuple[str | None, object]] = []
        inside = 0
        all_inside = anyio.Event()

        async def task() -> None:
            nonlocal inside
            async with shared:
                inside += 1
                if inside == 50:
                    all_inside.set()
                await all_inside.wait()
                value = current_plan_name.get()
            seen.append((value, held()))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(task)
        assert seen == [("shared", UNSET)] * 50


class TestR4AnyOrder:
    @pytest.mark.parametrize(
        ("names", "order"),
        [
            ("ab", (0, 1)),
            ("abc", (0, 1, 2)),
            ("abc", (1, 0, 2)),
            ("abc", (0, 2, 1)),
            ("abc", (1, 2, 0)),
            ("aba", (0, 1, 2)),
            ("aba", (1, 0, 2)),
            ("aab", (0, 2, 1)),
            ("aab", (0, 1, 2)),
            ("baa", (0, 1, 2)),
            ("baa", (1, 0, 2)),
            ("aaa", (0, 1, 2)),
            ("abab", (0, 2, 1, 3)),
            ("abab", (1, 0, 3, 2)),
        ],
    )
    @pytest.mark.parametrize("before", [UNSET, "aa", "zz"])
    def test_innermost_open_wins_and_the_first_is_restored(
        self, names: str, order: tuple[int, ...], before: str
    ) -> None:
        def body() -> None:
            if before != UNSET:
                current_plan_name.set(before)
            # Doubled, to have an object of its own for each that is equal.
            still = {index: name * 2 for index, name in enumerate(names)}
            blocks = [opened(name) for name in still.values()]
            for index in order:
                leave(blocks[index])
                del still[index]
                expected = still[max(still)] if still else before
                assert held() == expected
                assert active_contexts() == tuple(blocks[i] for i in sorted(still))

        fresh(body)

    def test_several_variables_do_not_disturb_each_other(self) -> None:
        plan, tenant = opened("p"), TenantContext("t").__enter__()
        run, inner = RunContext(7).__enter__(), opened("q")
        leave(plan)
        assert (held(), held(current_tenant), held(current_run)) == ("q", "t", 7)
        leave(tenant)
        assert (held(), held(current_tenant), held(current_run)) == ("q", UNSET, 7)
        leave(inner)
        assert (held(), held(current_tenant), held(current_run)) == (UNSET, UNSET, 7)
        leave(run)
        assert held(current_run) == UNSET

    def test_generators_interleaved_by_one_consumer(self) -> None:
        one, two = holding("one"), holding("two")
        next(one)
        next(two)
        one.close()
        assert held() == "two"
        two.close()
        assert held() == UNSET

    def test_exit_stacks_closed_in_the_wrong_order(self) -> None:
        first, second = ExitStack(), ExitStack()
        first.enter_context(plan_context("first"))
        second.enter_context(plan_context("second"))
        first.close()
        assert held() == "second"
        second.close()
        assert held() == UNSET

    def test_one_instance_is_left_innermost_first(self) -> None:
        shared = plan_context("shared")
        shared.__enter__()
        middle = opened("middle")
        shared.__enter__()
        leave(shared)
        assert held() == "middle"
        leave(shared)
        assert held() == "middle"
        leave(middle)
        assert held() == UNSET

    def test_raw_set_above_is_kept_until_its_block_is_left(self) -> None:
        outer, inner = opened("outer"), opened("inner")
        current_plan_name.set("raw")
        leave(outer)
        assert held() == "raw"
        leave(inner)
        assert held() == UNSET

    def test_raw_unset_above_reads_as_the_default(self) -> None:
        def body() -> None:
            token = current_plan_name.set("raw")
            outer, inner = opened("outer"), opened("inner")
            current_plan_name.reset(token)
            leave(outer)
            assert current_plan_name.get() is None
            leave(inner)
            assert held() == "raw"

        fresh(body)

    def test_raw_set_above_a_skipped_block(self) -> None:
        def body() -> None:
            current_plan_name.set("a")
            outer = opened("a")
            current_plan_name.set("raw")
            inner = opened("b")
            current_plan_name.set("a")
            leave(outer)
            leave(inner)
            assert held() == "a"

        fresh(body)

    def test_raw_set_in_a_skipped_block_is_put_back_for_the_heir(self) -> None:
        with plan_context("same"):
            outer = opened("same")
            current_plan_name.set("raw")
            inner = opened("inner")
            leave(outer)
            assert held() == "inner"
            leave(inner)
            assert held() == "same"
        assert held() == UNSET


class TestAsyncR4AnyOrder:
    def test_generators_interleaved_by_one_consumer(self) -> None:
        async def main() -> None:
            one, two = async_holding("one"), async_holding("two")
            await anext(one)
            await anext(two)
            await one.aclose()
            assert held() == "two"
            await two.aclose()
            assert held() == UNSET

        asyncio.run(main())


class TestR5ForeignExit:
    def test_a_copied_context_changes_nothing_and_warns(self) -> None:
        block = opened("p")

        def elsewhere() -> None:
            with pytest.warns(ForeignExitWarning, match=r"Context\('p'\) was left"):
                leave(block)
            assert held() == "p"
            assert active_contexts() == (block,)

        copied(elsewhere)
        assert held() == "p"
        leave(block)
        assert held() == UNSET

    def test_a_skipped_block_too(self) -> None:
        with plan_context("p"):
            block = opened("p")

            def elsewhere() -> None:
                current_plan_name.set("raw")
                with pytest.warns(ForeignExitWarning):
                    leave(block)
                assert held() == "raw"

            copied(elsewhere)
            leave(block)

    def test_a_fresh_context_changes_nothing_and_warns(self) -> None:
        block = opened("p")

        def elsewhere() -> None:
            current_plan_name.set("p")
            with pytest.warns(ForeignExitWarning):
                leave(block)
            assert held() == "p"

        fresh(elsewhere)
        leave(block)

    def test_it_does_not_retire_what_was_abandoned_there(self) -> None:
        generator = holding("lost")
        foreign = fresh(lambda: opened("foreign"))
        next(generator)
        with pytest.warns(ForeignExitWarning):
            abandon(generator)
        with pytest.warns(ForeignExitWarning):
            leave(foreign)
        assert held() == "lost"
        with plan_context("next"):
            pass
        assert held() == UNSET

    def test_one_exit_too_many(self) -> None:
        block = opened("p")
        leave(block)
        with plan_context("other"):
            with pytest.warns(ForeignExitWarning):
                leave(block)
            assert held() == "other"

    def test_one_exit_too_many_while_the_entry_is_on_top(self) -> None:
        outer, inner = opened("outer"), opened("inner")
        leave(outer)
        leave(inner)
        with pytest.warns(ForeignExitWarning):
            leave(outer)
        assert held() == UNSET

    def test_hidden_by_default_and_pointing_at_the_block(self) -> None:
        assert issubclass(ForeignExitWarning, ResourceWarning)
        generator = holding("p")
        next(generator)
        with pytest.warns(ForeignExitWarning) as record:
            abandon(generator)
        assert record[0].filename == inspect.getsourcefile(holding)

    def test_where_warnings_are_errors_it_goes_to_the_unraisablehook(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caught: list[sys.UnraisableHookArgs] = []
        monkeypatch.setattr(sys, "unraisablehook", caught.append)
        block = opened("p")

        def raise_and_leave() -> None:
            try:
                raise Boom
            finally:
                leave(block)

        def elsewhere() -> None:
            with pytest.raises(Boom) as error:
                raise_and_leave()
            assert error.value.__context__ is None

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            copied(elsewhere)
        assert [each.exc_type for each in caught] == [ForeignExitWarning]
        caught.clear()
        leave(block)

    def test_a_broken_repr_does_not_lead_into_the_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(TenantContext):
            def __repr__(self) -> str:
                raise Boom

        caught: list[sys.UnraisableHookArgs] = []
        monkeypatch.setattr(sys, "unraisablehook", caught.append)
        block = Broken("t").__enter__()
        copied(lambda: leave(block))
        assert [each.exc_type for each in caught] == [Boom]
        leave(block)

    @pytest.mark.parametrize("inherited", [False, True])
    def test_left_by_two_threads_at_once(self, inherited: bool) -> None:
        """An exit elsewhere sees the owner's exit at any point of it."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        errors: list[BaseException] = []

        def elsewhere(block: PlanContext, go: threading.Barrier) -> None:
            go.wait()
            try:
                leave(block)
                with plan_context("own"):
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is
                errors.append(error)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(300):
                    block, go = opened("p"), threading.Barrier(2)
                    child = copy_context() if inherited else Context()
                    thread = threading.Thread(
                        target=child.run, args=(elsewhere, block, go)
                    )
                    thread.start()
                    go.wait()
                    leave(block)
                    thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert errors == []
        assert held() == UNSET

    def test_a_generator_collected_by_another_thread(self) -> None:
        generators = [holding("p")]
        next(generators[0])
        warned: list[warnings.WarningMessage] = []

        def collect() -> None:
            current_plan_name.set("thread's own")
            with warnings.catch_warnings(record=True) as record:
                warnings.simplefilter("always")
                generators.clear()
                gc.collect()
            warned.extend(record)
            assert held() == "thread's own"

        thread = threading.Thread(target=collect)
        thread.start()
        thread.join()
        assert [each.category for each in warned] == [ForeignExitWarning]
        with plan_context("next"):
            pass
        assert held() == UNSET


class TestAsyncR5ForeignExit:
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_the_loop_finalises_a_generator_in_another_task(self) -> None:
        errors: list[dict[str, Any]] = []
        closed: list[object] = []

        async def generator() -> AsyncGenerator[None, None]:
            try:
                async with plan_context("p"):
                    yield
            finally:
                closed.append(held())

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: errors.append(context))
            async for _ in generator():
                break
            gc.collect()
            for _ in range(3):  # the finaliser's task, and what it awaits
                await asyncio.sleep(0)
            assert current_plan_name.get() == "p"  # a raw read, before any of ours
            async with plan_context("next"):
                pass
            assert held() == UNSET

        asyncio.run(main())
        assert closed == ["p"]
        assert errors == []


class TestR6NeverEntered:
    def test_is_an_error(self) -> None:
        with pytest.raises(NotEnteredError, match=r"PlanContext\('p'\)"):
            leave(plan_context("p"))

    def test_so_it_is_inside_another_block(self) -> None:
        with plan_context("p"):
            with pytest.raises(NotEnteredError):
                leave(plan_context("p"))
            assert held() == "p"


class TestAsyncR6NeverEntered:
    def test_is_an_error(self) -> None:
        async def main() -> None:
            await plan_context("p").__aexit__(None, None, None)

        with pytest.raises(NotEnteredError):
            asyncio.run(main())


class TestR7Exceptions:
    @pytest.mark.parametrize(
        "error", [Boom(), KeyboardInterrupt(), SystemExit(), StopIteration()]
    )
    def test_never_swallowed_nor_replaced(self, error: BaseException) -> None:
        with pytest.raises(type(error)) as caught, plan_context("p"):
            raise error
        assert caught.value is error
        assert error.__context__ is None

    def test_no_frame_of_ours_in_the_traceback(self) -> None:
        with pytest.raises(Boom) as caught, plan_context("p"):
            raise Boom
        frames = [Path(entry.path) for entry in caught.traceback]
        assert [path.name for path in frames] == [Path(__file__).name]


class TestAsyncR7Exceptions:
    @pytest.mark.parametrize("error", [Boom(), asyncio.CancelledError()])
    def test_never_swallowed_nor_replaced(self, error: BaseException) -> None:
        async def main() -> None:
            async with plan_context("p"):
                raise error

        with pytest.raises(type(error)) as caught:
            asyncio.run(main())
        assert caught.value is error


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
        class Value:
            pass

        only_here: ContextVar[Value | None] = ContextVar("only_here", default=None)

        def parent() -> tuple[Context, weakref.ref[Value]]:
            value = Value()
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

        assert child.run(enter_and_leave) is None

    def test_nor_what_the_parent_had_bound_before(self) -> None:
        class Value:
            pass

        class ValueContext(VarContext[Value | None]):
            var = ContextVar("value", default=None)

        def parent() -> tuple[Context, weakref.ref[Value]]:
            value = Value()
            with ValueContext(value), ValueContext(None):
                return copy_context(), weakref.ref(value)

        child, value = fresh(parent)
        gc.collect()
        assert value() is None
        assert child[ValueContext.var] is None

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_nor_does_one_that_has_seen_an_abandoned_block(self) -> None:
        class Value:
            pass

        only_here: ContextVar[Value | None] = ContextVar("only_here", default=None)

        def parent() -> tuple[Context, weakref.ref[Value]]:
            value = Value()
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


class TestAsyncR9NeverSuspends:
    def test_enter_and_exit_take_one_step_each(self) -> None:
        context = plan_context("p")
        entering = context.__aenter__()
        with pytest.raises(StopIteration) as done:
            entering.send(None)
        assert done.value.value is context
        leaving = context.__aexit__(None, None, None)
        with pytest.raises(StopIteration):
            leaving.send(None)

    @pytest.mark.anyio
    async def test_a_cancelled_scope_does_not_stop_it(self) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with plan_context("p"):
                assert held() == "p"
            assert held() == UNSET


class Loud(PlanContext):
    """Overrides the sync pair."""

    log: list[str]

    def __init__(self, plan_name: str) -> None:
        super().__init__(plan_name)
        self.log = []

    def __enter__(self) -> Self:
        self.log.append("enter")
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:  # noqa: PYI036 - passed on to what is strict
        self.log.append("exit")
        super().__exit__(*exc)


class Swallowing(PlanContext):
    """Swallows all, which ours never do."""

    def __exit__(self, *exc: Any) -> Any:  # noqa: PYI036 - passed on to what is strict
        super().__exit__(*exc)
        return True


class Slow(PlanContext):
    """Overrides the async pair, and awaits."""

    log: list[object]

    async def __aenter__(self) -> Self:
        self.log = []
        await anyio.lowlevel.checkpoint()
        context = await super().__aenter__()
        self.log.append(held())
        await anyio.lowlevel.checkpoint()
        return context

    async def __aexit__(self, *exc: Any) -> None:  # noqa: PYI036 - passed on to what is strict
        self.log.append(held())
        await super().__aexit__(*exc)
        await anyio.lowlevel.checkpoint()
        self.log.append(held())


class TestR10OneImplementation:
    def test_the_sync_pair_is_overridden(self) -> None:
        with Loud("p") as context:
            assert held() == "p"
        assert context.log == ["enter", "exit"]


@pytest.mark.anyio
class TestAsyncR10OneImplementation:
    async def test_overriding_the_sync_pair_changes_async_with(self) -> None:
        async with Loud("p") as context:
            assert held() == "p"
        assert context.log == ["enter", "exit"]

    async def test_overriding_the_async_pair_can_await(self) -> None:
        async with Slow("p") as context:
            assert held() == "p"
        assert context.log == ["p", "p", UNSET]


@pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
class TestR11Abandoned:
    @pytest.mark.parametrize(
        "elsewhere",
        [
            pytest.param(copied, id="by who saw the entry"),
            pytest.param(fresh, id="by who did not"),
        ],
    )
    @pytest.mark.parametrize("next_block", ["lost", "other", None])
    def test_put_right_at_the_next_enter(
        self, elsewhere: Callable[[Callable[[], None]], None], next_block: str | None
    ) -> None:
        generator = holding("lost")
        next(generator)
        elsewhere(generator.close)
        gc.collect()
        assert held() == "lost"
        assert active_contexts() == ()
        with plan_context(next_block):
            assert held() == next_block
        assert held() == UNSET

    def test_put_right_at_the_next_enter_of_another_variable(self) -> None:
        generator = holding("lost")
        next(generator)
        abandon(generator)
        with TenantContext("t"):
            assert held() == UNSET

    def test_put_right_at_the_next_exit(self) -> None:
        with TenantContext("t"):
            generator = holding("lost")
            next(generator)
            abandon(generator)
        assert held() == UNSET

    def test_abandoned_in_the_middle_of_an_enter(self) -> None:
        """As by the garbage collector, which can run at any allocation."""
        generator = holding("lost")
        next(generator)

        class Abandoning(TenantContext):
            @property
            def value(self) -> str:
                abandon(generator)
                return "t"

            @value.setter
            def value(self, value: str | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - to be called in the middle
                pass

        with Abandoning("t"), RunContext(1):
            assert held() == UNSET

    def test_put_right_deep_below_other_blocks(self) -> None:
        generator = holding("lost")
        next(generator)
        tenant = TenantContext("t").__enter__()
        abandon(generator)
        with RunContext(1):
            assert held() == UNSET
            assert active_contexts()[0] is tenant
        leave(tenant)

    @pytest.mark.parametrize("below", ["a", "b", None])
    @pytest.mark.parametrize("above", ["a", "b", "lost"])
    def test_an_open_block_above_inherits(self, below: str | None, above: str) -> None:
        with plan_context(below):
            generator = holding("lost")
            next(generator)
            block = opened(above)
            abandon(generator)
            with TenantContext("t"):
                assert held() == above
            leave(block)
            assert held() == below
        assert held() == UNSET

    def test_several_at_once(self) -> None:
        with plan_context("first"):
            generators: list[Generator[None, None, None]] = []
            for name in ("x", "y", "x"):
                generators.append(holding(name))
                next(generators[-1])
            for generator in generators:
                abandon(generator)
            with TenantContext("t"):
                assert held() == "first"
        assert held() == UNSET

    def test_below_a_block_that_is_left_out_of_order(self) -> None:
        def body() -> None:
            current_plan_name.set("a")
            outer, generator = opened("b"), holding("a")
            next(generator)
            inner = opened("c")
            abandon(generator)
            leave(outer)
            assert held() == "c"
            leave(inner)
            assert held() == "a"

        fresh(body)

    def test_below_what_an_open_block_has_inherited(self) -> None:
        generator = holding("lost")
        next(generator)
        middle, inner = opened("middle"), opened("inner")
        leave(middle)
        abandon(generator)
        leave(inner)
        assert held() == UNSET

    def test_not_if_the_variable_was_set_raw_since(self) -> None:
        def body() -> None:
            generator = holding("lost")
            next(generator)
            abandon(generator)
            current_plan_name.set("raw")
            with plan_context("next"):
                assert held() == "next"
            assert held() == "raw"

        fresh(body)

    def test_not_if_set_raw_before_the_block_above(self) -> None:
        def body() -> None:
            generator = holding("lost")
            next(generator)
            current_plan_name.set("raw")
            block = opened("above")
            abandon(generator)
            with TenantContext("t"):
                assert held() == "above"
            leave(block)
            assert held() == "raw"

        fresh(body)

    def test_a_skipped_block_has_nothing_to_put_right(self) -> None:
        with plan_context("same"):
            generator = holding("same")
            next(generator)
            abandon(generator)
            with TenantContext("t"):
                assert held() == "same"
        assert held() == UNSET

    def test_a_skipped_block_that_has_inherited(self) -> None:
        first = opened("name")
        generator = holding("".join(["na", "me"]))
        next(generator)
        leave(first)
        abandon(generator)
        with TenantContext("t"):
            assert held() == UNSET

    def test_a_child_does_not_put_right_what_is_its_parents(self) -> None:
        generator = holding("lost")
        next(generator)
        abandon(generator)

        def child() -> None:
            for _ in range(2):
                with plan_context("child"):
                    assert held() == "child"
                assert held() == "lost"

        copied(child)
        with TenantContext("t"):
            assert held() == UNSET

    def test_a_child_below_an_open_block(self) -> None:
        generator = holding("lost")
        next(generator)
        block = TenantContext("open").__enter__()
        abandon(generator)

        def child() -> None:
            with plan_context("child"):
                assert active_contexts()[0] is block
            assert held() == "lost"

        copied(child)
        leave(block)
        assert held() == UNSET

    def test_collected_as_part_of_a_cycle(self) -> None:
        def enter_in_a_cycle() -> None:
            generator = holding("lost")
            cycle: list[object] = [generator]
            cycle.append(cycle)
            next(generator)

        enter_in_a_cycle()
        assert held() == "lost"
        fresh(gc.collect)
        with TenantContext("t"):
            assert held() == UNSET

    def test_a_shared_instance_is_never_taken_for_abandoned(self) -> None:
        shared = plan_context("shared")

        def generator() -> Generator[None, None, None]:
            with shared:
                yield

        held_open = generator()
        next(held_open)
        fresh(held_open.close)
        gc.collect()
        with TenantContext("t"):
            assert held() == "shared"
        leave(shared)
        assert held() == UNSET

    def test_where_warnings_are_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        caught: list[type[BaseException]] = []

        def hook(args: sys.UnraisableHookArgs) -> None:
            caught.append(args.exc_type)  # the error itself would keep the context

        monkeypatch.setattr(sys, "unraisablehook", hook)
        generator = holding("lost")
        next(generator)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            abandon(generator)
        assert caught == [ForeignExitWarning]
        with TenantContext("t"):
            assert held() == UNSET


class TestAsyncR11Abandoned:
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_finalised_by_a_task_of_the_loop(self) -> None:
        async def main() -> None:
            async with plan_context("outer"):
                async for _ in async_holding("lost"):
                    break
                gc.collect()
                for _ in range(3):  # the finaliser's task, and what it awaits
                    await asyncio.sleep(0)
                async with TenantContext("t"):
                    assert held() == "outer"
            assert held() == UNSET

        asyncio.run(main())


class TestR11KeyboardInterrupt:
    """A signal can strike between any two instructions of entering and leaving."""

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    @pytest.mark.parametrize("around", [[], ["outer"], ["p", "outer"]])
    def test_the_next_block_puts_all_right(
        self, before: str, around: list[str]
    ) -> None:
        def enter_and_leave() -> None:
            with ExitStack() as stack:
                for name in around:
                    stack.enter_context(plan_context(name))
                with plan_context("p"):
                    pass

        def body(step: int) -> bool:
            if before != UNSET:
                current_plan_name.set(before)
            struck = struck_at(step, enter_and_leave)
            gc.collect(0)  # the traceback has held the context
            with TenantContext("t"):
                # Without its token a variable cannot be unset; it has its default.
                assert held() in ({UNSET, None} if before == UNSET else {before})
                assert len(active_contexts()) == 1
            assert held(current_tenant) == UNSET
            return struck

        assert strikes(body) > 100

    def test_a_shared_instance_can_be_left_by_hand(self) -> None:
        shared = plan_context("shared")

        def enter_and_leave() -> None:
            with shared:
                pass

        def body(step: int) -> bool:
            current_plan_name.set("before")
            struck = struck_at(step, enter_and_leave)
            while active_contexts() or held() == "shared":
                leave(shared)
            with TenantContext("t"):
                assert held() == "before"
            return struck

        assert strikes(body) > 100


class TestR1Properties:
    """What a context binds may be computed, and with the help of the library."""

    def test_a_value_that_uses_blocks(self) -> None:
        class Computed(TenantContext):
            def __init__(self) -> None:
                self.reads = 0

            @property
            def value(self) -> str | None:
                self.reads += 1
                a, b = opened("a"), opened("b")
                leave(a)
                leave(b)
                return "t"

            @value.setter
            def value(self, value: str | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - what is tested
                pass

        with Computed() as context:
            assert (held(current_tenant), context.reads) == ("t", 1)
        assert (held(current_tenant), held()) == (UNSET, UNSET)


class TestR1Finalisers:
    """What is finalised may use the library. Garbage is collected where something is
    made, which in the usual path are calls.
    """

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    def test_one_that_retires_blocks(self, before: str) -> None:
        elsewhere = Context()

        def finalise() -> None:
            elsewhere.run(opened, "abandoned")
            with plan_context("cleanup"):
                assert held() == "cleanup"

        def body(step: int) -> bool:
            if before != UNSET:
                current_plan_name.set(before)
            counter = InstructionCounter(step, finalise, after_calls=True)
            with counter, plan_context("p") as block:
                inside = held(), active_contexts()
            assert inside == ("p", (block,))
            assert held() == before
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 5

    @pytest.mark.parametrize("below", ["below", "p"])
    def test_one_that_leaves_the_block_below(self, below: str) -> None:
        def body(step: int) -> bool:
            generator = holding(below)
            next(generator)
            counter = InstructionCounter(step, generator.close, after_calls=True)
            with counter, plan_context("p") as block:
                inside = held(), active_contexts()[-1]
            generator.close()
            assert inside == ("p", block)
            assert held() in (UNSET, None)  # the token may be lost, as to a signal
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 5

    def test_one_that_leaves_the_block_below_during_an_exit(self) -> None:
        def body(step: int) -> bool:
            generator = holding("p")
            next(generator)
            block = opened("p")  # which has nothing to reset
            counter = InstructionCounter(step, generator.close, after_calls=True)
            with counter:
                leave(block)
            generator.close()
            assert held() in (UNSET, None)
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 3

    def test_one_that_tidies_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is wrong then, and nothing is left that would have to be tidied: else
        two threads could send each other back for ever.
        """
        elsewhere, settle = Context(), _stack.settle
        settled: list[object] = []

        def count(top: Any) -> Any:
            settled.append(top)
            return settle(top)

        def finalise() -> None:
            blocks = [elsewhere.run(opened, name) for name in "ab"]
            for block in blocks:
                elsewhere.run(leave, block)
            settled.clear()

        def body(step: int) -> bool:
            counter = InstructionCounter(step, finalise, after_calls=True)
            with counter, plan_context("p") as block:
                assert (held(), active_contexts()) == ("p", (block,))
            assert (held(), active_contexts()) == (UNSET, ())
            assert settled == []
            return counter.left <= 0

        monkeypatch.setattr(_stack, "settle", count)

        assert strikes(body) > 5

    def test_in_a_step(self) -> None:
        elsewhere = Context()

        @plan_context("rows")
        def rows() -> Generator[str]:
            yield held()

        def finalise() -> None:
            elsewhere.run(opened, "abandoned")
            with plan_context("cleanup"):
                pass

        def body(step: int) -> bool:
            with plan_context("consumer") as consumer:
                counter = InstructionCounter(step, finalise, after_calls=True)
                with counter:
                    assert list(rows()) == ["rows"]
                assert (held(), active_contexts()) == ("consumer", (consumer,))
            assert held() == UNSET
            return counter.left <= 0

        assert strikes(body) > 5


def strikes(body: Callable[[int], bool]) -> int:
    """Run it for one step after the other until there is none; return how many."""
    step = 1
    while Context().run(body, step):
        step += 1
    return step


@cache
def after_calls(code: CodeType) -> set[int]:
    """Return where in the code a call has just returned."""
    pairs = pairwise(dis.get_instructions(code))
    return {each.offset for last, each in pairs if last.opname.startswith("CALL")}


def strike() -> None:
    raise KeyboardInterrupt


def struck_at(step: int, function: Callable[[], None]) -> bool:
    """Run the function; raise KeyboardInterrupt at that instruction of the stack."""
    with InstructionCounter(step, strike):
        try:
            function()
        except KeyboardInterrupt:
            return True
    return False


if sys.version_info >= (3, 12):

    class InstructionCounter:
        """Acts at the given instruction of entering and leaving."""

        CODES = (
            _stack.Enterable.__enter__.__code__,
            _stack.Enterable.__exit__.__code__,
            _stack._close.__code__,
        )

        def __init__(
            self, step: int, act: Callable[[], None], *, after_calls: bool = False
        ) -> None:
            self.left = step
            self.act = act
            self.after_calls = after_calls

        def __enter__(self) -> Self:
            monitoring = sys.monitoring
            monitoring.use_tool_id(4, "strike")
            event = monitoring.events.INSTRUCTION
            monitoring.register_callback(4, event, self.count)
            for code in self.CODES:
                monitoring.set_local_events(4, code, event)
            return self

        def __exit__(self, *exc: object) -> None:
            for code in self.CODES:
                sys.monitoring.set_local_events(4, code, 0)
            sys.monitoring.free_tool_id(4)

        def count(self, code: CodeType, offset: int) -> None:
            if self.after_calls and offset not in after_calls(code):
                return
            self.left -= 1
            if self.left == 0:
                self.act()

else:

    class InstructionCounter:
        """Acts at the given instruction of the stack's module."""

        def __init__(
            self, step: int, act: Callable[[], None], *, after_calls: bool = False
        ) -> None:
            self.left = step
            self.act = act
            self.after_calls = after_calls

        def __enter__(self) -> Self:
            self.before = sys.gettrace()
            sys.settrace(self.trace)
            return self

        def __exit__(self, *exc: object) -> None:
            sys.settrace(self.before)

        def trace(self, frame: FrameType, event: str, _: object) -> Any:
            if frame.f_globals.get("__name__") != _stack.__name__:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            points = after_calls(frame.f_code) if self.after_calls else {frame.f_lasti}
            if event == "opcode" and frame.f_lasti in points:
                self.left -= 1
                if self.left == 0:
                    self.act()
            return self.trace


class TestR12NoIdentity:
    def test_one_context_stepped_by_several_threads(self) -> None:
        """A Context may wander between threads, as greenlets' and runners' do."""
        context = Context()
        block = context.run(opened, "p")
        thread = threading.Thread(target=context.run, args=(leave, block))
        thread.start()
        thread.join()
        assert current_plan_name not in context
