"""Rules F1, F4 and F5: contexts as decorators, for functions of all kinds."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import types

from contextlib import aclosing, contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import pytest

from typing_extensions import override

from aura_context import (
    PlanContext,
    Snapshot,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    AsyncValues,
    Elsewhere,
    TenantContext,
    Thing,
    Values,
    collected,
    copied,
    current_tenant,
    fresh,
    held,
    in_thread,
    outcome,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Self


P = ParamSpec("P")
R = TypeVar("R")


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


def drive(coroutine: Any) -> object:
    """Return what a coroutine that never waits returns."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function that returns what the function does."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


class Hider:
    """Hides the kind of what it calls in a method, a call and a partial."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def method(self, *args: Any) -> Any:
        return self.function(*args)

    __call__ = method


HIDING: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
    hidden,
    lambda function: Hider(function).method,
    Hider,
    lambda function: partial(hidden(function)),
    lambda function: partial(Hider(function), 1),
    lambda function: wraps(function)(hidden(function)),
]
UNDER: list[Callable[[Any], Any]] = [plan_context("p"), Snapshot(plan_context("p"))]


class TestR10Overrides:
    """An override of the sync exit sees in ``async with`` what it sees in ``with``."""

    def test_the_exception_and_its_traceback(self) -> None:
        got: list[object] = []

        class Noting(TenantContext):
            @override
            def __exit__(self, *exc: Any) -> Any:  # noqa: PYI036 - handed on
                got.extend(exc)
                return super().__exit__(*exc)

        async def work() -> None:
            async with Noting("t"):
                raise error

        error = ValueError()
        with pytest.raises(ValueError, match=r"^$"):
            asyncio.run(work())
        kind, value, traceback = got
        assert kind is ValueError
        assert value is error
        assert isinstance(traceback, types.TracebackType)


class TestF1WhatRunsLater:
    """A plain function may return what has not begun."""

    @of_each_kind
    @pytest.mark.parametrize("hide", HIDING)
    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    def test_is_bound_as_if_it_were_of_that_kind(
        self, under: Any, hide: Callable[[Any], Any], function: Callable[..., Any]
    ) -> None:
        result = under(hide(function))()
        assert held() == UNSET
        assert outcome(result) == "p"
        assert held() == UNSET

    @of_each_kind
    def test_carried(self, function: Callable[..., Any]) -> None:
        with plan_context("p"):
            carried = carry(hidden(function))
        with plan_context("q"):
            result = carried()
        assert outcome(result) == "p"

    def test_a_generator_does_not_become_awaitable(self) -> None:
        result = plan_context("p")(lambda: (held() for _ in range(1)))()
        assert not inspect.isawaitable(result)
        assert [*result] == ["p"]

    def test_a_refusal_names_what_has_returned(self) -> None:
        decorated = Sync("t")(hidden(generator))
        with pytest.raises(TypeError, match="decorating generator would not"):
            decorated()

    def test_a_generators_consumer_does_not_see_it(self) -> None:
        def rows() -> Values:
            with plan_context("inner"):
                yield held()
            yield held()

        seen: list[object] = []
        for row in plan_context("p")(hidden(rows))():
            seen += [row, held(), active_contexts()]
        assert seen == ["inner", UNSET, (), "p", UNSET, ()]

    def test_a_generator_that_is_awaited(self) -> None:
        @types.coroutine
        def pause() -> Generator[None, None, object]:
            yield
            return held()

        async def main() -> object:
            return await plan_context("p")(hidden(pause))(), held()

        assert asyncio.run(main()) == ("p", UNSET)

    def test_what_two_wrappers_hide(self) -> None:
        decorated = plan_context("outer")(
            hidden(plan_context("inner")(hidden(generator)))
        )
        assert outcome(decorated()) == "inner"

    def test_it_keeps_its_kind_and_name(self) -> None:
        results = [plan_context("p")(hidden(function))() for function in KINDS[1:]]
        assert [type(each) for each in results] == [
            types.CoroutineType,
            types.GeneratorType,
            types.AsyncGeneratorType,
        ]
        assert [each.__name__ for each in results] == [f.__name__ for f in KINDS[1:]]
        for each in results:
            outcome(each)

    def test_what_has_begun_is_handed_on(self) -> None:
        @types.coroutine
        def pause() -> Generator[None, None, None]:
            yield

        async def waiting() -> object:
            await pause()
            return held()

        async def values() -> AsyncValues:
            yield held()
            yield held()

        rows, work, events = generator(), waiting(), values()
        assert next(rows) == UNSET
        work.send(None)
        assert drive_value(anext(events)) == UNSET
        for begun in (rows, work, events):
            assert plan_context("p")(lambda begun=begun: begun)() is begun
        assert next(rows, None) is None
        assert drive(work) == UNSET
        assert drive_value(anext(events)) == UNSET
        assert drive(events.aclose()) is None

    def test_what_is_exhausted_is_handed_on(self) -> None:
        rows, work = generator(), read_later()
        list(rows)
        assert drive(work) == UNSET
        for ended in (rows, work):
            assert plan_context("p")(lambda ended=ended: ended)() is ended
        with pytest.raises(RuntimeError, match="cannot reuse"):
            work.send(None)

    def test_other_iterators_and_awaitables_are_handed_on(self) -> None:
        class Waiting:
            def __await__(self) -> Iterator[Any]:
                return iter(())

        class Reading:
            def __iter__(self) -> Iterator[object]:
                return self

            def __next__(self) -> object:
                return held()

        for thing in (Waiting(), Reading(), iter([1]), map(read, [1]), range(3)):
            assert plan_context("p")(lambda thing=thing: thing)() is thing
        mapped = plan_context("p")(lambda: map(read, [1]))()
        assert list(mapped) == [UNSET]

    def test_a_future_is_handed_on(self) -> None:
        async def main() -> None:
            future = asyncio.get_running_loop().create_future()
            assert plan_context("p")(lambda: future)() is future
            future.cancel()

        asyncio.run(main())

    def test_where_the_kind_is_refused_it_is_at_that_call(self) -> None:
        for cls in (Sync, SyncExit):
            for function in (generator, async_generator):
                with pytest.raises(TypeError, match=f"{cls.__name__} overrides"):
                    cls("t")(hidden(function))()
                assert (held(), active_contexts()) == (UNSET, ())
            entered.clear()
            assert outcome(cls("t")(hidden(read_later))()) == UNSET
            assert entered  # honoured around the coroutine too

    def test_an_unfinished_one_that_is_closed(self) -> None:
        def rows() -> Values:
            try:
                yield held()
            finally:
                seen.append(held())

        seen: list[object] = []
        steps = plan_context("p")(hidden(rows))()
        assert next(steps) == "p"
        steps.close()
        plan_context("p")(hidden(rows))().close()  # and one that has not begun
        assert seen == ["p"]


async def read_later() -> object:
    return held()


def drive_value(step: Any) -> object:
    """Return what a step of an async generator that never waits yields."""
    return drive(step)


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
        thing = getattr(what, "__func__", what)
        kind = "the class" if isinstance(thing, type) else "an object of type"
        cls = thing if isinstance(thing, type) else type(thing)
        with pytest.raises(TypeError) as caught:
            plan_context("p")(what)
        assert str(caught.value) == (
            "only functions and methods can be decorated or carried, to run under "
            f"PlanContext('p'); got {kind} {cls.__qualname__}"
        )

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
            message = (
                f"{cls.__qualname__} overrides {name}, which decorating "
                f"{function.__qualname__} would not call: "
                "open a block inside it instead"
            )
            for given in (function, staticmethod(function)):
                with pytest.raises(TypeError) as caught:
                    cls("t")(given)
                assert str(caught.value) == message

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
