"""Rules R1 to R10 and R12: entering and leaving."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import subprocess
import sys
import threading
import warnings

from contextlib import ExitStack
from contextvars import Context, copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aura_context import (
    ForeignExitWarning,
    PlanContext,
    _stack,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    Boom,
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
    needs,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Self


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

    def test_a_raw_reset_inside_is_put_back(self) -> None:
        """What it held before is restored, also where it is unset at the end."""

        def run() -> None:
            nothing: Any = None  # which is not the default
            token = current_run.set(nothing)
            with RunContext(nothing):
                current_run.reset(token)
                assert current_run.get() == 0
            assert current_run.get() is None

        fresh(run)


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
    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    @pytest.mark.parametrize("raw", [None, "raw"])
    def test_an_inherited_block_is_left_in_the_copy_alone(
        self, before: str, raw: str | None
    ) -> None:
        if before != UNSET:
            current_plan_name.set(before)
        block = opened("p")

        def elsewhere() -> None:
            if raw:
                current_plan_name.set(raw)
            with pytest.warns(ForeignExitWarning, match=r"Context\('p'\) was left"):
                leave(block)
            # Nothing can unset a variable; its default reads the same.
            assert held() == (None if before == UNSET else before)
            assert active_contexts() == ()
            with pytest.warns(ForeignExitWarning):  # it is left here already
                leave(block)

        copied(elsewhere)
        assert (held(), active_contexts()) == ("p", (block,))
        leave(block)
        assert held() == before

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_an_inherited_block_whose_variable_was_reset_raw(self) -> None:
        """What it held before is restored, also where it is unset now."""

        def elsewhere() -> object:
            leave(block)
            return current_run.get()

        zero: Any = None  # which is not the default
        token = current_run.set(zero)
        block = RunContext(7).__enter__()
        current_run.reset(token)
        assert copied(elsewhere) is None
        leave(block)

    def test_two_inherited_blocks_are_left_innermost_first(self) -> None:
        with plan_context("outer") as outer, TenantContext("t") as inner:

            def elsewhere() -> None:
                for block in (outer, inner, outer):
                    with pytest.warns(ForeignExitWarning):
                        leave(block)
                    seen.append((held(), held(current_tenant)))

            seen: list[object] = []
            copied(elsewhere)
            assert seen == [("outer", "t"), ("outer", None), (None, None)]

    def test_below_a_block_of_the_copy_it_stays(self) -> None:
        with plan_context("p") as block:

            def elsewhere() -> None:
                with TenantContext("t"):
                    with pytest.warns(ForeignExitWarning):
                        leave(block)
                    assert held() == "p"

            copied(elsewhere)

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_below_an_abandoned_block_of_the_copy_it_is_left(self) -> None:
        with plan_context("p") as block:

            def elsewhere() -> None:
                generator = holding("lost")
                next(generator)
                abandon(generator)
                leave(block)
                assert (held(), active_contexts()) == (None, ())

            copied(elsewhere)

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

    def test_pointing_at_what_closes_an_exit_stack(self) -> None:
        """A line of contextlib tells nothing about who has left the block."""
        stack = ExitStack()
        block = plan_context("p")
        Context().run(stack.enter_context, block)
        with pytest.warns(ForeignExitWarning, match=re.escape(__file__)) as record:
            stack.close()
        assert record[0].filename == __file__

    def test_it_says_what_happened_and_what_to_do(self) -> None:
        block = opened("p")
        with pytest.warns(ForeignExitWarning) as record:
            fresh(lambda: leave(block))
        leave(block)
        [message] = [str(each.message) for each in record]
        assert re.sub(r"at \S+:\d+,", "at FILE:LINE,", message) == (
            "PlanContext('p') was left where it has no open block: at FILE:LINE, the "
            "Context has not entered it, or has left it already. Enter and leave a "
            "block in the same task or thread. If a generator holds it across a yield "
            "and ends elsewhere, decorate the generator instead"
        )

    @needs("greenlet")
    def test_where_nothing_but_the_package_runs(self) -> None:
        from greenlet import greenlet  # noqa: PLC0415 - some Pythons have none

        block = opened("p")
        with pytest.warns(ForeignExitWarning, match="block: at the end, the"):
            greenlet(block.__exit__).switch(None, None, None)
        leave(block)

    @pytest.mark.parametrize("frames", ["tracemalloc", "tracemalloc=5"])
    def test_with_tracemalloc_it_says_where_the_context_was_made(
        self, tmp_path: Path, frames: str
    ) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "from aura_context import plan_context\n"
            "block = plan_context('p')  # made here\n"
            "block.__exit__(None, None, None)  # left here\n"
        )
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-X", frames, "-W", "default", script],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        assert "# made here" in done.stderr
        assert "# left here" in done.stderr

    def test_at_the_end_of_the_program_it_is_silent(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "from contextvars import Context\n"
            "from aura_context import plan_context\n"
            "def holding():\n"
            "    with plan_context('p'):\n"
            "        yield\n"
            "cycle = [holding()]\n"
            "cycle.append(cycle)\n"
            "Context().run(next, cycle[0])\n"
        )
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, script], capture_output=True, encoding="utf-8", check=True
        )
        assert done.stderr == ""

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

    def test_a_broken_description_does_not_lead_into_the_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(PlanContext):
            def describe(self) -> str:
                raise Boom

        caught: list[sys.UnraisableHookArgs] = []
        monkeypatch.setattr(sys, "unraisablehook", caught.append)
        block = Broken("p").__enter__()
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

        thread = threading.Thread(target=Context().run, args=(collect,))
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
        assert closed == [None]  # left in the finaliser's task, a copy
        assert errors == []


class TestR5NeverEntered:
    def test_it_only_warns(self) -> None:
        with plan_context("p"):
            with pytest.warns(ForeignExitWarning, match=r"PlanContext\('q'\)"):
                leave(plan_context("q"))
            assert held() == "p"


class TestAsyncR5NeverEntered:
    def test_it_only_warns(self) -> None:
        async def main() -> None:
            await plan_context("p").__aexit__(None, None, None)

        with pytest.warns(ForeignExitWarning):
            asyncio.run(main())


class TestR7ForeignExit:
    def test_lets_the_exception_pass(self) -> None:
        block = opened("p")
        with pytest.warns(ForeignExitWarning):
            swallowed = copied(lambda: block.__exit__(Boom, Boom(), None))
        assert not swallowed
        leave(block)


class TestR4Cost:
    def test_whose_a_block_is_is_asked_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Later exits out of order ask only about the block and its heir."""
        asked: list[object] = []
        belongs_here = _stack.Entry.belongs_here

        def asking(entry: _stack.Entry) -> bool:
            asked.append(entry)
            return belongs_here(entry)

        blocks = [opened(str(number)) for number in range(10)]
        leave(blocks[0])
        monkeypatch.setattr(_stack.Entry, "belongs_here", asking)
        leave(blocks[1])
        assert len(asked) == 2
        for block in blocks[2:]:
            leave(block)
        assert held() == UNSET

    def test_what_a_block_did_is_undone_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is looked at again only if other code runs in the middle."""
        undone: list[object] = []
        undo = _stack.undo

        def undoing(part: Any, heir: Any, top: object) -> bool:
            undone.append(part)
            return undo(part, heir, top)

        monkeypatch.setattr(_stack, "undo", undoing)
        for above in (TenantContext("t"), plan_context("above"), plan_context("p")):
            block = opened("p")
            with above:
                leave(block)
        assert len(undone) == 3
        assert (held(), held(current_tenant)) == (UNSET, UNSET)


class TestR5Leftovers:
    """What a request or task leaves open is left where it ends, and nowhere else."""

    def test_where_the_block_is_not_open(self) -> None:
        with plan_context("p"), TenantContext("t"):
            before = active_contexts()
            _stack.leave_leftovers(plan_context("p"))
            assert active_contexts() == before

    def test_in_a_context_that_inherited_the_block(self) -> None:
        def child() -> None:
            with TenantContext("child"):
                before = active_contexts()
                _stack.leave_leftovers(outer)
                assert active_contexts() == before
                assert held(current_tenant) == "child"

        with plan_context("p") as outer:
            TenantContext("t").__enter__()
            copied(child)
            _stack.leave_leftovers(outer)
            assert active_contexts() == (outer,)
            assert held(current_tenant) == UNSET


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


class TestR12NoIdentity:
    def test_one_context_stepped_by_several_threads(self) -> None:
        """A Context may wander between threads, as greenlets' and runners' do."""
        context = Context()
        block = context.run(opened, "p")
        thread = threading.Thread(target=context.run, args=(leave, block))
        thread.start()
        thread.join()
        assert current_plan_name not in context
