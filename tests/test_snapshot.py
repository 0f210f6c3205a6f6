"""Rules S1 to S3: taking what is bound somewhere else."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import itertools
import pickle
import threading

from collections.abc import Mapping
from concurrent.futures import Future
from contextvars import Context, ContextVar, copy_context
from operator import call
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aura_context import (
    ForeignExitWarning,
    PlanContext,
    Snapshot,
    VarContext,
    _stack,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    Boom,
    RunContext,
    TenantContext,
    copied,
    current_run,
    current_tenant,
    fresh,
    held,
    leave,
    merged,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator


current_secret: ContextVar[str] = ContextVar("current_secret", default="none")
current_page: ContextVar[int] = ContextVar("current_page", default=1)
current_other: ContextVar[str] = ContextVar("current_other", default="other")


class SecretContext(VarContext[str]):
    var = current_secret
    carried = False


class PageContext(VarContext[int]):
    """Takes other arguments than the value, and refuses some."""

    var = current_page

    def __init__(self, first: int, length: int) -> None:
        if first < 1:
            raise ValueError
        super().__init__(first)
        self.length = length

    def __repr__(self) -> str:
        return f"PageContext({self.value}, {self.length})"


def seen() -> tuple[object, ...]:
    """Return what all variables hold, their defaults not counting."""
    variables = (current_plan_name, current_tenant, current_run, current_secret)
    return tuple(held(var) for var in variables)


def read() -> tuple[str | None, str | None, int, str]:
    """Return what all variables read as."""
    return (
        current_plan_name.get(),
        current_tenant.get(),
        current_run.get(),
        current_secret.get(),
    )


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own


def exit_(snapshot: Snapshot) -> None:
    snapshot.__exit__(None, None, None)


CLEAN = (None, None, 0, "none")
NOTHING = (UNSET,) * 4


class TestS1Capture:
    def test_takes_what_is_set(self) -> None:
        with plan_context("p"), TenantContext("t"):
            snapshot = Snapshot.capture()
        assert dict(snapshot) == {PlanContext: "p", TenantContext: "t"}

    def test_takes_nothing_where_nothing_is_set(self) -> None:
        assert dict(Snapshot.capture()) == {}

    def test_takes_the_default_where_it_has_been_set(self) -> None:
        with plan_context(None):
            assert dict(Snapshot.capture()) == {PlanContext: None}

    @pytest.mark.parametrize("value", ["raw", "", "not\nprintable", 7, ["list"]])
    def test_takes_raw_values_as_they_are(self, value: Any) -> None:
        """Also those that the class would refuse."""

        def body() -> Snapshot:
            current_plan_name.set(value)
            return Snapshot.capture()

        snapshot = fresh(body)
        assert snapshot[PlanContext] is value
        with snapshot:
            assert current_plan_name.get() is value
        assert held() == UNSET

    def test_takes_what_a_class_with_other_arguments_has_bound(self) -> None:
        with PageContext(3, 10):
            snapshot = Snapshot.capture()
        with snapshot:
            assert current_page.get() == 3
        assert current_page.get() == 1

    def test_a_subclass_counts_as_the_class_that_declares(self) -> None:
        class Special(TenantContext):
            pass

        with Special("t"):
            assert dict(Snapshot.capture()) == {TenantContext: "t"}
        assert dict(Snapshot(Special("t"))) == {TenantContext: "t"}

    def test_leaves_every_other_variable_alone(self) -> None:
        def body() -> None:
            current_other.set("captured")
            snapshot = Snapshot.capture()
            assert len(snapshot) == 0
            current_other.set("now")
            with snapshot:
                assert current_other.get() == "now"
                current_other.set("inside")
            assert current_other.get() == "inside"

        fresh(body)

    def test_by_hand(self) -> None:
        snapshot = Snapshot(plan_context("p"), RunContext(7))
        assert dict(snapshot) == {PlanContext: "p", RunContext: 7}

    def test_by_hand_from_the_contexts_that_are_open(self) -> None:
        with plan_context("p"), TenantContext("t"):
            contexts: Any = active_contexts()
            assert Snapshot(*contexts) == Snapshot.capture()
        match = "got an object of type Snapshot"
        with Snapshot(plan_context("p")), pytest.raises(TypeError, match=match):
            Snapshot(*active_contexts())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - a block of many

    def test_by_hand_each_variable_once(self) -> None:
        with pytest.raises(ValueError, match="binds the same variable as another"):
            Snapshot(plan_context("a"), plan_context("b"))

    @pytest.mark.parametrize(
        ("thing", "got"),
        [
            ("p", "an object of type str"),
            (None, "an object of type NoneType"),
            (PlanContext, "the class PlanContext"),
            ({PlanContext: "p"}, "an object of type dict"),
        ],
    )
    def test_by_hand_only_of_contexts(self, thing: Any, got: str) -> None:
        with pytest.raises(TypeError) as caught:
            Snapshot(thing)
        assert str(caught.value) == (
            f"a Snapshot is made of contexts, such as plan_context('name'); got {got}"
        )


class TestS1NotCarried:
    def test_capture_leaves_it(self) -> None:
        with SecretContext("s"), plan_context("p"):
            assert dict(Snapshot.capture()) == {PlanContext: "p"}

    def test_by_hand_it_is_an_error(self) -> None:
        with pytest.raises(
            TypeError, match=r"carried = False: SecretContext\(\.\.\.\)"
        ):
            Snapshot(SecretContext("s"))

    @pytest.mark.parametrize("base", [SecretContext, TenantContext])
    def test_a_subclass_cannot_change_it(self, base: type[VarContext[Any]]) -> None:
        with pytest.raises(
            TypeError, match=f"shares its variable with {base.__name__}"
        ):
            type("Changed", (base,), {"carried": not base.carried})
        same = type("Same", (base,), {"carried": base.carried})
        assert issubclass(same, base)


class TestS1Mapping:
    def test_from_the_declaring_class_to_the_value(self) -> None:
        snapshot = Snapshot(plan_context("p"), TenantContext(None))
        assert isinstance(snapshot, Mapping)
        assert len(snapshot) == 2
        assert list(snapshot) == [PlanContext, TenantContext]
        assert list(snapshot.values()) == ["p", None]
        assert list(snapshot.items()) == [(PlanContext, "p"), (TenantContext, None)]
        assert snapshot[PlanContext] == "p"
        assert PlanContext in snapshot
        assert RunContext not in snapshot
        assert snapshot.get(RunContext, "nothing") == "nothing"
        with pytest.raises(KeyError):
            snapshot[RunContext]

    def test_never_changes(self) -> None:
        snapshot: Any = Snapshot(plan_context("p"))
        with pytest.raises(TypeError):
            snapshot[PlanContext] = "q"
        with pytest.raises(TypeError):
            del snapshot[PlanContext]
        with pytest.raises(AttributeError):
            snapshot.anything = 1
        with plan_context("q"):
            assert dict(snapshot) == {PlanContext: "p"}

    def test_a_context_that_changes_later_does_not_change_it(self) -> None:
        context = TenantContext("t")
        snapshot = Snapshot(context)
        context.value = "other"
        with snapshot:
            assert current_tenant.get() == "t"

    def test_repr(self) -> None:
        assert repr(Snapshot()) == "Snapshot({})"
        snapshot = Snapshot(plan_context("p"), RunContext(7))
        assert repr(snapshot) == "Snapshot({PlanContext: 'p', RunContext: 7})"

    def test_equal_if_it_holds_the_same(self) -> None:
        snapshot = Snapshot(plan_context("p"), RunContext(7))
        assert snapshot == Snapshot(RunContext(7), plan_context("p"))
        assert snapshot != Snapshot(plan_context("p"))
        assert Snapshot() != Snapshot(plan_context(None))

    def test_an_empty_one_is_false_and_yet_a_snapshot(self) -> None:
        assert not Snapshot()
        assert Snapshot.capture() == Snapshot()


class TestS2Block:
    def test_what_it_holds_is_bound_and_all_else_has_its_default(self) -> None:
        snapshot = Snapshot(plan_context("p"))
        with (
            plan_context("q"),
            TenantContext("t"),
            RunContext(7),
            SecretContext("s"),
        ):
            before = seen()
            with snapshot as entered:
                assert entered is snapshot
                assert read() == ("p", None, 0, "none")
            assert seen() == before
        assert seen() == NOTHING

    def test_an_empty_one_is_a_clean_start(self) -> None:
        with plan_context("q"), SecretContext("s"):
            with Snapshot():
                assert read() == CLEAN
            assert seen() == ("q", UNSET, UNSET, "s")

    def test_what_is_set_raw_inside_is_put_back(self) -> None:
        with plan_context("q"):
            with Snapshot():
                for var in (current_plan_name, current_tenant, current_secret):
                    var.set("raw")
            assert read() == ("q", None, 0, "none")

    def test_so_is_what_was_bound_already(self) -> None:
        with plan_context("p"), TenantContext("t"):
            with Snapshot.capture():
                current_plan_name.set("raw")
            assert seen()[:2] == ("p", "t")
            with Snapshot(plan_context("q"), TenantContext("t")):
                current_tenant.set("raw")
            assert seen()[:2] == ("p", "t")
        assert seen() == NOTHING

    def test_run(self) -> None:
        snapshot = Snapshot(plan_context("p"))

        def function(*args: object, **kwargs: object) -> object:
            return current_plan_name.get(), args, kwargs

        # No name of its own is in the way of the function's.
        kwargs: Any = {"self": 1, "function": 2}
        assert snapshot.run(function, 0, **kwargs) == ("p", (0,), kwargs)
        assert seen() == NOTHING

    def test_run_lets_exceptions_pass(self) -> None:
        def function() -> None:
            current_plan_name.set("raw")
            raise Boom

        with pytest.raises(Boom):
            Snapshot().run(function)
        assert read() == CLEAN

    def test_it_is_one_block(self) -> None:
        with plan_context("outer"), TenantContext("t"), RunContext(7):
            snapshot = Snapshot.capture()
        with plan_context("before") as before, snapshot, plan_context("after") as after:
            listed = active_contexts()
            with snapshot, Snapshot() as empty:
                nested = active_contexts()
        assert [id(each) for each in listed] == [id(before), id(snapshot), id(after)]
        assert nested == (*listed, snapshot, empty)
        assert active_contexts() == ()

    def test_its_cost_does_not_grow_with_unset_classes(self) -> None:
        """Only reads of the variables: there are no sets, parts or entries."""

        def work() -> int:
            with Snapshot(plan_context("p")):
                return len(_stack.stack.get().bound)

        def declare(number: int) -> type[VarContext[int]]:
            class Unset(VarContext[int]):
                var = ContextVar(f"unset {number}", default=0)

            return Unset

        kept = [declare(number) for number in range(500)]
        assert fresh(work) == 1
        assert all(held(cls.var) == UNSET for cls in kept)

    def test_a_class_that_is_declared_later(self) -> None:
        late: ContextVar[int] = ContextVar("late", default=0)
        snapshot = Snapshot(plan_context("p"))
        with snapshot:
            late_context: Any = type("LateContext", (VarContext,), {"var": late})
            with late_context(1):
                with snapshot:
                    assert (late.get(), current_plan_name.get()) == (0, "p")
                assert late.get() == 1
            late.set(2)
        assert late.get() == 2  # that block had been opened before


@pytest.mark.anyio
class TestAsyncS2Block:
    async def test_what_it_holds_is_bound_and_all_else_has_its_default(self) -> None:
        async with plan_context("q"), TenantContext("t"), SecretContext("s"):
            before = seen()
            async with Snapshot(plan_context("p")) as snapshot:
                assert snapshot[PlanContext] == "p"
                await anyio.lowlevel.checkpoint()
                assert read() == ("p", None, 0, "none")
            assert seen() == before
        assert seen() == NOTHING


class TestS2SectionR:
    @pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0)])
    def test_left_in_any_order(self, order: tuple[int, ...]) -> None:
        first, second = Snapshot(plan_context("a")), Snapshot(TenantContext("t"))
        blocks: list[Any] = [first, second, plan_context("b")]
        for block in blocks:
            block.__enter__()
        still: dict[int, str | None] = {0: "a", 1: None, 2: "b"}
        for index in order:
            blocks[index].__exit__(None, None, None)
            del still[index]
            assert current_plan_name.get() == (still[max(still)] if still else None)
        assert seen() == NOTHING

    def test_an_exit_in_a_copy_warns_once_and_leaves_it_there(self) -> None:
        snapshot = Snapshot(plan_context("p"))

        def exit_in_copy() -> None:
            current_plan_name.set("raw")
            current_tenant.set("raw")
            with pytest.warns(
                ForeignExitWarning, match=r"Snapshot\(\.\.\.\)"
            ) as record:
                exit_(snapshot)
            assert len(record) == 1
            assert (read(), active_contexts()) == ((*before[:3], "none"), (outer,))

        with plan_context("before") as outer:
            before = read()
            with snapshot:
                copied(exit_in_copy)
                assert (read(), active_contexts()[-1]) == (("p", *CLEAN[1:]), snapshot)
        assert seen() == NOTHING

    def test_an_exit_where_it_is_not_open_warns_once_and_changes_nothing(self) -> None:
        snapshot = Snapshot(plan_context("p"))

        def exit_elsewhere() -> None:
            current_plan_name.set("raw")
            with pytest.warns(ForeignExitWarning) as record:
                exit_(snapshot)
            assert len(record) == 1
            assert held() == "raw"

        with snapshot:
            fresh(exit_elsewhere)
            assert held() == "p"
        assert seen() == NOTHING

    def test_one_exit_too_many(self) -> None:
        snapshot = Snapshot(plan_context("p"))
        with snapshot:
            pass
        with plan_context("q"):
            with pytest.warns(ForeignExitWarning):
                exit_(snapshot)
            assert held() == "q"

    @pytest.mark.parametrize("used", [False, True])
    def test_never_entered_warns(self, used: bool) -> None:
        snapshot = Snapshot(plan_context("p"))
        if used:
            list(snapshot(generator)())  # which opens blocks, but not this one's
        with plan_context("q"):
            with pytest.warns(ForeignExitWarning, match=r"Snapshot\(\.\.\.\)"):
                exit_(snapshot)
            assert held() == "q"

    @pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
    def test_in_any_order_among_single_blocks(self, order: tuple[int, ...]) -> None:
        """Each variable has the value of the innermost block that is open."""
        blocks: list[Any] = [
            plan_context("0"),
            Snapshot(plan_context("1"), TenantContext("1")),
            TenantContext("2"),
            Snapshot(TenantContext("3")),
            plan_context("4"),
        ]
        values: list[tuple[object, object]] = [
            ("0", ...),
            ("1", "1"),
            (..., "2"),
            (None, "3"),
            ("4", ...),
        ]

        def expected(index: int) -> object:
            inside = [values[each][index] for each in sorted(still)]
            return next(
                (each for each in reversed(inside) if each is not ...), "before"
            )

        current_plan_name.set("before")
        current_tenant.set("before")
        for block in blocks:
            block.__enter__()
        still = set(range(5))
        for index in order:
            exit_(blocks[index])
            still.remove(index)
            assert (held(), held(current_tenant)) == (expected(0), expected(1))
            assert active_contexts() == tuple(blocks[each] for each in sorted(still))
        current_plan_name.set(None)
        current_tenant.set(None)

    @pytest.mark.parametrize("where", list(itertools.product([0, 1], repeat=2)))
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_in_copies_that_are_merged_back(self, where: tuple[int, int]) -> None:
        """As frameworks do that run halves of a request in copies of the Context."""
        enter, exit_at = (merged if each else call for each in where)
        snapshot = Snapshot(plan_context("p"), TenantContext("t"))

        def request() -> None:
            with plan_context("outer") as outer, RunContext(7):
                enter(snapshot.__enter__)
                assert (read()[:3], active_contexts()[-1]) == (("p", "t", 0), snapshot)
                exit_at(lambda: exit_(snapshot))
                assert read()[:3] == ("outer", None, 7)
                assert active_contexts()[0] is outer
                assert snapshot not in active_contexts()
            assert (read(), active_contexts()) == (CLEAN, ())

        fresh(request)

    def test_merged_and_never_left(self) -> None:
        def request() -> None:
            snapshot = Snapshot(plan_context("p"), TenantContext("t"))
            with plan_context("outer"), TenantContext("mine"):
                merged(snapshot.__enter__)
            assert (read(), active_contexts()) == (CLEAN, ())

        fresh(request)

    def test_nested_in_itself(self) -> None:
        snapshot = Snapshot(plan_context("p"))
        with snapshot, plan_context("q"):
            with snapshot, snapshot:
                assert read() == ("p", None, 0, "none")
            assert held() == "q"
        assert seen() == NOTHING

    def test_shared_by_threads_at_once(self) -> None:
        snapshot = Snapshot(plan_context("p"))
        barrier = threading.Barrier(8)
        results: list[object] = []

        def work() -> None:
            barrier.wait()
            with snapshot:
                barrier.wait()
                inside = current_plan_name.get()
                barrier.wait()
            results.append((inside, seen()))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [("p", NOTHING)] * 8

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_an_abandoned_block_is_put_right(self) -> None:
        def hold() -> Generator[None, None, None]:
            with Snapshot(plan_context("lost")):
                yield

        generator = hold()
        next(generator)
        Context().run(generator.close)
        del generator
        gc.collect()
        assert active_contexts() == ()
        with plan_context("next"):
            pass
        assert read() == CLEAN

    def test_exceptions_pass_with_no_frame_of_ours(self) -> None:
        with pytest.raises(Boom) as caught, Snapshot(plan_context("p")):
            raise Boom
        frames = [Path(entry.path) for entry in caught.traceback]
        assert [path.name for path in frames] == [Path(__file__).name]


class TestS2Run:
    @pytest.mark.parametrize("name", ["__enter__", "__exit__"])
    def test_calls_an_override_of_either(self, name: str) -> None:
        def override(self: Snapshot, *args: object) -> Any:
            calls.append(name)
            return getattr(Snapshot, name)(self, *args)

        calls: list[str] = []
        cls: Any = type("Noisy", (Snapshot,), {name: override})
        assert cls(plan_context("p")).run(held) == "p"
        assert calls == [name]

    def test_the_block_is_its_own(self) -> None:
        """By hand it cannot be left, though the Snapshot is the same (R3)."""

        def body() -> object:
            with pytest.warns(ForeignExitWarning):
                leave(snapshot)
            return held()

        snapshot = Snapshot(plan_context("p"))
        assert snapshot.run(body) == "p"

    def test_a_deep_copy_keeps_what_is_shared(self) -> None:
        value: Any = ["t"]
        snapshot, other = copy.deepcopy((Snapshot(TenantContext(value)), value))
        assert snapshot[TenantContext] is other is not value


@pytest.mark.anyio
class TestAsyncS2SectionR:
    async def test_shared_by_tasks_at_once(self) -> None:
        snapshot = Snapshot(plan_context("p"))
        results: list[object] = []
        inside = 0
        all_inside = anyio.Event()

        async def task() -> None:
            nonlocal inside
            async with snapshot:
                inside += 1
                if inside == 50:
                    all_inside.set()
                await all_inside.wait()
                value = current_plan_name.get()
            results.append((value, seen()))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(task)
        assert results == [("p", NOTHING)] * 50

    async def test_an_exit_in_a_task_warns_once_and_leaves_it_there(self) -> None:
        snapshot = Snapshot(plan_context("p"))

        async def task() -> None:
            with pytest.warns(ForeignExitWarning) as record:
                await snapshot.__aexit__(None, None, None)
            assert len(record) == 1
            assert (read(), active_contexts()) == (CLEAN, ())

        async with snapshot:
            async with anyio.create_task_group() as group:
                group.start_soon(task)
            assert (held(), active_contexts()) == ("p", (snapshot,))
        assert seen() == NOTHING

    async def test_never_entered_warns(self) -> None:
        with pytest.warns(ForeignExitWarning):
            await Snapshot().__aexit__(None, None, None)


# Functions of all kinds, at module level because they are pickled by reference.


def plain(suffix: str = "") -> str:
    """Return the plan, in the usual way."""
    return f"{current_plan_name.get()}{suffix}"


async def coroutine(suffix: str = "") -> str:
    """Return the plan from before and after an await."""
    first = current_plan_name.get()
    await anyio.lowlevel.checkpoint()
    assert current_plan_name.get() == first
    return f"{first}{suffix}"


def generator(suffix: str = "") -> Iterator[str]:
    """Yield the plan, twice."""
    yield f"{current_plan_name.get()}{suffix}"
    yield f"{current_plan_name.get()}{suffix}"


async def async_generator(suffix: str = "") -> AsyncGenerator[str, None]:
    """Yield the plan, twice."""
    yield f"{current_plan_name.get()}{suffix}"
    await anyio.lowlevel.checkpoint()
    yield f"{current_plan_name.get()}{suffix}"


class Service:
    """Has methods of all kinds."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, suffix: str = "") -> str:
        return plain(suffix)

    def method(self, suffix: str = "") -> str:
        return f"{self.name}: {plain(suffix)}"

    async def async_method(self, suffix: str = "") -> str:
        return f"{self.name}: {await coroutine(suffix)}"

    @classmethod
    def of_class(cls, suffix: str = "") -> str:
        return f"{cls.__name__}: {plain(suffix)}"

    @staticmethod
    def static(suffix: str = "") -> str:
        return plain(suffix)


