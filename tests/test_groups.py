"""Rule S2: how a Snapshot's block ends, as usual and otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aura_context import (
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
    current_run,
    current_tenant,
    fresh,
    held,
    leave,
)


if TYPE_CHECKING:
    from collections.abc import Generator


def holding(snapshot: Snapshot) -> Generator[None, None, None]:
    """Hold a block across a yield, as one should not."""
    with snapshot:
        yield


def test_a_name_that_is_bound_already_is_not_set() -> None:
    """R2: an equal str counts as the same, and the variable keeps its own."""
    with plan_context("".join(["nightly", " plan"])):
        outer = held()
        with Snapshot(plan_context("".join(["nightly ", "plan"]))):
            assert held() is outer
        assert held() is outer


class TestS2Cost:
    """What is usual takes the usual way, and neither searches nor settles."""

    @pytest.fixture(autouse=True)
    def only_usual(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_stack.Handle, "leave_unusually", pytest.fail)
        monkeypatch.setattr(_stack.Entry, "finish_enter", pytest.fail)
        monkeypatch.setattr(_stack, "settle", pytest.fail)

    def test_of_what_it_binds_and_of_what_it_does_not(self) -> None:
        snapshot = Snapshot(plan_context("p"), TenantContext("t"))
        with snapshot:
            pass
        with plan_context("p"), RunContext(7), snapshot, snapshot:
            assert (held(), held(current_tenant)) == ("p", "t")

    def test_of_a_variable_that_it_binds_and_that_is_set_raw_inside(self) -> None:
        with Snapshot(plan_context("p")):
            current_plan_name.set("raw")
        assert current_plan_name.get() is None

    def test_of_the_blocks_around_it(self) -> None:
        with plan_context("p"), Snapshot(), Snapshot(), RunContext(7):
            pass
        assert active_contexts() == ()

    def test_of_the_blocks_inside(self) -> None:
        with plan_context("p"), Snapshot(), Snapshot(), plan_context("q"):
            assert held() == "q"
        assert active_contexts() == ()


def test_a_variable_that_it_does_not_bind_and_that_is_set_raw_inside() -> None:
    with Snapshot(plan_context("p")):
        current_run.set(7)
    assert (current_run.get(), active_contexts()) == (0, ())


def test_a_variable_that_is_bound_already_and_reset_raw_inside() -> None:
    """What it held before is restored, also where it is unset at the end."""

    def run() -> None:
        nothing: Any = None  # which is not the default
        token = current_run.set(nothing)
        with Snapshot(RunContext(nothing)):
            current_run.reset(token)
            assert current_run.get() == 0
        assert current_run.get() is None

    fresh(run)


def test_the_exit_is_the_usual_after_something_was_abandoned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TenantContext("t"):
        for _ in range(2):
            fresh(lambda: plan_context("abandoned").__enter__())
            snapshot = Snapshot(plan_context("p")).__enter__()
            with monkeypatch.context() as patch:
                patch.setattr(_stack.Handle, "leave_unusually", pytest.fail)
                leave(snapshot)
    assert active_contexts() == ()


class TestS2OutOfOrder:
    """A variable that the Snapshot does not hold, and that was not set before it."""

    def test_set_raw_below_a_block_that_is_left_last(self) -> None:
        snapshot = Snapshot().__enter__()
        current_run.set(5)
        inner = RunContext(7).__enter__()
        leave(snapshot)
        assert current_run.get() == 7
        leave(inner)
        assert current_run.get() == 0

    def test_reset_raw_above_a_block_that_is_left_last(self) -> None:
        def run() -> None:
            snapshot = Snapshot().__enter__()
            token = current_run.set(5)
            inner = RunContext(7).__enter__()
            current_run.reset(token)
            leave(snapshot)
            leave(inner)
            assert current_run.get() == 0

        fresh(run)

    def test_reset_raw_above_a_block_that_is_left_first(self) -> None:
        def run() -> None:
            token = current_run.set(3)
            outer = RunContext(4).__enter__()
            current_run.reset(token)
            snapshot = Snapshot().__enter__()
            leave(outer)
            assert current_run.get() == 0
            leave(snapshot)
            assert current_run.get() == 3

        fresh(run)

    @pytest.mark.parametrize("value", [5, None])
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_set_raw_in_a_block_that_is_abandoned(self, value: Any) -> None:
        steps = holding(Snapshot())
        next(steps)
        current_run.set(value)
        abandon(steps)
        with plan_context("next"):
            assert current_run.get() == value
        assert current_run.get() == value
        assert held() == UNSET

    @pytest.mark.parametrize("raw", [current_plan_name, current_tenant])
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_one_of_two_set_raw_since_a_block_was_abandoned(self, raw: Any) -> None:
        steps = holding(Snapshot(plan_context("p"), TenantContext("t")))
        next(steps)
        abandon(steps)
        raw.set("raw")
        with RunContext(1):
            pass
        values = {var: var.get() for var in (current_plan_name, current_tenant)}
        assert values.pop(raw) == "raw"
        assert [*values.values()] == [None]
