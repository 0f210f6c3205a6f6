"""Any sequence of blocks, in any Contexts, against a model of R1-R8 and R11."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading

from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from aura_context import (
    ForeignExitWarning,
    PlanContext,
    VarContext,
    active_contexts,
    current_plan_name,
)

from .contexts import UNSET, RunContext, current_run


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

VARIABLES: tuple[ContextVar[Any], ...] = (current_plan_name, current_run)
VALUES: dict[type[VarContext[Any]], tuple[Any, ...]] = {
    # Two that are equal but not the same object.
    PlanContext: ("a", "plan", "".join(["pl", "an"]), None),
    RunContext: (0, 1000, int("1000")),
}
HOW = st.sampled_from(["here", "thread", "task"])
CLASSES = st.sampled_from(list(VALUES))


def same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, str) and one == other)


@dataclass(eq=False)
class Block:
    """One block: what it binds, what it found, and who can still leave it."""

    context: VarContext[Any] | None
    number: int
    var: ContextVar[Any]
    value: object
    found: object
    left: bool = False

    @property
    def open(self) -> bool:
        return not self.left and self.context is not None


@dataclass(eq=False)
class Model:
    """What the rules say that one Context holds."""

    real: Context
    now: dict[ContextVar[Any], object]
    inherited: list[Block] = field(default_factory=list)
    own: list[Block] = field(default_factory=list)

    @property
    def active(self) -> list[Block]:
        return [block for block in self.inherited + self.own if block.open]

    @property
    def numbers(self) -> list[int]:
        """The contexts that can be left here."""
        return sorted({block.number for block in self.own if block.open})

    def copy(self) -> Model:
        return Model(self.real.copy(), dict(self.now), self.inherited + self.own)

    def enter(self, context: VarContext[Any], number: int) -> None:
        self.retire_abandoned()
        var, value = context.var, context.value
        found = self.now[var]
        if same(found, value):
            value = found  # the variable is left alone
        self.own.append(Block(context, number, var, value, found))
        self.now[var] = value

    def leave(self, number: int) -> None:
        self.retire_abandoned()
        block = [b for b in self.own if b.number == number][-1]
        if heir := self.heir(block):
            heir.found = block.found
        else:
            self.now[block.var] = block.found
        self.drop(block)

    def retire_abandoned(self) -> None:
        for block in reversed([b for b in self.own if b.context is None]):
            if heir := self.heir(block):
                if heir.found is block.value:
                    heir.found = block.found
            elif self.now[block.var] is block.value:
                self.now[block.var] = block.found
            self.drop(block)

    def heir(self, block: Block) -> Block | None:
        above = self.own[self.own.index(block) + 1 :]
        return next((b for b in above if b.var is block.var), None)

    def drop(self, block: Block) -> None:
        block.left, block.context = True, None
        self.own.remove(block)


class AnyOrder(RuleBasedStateMachine):
    """Opens and leaves blocks in any order, and checks every Context after each."""

    def __init__(self) -> None:
        super().__init__()
        self.models = [Model(Context(), dict.fromkeys(VARIABLES, UNSET))]
        self.contexts: dict[int, VarContext[Any]] = {}
        self.numbers = itertools.count()
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        self.loop.close()

    @precondition(lambda self: len(self.models) < 4)
    @rule(data=st.data(), copy=st.booleans())
    def another_context(self, data: st.DataObject, copy: bool) -> None:
        new = Model(Context(), dict.fromkeys(VARIABLES, UNSET))
        self.models.append(self.draw_model(data).copy() if copy else new)

    @rule(data=st.data(), cls=CLASSES, how=HOW)
    def enter(self, data: st.DataObject, cls: type[VarContext[Any]], how: str) -> None:
        number = next(self.numbers)
        self.contexts[number] = cls(data.draw(st.sampled_from(VALUES[cls])))
        self.enter_in(self.draw_model(data), number, how)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), how=HOW)
    def enter_once_more(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.contexts)))
        self.enter_in(self.draw_model(data), number, how)

    @precondition(lambda self: any(model.numbers for model in self.models))
    @rule(data=st.data(), how=HOW)
    def leave(self, data: st.DataObject, how: str) -> None:
        model = self.draw_model(data, [m for m in self.models if m.numbers])
        number = data.draw(st.sampled_from(model.numbers))
        model.leave(number)
        self.leave_in(model, number, how)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), how=HOW)
    def leave_elsewhere(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.contexts)))
        for model in self.models:
            if number not in model.numbers:
                with pytest.warns(ForeignExitWarning):
                    self.leave_in(model, number, how)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.contexts)))
        for model in self.models:
            for block in model.own:
                if block.number == number:
                    block.context = None
        del self.contexts[number]
        gc.collect(0)

    @rule(data=st.data(), cls=CLASSES)
    def set_raw(self, data: st.DataObject, cls: type[VarContext[Any]]) -> None:
        model = self.draw_model(data)
        value = data.draw(st.sampled_from(VALUES[cls]))
        model.now[cls.var] = value
        model.real.run(cls.var.set, value)

    @invariant()
    def every_context_is_as_the_model_says(self) -> None:
        for model in self.models:
            for var, value in model.now.items():
                assert model.real.get(var, UNSET) is value
            expected = tuple(block.context for block in model.active)
            assert model.real.run(active_contexts) == expected

    def draw_model(
        self, data: st.DataObject, among: list[Model] | None = None
    ) -> Model:
        # By index, as Hypothesis keeps what it draws, and with it the contexts.
        among = among or self.models
        return among[data.draw(st.integers(0, len(among) - 1))]

    def enter_in(self, model: Model, number: int, how: str) -> None:
        context = self.contexts[number]
        model.enter(context, number)
        self.run(model.real, how, context.__enter__, context.__aenter__)

    def leave_in(self, model: Model, number: int, how: str) -> None:
        context = self.contexts[number]
        leave = partial(context.__exit__, None, None, None)
        self.run(model.real, how, leave, partial(context.__aexit__, None, None, None))

    def run(
        self,
        context: Context,
        how: str,
        function: Callable[[], object],
        coroutine: Callable[[], Coroutine[Any, Any, object]],
    ) -> None:
        """Run in the Context, in one of the ways that end up there."""
        if how == "here":
            context.run(function)
        elif how == "thread":
            thread = threading.Thread(target=context.run, args=(function,))
            thread.start()
            thread.join()
        else:
            task = self.loop.create_task(coroutine(), context=context)
            self.loop.run_until_complete(task)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(stateful_step_count=50)