class AsyncService:
    """A callable object whose call is async; its attributes have unlucky names."""

    def __init__(self) -> None:
        self._run = self._parts = "its own"

    async def __call__(self, suffix: str = "") -> str:
        return await coroutine(suffix)


async def results_of(function: Callable[..., Any]) -> list[str]:
    """Return what the function gives, each step taken outside of all blocks."""
    results: list[str] = []
    if inspect.isasyncgenfunction(function):
        async for each in function("!"):
            assert held() == UNSET
            results.append(each)
    elif inspect.isgeneratorfunction(function):
        for each in function("!"):
            assert held() == UNSET
            results.append(each)
    elif inspect.iscoroutinefunction(function):
        results.append(await function("!"))
    else:
        results.append(function("!"))
    assert held() == UNSET
    return results


FOUR_KINDS = [plain, coroutine, generator, async_generator]
CALLABLES: list[tuple[Callable[..., Any], list[str]]] = [
    (plain, ["p!"]),
    (coroutine, ["p!"]),
    (generator, ["p!", "p!"]),
    (async_generator, ["p!", "p!"]),
    (Service("s").method, ["s: p!"]),
    (Service("s").async_method, ["s: p!"]),
    (Service.of_class, ["Service: p!"]),
    (Service.static, ["p!"]),
    (Service("s"), ["p!"]),
    (AsyncService(), ["p!"]),
    (functools.partial(Service("s").method), ["s: p!"]),
    (functools.partial(functools.partial(coroutine)), ["p!"]),
    (functools.partial(async_generator), ["p!", "p!"]),
]


