"""Rules R4 and R5 where frameworks copy the values of one Context over another's.

asgiref does that, and so do Django and Flask: they run code in a copy of the Context,
and then set what has changed there.
"""

from __future__ import annotations

import gc

from contextvars import copy_context
from functools import partial
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import pytest

from aura_context import (
    Snapshot,
    VarContext,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    Boom,
    RunContext,
    TenantContext,
    current_run,
    current_tenant,
    fresh,
    held,
    leave,
    merged,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

pytestmark = pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")


def held_now() -> tuple[object, Sequence[object]]:
    return current_plan_name.get(), active_contexts()


class TestR4Merged:
    @pytest.mark.parametrize("before", [UNSET, "before", "inner"])
    def test_what_lies_above_goes_with_the_block(self, before: str) -> None:
        if before != UNSET:
            current_plan_name.set(before)

        def body() -> None:
            with plan_context("outer"):
                merged(plan_context("inner").__enter__)
                raise Boom

        with pytest.raises(Boom):
            body()
        assert (held(), active_contexts()) == (before, ())

    @pytest.mark.parametrize("own", list(product([True, False], repeat=4))[1:-1])
    @pytest.mark.parametrize("names", ["abcd", "aabb", "abab"])
    def test_own_and_merged_blocks_in_any_order(
        self, own: tuple[bool, ...], names: str
    ) -> None:
        """The last own block to be left takes all above it along."""

        numbers = [number for number, is_own in enumerate(own) if is_own]
        first = numbers[0]

        def body(order: Sequence[int]) -> None:
            blocks = [plan_context(name) for name in names]
            for block, is_own in zip(blocks, own, strict=True):
                if is_own:
                    block.__enter__()
                else:
                    merged(block.__enter__)
            for number in order:
                leave(blocks[number])
            # What was copied here below the first own block stays.
            assert [*active_contexts()] == blocks[:first]
            assert held() == (names[first - 1] if first else UNSET)

        for order in permutations(numbers):
            fresh(partial(body, order))

    def test_an_own_block_above_stays_bound(self) -> None:
        first, copied, last = plan_context("1"), plan_context("2"), plan_context("3")
        first.__enter__()
        merged(copied.__enter__)
        last.__enter__()
        leave(first)
        assert held_now() == ("3", (last,))
        leave(last)
        assert (held(), active_contexts()) == (UNSET, ())

    def test_another_variables_block_lies_between(self) -> None:
        first = opened("1")
        merged(TenantContext("t").__enter__)
        run = RunContext(7).__enter__()
        leave(first)
        assert (held(), active_contexts()) == (UNSET, (run,))
        leave(run)
        assert (active_contexts(), held(current_tenant)) == ((), "t")  # raw by now

    def test_one_context_entered_here_and_in_the_copy(self) -> None:
        """Nested in itself, so that what changes compares as equal to a framework."""
        shared = plan_context("shared")
        with shared:
            merged(shared.__enter__)
            assert active_contexts() == (shared, shared)
            merged(partial(leave, shared))
            assert held_now() == ("shared", (shared,))
        assert (held(), active_contexts()) == (UNSET, ())

    def test_above_a_snapshot(self) -> None:
        with Snapshot(plan_context("s")) as snapshot:
            merged(plan_context("inner").__enter__)
            merged(TenantContext("t").__enter__)
            assert active_contexts()[0] is snapshot
        assert (held(), current_tenant.get()) == (UNSET, None)
        assert active_contexts() == ()

    def test_in_a_step_of_a_decorated_generator(self) -> None:
        @plan_context("rows")
        def rows() -> Generator[object]:
            merged(plan_context("inner").__enter__)
            yield current_plan_name.get()
            raise Boom

        steps = rows()
        assert next(steps) == "inner"
        assert (held(), active_contexts()) == (UNSET, ())
        with pytest.raises(Boom):
            next(steps)
        assert (held(), active_contexts()) == (UNSET, ())

    def test_a_stale_copy_in_a_step_costs_no_block_of_the_consumer(self) -> None:
        """What is copied has no block of the step any more."""
        with plan_context("consumer") as consumer:
            copied = copy_context()

            @plan_context("rows")
            def rows() -> Generator[None]:
                for var, value in copied.items():
                    var.set(value)
                yield

            next(steps := rows())
            assert active_contexts() == (consumer,)
            steps.close()
            assert active_contexts() == (consumer,)
        assert (held(), active_contexts()) == (UNSET, ())


class TestR11Merged:
    def test_below_what_was_copied_from_a_copy_an_abandoned_block_is_settled(
        self,
    ) -> None:
        block = RunContext(1).__enter__()
        copied = TenantContext("t"), plan_context("p")
        merged(copied[0].__enter__)
        del block
        gc.collect()
        merged(copied[1].__enter__)
        with plan_context("next"):
            assert held(current_run) == UNSET


class TestR5Merged:
    """The halves of a block run in two copies, one after the other."""

    @pytest.mark.parametrize("before", [None, "before", "p"])
    def test_nothing_stays_behind(self, before: str | None) -> None:
        current_plan_name.set(before)
        for name in ("p", "q"):
            block = plan_context(name)
            merged(block.__enter__)
            assert held_now() == (name, (block,))
            merged(partial(leave, block))
            assert held_now() == (before, ())

    @pytest.mark.parametrize("inner", [plan_context("inner"), Snapshot()])
    def test_inside_a_block(self, inner: VarContext[Any] | Snapshot) -> None:
        with plan_context("outer") as outer:
            halves = [TenantContext("t"), inner]
            for half in halves:
                merged(half.__enter__)
            for half in reversed(halves):
                merged(partial(leave, half))
            assert held_now() == ("outer", (outer,))
            assert current_tenant.get() is None
        assert (held(), active_contexts()) == (UNSET, ())

    def test_entered_in_a_copy_and_left_here(self) -> None:
        block = plan_context("p")
        merged(block.__enter__)
        leave(block)
        assert held_now() == (None, ())

    def test_entered_here_and_left_in_a_copy(self) -> None:
        block = opened("p")
        merged(partial(leave, block))
        assert held_now() == (None, ())
        leave(block)  # and here once more, as by `with`
        assert held_now() == (None, ())
