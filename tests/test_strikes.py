"""Rules R11 and R13: what strikes in the middle of an enter or exit."""

from __future__ import annotations

import dis
import gc
import signal
import sys
import sysconfig
import warnings
import weakref

from collections import Counter
from contextlib import ExitStack
from contextvars import Context
from functools import cache
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from aura_context import (
    PlanContext,
    Snapshot,
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
    copied,
    current_run,
    current_tenant,
    held,
    holding,
    leave,
    merged,
    opened,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType, FrameType
    from typing import Self


CONTEXTS: list[type[VarContext[str | None]]] = [PlanContext, TenantContext]


def named_snapshot(name: str) -> Snapshot:
    return Snapshot(plan_context(name))


def start_from(before: str) -> None:
    """Set the plan raw, if it is to be set."""
    if before != UNSET:
        current_plan_name.set(before)


traces_generators = pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="Python 3.12 and older crash if a generator's frame is traced",
)


def back_to(before: str) -> set[str | None]:
    """Return what a variable may hold in the end: without its token, which a strike
    may have lost, it cannot be unset. Then it has its default.
    """
    return {UNSET, None} if before == UNSET else {before}


def holding_in_steps(context: PlanContext) -> Generator[object]:
    """Take steps under a plan, and hold a block of this context between them."""

    @plan_context("p")
    def steps() -> Generator[object]:
        with context:
            while True:
                yield held()

    return steps()


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
            start_from(before)
            struck = struck_at(step, enter_and_leave)
            gc.collect(0)  # the traceback has held the context
            with TenantContext("t"):
                assert held() in back_to(before)
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

    def test_a_context_that_is_gone_before_what_its_enter_has_made(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        errors: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", errors.append)

        def body(step: int) -> bool:
            context = plan_context("p")
            counter = InstructionCounter(step, strike)
            try:
                with counter:
                    context.__enter__()
            except KeyboardInterrupt:
                made = weakref.getweakrefs(context)  # while the frame still has it
            else:
                made = []
            del context
            gc.collect(0)  # where there is no reference counting
            with TenantContext("t"):
                assert current_plan_name.get() is None
            assert [each() for each in made] == [None] * len(made)
            return counter.left <= 0

        assert strikes(body) > 50
        assert errors == []


class TestR5Strikes:
    """An exit in a Context that has inherited the block."""

    def test_of_a_block_whose_enter_was_interrupted(self) -> None:
        """What the enter had not set yet is not put back."""
        shared = plan_context("shared")

        def body(step: int) -> bool:
            struck = struck_at(step, shared.__enter__)

            def elsewhere() -> object:
                shared.__exit__(None, None, None)
                return current_plan_name.get()

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert copied(elsewhere) is None
            return struck

        assert strikes(body) > 50

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_of_a_block_that_its_owner_leaves_meanwhile(self) -> None:
        def body(step: int) -> bool:
            owner = Context()
            block = owner.run(opened, "p")

            def leave_here() -> None:
                with LineCounter(step, lambda: owner.run(leave, block)) as counter:
                    leave(block)
                assert held() in {"p", None}
                assert active_contexts() == ()
                counters.append(counter)

            counters: list[LineCounter] = []
            owner.copy().run(leave_here)
            return counters[0].left <= 0

        assert strikes(body) > 20


class TestR13Properties:
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


class TestR13Finalisers:
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
            start_from(before)
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

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    @pytest.mark.parametrize("below", ["below", "p"])
    @pytest.mark.parametrize("cls", [None, *CONTEXTS])
    def test_one_that_leaves_the_block_below_a_snapshot(
        self, before: str, below: str, cls: type[VarContext[str | None]] | None
    ) -> None:
        contexts = [cls("p")] if cls else []
        inside = "p" if cls is PlanContext else None

        def body(step: int) -> bool:
            start_from(before)
            block = opened(below)
            snapshot = Snapshot(*contexts)
            with LineCounter(step, lambda: leave(block)) as counter:
                snapshot.__enter__()
            struck = counter.left <= 0
            assert current_plan_name.get() == inside
            assert active_contexts() == ((snapshot,) if struck else (block, snapshot))
            leave(snapshot)
            if not struck:
                assert held() == below
                leave(block)
            assert held() in back_to(before)
            assert active_contexts() == ()
            return struck

        assert strikes(body) > 20

    def test_one_that_leaves_the_block_below_a_snapshot_and_above_another(self) -> None:
        """The Snapshot is the heir of a block whose value was reset raw (R4)."""

        def body(step: int) -> bool:
            token = current_plan_name.set("raw")
            lowest = opened("lowest")
            current_plan_name.reset(token)
            block, snapshot = opened("below"), Snapshot()
            with LineCounter(step, lambda: leave(block)) as counter:
                snapshot.__enter__()
            leave(lowest)
            assert current_plan_name.get() is None
            leave(snapshot)
            struck = counter.left <= 0
            if not struck:
                assert held() == "below"
                leave(block)
            assert held() == "raw"
            return struck

        assert strikes(body) > 20

    @pytest.mark.parametrize("before", [UNSET, 3])
    def test_what_an_exit_elsewhere_restores_after_one(self, before: Any) -> None:
        def body(step: int) -> bool:
            if before != UNSET:
                current_run.set(before)
            below, block = RunContext(5).__enter__(), RunContext(7)
            counter = InstructionCounter(step, lambda: leave(below), after_calls=True)
            with counter:
                block.__enter__()
            struck = counter.left <= 0

            def elsewhere() -> int:
                leave(block)
                return current_run.get()

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                restored = copied(elsewhere)
            assert restored == (5 if not struck else 0 if before == UNSET else before)
            return struck

        assert strikes(body) > 5

    @pytest.mark.parametrize("before", [UNSET, "before"])
    @pytest.mark.parametrize("name", ["abandoned", "p"])
    def test_one_that_abandons_a_block_and_leaves_another(
        self, before: str, name: str
    ) -> None:
        def body(step: int) -> bool:
            start_from(before)
            abandoned, other = [opened(name)], TenantContext("t").__enter__()

            def act() -> None:
                abandoned.clear()
                gc.collect(0)  # where there is no reference counting
                leave(other)

            block = plan_context("p")
            with InstructionCounter(step, act, after_calls=True) as counter:
                block.__enter__()
            struck = counter.left <= 0
            assert (held(), active_contexts()[-1]) == ("p", block)
            leave(block)
            if not struck:
                act()
                with RunContext(1):
                    pass
            assert held() in back_to(before)
            assert (held(current_tenant), active_contexts()) == (UNSET, ())
            return struck

        assert strikes(body) > 4

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    def test_one_that_abandons_two_blocks(self, before: str) -> None:
        def body(step: int) -> bool:
            start_from(before)
            abandoned = [*map(opened, "pa")]

            def act() -> None:
                abandoned.clear()
                gc.collect(0)  # where there is no reference counting
                with RunContext(1):
                    pass

            with InstructionCounter(step, act, after_calls=True) as counter:
                block = opened("p")
            struck = counter.left <= 0
            if not struck:
                act()
            assert (held(), active_contexts()) == ("p", (block,))
            leave(block)
            assert held() in back_to(before)
            return struck

        assert strikes(body) > 5

    @pytest.mark.parametrize("before", [UNSET, "before"])
    @pytest.mark.parametrize("kept", [RunContext(1), Snapshot()])
    def test_one_that_abandons_a_block_and_keeps_another(
        self, before: str, kept: RunContext | Snapshot
    ) -> None:
        def body(step: int) -> bool:
            start_from(before)
            abandoned = [opened("abandoned")]
            block = plan_context("p")

            def act() -> None:
                abandoned.clear()
                gc.collect(0)  # where there is no reference counting
                kept.__enter__()

            with InstructionCounter(step, act, after_calls=True) as counter:
                block.__enter__()
            struck = counter.left <= 0
            if not struck:
                act()
            leave(block)
            leave(kept)
            assert held() in back_to(before)
            assert active_contexts() == ()
            return struck

        assert strikes(body) > 5

    def test_the_exit_after_one_is_the_usual(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It costs no more, whether one has used blocks or kept some open."""

        def body(step: int) -> bool:
            block = plan_context("p")
            generator = holding("below")
            next(generator)

            def act() -> None:
                with RunContext(1):
                    pass
                if kept:
                    kept[0].__enter__()
                generator.close()

            with InstructionCounter(step, act, after_calls=True) as counter:
                block.__enter__()
            if active_contexts()[-1] is block:
                with monkeypatch.context() as patch:
                    patch.setattr(_stack.Handle, "leave_unusually", pytest.fail)
                    leave(block)
            else:
                leave(block)
            for context in kept if counter.left <= 0 else []:
                leave(context)
            generator.close()
            assert active_contexts() == ()
            return counter.left <= 0

        kept: list[TenantContext] = []
        assert strikes(body) > 5
        kept.append(TenantContext("kept"))
        assert strikes(body) > 5

    @pytest.mark.parametrize("below", ["below", "p"])
    @pytest.mark.parametrize("make", [plan_context, named_snapshot])
    @pytest.mark.parametrize("used", [TenantContext("t"), Snapshot()])
    def test_one_that_leaves_the_block_below_and_then_uses_another(
        self,
        below: str,
        make: Callable[[str], PlanContext | Snapshot],
        used: TenantContext | Snapshot,
    ) -> None:
        def body(step: int) -> bool:
            generator = holding(below)
            next(generator)

            def act() -> None:
                generator.close()
                with used:
                    pass

            block = make("p")
            with LineCounter(step, act) as counter:
                block.__enter__()
            inside = held(), active_contexts()[-1]
            leave(block)
            generator.close()
            assert inside == ("p", block)
            assert held() in {UNSET, None}  # the token may be lost, as to a signal
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 10

    @pytest.mark.parametrize("make", [plan_context, named_snapshot])
    @pytest.mark.parametrize("above", [[], [TenantContext("t")]])
    def test_one_that_leaves_the_same_context_during_an_exit(
        self,
        make: Callable[[str], PlanContext | Snapshot],
        above: list[TenantContext],
    ) -> None:
        """Nobody can tell its two blocks apart: both are left."""

        def body(step: int) -> bool:
            shared = make("p").__enter__()
            shared.__enter__()
            for each in above:
                each.__enter__()
            with LineCounter(step, lambda: leave(shared)) as counter:
                leave(shared)
            struck = counter.left <= 0
            if not struck:
                leave(shared)
            assert active_contexts() == (*above,)
            assert held() in {UNSET, None}  # the token may be lost, as to a signal
            for each in above:
                leave(each)
            return struck

        assert strikes(body) > 10

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

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    @pytest.mark.parametrize("between", [[], ["between"], ["p"]])
    @pytest.mark.parametrize("kept", [[], ["kept"]])
    @pytest.mark.parametrize("make", [plan_context, named_snapshot])
    def test_one_that_leaves_another_block_of_the_same_context(
        self,
        before: str,
        between: list[str],
        kept: list[str],
        make: Callable[[str], PlanContext | Snapshot],
    ) -> None:
        """Nobody can tell the two apart: one of them is left, and one stays."""

        def body(step: int) -> bool:
            start_from(before)
            shared = make("p").__enter__()
            others = [*map(opened, between)]

            def act() -> None:
                others.extend(map(opened, kept))
                leave(shared)

            with LineCounter(step, act) as counter:
                shared.__enter__()
            struck = counter.left <= 0
            *_, innermost = blocks = active_contexts()
            assert blocks.count(shared) == (1 if struck else 2)
            assert len(blocks) == len(others) + blocks.count(shared)
            if innermost is shared:
                assert held() == "p"
            else:
                assert held() == [*between, *kept][-1]
            while blocks := active_contexts():
                leave(blocks[-1])
            assert held() in back_to(before)
            return struck

        assert strikes(body) > 10

    def test_one_that_tidies_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is wrong then, and nothing is left that would have to be tidied: else
        two threads could send each other back for ever.
        """
        elsewhere, settle = Context(), _stack.settle
        settled: list[object] = []

        def count() -> Any:
            settled.append(None)
            return settle()

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


class TestR13KeptOpen:
    """What runs in the middle may keep a block open: neither that block nor the one
    under way is lost. It comes to lie below or above.
    """

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    @pytest.mark.parametrize("name", ["kept", "before", "p"])
    @pytest.mark.parametrize("cls", CONTEXTS)
    @pytest.mark.parametrize("after_calls", [True, False])
    def test_in_the_middle_of_an_enter(
        self,
        before: str,
        name: str,
        cls: type[VarContext[str | None]],
        after_calls: bool,
    ) -> None:
        def body(step: int) -> bool:
            start_from(before)
            kept = cls(name)
            block = plan_context("p")
            counter = InstructionCounter(step, kept.__enter__, after_calls=after_calls)
            with counter:
                block.__enter__()
            struck = counter.left <= 0
            if struck:
                assert {*map(id, active_contexts())} == {id(block), id(kept)}
                above = cls is PlanContext and active_contexts()[-1] is kept
                assert held() == (name if above else "p")
                leave(block)
                assert active_contexts() == (kept,)
                assert held(cls.var) == name
                leave(kept)
            else:
                leave(block)
            assert (held(), active_contexts()) == (before, ())
            return struck

        assert strikes(body) > 4

    @pytest.mark.parametrize("before", [UNSET, "before", "p"])
    @pytest.mark.parametrize("name", ["kept", "before", "p"])
    @pytest.mark.parametrize("cls", CONTEXTS)
    @pytest.mark.parametrize("below", [UNSET, "below"])
    def test_in_the_middle_of_an_exit(
        self, before: str, name: str, cls: type[VarContext[str | None]], below: str
    ) -> None:
        """At each call, and at each line; a hook inside of a line may be too late."""

        def body(step: int) -> bool:
            start_from(before)
            outer = [] if below == UNSET else [RunContext(1).__enter__()]
            block = opened("p")
            kept = cls(name)
            counter = InstructionCounter(step, kept.__enter__, after_calls=True)
            with counter:
                leave(block)
            struck = counter.left <= 0
            if struck:
                assert active_contexts() == (*outer, kept)
                assert held(cls.var) == name
                leave(kept)
            assert (held(), active_contexts()) == (before, (*outer,))
            return struck

        assert strikes(body) > 3

    @pytest.mark.parametrize("before", [UNSET, "before"])
    def test_a_snapshot_in_the_middle_of_an_exit(self, before: str) -> None:
        def body(step: int) -> bool:
            start_from(before)
            block, kept = opened("p"), named_snapshot("kept")
            with InstructionCounter(step, kept.__enter__, after_calls=True) as counter:
                leave(block)
            struck = counter.left <= 0
            if struck:
                assert (held(), active_contexts()) == ("kept", (kept,))
                leave(kept)
            assert (held(), active_contexts()) == (before, ())
            return struck

        assert strikes(body) > 3

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_at_each_line_of_an_unusual_exit(self) -> None:
        """A block was abandoned somewhere, so the exit has to look at all blocks.

        Only while a token is renewed may it be too late.
        """

        def body(step: int) -> bool:
            kept = TenantContext("kept")
            block = opened("p")
            Context().run(opened, "abandoned")
            with LineCounter(step, kept.__enter__) as counter:
                leave(block)
            if counter.left <= 0:
                assert (held(), active_contexts()) == (UNSET, (kept,))
                leave(kept)
            assert (held(current_tenant), active_contexts()) == (UNSET, ())
            return counter.left <= 0

        assert strikes(body) > 20

    @pytest.mark.parametrize("before", [UNSET, "before"])
    @pytest.mark.parametrize("name", ["heir", "p"])
    @pytest.mark.parametrize("make", [plan_context, named_snapshot])
    def test_the_heir_is_left_in_the_middle_of_an_exit_out_of_order(
        self, before: str, name: str, make: Callable[[str], PlanContext | Snapshot]
    ) -> None:
        def body(step: int) -> bool:
            start_from(before)
            block, heir = opened("p"), make(name)
            heir.__enter__()
            above = RunContext(1).__enter__()
            with LineCounter(step, lambda: leave(heir)) as counter:
                leave(block)
            struck = counter.left <= 0
            if not struck:
                leave(heir)
            assert held() in back_to(before)
            leave(above)
            assert active_contexts() == ()
            return struck

        assert strikes(body) > 20

    @pytest.mark.parametrize("before", [UNSET, "before"])
    def test_the_block_below_is_left_in_the_middle_of_an_exit_out_of_order(
        self, before: str
    ) -> None:
        """A variable that the exit is done with already is not left to its block."""
        several = plan_context("p"), TenantContext("t")

        def body(step: int) -> bool:
            start_from(before)
            below = opened("p")
            block, above = [Snapshot(*several).__enter__() for _ in "12"]
            with LineCounter(step, lambda: leave(below)) as counter:
                leave(block)
            struck = counter.left <= 0
            if not struck:
                leave(below)
            assert (held(), held(current_tenant)) == ("p", "t")
            assert active_contexts() == (above,)
            leave(above)
            assert held() in back_to(before)
            assert held(current_tenant) in {UNSET, None}
            return struck

        assert strikes(body) > 20

    @pytest.mark.parametrize("before", [UNSET, "before"])
    def test_at_each_line_of_an_exit_out_of_order(self, before: str) -> None:
        """What is kept binds the same variable, and must not keep the block's value."""

        def body(step: int) -> bool:
            start_from(before)
            kept = plan_context("kept")
            block, above = opened("p"), TenantContext("above").__enter__()
            with LineCounter(step, kept.__enter__) as counter:
                leave(block)
            assert above in active_contexts()
            leave(kept)
            leave(above)
            assert (held(), held(current_tenant)) == (before, UNSET)
            assert active_contexts() == ()
            return counter.left <= 0

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the last step, where none is kept
            assert strikes(body) > 20

    @traces_generators
    def test_at_each_line_of_a_generators_steps(self) -> None:
        """What the decorator or the body has bound is never left in the consumer."""

        @plan_context("decorator")
        def steps() -> Generator[None, None, None]:
            with plan_context("body"):
                yield
                yield

        def body(step: int) -> bool:
            kept: list[PlanContext] = []
            with LineCounter(step, lambda: kept.append(opened("kept"))) as counter:
                for _ in steps():
                    assert held() in {UNSET, "kept", None}
            for context in kept:
                context.__exit__(None, None, None)
            with plan_context("next"):
                pass
            assert (held(), active_contexts()) == (UNSET, ())
            return counter.left <= 0

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the generator keeps goes with it
            assert strikes(body) > 100

    @traces_generators
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_one_that_leaves_a_block_while_it_is_suspended(self) -> None:
        """Whether it finds the block depends on the line. It never fails.

        A block that it has found is not opened again by the next step.
        """
        shared = plan_context("shared")

        def body(step: int) -> bool:
            found = False

            def strike() -> None:
                nonlocal found
                found = shared in active_contexts()
                leave(shared)

            steps = holding_in_steps(shared)
            with LineCounter(step, strike) as counter:
                next(steps)
            assert next(steps) in ({"p"} if found else {"p", "shared"})
            steps.close()
            assert (held(), active_contexts()) == (UNSET, ())
            return counter.left <= 0

        assert strikes(body) > 40

    @traces_generators
    def test_one_that_drops_a_block_while_it_is_suspended(self) -> None:
        def body(step: int) -> bool:
            kept: list[PlanContext] = []

            @plan_context("p")
            def steps() -> Generator[None]:
                kept.append(opened("dropped"))
                yield

            generator = steps()
            with LineCounter(step, kept.clear) as counter:
                next(generator)
            assert held() in {UNSET, "dropped"}
            assert [*generator] == []
            kept.clear()
            with plan_context("next"):
                pass
            assert (held(), active_contexts()) == (UNSET, ())
            return counter.left <= 0

        assert strikes(body) > 40

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_one_that_leaves_a_suspended_block_of_the_same_context(self) -> None:
        """In an enter. It may leave what is being entered instead, and never fails."""
        shared = plan_context("shared")

        def body(step: int) -> bool:
            steps = holding_in_steps(shared)
            next(steps)
            with LineCounter(step, lambda: leave(shared)) as counter:
                shared.__enter__()
            leave(shared)
            steps.close()
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 10

    def test_at_each_line_of_both(self) -> None:
        def body(step: int) -> bool:
            kept = plan_context("kept")
            block = plan_context("p")
            with LineCounter(step, kept.__enter__) as counter:
                block.__enter__()
                leave(block)
            if counter.left <= 0:
                assert (held(), active_contexts()) == ("kept", (kept,))
                leave(kept)
            assert (held(), active_contexts()) == (UNSET, ())
            return counter.left <= 0

        assert strikes(body) > 20

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_in_the_middle_of_a_snapshots_exit(self) -> None:
        def body(step: int) -> bool:
            kept = RunContext(1)
            snapshot = Snapshot(plan_context("p"), TenantContext("t")).__enter__()
            with LineCounter(step, kept.__enter__) as counter:
                snapshot.__exit__(None, None, None)
            if counter.left <= 0:
                assert active_contexts() == (kept,)
                assert (held(), held(current_tenant)) == (UNSET, UNSET)
                leave(kept)
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 10

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    @pytest.mark.parametrize("before", [UNSET, "before"])
    @pytest.mark.parametrize("cls", CONTEXTS)
    def test_in_the_middle_of_the_exit_of_a_snapshot_that_binds_the_same(
        self, before: str, cls: type[VarContext[str | None]]
    ) -> None:
        def body(step: int) -> bool:
            start_from(before)
            kept = cls("kept")
            snapshot = Snapshot(plan_context("p"), TenantContext("t")).__enter__()
            with LineCounter(step, kept.__enter__) as counter:
                snapshot.__exit__(None, None, None)
            if counter.left <= 0:
                assert active_contexts() == (kept,)
                leave(kept)
            assert (held(), held(current_tenant)) == (before, UNSET)
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 10

    def test_in_a_snapshot(self) -> None:
        """A Snapshot binds several variables, each before or after what is kept."""

        def body(step: int) -> bool:
            kept = plan_context("kept"), TenantContext("kept")

            def keep() -> None:
                for context in kept:
                    context.__enter__()

            snapshot = Snapshot(plan_context("p"), TenantContext("t"))
            with LineCounter(step, keep) as counter:
                snapshot.__enter__()
            opened = active_contexts()
            assert snapshot in opened
            if counter.left <= 0:
                above = opened[-1] is kept[-1]
                assert held() == ("kept" if above else "p")
                assert held(current_tenant) == ("kept" if above else "t")
                snapshot.__exit__(None, None, None)
                assert active_contexts() == kept
                assert (held(), held(current_tenant)) == ("kept", "kept")
                for context in kept:
                    leave(context)
            else:
                snapshot.__exit__(None, None, None)
            assert (held(), held(current_tenant)) == (UNSET, UNSET)
            return counter.left <= 0

        assert strikes(body) > 20

    @pytest.mark.parametrize("make", [plan_context, named_snapshot])
    def test_in_the_middle_of_the_enter_of_a_block_that_is_abandoned(
        self, make: Callable[[str], PlanContext | Snapshot]
    ) -> None:
        def body(step: int) -> bool:
            kept = plan_context("kept")
            context = make("p")
            with LineCounter(step, kept.__enter__) as counter:
                context.__enter__()
            del context
            gc.collect()  # where there is no reference counting
            with TenantContext("next"):
                assert kept in active_contexts() or counter.left > 0
            if counter.left <= 0:
                assert held() == "kept"
                leave(kept)
            assert held() == UNSET
            return counter.left <= 0

        assert strikes(body) > 10


class TestR13Settling:
    """An abandoned block is put right while something else uses blocks as well."""

    ABANDONED: ClassVar[list[Callable[[], PlanContext | Snapshot]]] = [
        lambda: plan_context("abandoned"),
        lambda: Snapshot(plan_context("abandoned"), TenantContext("abandoned")),
    ]

    @pytest.mark.parametrize("before", [UNSET, 7])
    def test_a_block_below_a_snapshot(self, before: object) -> None:
        def use_blocks() -> None:
            with RunContext(-1):
                assert held(current_run) == -1

        def body(step: int) -> bool:
            if isinstance(before, int):
                current_run.set(before)
            abandoned = RunContext(1000).__enter__()
            above = Snapshot.capture().__enter__()
            del abandoned
            with LineCounter(step, use_blocks) as counter, plan_context("p"):
                assert held(current_run) == 1000
            assert held(current_run) == 1000
            above.__exit__(None, None, None)
            # Without its token a variable cannot be unset; it has its default.
            assert held(current_run) in ({UNSET, 0} if before == UNSET else {before})
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 100

    def test_blocks_used_in_the_middle_of_an_exit_below_anothers_blocks(self) -> None:
        """A framework has copied the latter back (R4)."""

        def use_blocks() -> None:
            with plan_context("hook"), RunContext(-1):
                assert (held(), held(current_run)) == ("hook", -1)

        def body(step: int) -> bool:
            block, own = opened("p"), RunContext(1).__enter__()
            others = merged(lambda: TenantContext("another's").__enter__())
            top = RunContext(2).__enter__()
            assert others in active_contexts()
            with LineCounter(step, use_blocks) as counter:
                leave(block)
            assert active_contexts() == (own, top)
            leave(top)
            assert held(current_run) == 1
            leave(own)
            assert (held(), held(current_run), active_contexts()) == (UNSET, UNSET, ())
            return counter.left <= 0

        assert strikes(body) > 40

    @pytest.mark.parametrize("before", [UNSET, "before"])
    @pytest.mark.parametrize("make", ABANDONED)
    def test_a_block_in_the_middle(
        self, before: str, make: Callable[[], PlanContext | Snapshot]
    ) -> None:
        def use_a_block() -> None:
            with plan_context("hook"), TenantContext("hook"):
                assert (held(), held(current_tenant)) == ("hook", "hook")

        def body(step: int) -> bool:
            start_from(before)
            make().__enter__()
            with LineCounter(step, use_a_block) as counter, plan_context("p"):
                assert held() == "p"
            assert (held(), held(current_tenant)) == (before, UNSET)
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 40

    @pytest.mark.parametrize("make", ABANDONED)
    def test_a_block_in_the_middle_of_an_exit_out_of_order(
        self, make: Callable[[], PlanContext | Snapshot]
    ) -> None:
        def use_a_block() -> None:
            with plan_context("hook"), RunContext(-1):
                assert (held(), held(current_run)) == ("hook", -1)

        def body(step: int) -> bool:
            abandoned = make().__enter__()
            block, above = opened("p"), RunContext(1).__enter__()
            del abandoned
            with LineCounter(step, use_a_block) as counter:
                leave(block)
            assert active_contexts() == (above,)
            leave(above)
            assert held() in {UNSET, None}  # the token may be lost, as to a signal
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 100

    @pytest.mark.parametrize("make", ABANDONED)
    def test_a_block_in_the_middle_and_another_abandoned_later(
        self, make: Callable[[], PlanContext | Snapshot]
    ) -> None:
        def use_a_block() -> None:
            with plan_context("hook"):
                assert held() == "hook"

        def body(step: int) -> bool:
            lowest, abandoned = opened("lowest"), make().__enter__()
            above = opened("above")
            del abandoned
            with LineCounter(step, use_a_block) as counter, RunContext(1):
                assert held() == "above"
            del lowest
            with RunContext(2):
                assert held() == "above"
            leave(above)
            assert held() in {UNSET, None}  # the token may be lost, as to a signal
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 40

    @pytest.mark.parametrize("make", ABANDONED)
    @pytest.mark.parametrize("cls", CONTEXTS)
    def test_a_block_that_is_kept_open(
        self,
        make: Callable[[], PlanContext | Snapshot],
        cls: type[VarContext[str | None]],
    ) -> None:
        def body(step: int) -> bool:
            make().__enter__()
            kept = cls("kept")
            with LineCounter(step, kept.__enter__) as counter, plan_context("p"):
                assert held() in {"p", "kept"}
            if counter.left <= 0:
                assert active_contexts() == (kept,)
                leave(kept)
            with plan_context("next"):
                pass
            assert (held(), held(current_tenant)) == (UNSET, UNSET)
            assert active_contexts() == ()
            return counter.left <= 0

        assert strikes(body) > 40


class Story:
    """Blocks that are opened, left and abandoned at random, one of them while something
    strikes: an enter or an exit, in the middle of which others are.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - no secret
        self.before = self.random.choice([UNSET, "before", "p"])
        self.blocks: list[VarContext[Any] | Snapshot] = []
        """The contexts whose blocks are open, once for each, in no order."""
        self.struck: VarContext[Any] | Snapshot | None = None

    def run(self, strike: Callable[[Callable[[], None]], Any]) -> bool:
        """Return whether the strike has come."""
        start_from(self.before)
        for _ in range(self.random.randrange(4)):
            self.open(self.context())
        if self.random.random() < 0.25:
            self.leave_any()
        is_enter = self.random.random() < 0.6 or not self.blocks
        self.struck = self.context() if is_enter else self.random.choice(self.blocks)
        with strike(self.act) as counter:
            if is_enter:
                self.open(self.struck)
            else:
                self.leave(self.struck)
        self.struck = None
        with RunContext(1):  # settles what was abandoned
            pass
        self.check()
        while self.blocks:
            self.leave_any()
            self.check()
        return bool(counter.left <= 0)

    def act(self) -> None:
        """Open, use, leave or abandon one to three blocks."""
        acts: list[Callable[[], None]] = [
            lambda: self.open(self.context()),
            lambda: self.use(self.context()),
            self.leave_any,
            self.abandon,
        ]
        for act in self.random.choices(acts, k=self.random.randrange(1, 4)):
            act()

    def context(self) -> VarContext[Any] | Snapshot:
        name, tenant = self.random.choice("ap"), self.random.choice("ap")
        match self.random.randrange(8):
            case 0:
                return Snapshot()
            case 1:
                return Snapshot(plan_context(name))
            case 2:
                return Snapshot(plan_context(name), TenantContext(tenant))
            case 3:
                return TenantContext(tenant)
            case 4 if others := self.others():
                return self.random.choice(others)
            case _:
                return plan_context(name)

    def others(self) -> list[VarContext[Any] | Snapshot]:
        """Return those that are not under way: nobody can tell two of one apart."""
        return [each for each in self.blocks if each is not self.struck]

    def open(self, context: VarContext[Any] | Snapshot) -> None:
        self.blocks.append(context)
        context.__enter__()

    def use(self, context: VarContext[Any] | Snapshot) -> None:
        with context:
            pass

    def leave_any(self) -> None:
        if others := self.others():
            self.leave(self.random.choice(others))

    def leave(self, context: VarContext[Any] | Snapshot) -> None:
        # Not `remove`: Snapshots may be equal.
        del self.blocks[[*map(id, self.blocks)].index(id(context))]
        leave(context)

    def abandon(self) -> None:
        if others := self.others():
            gone = id(self.random.choice(others))
            self.blocks = [each for each in self.blocks if id(each) != gone]

    def check(self) -> None:
        """Each variable has the value of the innermost block that binds it."""
        blocks = active_contexts()
        assert Counter(map(id, blocks)) == Counter(map(id, self.blocks))
        for cls in CONTEXTS:
            values = [
                each.get(cls) if isinstance(each, Snapshot) else each.value
                for each in blocks
                if isinstance(each, Snapshot | cls)
            ]
            if values:
                assert cls.current() == values[-1]
            else:
                before = self.before if cls is PlanContext else UNSET
                assert held(cls.var) in back_to(before)


class TestR13AnyBlocks:
    """What runs in the middle may open, leave and abandon any blocks but the one that
    is under way.
    """

    @pytest.mark.parametrize("seed", range(40))
    def test_at_each_line(self, seed: int) -> None:
        def body(step: int) -> bool:
            return Story(seed).run(lambda act: LineCounter(step, act))

        assert strikes(body) > 2

    @pytest.mark.parametrize("seed", range(100))
    def test_after_each_call(self, seed: int) -> None:
        def body(step: int) -> bool:
            return Story(seed).run(
                lambda act: InstructionCounter(step, act, after_calls=True)
            )

        assert strikes(body) > 0


class TestR13Hooks:
    """Each of these runs at many points of every enter and exit."""

    def use_blocks(self) -> None:
        with plan_context("hook"), TenantContext("hook"):
            assert held() == "hook"

    def check(self) -> None:
        shared = plan_context("p")
        with plan_context("outer"):
            for _ in range(3):
                with shared, shared:
                    assert held() == "p"
                assert held() == "outer"
        first, second = opened("first"), opened("second")
        leave(first)
        assert held() == "second"
        leave(second)
        with Snapshot(plan_context("s")):
            assert (held(), held(current_tenant)) == ("s", UNSET)
        assert (held(), active_contexts()) == (UNSET, ())

    def test_a_profile_function(self) -> None:
        calls = 0

        def profile(*_: object) -> None:
            nonlocal calls
            calls += 1
            self.use_blocks()

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            self.check()
        finally:
            sys.setprofile(before)
        assert calls > 50

    def test_a_trace_function(self) -> None:
        lines = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal lines
            if frame.f_globals.get("__package__") != "aura_context":
                return None
            if event == "line":
                lines += 1
                sys.settrace(None)
                self.use_blocks()
                sys.settrace(trace)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            self.check()
        finally:
            sys.settrace(before)
        assert lines > 100

    @pytest.mark.skipif(
        sys.version_info < (3, 12),
        reason="Python 3.11 collects inside of ContextVar.set, and crashes by itself",
    )
    @pytest.mark.skipif(
        bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        reason="a free-threaded Python collects only once there is much that is new",
    )
    def test_a_callback_of_the_garbage_collector(self) -> None:
        calls = 0

        def callback(*_: object) -> None:
            nonlocal calls
            calls += 1
            self.use_blocks()

        threshold = gc.get_threshold()
        gc.callbacks.append(callback)
        gc.set_threshold(1)
        try:
            for _ in range(50):
                self.check()
        finally:
            gc.set_threshold(*threshold)
            gc.callbacks.remove(callback)
        assert calls > 50

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
    def test_a_signal_handler(self) -> None:
        calls = 0

        def handler(*_: object) -> None:
            nonlocal calls
            calls += 1
            self.use_blocks()

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            while calls < 100:
                self.check()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class LineCounter:
    """Acts at the given line that the package runs."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.left = step
        self.act = act

    def __enter__(self) -> Self:
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self.before)

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_globals.get("__package__") != "aura_context":
            return None
        if event == "line" and frame.f_code is not _stack.renew.__code__:
            self.left -= 1
            if self.left == 0:
                self.act()
        return self.trace


def strikes(body: Callable[[int], bool]) -> int:
    """Run it for one step after the other until there is none; return how many.

    Without the collector: a generator that another test has dropped could take its last
    step in the middle, and take along what is kept open there (F2).
    """
    step, was_enabled = 1, gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while Context().run(body, step):
            step += 1
    finally:
        if was_enabled:
            gc.enable()
    return step


@cache
def after_calls(code: CodeType) -> set[int]:
    """Return where in the code a call has just returned."""
    pairs = pairwise(dis.get_instructions(code))
    return {each.offset for last, each in pairs if last.opname.startswith("CALL")}


def strike() -> None:
    raise KeyboardInterrupt


def struck_at(step: int, function: Callable[[], object]) -> bool:
    """Run the function; raise KeyboardInterrupt at that instruction of the stack."""
    with InstructionCounter(step, strike):
        try:
            function()
        except KeyboardInterrupt:
            return True
    return False


# Not what renews a token: in the middle of that, a change may come too late.
CODES = (
    _stack.Binding.__enter__.__code__,
    _stack.Binding.__exit__.__code__,
    _stack.Entry.close.__code__,
)

if sys.version_info >= (3, 12):

    class InstructionCounter:
        """Acts at the given instruction of entering and leaving."""

        def __init__(
            self, step: int, act: Callable[[], object], *, after_calls: bool = False
        ) -> None:
            self.left = step
            self.act = act
            self.after_calls = after_calls

        def __enter__(self) -> Self:
            monitoring = sys.monitoring
            monitoring.use_tool_id(4, "strike")
            event = monitoring.events.INSTRUCTION
            monitoring.register_callback(4, event, self.count)
            for code in CODES:
                monitoring.set_local_events(4, code, event)
            return self

        def __exit__(self, *exc: object) -> None:
            for code in CODES:
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
            self, step: int, act: Callable[[], object], *, after_calls: bool = False
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
            if self.after_calls and frame.f_code not in CODES:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            points = after_calls(frame.f_code) if self.after_calls else {frame.f_lasti}
            if event == "opcode" and frame.f_lasti in points:
                self.left -= 1
                if self.left == 0:
                    self.act()
            return self.trace