@pytest.mark.anyio
class TestAsyncS2Decorator:
    @pytest.mark.parametrize("function", FOUR_KINDS)
    async def test_of_the_four_kinds(self, function: Callable[..., Any]) -> None:
        decorated = Snapshot(plan_context("p"))(function)
        assert set(await results_of(decorated)) == {"p!"}
        assert seen() == NOTHING


@pytest.mark.anyio
class TestAsyncS3Carry:
    @pytest.mark.parametrize(("function", "expected"), CALLABLES)
    async def test_runs_under_what_was_bound_where_it_was_made(
        self, function: Callable[..., Any], expected: list[str]
    ) -> None:
        with plan_context("p"):
            carried = carry(function)
        for _ in range(2):
            assert await results_of(carried) == expected

    @pytest.mark.parametrize(("function", "expected"), CALLABLES)
    async def test_a_pickled_one_does_the_same(
        self, function: Callable[..., Any], expected: list[str]
    ) -> None:
        with plan_context("p"):
            carried = pickled(carry(function))
        assert await results_of(carried) == expected
        assert await results_of(pickled(carried)) == expected

    @pytest.mark.parametrize("function", FOUR_KINDS)
    async def test_twice(self, function: Callable[..., Any]) -> None:
        """The inner capture wins, as it is the nearest to the function."""
        with plan_context("p"):
            carried = carry(function)
        with plan_context("q"):
            carried = carry(carried)
        assert set(await results_of(carried)) == {"p!"}
        assert set(await results_of(pickled(carried))) == {"p!"}

    async def test_by_many_tasks_at_once(self) -> None:
        waiting, all_waiting = 0, anyio.Event()

        async def work() -> str | None:
            nonlocal waiting
            waiting += 1
            if waiting == 20:
                all_waiting.set()
            await all_waiting.wait()
            return current_plan_name.get()

        async def task(number: int) -> None:
            async with plan_context(str(number)):
                results.append(await carried())
                assert held() == str(number)

        results: list[object] = []
        with plan_context("p"):
            carried = carry(work)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(task, number)
        assert results == ["p"] * 20


