"""Rules F1 to F5: contexts as decorators, for functions of all kinds."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import operator
import sys
import threading
import types
import weakref

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import pytest

from typing_extensions import override

from aura_context import (
    ForeignExitWarning,
    PlanContext,
    _stack,
    _steps,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    TenantContext,
    copied,
    current_tenant,
    fresh,
    held,
    holding,
    leave,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from typing import Self


P = ParamSpec("P")
R = TypeVar("R")
Values: TypeAlias = Generator[Any, Any, Any]
AsyncValues: TypeAlias = AsyncGenerator[Any, Any]
Elsewhere: TypeAlias = Callable[[Callable[[], object]], object]


class Boom(Exception):
    """An exception of the body, or of the consumer."""


class Thing:
    """Something that a weak reference can tell of."""


def read(*_: object) -> object:
    return held()


async def coroutine(*_: object) -> object:
    await anyio.lowlevel.checkpoint()
    return held()


def generator(*_: object) -> Values:
    yield held()


async def async_generator(*_: object) -> AsyncValues:
    await anyio.lowlevel.checkpoint()
    yield held()


KINDS: list[Callable[..., Any]] = [read, coroutine, generator, async_generator]
of_each_kind = pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)


async def collected(values: AsyncValues) -> list[object]:
    return [value async for value in values]


async def awaited(result: Awaitable[R]) -> R:
    return await result


def outcome(result: Any) -> object:
    """Return what one of the four says it has seen, run to its end."""
    if inspect.isgenerator(result):
        [result] = list(result)
    elif inspect.isasyncgen(result):
        [result] = asyncio.run(collected(result))
    elif inspect.isawaitable(result):
        result = asyncio.run(awaited(result))
    return result


def here(function: Callable[[], R]) -> R:
    """Return what the function returns."""
    return function()


def in_thread(function: Callable[[], R]) -> R:
    """Return what the function returns in a thread of its own."""
    results: list[R] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


class TestF1OnlyWhileItRuns:
    def test_a_plain_function(self) -> None:
        @plan_context("p")
        def work(number: int) -> tuple[int, object]:
            return number, held()

        assert work(1) == (1, "p")
        assert held() == UNSET

    def test_a_generator_hides_it_between_steps(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            for _ in range(2):
                yield held()

        seen: list[object] = []
        for row in rows():
            seen += [row, held(), active_contexts()]
        assert seen == ["p", UNSET, ()] * 2
        assert held() == UNSET

    def test_a_generator_sees_the_plan_that_its_consumer_has_not(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            while True:
                yield held(), len(active_contexts())

        steps = rows()
        assert next(steps) == ("p", 1)
        with plan_context("other"):
            assert next(steps) == ("p", 2)
            assert held() == "other"
            current_plan_name.set("raw")
            assert next(steps) == ("p", 2)
            assert held() == "raw"
        assert next(steps) == ("p", 1)
        steps.close()
        assert held() == UNSET

    @pytest.mark.parametrize("elsewhere", [copied, fresh, in_thread])
    def test_each_step_taken_elsewhere(self, elsewhere: Elsewhere) -> None:
        @plan_context("p")
        def rows() -> Values:
            try:
                yield held()
                with plan_context("inner"):
                    yield held()
                    yield held()
                yield held()
            finally:
                seen.append(held())

        def step() -> object:
            return next(steps, "end"), held()

        seen: list[object] = []
        steps = rows()
        taken = [elsewhere(step) for _ in range(5)]
        assert taken == [(v, UNSET) for v in ("p", "inner", "inner", "p", "end")]
        assert seen == ["p"]
        assert held() == UNSET

    def test_two_interleaved_by_one_consumer(self) -> None:
        def rows() -> Values:
            yield held()
            with plan_context("inner"):
                yield held()
            yield held()

        one, two = plan_context("one")(rows)(), plan_context("two")(rows)()
        assert [next(one), next(two)] == ["one", "two"]
        assert [next(one), next(two)] == ["inner", "inner"]
        assert held() == UNSET
        assert [next(one), next(two)] == ["one", "two"]
        one.close()
        two.close()

    def test_nothing_runs_before_the_first_step(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            seen.append(held())
            yield

        seen: list[object] = []
        rows().close()
        steps = rows()
        assert seen == []
        next(steps)
        assert seen == ["p"]

    def test_recursion(self) -> None:
        @plan_context("p")
        def countdown(depth: int) -> Values:
            yield depth, held(), len(active_contexts())
            if depth:
                yield from countdown(depth - 1)
            yield depth, held(), len(active_contexts())

        assert list(countdown(2)) == [
            (2, "p", 1),
            (1, "p", 2),
            (0, "p", 3),
            (0, "p", 3),
            (1, "p", 2),
            (2, "p", 1),
        ]
        assert held() == UNSET

    def test_one_step_inside_another(self) -> None:
        @plan_context("outer")
        def outer() -> Values:
            for row in inner():
                yield row, held()

        @plan_context("inner")
        def inner() -> Values:
            yield held()
            yield held()

        assert list(outer()) == [("inner", "outer")] * 2

    def test_a_generator_that_is_awaited(self) -> None:
        @plan_context("p")
        @types.coroutine
        def pause() -> Generator[None, None, object]:
            yield
            return held()

        async def main() -> object:
            return await pause(), held()

        assert asyncio.run(main()) == ("p", UNSET)

    def test_under_contextmanager_the_block_does_not_see_it(self) -> None:
        @contextmanager
        @plan_context("p")
        def manager() -> Generator[object, None, None]:
            yield held()

        with manager() as seen:
            assert (seen, held()) == ("p", UNSET)


class TestAsyncF1OnlyWhileItRuns:
    @pytest.mark.anyio
    async def test_a_coroutine_from_its_first_step_to_its_last(self) -> None:
        @plan_context("p")
        async def work() -> list[object]:
            before = held()
            await anyio.lowlevel.checkpoint()
            return [before, held()]

        unstarted = work()
        assert held() == UNSET
        assert await unstarted == ["p", "p"]
        assert held() == UNSET

    @pytest.mark.anyio
    async def test_coroutines_in_tasks_of_their_own(self) -> None:
        async def work(name: str, mine: anyio.Event, other: anyio.Event) -> None:
            mine.set()
            await other.wait()
            seen[name] = held()

        seen: dict[str, object] = {}
        here, there = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(plan_context("a")(work), "a", here, there)
            group.start_soon(plan_context("b")(work), "b", there, here)
        assert seen == {"a": "a", "b": "b"}

    @pytest.mark.anyio
    async def test_a_generator_hides_it_between_steps(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            for _ in range(2):
                await anyio.lowlevel.checkpoint()
                yield held()

        seen: list[object] = []
        async for row in rows():
            seen += [row, held(), active_contexts()]
        assert seen == ["p", UNSET, ()] * 2
        assert held() == UNSET

    @pytest.mark.anyio
    async def test_the_consumer_changes_the_plan_between_steps(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            while True:
                await anyio.lowlevel.checkpoint()
                yield held(), len(active_contexts())

        async with aclosing(rows()) as steps:
            assert await anext(steps) == ("p", 1)
            async with plan_context("other"):
                assert await anext(steps) == ("p", 2)
                current_plan_name.set("raw")
                assert await anext(steps) == ("p", 2)
                assert held() == "raw"
            assert await anext(steps) == ("p", 1)
        assert held() == UNSET

    def test_each_step_taken_by_another_task(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            try:
                yield held()
                async with plan_context("inner"):
                    yield held()
                    await asyncio.sleep(0)
                    yield held()
                yield held()
            finally:
                seen.append(held())

        async def step() -> object:
            return await anext(steps, "end"), held()

        async def main() -> list[object]:
            return [await asyncio.create_task(step()) for _ in range(5)]

        seen: list[object] = []
        steps = rows()
        taken = asyncio.run(main())
        assert taken == [(v, UNSET) for v in ("p", "inner", "inner", "p", "end")]
        assert seen == ["p"]

    @pytest.mark.anyio
    async def test_two_interleaved_by_one_consumer(self) -> None:
        async def rows() -> AsyncValues:
            yield held()
            async with plan_context("inner"):
                yield held()
            yield held()

        one, two = plan_context("one")(rows)(), plan_context("two")(rows)()
        for seen in (["one", "two"], ["inner", "inner"], ["one", "two"]):
            assert [await anext(one), await anext(two)] == seen
            assert held() == UNSET
        await one.aclose()
        await two.aclose()

    @pytest.mark.parametrize("names", ["ab", "aa"])
    @pytest.mark.parametrize("first", [0, 1])
    def test_steps_overlap_in_tasks_that_share_a_context(
        self, names: str, first: int
    ) -> None:
        """A step takes along what is its own, whichever of them ends first."""
        contexts = {name: plan_context(name) for name in names}

        async def rows(
            tenant: str, mine: asyncio.Event, go: asyncio.Event
        ) -> AsyncValues:
            async with TenantContext(tenant):
                mine.set()
                await go.wait()
                yield
                yield held(), held(current_tenant), len(active_contexts())
            yield held(), held(current_tenant), len(active_contexts())

        async def main() -> None:
            shared = contextvars.copy_context()
            inside = [asyncio.Event(), asyncio.Event()]
            go = [asyncio.Event(), asyncio.Event()]
            tasks: list[asyncio.Task[list[object]]] = []
            for name, tenant, mine, its in zip(names, "xy", inside, go, strict=True):
                steps = contexts[name](rows)(tenant, mine, its)
                task = asyncio.create_task(collected(steps), context=shared)
                await mine.wait()
                tasks.append(task)
            for index in (first, 1 - first):
                go[index].set()
                seen = await tasks[index]
                name, tenant = names[index], "xy"[index]
                # The other one's blocks are open until it has ended its step.
                more = 2 if index == first else 0
                assert seen == [
                    None,
                    (name, tenant, 2 + more),
                    (name, UNSET if not more else "yx"[index], 1 + more),
                ]
            assert shared.run(held) in (UNSET, None)
            assert shared.run(active_contexts) == ()

        asyncio.run(main())


class TestF2BlocksOfTheBody:
    @staticmethod
    def body(seen: list[object]) -> Values:
        try:
            with plan_context("inner"), TenantContext("t"):
                try:
                    yield held()
                finally:
                    seen += [held(), held(current_tenant)]
        finally:
            seen += [held(), held(current_tenant)]

    @pytest.mark.parametrize("elsewhere", [here, copied, fresh, in_thread])
    @pytest.mark.parametrize("how", ["close", "throw", "exhaustion", "drop", "cycle"])
    def test_left_in_any_way_anywhere(self, how: str, elsewhere: Elsewhere) -> None:
        def begin() -> list[Any]:
            steps = plan_context("p")(self.body)(seen)
            assert next(steps) == "inner"
            return [steps]

        def end() -> object:
            outer = opened("consumer")
            match how:
                case "close":
                    kept[0].close()
                case "throw":
                    with pytest.raises(Boom):
                        kept[0].throw(Boom)
                case "exhaustion":
                    assert next(kept[0], None) is None
                case "drop":
                    kept.clear()
                case _:
                    cycle: list[object] = [*kept]
                    cycle.append(cycle)
                    kept.clear()
                    del cycle
            gc.collect()
            assert held() == "consumer"
            leave(outer)
            return held(), held(current_tenant), active_contexts()

        seen: list[object] = []
        kept = begin()
        assert (held(), held(current_tenant)) == (UNSET, UNSET)
        assert elsewhere(end) == (UNSET, UNSET, ())
        assert seen == ["inner", "t", "p", UNSET]
        assert held() == UNSET

    def test_in_a_cycle_with_its_own_function(self) -> None:
        """The collector clears weak references to all that is in the cycle."""

        def begin() -> None:
            @plan_context("p")
            def rows(_: object) -> Values:
                yield from self.body(seen)

            cycle: list[object] = []
            steps = rows(cycle)
            next(steps)
            cycle.append(steps)

        seen: list[object] = []
        begin()
        gc.collect()
        assert seen == ["inner", "t", "p", UNSET]

    def test_the_consumers_blocks_stay(self) -> None:
        with plan_context("consumer"):
            steps = plan_context("p")(self.body)([])
            next(steps)
            block = opened("another")
            assert [each.value for each in active_contexts()] == ["consumer", "another"]
            steps.close()
            assert [each.value for each in active_contexts()] == ["consumer", "another"]
            leave(block)
        assert held() == UNSET

    def test_a_block_that_is_left_by_a_later_step_elsewhere(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            first, second = opened("first"), opened("second")
            yield held()
            leave(first)
            yield held()
            leave(second)
            yield held()

        steps = rows()
        assert [copied(lambda: next(steps)) for _ in range(3)] == [
            "second",
            "second",
            "p",
        ]

    def test_a_block_that_the_body_abandons_does_not_count(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            plan_context("lost").__enter__()
            yield held()
            yield held()

        steps = rows()
        assert next(steps) == "lost"
        gc.collect()
        assert held() == UNSET
        assert next(steps) == "p"
        steps.close()

    def test_a_raw_set_over_a_block_that_the_body_abandons_stays(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            plan_context("lost").__enter__()
            current_plan_name.set("raw")
            yield held()
            yield held()

        seen: list[object] = []
        for row in rows():
            seen += [row, held()]
        assert seen == ["raw", UNSET] * 2

    def test_a_raw_set_stays_with_the_generator(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            token = current_plan_name.set("raw")
            yield held()
            with plan_context("inner"):
                current_plan_name.set("raw inside")
                yield held()
                yield held()
            yield held()
            current_plan_name.reset(token)
            yield held()

        seen: list[object] = []
        for row in rows():
            seen.append(row)
            assert held() == UNSET
        assert seen == ["raw", "raw inside", "raw inside", "raw", "p"]

    def test_a_raw_reset_to_before_the_step_reads_as_the_default(self) -> None:
        def rows(token: contextvars.Token[str | None]) -> Values:
            current_plan_name.reset(token)
            yield held()
            yield held()

        def consume() -> None:
            token = current_plan_name.set("raw")
            assert list(plan_context("p")(rows)(token)) == [UNSET, None]
            assert held() == "raw"

        fresh(consume)

    def test_variables_of_others_flow_both_ways(self) -> None:
        other: ContextVar[int] = ContextVar("other", default=0)

        @plan_context("p")
        def rows() -> Values:
            while True:
                yield other.get()
                other.set(other.get() + 1)

        def consume() -> None:
            steps = rows()
            assert next(steps) == 0
            other.set(10)
            assert next(steps) == 11
            assert other.get() == 11
            current_tenant.set("raw")
            next(steps)
            assert current_tenant.get() == "raw"

        fresh(consume)

    def test_a_body_that_leaves_more_than_it_entered(self) -> None:
        shared = plan_context("p")

        @shared
        def rows() -> Values:
            leave(shared)
            yield held()
            yield held()

        assert list(rows()) == [UNSET, "p"]
        assert held() == UNSET

    def test_the_body_leaves_a_block_of_another_context(self) -> None:
        block = plan_context("p")

        @block
        def rows() -> Values:
            with pytest.warns(ForeignExitWarning):
                leave(fresh(lambda: opened("elsewhere")))
            with pytest.warns(ForeignExitWarning):
                copied(lambda: leave(block))
            yield held()

        assert list(rows()) == ["p"]

    def test_undecorated_generators_inside(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            yield from holding("inner")
            yield held()

        seen: list[object] = []
        for row in rows():
            seen += [row, held()]
        assert seen == [None, UNSET, None, UNSET, "p", UNSET]

    def test_a_block_that_is_abandoned_while_it_is_lifted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As by the garbage collector, which may find its context just then."""
        by_hand = [TenantContext("t")]

        @plan_context("p")
        def rows() -> Values:
            by_hand[0].__enter__()
            yield held(current_tenant)
            yield held(current_tenant)

        def drop(entry: _stack.Entry) -> object:
            by_hand.clear()
            gc.collect()
            return _stack.current(entry)

        monkeypatch.setattr(_steps, "current", drop)
        assert list(rows()) == ["t", UNSET]
        assert held(current_tenant) == UNSET

    def test_a_step_does_not_walk_over_the_consumers_blocks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R8: what a step costs does not depend on how many blocks are open."""
        steps = plan_context("p")(holding)("inner")
        with plan_context("outer"):
            next(steps)
            monkeypatch.setattr(_steps, "settle", pytest.fail)
            next(steps)
            steps.close()


class TestAsyncF2BlocksOfTheBody:
    @staticmethod
    async def body(seen: list[object]) -> AsyncValues:
        try:
            async with plan_context("inner"), TenantContext("t"):
                try:
                    yield held()
                finally:
                    await asyncio.sleep(0)
                    seen += [held(), held(current_tenant)]
        finally:
            seen += [held(), held(current_tenant)]

    @pytest.mark.parametrize("in_task", [False, True])
    @pytest.mark.parametrize("how", ["aclose", "athrow", "exhaustion"])
    def test_left_in_any_way_anywhere(self, how: str, *, in_task: bool) -> None:
        async def end(steps: AsyncValues) -> None:
            async with plan_context("consumer"):
                match how:
                    case "aclose":
                        await steps.aclose()
                    case "athrow":
                        with pytest.raises(Boom):
                            await steps.athrow(Boom())
                    case _:
                        assert await anext(steps, None) is None
                assert held() == "consumer"
            assert (held(), held(current_tenant)) == (UNSET, UNSET)

        async def main() -> None:
            steps = plan_context("p")(self.body)(seen)
            assert await anext(steps) == "inner"
            assert (held(), held(current_tenant)) == (UNSET, UNSET)
            await (asyncio.create_task(end(steps)) if in_task else end(steps))
            assert held() == UNSET

        seen: list[object] = []
        asyncio.run(main())
        assert seen == ["inner", "t", "p", UNSET]

    @pytest.mark.anyio
    async def test_variables_of_others_flow_both_ways(self) -> None:
        other: ContextVar[int] = ContextVar("other", default=0)

        @plan_context("p")
        async def rows() -> AsyncValues:
            while True:
                await anyio.lowlevel.checkpoint()
                yield other.get()
                other.set(other.get() + 1)

        async with aclosing(rows()) as steps:
            assert await anext(steps) == 0
            other.set(10)
            assert await anext(steps) == 11
            assert other.get() == 11

    @pytest.mark.parametrize("elsewhere", [copied, fresh])
    def test_a_step_that_goes_on_in_another_context(self, elsewhere: Elsewhere) -> None:
        @types.coroutine
        def pause() -> Generator[None, None, None]:
            yield

        @plan_context("p")
        async def rows() -> AsyncValues:
            await pause()
            yield
            yield held()

        def go_on() -> None:
            current_plan_name.set("of another")
            with pytest.raises(StopIteration):
                step.send(None)
            assert held() == "of another"

        def begin() -> None:
            step.send(None)
            elsewhere(go_on)

        steps = rows()
        step = steps.asend(None)
        fresh(begin)
        with pytest.raises(StopIteration) as stop:
            anext(steps).send(None)
        assert stop.value.value == "p"
        assert held() == UNSET
        with pytest.raises(StopIteration):
            steps.aclose().send(None)


class TestF3AsUndecorated:
    @staticmethod
    def both(body: Callable[P, Values]) -> Iterator[Callable[P, Values]]:
        yield body
        yield plan_context("p")(body)

    def test_send_throw_close_and_return(self) -> None:
        def body() -> Values:
            total = 0
            while True:
                try:
                    sent = yield total
                except Boom as error:
                    sent = error.args[0]
                if sent is None:
                    return total
                total += sent

        for rows in self.both(body):
            steps = rows()
            assert [next(steps), steps.send(1), steps.throw(Boom(10))] == [0, 1, 11]
            with pytest.raises(StopIteration) as stop:
                next(steps)
            assert stop.value.value == 11
            assert next(steps, "exhausted") == "exhausted"
            steps = rows()
            next(steps)
            with pytest.raises(KeyError):
                steps.throw(KeyError)
            unstarted = rows()
            with pytest.raises(Boom):
                unstarted.throw(Boom())
            assert next(unstarted, "exhausted") == "exhausted"
            with pytest.raises(TypeError, match="just-started"):
                rows().send(1)

    def test_yield_from_both_ways(self) -> None:
        def part(value: object) -> Values:
            sent = yield value, held()
            with pytest.raises(Boom):
                yield sent, held()
            return "returned"

        def body() -> Values:
            seen = yield from plan_context("part")(part)(1)
            yield seen, held()

        steps = plan_context("whole")(body)()
        assert next(steps) == (1, "part")
        assert steps.send(2) == (2, "part")
        assert steps.throw(Boom()) == ("returned", "whole")
        assert next(steps, None) is None

    @pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(1)])
    def test_raising_what_ends_a_loop(self, error: Exception) -> None:
        def body() -> Values:
            yield
            raise error

        for rows in self.both(body):
            if isinstance(error, StopIteration):
                with pytest.raises(RuntimeError, match="raised StopIteration"):
                    list(rows())
                steps = rows()
                next(steps)
                with pytest.raises(RuntimeError, match="raised StopIteration"):
                    steps.throw(error)
            else:
                with pytest.raises(StopAsyncIteration):
                    list(rows())

    def test_ignoring_generator_exit(self) -> None:
        def body() -> Values:
            while True:
                try:
                    yield held()
                except GeneratorExit:
                    if seen:
                        raise
                    seen.append(held())

        for rows, plan in zip(self.both(body), [UNSET, "p"], strict=True):
            seen: list[object] = []
            steps = rows()
            next(steps)
            with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
                steps.close()
            assert seen == [plan]
            assert next(steps) == plan
            steps.close()

    def test_returning_at_close(self) -> None:
        def body() -> Values:
            try:
                yield
            except GeneratorExit:
                return "value"

        closed: list[object] = []
        for rows in self.both(body):
            steps = rows()
            next(steps)
            close: Any = steps.close  # returns the value from Python 3.13 on
            closed.append(close())
        assert closed[0] == closed[1]

    def test_finalised_once_by_break(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            try:
                yield 1
                yield 2
            finally:
                seen.append(held())

        seen: list[object] = []
        for _ in rows():
            break
        gc.collect()
        assert seen == ["p"]
        assert held() == UNSET

    @pytest.mark.parametrize("thrown", [False, True])
    def test_exceptions_are_the_bodys_own(self, *, thrown: bool) -> None:
        def body() -> Values:
            yield
            raise Boom

        lines: list[list[int]] = []
        for rows in self.both(body):
            steps = rows()
            next(steps)
            step = partial(steps.throw, Boom()) if thrown else partial(next, steps)
            with pytest.raises(Boom) as caught:
                step()
            error = caught.value
            assert (error.__context__, error.__cause__) == (None, None)
            lines.append(user_lines(error))
        assert lines[0] == lines[1]

    def test_a_plain_function_adds_one_frame(self) -> None:
        def body() -> None:
            raise Boom

        with pytest.raises(Boom) as caught:
            plan_context("p")(body)()
        assert user_lines(caught.value)[-1] == body.__code__.co_firstlineno + 1
        assert caught.value.__context__ is None

    def test_what_is_being_handled_is_the_context_of_what_is_raised(self) -> None:
        def body() -> Values:
            yield
            raise Boom

        def step_while_handling(steps: Values, error: Exception) -> None:
            try:
                raise error
            except KeyError:
                next(steps)

        for rows in self.both(body):
            steps = rows()
            next(steps)
            error = KeyError()
            with pytest.raises(Boom) as caught:
                step_while_handling(steps, error)
            assert caught.value.__context__ is error

    def test_nothing_is_retained(self) -> None:
        def body() -> Values:
            while True:
                with suppress(Boom):
                    yield Thing()

        for rows in self.both(body):
            steps = rows()
            yielded = weakref.ref(next(steps))
            assert yielded() is None
            sent = Thing()
            steps.send(sent)
            gone = weakref.ref(sent)
            del sent
            assert gone() is None
            error = Boom()
            steps.throw(error)
            thrown = weakref.ref(error)
            del error
            gc.collect()
            assert thrown() is None
            steps.close()

    def test_the_decorated_function_may_go_first(self) -> None:
        steps = plan_context("p")(generator)()
        gc.collect()
        assert list(steps) == ["p"]

    def test_already_executing(self) -> None:
        def body() -> Values:
            yield next(kept[0])

        for rows in self.both(body):
            kept = [rows()]
            with pytest.raises(ValueError, match="already executing"):
                next(kept[0])


def user_lines(error: BaseException) -> list[int]:
    """Return the lines of this file in the traceback, and see one frame at most."""
    frames: list[tuple[str, int]] = []
    traceback = error.__traceback__
    while traceback:
        frames.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    ours = [name for name, _ in frames if name != frames[0][0]]
    assert len(ours) <= 1
    return [line for name, line in frames if name == frames[0][0]][1:]


class TestAsyncF3AsUndecorated:
    @pytest.mark.parametrize("where", [copied, fresh, operator.call])
    def test_dropped_with_its_context_in_the_middle_of_a_step(
        self, where: Callable[[Callable[[], object]], object]
    ) -> None:
        @types.coroutine
        def pause() -> Generator[None, None, None]:
            yield

        def drop() -> None:
            @plan_context("p")
            async def rows() -> AsyncValues:
                await pause()
                yield

            steps = rows()
            step = steps.asend(None)
            step.send(None)
            cycle: list[object] = [rows, steps, step]
            cycle.append(cycle)

        def run() -> None:
            drop()
            where(gc.collect)  # pytest tells of what is raised here
            with TenantContext("t"):
                assert held() == UNSET

        fresh(run)

    @staticmethod
    def both(body: Callable[P, AsyncValues]) -> Iterator[Callable[P, AsyncValues]]:
        yield body
        yield plan_context("p")(body)

    @pytest.mark.anyio
    async def test_asend_athrow_and_aclose(self) -> None:
        async def body() -> AsyncValues:
            total = 0
            while True:
                try:
                    sent = yield total
                except Boom as error:
                    sent = error.args[0]
                await anyio.lowlevel.checkpoint()
                if sent is None:
                    return
                total += sent

        for rows in self.both(body):
            steps = rows()
            assert await anext(steps) == 0
            assert await steps.asend(1) == 1
            assert await steps.athrow(Boom(10)) == 11
            with pytest.raises(StopAsyncIteration):
                await anext(steps)
            assert await anext(steps, "exhausted") == "exhausted"
            steps = rows()
            await anext(steps)
            with pytest.raises(KeyError):
                await steps.athrow(KeyError())
            await steps.aclose()
            unstarted = rows()
            with pytest.raises(Boom):
                await unstarted.athrow(Boom())
            await rows().aclose()

    @pytest.mark.anyio
    async def test_async_for_inside(self) -> None:
        @plan_context("part")
        async def part() -> AsyncValues:
            yield held()
            await anyio.lowlevel.checkpoint()
            yield held()

        @plan_context("whole")
        async def rows() -> AsyncValues:
            async for value in part():
                yield value, held()

        assert await collected(rows()) == [("part", "whole")] * 2

    @pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(1)])
    def test_raising_what_ends_a_loop(self, error: Exception) -> None:
        async def body() -> AsyncValues:
            yield
            raise error

        async def main(rows: Callable[[], AsyncValues]) -> None:
            name = type(error).__name__
            with pytest.raises(RuntimeError, match=f"raised {name}"):
                await collected(rows())
            steps = rows()
            await anext(steps)
            with pytest.raises(RuntimeError, match=f"raised {name}"):
                await steps.athrow(error)

        for rows in self.both(body):
            asyncio.run(main(rows))

    def test_ignoring_generator_exit(self) -> None:
        async def body() -> AsyncValues:
            while True:
                try:
                    yield held()
                except GeneratorExit:
                    if seen:
                        raise
                    seen.append(held())

        async def main(rows: Callable[[], AsyncValues]) -> None:
            steps = rows()
            await anext(steps)
            with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
                await steps.aclose()

        seen: list[object] = []
        for rows, plan in zip(self.both(body), [UNSET, "p"], strict=True):
            seen.clear()
            asyncio.run(main(rows))
            gc.collect()
            assert seen == [plan]

    @pytest.mark.anyio
    async def test_cancelled_inside_a_step(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            try:
                yield
                async with plan_context("inner"):
                    started.set()
                    await anyio.sleep_forever()
            finally:
                seen.append(held())

        async def consume() -> None:
            steps = rows()
            await anext(steps)
            try:
                await anext(steps)
            finally:
                seen.append(held())

        seen: list[object] = []
        started = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await started.wait()
            group.cancel_scope.cancel()
        assert seen == ["p", UNSET]

    @pytest.mark.parametrize("how", ["break", "cycle", "shutdown"])
    @pytest.mark.parametrize("count", [1, 3])
    def test_finalised_by_the_loop(self, how: str, count: int) -> None:
        @plan_context("p")
        async def rows(*_: object) -> AsyncValues:
            try:
                async with plan_context("inner"):
                    yield held()
                    yield held()
            finally:
                before = held()
                await asyncio.sleep(0)
                seen.append((before, held(), asyncio.current_task() is not None))
                if len(seen) == count:
                    all_closed.set()

        async def begin() -> None:
            cycle: list[object] = []
            steps = rows(cycle)
            async for _ in steps:
                break
            if how == "cycle":
                cycle.append(steps)
            if how == "shutdown":
                kept.append(steps)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: errors.append(context))
            for _ in range(count):
                await begin()
            gc.collect()
            if how != "shutdown":
                await asyncio.wait_for(all_closed.wait(), timeout=30)
            assert held() == UNSET

        all_closed = asyncio.Event()
        errors: list[dict[str, Any]] = []
        seen: list[tuple[object, ...]] = []
        kept: list[AsyncValues] = []
        asyncio.run(main())
        kept.clear()
        gc.collect()
        assert seen == [("p", "p", True)] * count
        assert errors == []

    @pytest.mark.parametrize("cycle", [False, True])
    def test_finalised_without_a_loop(self, *, cycle: bool) -> None:
        @plan_context("p")
        async def rows(*_: object) -> AsyncValues:
            try:
                yield held()
            finally:
                seen.append(held())

        def begin() -> None:
            kept: list[object] = []
            steps = rows(kept)
            with pytest.raises(StopIteration):
                anext(steps).send(None)
            if cycle:
                kept.append(steps)

        seen: list[object] = []
        begin()
        gc.collect()
        assert seen == ["p"]
        assert held() == UNSET

    def test_the_hooks_know_of_one(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            yield

        def finalise(_: object) -> None:
            """Be called for a generator that nobody closes."""

        begun: list[object] = []
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(begun.append, finalise)
        try:
            steps = rows()
            with pytest.raises(StopIteration):
                anext(steps).send(None)
            assert sys.get_asyncgen_hooks() == (begun.append, finalise)
        finally:
            sys.set_asyncgen_hooks(*hooks)
        assert begun == [steps]
        with pytest.raises(StopIteration):
            steps.aclose().send(None)

    @pytest.mark.parametrize("thrown", [False, True])
    def test_exceptions_are_the_bodys_own(self, *, thrown: bool) -> None:
        async def body() -> AsyncValues:
            yield
            raise Boom

        async def main(rows: Callable[[], AsyncValues]) -> list[int]:
            steps = rows()
            await anext(steps)
            step = steps.athrow(Boom()) if thrown else anext(steps)
            with pytest.raises(Boom) as caught:
                await step
            error = caught.value
            assert (error.__context__, error.__cause__) == (None, None)
            return user_lines(error)

        lines = [asyncio.run(main(rows)) for rows in self.both(body)]
        assert lines[0] == lines[1]

    def test_a_coroutine_adds_one_frame(self) -> None:
        async def body() -> None:
            raise Boom

        async def main() -> None:
            with pytest.raises(Boom) as caught:
                await plan_context("p")(body)()
            assert user_lines(caught.value)[-1] == body.__code__.co_firstlineno + 1
            assert caught.value.__context__ is None

        asyncio.run(main())

    def test_nothing_is_retained(self) -> None:
        async def body() -> AsyncValues:
            while True:
                with suppress(Boom):
                    yield Thing()

        async def main(rows: Callable[[], AsyncValues]) -> None:
            steps = rows()
            yielded = weakref.ref(await anext(steps))
            assert yielded() is None
            sent = Thing()
            await steps.asend(sent)
            gone = weakref.ref(sent)
            del sent
            assert gone() is None
            error = Boom()
            await steps.athrow(error)
            thrown = weakref.ref(error)
            del error
            gc.collect()
            assert thrown() is None
            await steps.aclose()

        for rows in self.both(body):
            asyncio.run(main(rows))

    @pytest.mark.anyio
    async def test_already_running(self) -> None:
        async def body() -> AsyncValues:
            yield await anext(kept[0])

        for rows in self.both(body):
            kept = [rows()]
            with pytest.raises(RuntimeError, match="already running"):
                await anext(kept[0])


class TestKinds:
    """The kind, the signature and the name are those of the undecorated function."""

    @of_each_kind
    def test_answers_as_before(self, function: Callable[..., Any]) -> None:
        decorated = plan_context("p")(function)
        for question in (
            inspect.isfunction,
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        ):
            assert question(decorated) == question(function)
        assert outcome(decorated()) == "p"
        assert held() == UNSET

    def test_an_awaitable_generator_is_told_from_others(self) -> None:
        def pause() -> Values:
            yield

        assert inspect.isawaitable(plan_context("p")(types.coroutine(pause))())
        assert not inspect.isawaitable(plan_context("p")(generator)())

    @of_each_kind
    def test_wraps_it(self, function: Callable[..., Any]) -> None:
        decorated: Any = plan_context("p")(function)
        assert decorated.__wrapped__ is function
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            assert getattr(decorated, name) == getattr(function, name)
        assert inspect.signature(decorated) == inspect.signature(function)
        result = decorated()
        assert getattr(result, "__qualname__", function.__name__) == function.__name__
        outcome(result)

    @of_each_kind
    def test_passes_arguments_on(self, function: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
            outcome(plan_context("p")(function)(1, wrong=2))
        assert held() == UNSET

    @of_each_kind
    @pytest.mark.parametrize("above", [True, False])
    @pytest.mark.parametrize("wrapper", [None, classmethod, staticmethod])
    def test_methods(
        self, function: Callable[..., Any], wrapper: Any, *, above: bool
    ) -> None:
        decorate: Any = plan_context("p")
        method: Any = function
        if wrapper is None:
            method = decorate(method)
        elif above:
            method = decorate(wrapper(method))
        else:
            method = wrapper(decorate(method))
        cls: Any = type("Cls", (), {"method": method})
        assert outcome(cls().method()) == "p"
        if wrapper:
            assert isinstance(method, wrapper)
            assert outcome(cls.method()) == "p"

    @of_each_kind
    def test_bound_methods(self, function: Callable[..., Any]) -> None:
        cls: Any = type("Cls", (), {"method": function})
        assert outcome(plan_context("p")(cls().method)()) == "p"

    @of_each_kind
    def test_partials(self, function: Callable[..., Any]) -> None:
        decorated: Any = plan_context("p")(partial(partial(function, 1), 2))
        assert outcome(decorated(3)) == "p"

    @of_each_kind
    def test_callable_objects(self, function: Callable[..., Any]) -> None:
        callable_object: Any = type("Cls", (), {"__call__": function})()
        assert outcome(plan_context("p")(callable_object)()) == "p"
        partial_object: Any = partial(callable_object, 1)
        assert outcome(plan_context("p")(partial_object)()) == "p"

    def test_builtin_functions(self) -> None:
        assert plan_context("p")(current_plan_name.get)() == "p"
        assert plan_context("p")(len)("abc") == 3

    def test_objects_that_say_they_are_coroutine_functions(self) -> None:
        mock = AsyncMock(side_effect=held)
        decorated = plan_context("p")(mock)
        assert inspect.iscoroutinefunction(decorated)
        assert outcome(decorated()) == "p"

    @of_each_kind
    def test_decorated_twice(self, function: Callable[..., Any]) -> None:
        decorated = plan_context("outer")(plan_context("inner")(function))
        assert outcome(decorated()) == "inner"
        assert held() == UNSET


class Sync(TenantContext):
    @override
    def __enter__(self) -> Self:
        entered.append("enter")
        return super().__enter__()


class SyncExit(TenantContext):
    @override
    def __exit__(self, *error: Any) -> None:  # noqa: PYI036 - handed on
        entered.append("exit")
        super().__exit__(*error)


class Async(TenantContext):
    @override
    async def __aenter__(self) -> Self:
        entered.append("aenter")
        return await super().__aenter__()


class AsyncExit(TenantContext):
    @override
    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 - handed on
        entered.append("aexit")
        await super().__aexit__(*error)


entered: list[str] = []


NO_FUNCTIONS: list[Any] = [Thing, 1, None, "held", property(held)]


class TestF4Refusals:
    @pytest.mark.parametrize("what", [*NO_FUNCTIONS, *map(staticmethod, NO_FUNCTIONS)])
    def test_what_is_no_function(self, what: Any) -> None:
        with pytest.raises(TypeError, match="only functions and methods can run"):
            plan_context("p")(what)

    @pytest.mark.parametrize("cls", [Sync, SyncExit, Async, AsyncExit])
    @of_each_kind
    def test_overrides_are_honoured_or_refused(
        self, cls: type[TenantContext], function: Callable[..., Any]
    ) -> None:
        is_async = cls in (Async, AsyncExit)
        honoured = function is coroutine or (function is read and not is_async)
        entered.clear()
        if honoured:
            outcome(cls("t")(function)())
            assert len(entered) == 1
        else:
            name = "__aenter__ or __aexit__" if is_async else "__enter__ or __exit__"
            with pytest.raises(TypeError, match=f"{cls.__name__} overrides {name}"):
                cls("t")(function)
            with pytest.raises(TypeError, match="open a block inside it instead"):
                cls("t")(staticmethod(function))

    @of_each_kind
    def test_other_overrides_do_no_harm(self, function: Callable[..., Any]) -> None:
        class Strict(PlanContext):
            @override
            def __init__(self, name: str) -> None:
                super().__init__(name.upper())

        assert outcome(Strict("p")(function)()) == "P"


class TestF5Shared:
    def test_by_nested_and_interleaved_calls(self) -> None:
        shared = plan_context("shared")
        decorated = shared(generator)
        with shared:
            one, two = decorated(), decorated()
            assert [next(one), next(two)] == ["shared", "shared"]
            assert active_contexts() == (shared,)
            one.close()
            two.close()
        assert held() == UNSET

    def test_by_threads_at_once(self) -> None:
        barrier = threading.Barrier(4)
        seen: list[object] = []

        @plan_context("shared")
        def rows() -> Values:
            for _ in range(2):
                barrier.wait()
                yield held()

        def consume() -> None:
            for row in rows():
                seen.extend([row, held()])

        threads = [threading.Thread(target=consume) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(map(str, seen)) == sorted(["shared", UNSET] * 8)


class TestAsyncF5Shared:
    @pytest.mark.anyio
    async def test_by_tasks_at_once(self) -> None:
        seen: list[object] = []
        inside = 0
        all_inside = anyio.Event()

        @plan_context("shared")
        async def rows() -> AsyncValues:
            nonlocal inside
            inside += 1
            if inside == 20:
                all_inside.set()
            await all_inside.wait()
            yield held()

        async def consume() -> None:
            async for row in rows():
                seen.extend([row, held()])

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(consume)
        assert seen == ["shared", UNSET] * 20
