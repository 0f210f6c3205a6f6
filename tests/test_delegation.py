"""Rule F3: decorated functions behave as undecorated ones."""

from __future__ import annotations

import asyncio
import gc
import operator
import sys
import tracemalloc
import types
import weakref

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import anyio
import anyio.lowlevel
import pytest

from aura_context import (
    Snapshot,
    carry,
    plan_context,
)

from .contexts import (
    UNSET,
    AsyncValues,
    Boom,
    TenantContext,
    Thing,
    Values,
    collected,
    copied,
    fresh,
    held,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


P = ParamSpec("P")
R = TypeVar("R")


def generator() -> Values:
    yield held()


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
            step = partial(steps.throw, raised()) if thrown else partial(next, steps)
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


def raised() -> Boom:
    """Return an exception with a traceback."""

    def origin() -> None:
        raise Boom

    with pytest.raises(Boom) as caught:
        origin()
    return caught.value


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
            step = steps.athrow(raised()) if thrown else anext(steps)
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


UNDER: list[Callable[[Any], Any]] = [
    plan_context("p"),
    Snapshot(plan_context("p")),
    carry,
]


def rows(argument: Thing) -> Values:
    reference = weakref.ref(argument)
    del argument
    yield reference() is None


async def work(argument: Thing) -> bool:
    reference = weakref.ref(argument)
    del argument
    return reference() is None


async def events(argument: Thing) -> AsyncValues:
    reference = weakref.ref(argument)
    del argument
    yield reference() is None


FREED: dict[str, Callable[..., Any]] = {
    "generator": rows,
    "coroutine": work,
    "async generator": events,
}
"""Each says whether its argument is gone."""


class TestF3Arguments:
    """The wrapper of what runs later keeps neither arguments nor values alive."""

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot", "carried"])
    @pytest.mark.parametrize("keyword", [False, True])
    @pytest.mark.parametrize("kind", ["generator", "coroutine", "async generator"])
    def test_are_freed(self, kind: str, under: Any, *, keyword: bool) -> None:
        function = under(FREED[kind])
        # Not within `assert`: pytest keeps what is called there.
        result = function(argument=Thing()) if keyword else function(Thing())
        if kind == "generator":
            freed = next(result)
        else:
            step = result if kind == "coroutine" else anext(result)
            with pytest.raises(StopIteration) as stop:
                step.send(None)
            freed = stop.value.value
        assert freed

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot", "carried"])
    def test_self_is_freed(self, under: Any) -> None:
        methods = {each.__name__: under(each) for each in FREED.values()}
        owner: Any = type("Owner", (), methods)
        steps = owner().rows()
        assert next(steps)
        for step in (owner().work(), anext(owner().events())):
            with pytest.raises(StopIteration) as stop:
                step.send(None)
            assert stop.value.value

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot", "carried"])
    def test_are_freed_while_it_waits(self, under: Any) -> None:
        async def work(argument: Thing) -> bool:
            reference = weakref.ref(argument)
            del argument
            await asyncio.sleep(0)
            return reference() is None

        async def main() -> bool:
            task = asyncio.create_task(under(work)(Thing()))
            freed: bool = await task
            return freed

        assert asyncio.run(main())

    def test_of_a_hidden_coroutine(self) -> None:
        async def work(argument: Thing) -> bool:
            reference = weakref.ref(argument)
            del argument
            return reference() is None

        hidden: Any = partial(cast("Any", operator.call), work)
        coroutine = plan_context("p")(hidden)(Thing())
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        assert stop.value.value

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot", "carried"])
    def test_large_ones_of_a_suspended_generator(self, under: Any) -> None:
        def rows(data: bytearray) -> Values:
            size = len(data)
            del data
            while True:
                yield size

        size = 50_000_000
        tracemalloc.start()
        try:
            steps = under(rows)(bytearray(size))
            next(steps)
            current, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert current < size / 10 < size < peak

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot", "carried"])
    def test_keywords_of_any_name(self, under: Any) -> None:
        names = ("self", "function", "args", "kwargs", "context", "handle", "entry")
        given: dict[str, Any] = {name: name for name in names}

        def plain(**kwargs: Any) -> Any:
            return kwargs

        async def work(**kwargs: Any) -> Any:
            return kwargs

        def rows(**kwargs: Any) -> Values:
            yield kwargs

        async def events(**kwargs: Any) -> AsyncValues:
            yield kwargs

        assert under(plain)(**given) == given
        assert list(under(rows)(**given)) == [given]
        for step in (under(work)(**given), anext(under(events)(**given))):
            with pytest.raises(StopIteration) as stop:
                step.send(None)
            assert stop.value.value == given