class TestS3Carry:
    KINDS = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )

    @pytest.mark.parametrize(
        "function", [*FOUR_KINDS, Service("s").async_method, Service.static]
    )
    def test_kind_signature_and_names_are_kept(
        self, function: Callable[..., Any]
    ) -> None:
        carried: Any = carry(function)
        for is_kind in self.KINDS:
            assert is_kind(carried) is is_kind(function)
        assert inspect.signature(carried) == inspect.signature(function)
        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            assert getattr(carried, name) == getattr(function, name)
        assert carried.__wrapped__ == function
        with pytest.raises(AttributeError):
            _ = carried.nowhere

    @pytest.mark.parametrize(
        "function", [functools.partial(plain, "!"), Service("s"), AsyncService()]
    )
    def test_signature_of_what_is_no_function(
        self, function: Callable[..., Any]
    ) -> None:
        assert inspect.signature(carry(function)) == inspect.signature(function)

    @pytest.mark.parametrize("thing", [Service, int, "p", None])
    def test_nothing_but_functions(self, thing: Any) -> None:
        with pytest.raises(TypeError, match="only functions and methods can be"):
            carry(thing)

    def test_as_a_method_it_is_bound(self) -> None:
        with plan_context("p"):
            names = {
                "method": carry(Service.method),
                "no_method": carry(Service("other")),
                "of_class": carry(Service.__dict__["of_class"]),
            }
        carrying: Any = type("Carrying", (Service,), names)
        assert carrying("s").method("!") == "s: p!"
        assert pickled(Service("s").method)("!") == "s: None!"
        assert carrying.method(Service("t"), "!") == "t: p!"
        assert carrying("s").no_method("!") == "p!"
        assert carrying.of_class("!") == "Carrying: p!"

    def test_nothing_bound_is_carried_too(self) -> None:
        carried = carry(read)
        with plan_context("q"), SecretContext("s"):
            assert carried() == CLEAN
            assert held() == "q"

    def test_what_a_call_sets_raw_is_put_back(self) -> None:
        def work() -> None:
            current_plan_name.set("raw")

        carry(work)()
        assert read() == CLEAN

    def test_in_a_thread(self) -> None:
        results: list[object] = []
        with plan_context("p"):
            carried = carry(lambda: results.append(read()))
        thread = threading.Thread(target=carried)
        thread.start()
        thread.join()
        assert results == [("p", None, 0, "none")]

    def test_by_many_threads_at_once(self) -> None:
        barrier = threading.Barrier(8)
        results: list[object] = []

        def work() -> None:
            barrier.wait()
            results.append(current_plan_name.get())
            barrier.wait()

        with plan_context("p"):
            carried = carry(work)
        threads = [threading.Thread(target=carried) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == ["p"] * 8


class TestS3Call:
    def test_annotations_and_kind_can_be_asked_of_its_call(self) -> None:
        async def work(number: int) -> int:
            return number

        carried: Any = carry(work)
        assert inspect.iscoroutinefunction(carried.__call__)
        assert inspect.signature(carried.__call__) == inspect.signature(work)


class TestS3Callbacks:
    """Where a block does not reach by itself."""

    def test_add_done_callback_of_a_future(self) -> None:
        results: list[object] = []
        future: Future[str] = Future()
        with plan_context("p"):
            future.add_done_callback(carry(lambda done: results.append(done.result())))
            future.add_done_callback(carry(lambda _: results.append(held())))
        thread = threading.Thread(target=future.set_result, args=("done",))
        thread.start()
        thread.join()
        assert results == ["done", "p"]


class TestAsyncS3Callbacks:
    def test_call_soon_threadsafe_from_a_thread(self) -> None:
        async def main() -> list[object]:
            loop = asyncio.get_running_loop()
            results: list[object] = []
            done = asyncio.Event()

            def callback() -> None:
                results.append(current_plan_name.get())

            def thread() -> None:
                with plan_context("p"):
                    loop.call_soon_threadsafe(callback)  # copies the Context itself
                    carried = carry(callback)
                loop.call_soon_threadsafe(callback)
                loop.call_soon_threadsafe(carried)
                loop.call_soon_threadsafe(done.set)

            worker = threading.Thread(target=thread)
            worker.start()
            await done.wait()
            worker.join()
            return results

        assert asyncio.run(main()) == ["p", None, "p"]

    def test_add_done_callback_of_a_task(self) -> None:
        async def main() -> list[object]:
            results: list[object] = []
            finished = asyncio.Event()

            def callback(_: object) -> None:
                results.append(current_plan_name.get())

            with plan_context("p"):
                carried = carry(callback)
            task = asyncio.create_task(asyncio.sleep(0))
            task.add_done_callback(carried)
            task.add_done_callback(callback)
            task.add_done_callback(lambda _: finished.set())
            await finished.wait()
            return results

        assert asyncio.run(main()) == ["p", None]

    def test_run_coroutine_threadsafe_from_a_worker(self) -> None:
        async def main() -> tuple[object, object]:
            loop = asyncio.get_running_loop()

            def worker() -> tuple[object, object]:
                with plan_context("p"):
                    bare = asyncio.run_coroutine_threadsafe(coroutine(), loop)
                    carried = asyncio.run_coroutine_threadsafe(carry(coroutine)(), loop)
                return bare.result(), carried.result()

            return await asyncio.to_thread(worker)

        # The loop copies the Context of the thread that calls; carried, it needs not.
        assert asyncio.run(main()) == ("p", "p")


def test_a_context_elsewhere_is_left_as_it_was() -> None:
    context = copy_context()
    with plan_context("p"):
        carried = carry(plain)
    block = context.run(opened, "own")
    assert context.run(carried) == "p"
    assert context[current_plan_name] == "own"
    context.run(leave, block)
