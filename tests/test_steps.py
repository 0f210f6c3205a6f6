"""Rule F2: the blocks that a decorated generator holds across a yield."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import types

from contextlib import aclosing, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
import pytest

from aura_context import (
    ContextError,
    ForeignExitWarning,
    Snapshot,
    _steps,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    AsyncValues,
    Boom,
    Elsewhere,
    RunContext,
    TenantContext,
    Values,
    copied,
    current_run,
    current_tenant,
    fresh,
    held,
    here,
    holding,
    in_thread,
    leave,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from aura_context._context import BaseContext


P = ParamSpec("P")
R = TypeVar("R")


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
        with plan_context("consumer") as consumer:
            steps = plan_context("p")(self.body)([])
            next(steps)
            block = opened("another")
            assert active_contexts() == (consumer, block)
            steps.close()
            assert active_contexts() == (consumer, block)
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

    def test_so_does_one_that_looks_like_what_is_bound(self) -> None:
        def rows(token: contextvars.Token[int]) -> Values:
            current_run.reset(token)
            yield current_run.get()
            yield current_run.get()

        def consume() -> None:
            nothing: Any = None
            token = current_run.set(5)
            assert list(RunContext(nothing)(rows)(token)) == [0, 0]

        fresh(consume)

    def test_so_does_one_in_a_block_of_the_body(self) -> None:
        def rows(token: contextvars.Token[int]) -> Values:
            with RunContext(7):
                current_run.reset(token)
                yield current_run.get()
                yield current_run.get()

        def consume() -> None:
            token = current_run.set(5)
            assert list(plan_context("p")(rows)(token)) == [0, 0]

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

    def test_the_body_cannot_leave_the_steps_own_block(self) -> None:
        shared = plan_context("p")

        @shared
        def rows() -> Values:
            with pytest.warns(ForeignExitWarning):
                leave(shared)
            yield held()
            yield held()

        assert list(rows()) == ["p", "p"]
        assert active_contexts() == ()
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
            with TenantContext("of another") as block:
                with pytest.raises(StopIteration):
                    step.send(None)
                assert active_contexts()[-1] is block
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


def holder(plan_name: str) -> Values:
    with plan_context(plan_name):
        yield


UNDER: list[Callable[[Any], Any]] = [
    plan_context("p"),
    Snapshot(plan_context("p")),
]


class TestF2LeftBetweenTwoSteps:
    """A block that is left while its generator is suspended stays left."""

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    @pytest.mark.parametrize("elsewhere", [here, copied, fresh, in_thread])
    def test_with_the_generator_that_holds_it(
        self, elsewhere: Elsewhere, under: BaseContext
    ) -> None:
        @under
        def rows() -> Values:
            block = holder("inner")
            next(block)
            yield block
            yield held(), len(active_contexts())

        steps = rows()
        block = next(steps)
        elsewhere(block.close)
        assert (held(), active_contexts()) == (UNSET, ())
        assert next(steps) == ("p", 1)
        steps.close()
        assert (held(), active_contexts()) == (UNSET, ())

    def test_by_hand(self) -> None:
        block = plan_context("inner")

        @plan_context("p")
        def rows() -> Values:
            with TenantContext("t"):
                block.__enter__()
                yield held()
                yield held(), held(current_tenant)

        steps = rows()
        assert next(steps) == "inner"
        leave(block)
        assert next(steps) == ("p", "t")
        with pytest.warns(ForeignExitWarning):
            leave(block)
        steps.close()

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_of_a_context_whose_other_blocks_have_been_left(self) -> None:
        """What still refers to those does not count."""
        shared = plan_context("shared")

        @plan_context("p")
        def rows() -> Values:
            with shared:
                yield held()
                yield held()

        with shared:
            child = contextvars.copy_context()
        for steps in (rows(), rows()):
            assert next(steps) == "shared"
            leave(shared)
        assert next(steps) == "p"
        assert child.run(held) == "shared"

    def test_under_another_generators_step(self) -> None:
        """Handed to a second generator, which leaves it in a step of its own."""

        @plan_context("first")
        def first() -> Values:
            block = holder("inner")
            next(block)
            yield block
            yield held()

        @plan_context("second")
        def second(block: Values) -> Values:
            yield held()
            block.close()
            yield held(), len(active_contexts())

        one = first()
        two = second(next(one))
        assert next(two) == "second"
        assert next(two) == ("second", 1)
        assert next(one) == "first"
        one.close()
        two.close()
        assert (held(), active_contexts()) == (UNSET, ())

    def test_the_middle_one_of_three(self) -> None:
        blocks = [plan_context("1"), TenantContext("t"), plan_context("3")]

        @plan_context("p")
        def rows() -> Values:
            for block in blocks:
                block.__enter__()
            yield
            yield held(), held(current_tenant), len(active_contexts())
            for block in (blocks[2], blocks[0]):
                leave(block)
            yield held(), held(current_tenant), len(active_contexts())

        steps = rows()
        next(steps)
        leave(blocks[1])
        assert next(steps) == ("3", UNSET, 3)
        assert next(steps) == ("p", UNSET, 1)
        steps.close()
        assert (held(), held(current_tenant)) == (UNSET, UNSET)

    def test_a_context_that_is_open_elsewhere_too_keeps_its_block(self) -> None:
        """Whose block the exit means cannot be known; it warns, and leaves none."""
        shared = plan_context("shared")

        @plan_context("p")
        def rows() -> Values:
            with shared:
                yield
                yield held()

        one, two = rows(), rows()
        next(one)
        next(two)
        with pytest.warns(ForeignExitWarning):
            leave(shared)
        assert [next(one), next(two)] == ["shared", "shared"]
        two.close()
        elsewhere = contextvars.Context()
        elsewhere.run(shared.__enter__)
        one.close()
        one = rows()
        next(one)
        with pytest.warns(ForeignExitWarning):
            leave(shared)
        assert next(one) == "shared"
        elsewhere.run(leave, shared)
        one.close()

    def test_of_an_async_generator(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            block = holder("inner")
            next(block)
            yield block
            yield held(), len(active_contexts())

        async def main() -> None:
            async with aclosing(rows()) as steps:
                block = await anext(steps)
                await asyncio.to_thread(block.close)
                assert await anext(steps) == ("p", 1)
            assert (held(), active_contexts()) == (UNSET, ())

        asyncio.run(main())


class Fragile(TenantContext):
    """Its value cannot be read while the flag is set."""

    broken = False

    @property
    def value(self) -> str | None:
        if Fragile.broken:
            raise Boom
        return "fragile"

    @value.setter
    def value(self, value: str | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - reads otherwise
        pass


class TestF2Begin:
    """If one block cannot be opened again, nothing stays open in the consumer."""

    @pytest.fixture(autouse=True)
    def _whole(self) -> Iterator[None]:
        yield
        Fragile.broken = False

    # The body ends then, and its blocks with it, which are open nowhere.
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("consumer", [None, "consumer"])
    def test_one_of_three(
        self, place: int, consumer: str | None, under: BaseContext
    ) -> None:
        blocks: list[Any] = [plan_context("1"), TenantContext("2")]
        blocks.insert(place, Fragile("t"))

        @under
        def rows() -> Values:
            with blocks[0], blocks[1], blocks[2]:
                yield held(current_tenant)
                yield

        steps = rows()
        with plan_context(consumer) if consumer else nullcontext():
            before = held(), held(current_tenant), active_contexts()
            next(steps)
            Fragile.broken = True
            with pytest.raises(Boom):
                next(steps)
            assert (held(), held(current_tenant), active_contexts()) == before
            Fragile.broken = False
            with pytest.raises(StopIteration):
                next(steps)
            assert (held(), held(current_tenant), active_contexts()) == before
            del steps
            gc.collect()
            assert (held(), held(current_tenant), active_contexts()) == before
        assert (held(), active_contexts()) == (UNSET, ())

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_of_an_async_generator(self) -> None:
        @plan_context("p")
        async def rows() -> AsyncValues:
            async with plan_context("1"), Fragile("t"), TenantContext("3"):
                yield
                yield

        async def main() -> None:
            steps = rows()
            await anext(steps)
            Fragile.broken = True
            with pytest.raises(Boom):
                await anext(steps)
            assert (held(), held(current_tenant)) == (UNSET, UNSET)
            assert active_contexts() == ()
            Fragile.broken = False

        asyncio.run(main())

    def test_the_generators_own_block(self) -> None:
        broken = TenantContext("t")

        @broken
        def rows() -> Values:
            yield held(current_tenant)

        steps = rows()
        del broken.value
        with pytest.raises(ContextError, match=r"super\(\).__init__"):
            next(steps)
        assert (held(current_tenant), active_contexts()) == (UNSET, ())


class TestF2Names:
    def test_an_attribute_of_a_context_has_any_name(self) -> None:
        class Stepwise(TenantContext):
            is_step = True

        @plan_context("p")
        def rows() -> Values:
            with RunContext(7), Stepwise("t") as context:
                yield held(current_run), held(current_tenant)
                assert active_contexts()[-1] is context
                yield held(current_run), held(current_tenant)

        for row in rows():
            assert row == (7, "t")
            assert (held(current_run), active_contexts()) == (UNSET, ())


class TestF2Snapshot:
    """Under a Snapshot all declared variables belong to the generator."""

    def test_raw_values(self) -> None:
        @Snapshot(plan_context("p"))
        def rows() -> Values:
            current_plan_name.set("raw")
            current_tenant.set("raw")
            yield held(), held(current_tenant)
            yield held(), held(current_tenant)

        seen: list[object] = []
        with TenantContext("consumer"):
            for row in rows():
                seen += [row, (held(), held(current_tenant))]
        assert seen == [("raw", "raw"), (UNSET, "consumer")] * 2
        assert (held(), held(current_tenant)) == (UNSET, UNSET)

    def test_a_snapshot_that_the_body_holds(self) -> None:
        @plan_context("p")
        def rows() -> Values:
            with Snapshot(TenantContext("t")) as snapshot:
                current_tenant.set("raw")
                yield held(), held(current_tenant)
                assert active_contexts()[-1] is snapshot
                yield held(), held(current_tenant)
            yield held(), held(current_tenant)

        seen: list[object] = []
        for row in rows():
            seen.append(row)
            assert (held(), held(current_tenant)) == (UNSET, UNSET)
            assert active_contexts() == ()
        assert seen == [(None, "raw"), (None, "raw"), ("p", UNSET)]
