"""Rule R11: blocks that can no longer be left."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings

from typing import TYPE_CHECKING, Any

import pytest

from aura_context import (
    ForeignExitWarning,
    Snapshot,
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
    fresh,
    held,
    holding,
    leave,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator


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

    def test_a_raw_reset_to_unset_since_then_stays(self) -> None:
        def run() -> None:
            token = current_plan_name.set("raw")
            generator = holding(None)
            next(generator)
            abandon(generator)
            current_plan_name.reset(token)
            with TenantContext("t"):
                assert held() == UNSET
            assert held() == UNSET

        fresh(run)

    def test_put_right_at_the_next_exit(self) -> None:
        with TenantContext("t"):
            generator = holding("lost")
            next(generator)
            abandon(generator)
        assert held() == UNSET

    @pytest.mark.parametrize("above", [TenantContext("t"), Snapshot()])
    def test_put_right_at_the_exit_of_a_block_above(self, above: Any) -> None:
        generator = holding("lost")
        next(generator)
        with above:
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

    @pytest.mark.parametrize("raw", ["raw", "lost"])
    def test_looked_at_once(self, raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def body() -> None:
            generator = holding("lost")
            next(generator)
            with TenantContext("above"):
                abandon(generator)
                current_plan_name.set(raw)
                with TenantContext("t"):
                    pass
                with monkeypatch.context() as patch:
                    patch.setattr(_stack, "settle", pytest.fail)
                    with TenantContext("t"):
                        pass

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
