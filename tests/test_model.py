"""Any sequence of blocks, in any Contexts, against a model of R1-R5, R8 and R11."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import warnings

from contextvars import Context, ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

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
from .model import Block, Model


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
DEFAULTS: dict[ContextVar[Any], object] = {current_plan_name: None, current_run: 0}


class AnyOrder(RuleBasedStateMachine):
    """Opens and leaves blocks in any order, and checks every Context after each."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[Model] = []
        self.blocks: list[Block] = []
        self.models.append(self.fresh())
        self.contexts: dict[int, VarContext[Any]] = {}
        self.numbers = itertools.count()
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        self.loop.close()

    @precondition(lambda self: len(self.models) < 4)
    @rule(data=st.data(), copy=st.booleans())
    def another_context(self, data: st.DataObject, copy: bool) -> None:
        self.models.append(self.draw_model(data).copy() if copy else self.fresh())

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

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), how=HOW)
    def leave(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.contexts)))
        self.leave_in(self.draw_model(data), number, how)

    @precondition(lambda self: any(model.own for model in self.models))
    @rule(data=st.data(), how=HOW)
    def leave_own(self, data: st.DataObject, how: str) -> None:
        model = self.draw_model(data, [each for each in self.models if each.own])
        numbers = {block.number for block in model.own if block.context}
        if numbers:
            number = data.draw(st.sampled_from(sorted(numbers)))
            self.leave_in(model, number, how)

    @rule(data=st.data(), cls=CLASSES, how=HOW)
    def enter_in_a_merged_copy(
        self, data: st.DataObject, cls: type[VarContext[Any]], how: str
    ) -> None:
        number = next(self.numbers)
        self.contexts[number] = cls(data.draw(st.sampled_from(VALUES[cls])))
        model = self.draw_model(data)
        copy = model.copy()
        self.enter_in(copy, number, how)
        self.merge(model, copy)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), how=HOW)
    def leave_in_a_merged_copy(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.contexts)))
        model = self.draw_model(data)
        copy = model.copy()
        self.leave_in(copy, number, how)
        self.merge(model, copy)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.contexts)))
        for block in self.blocks:
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

    def fresh(self) -> Model:
        now: dict[ContextVar[Any], object] = dict.fromkeys(VARIABLES, UNSET)
        return Model(Context(), now, DEFAULTS, self.models, self.blocks)

    def merge(self, model: Model, copy: Model) -> None:
        """Copy back what differs, as asgiref does."""
        model.merge(copy)

        def copy_back() -> None:
            for var, value in copy.real.items():
                if var.get(UNSET) != value:
                    var.set(value)

        model.real.run(copy_back)

    def enter_in(self, model: Model, number: int, how: str) -> None:
        context = self.contexts[number]
        model.enter(context, number, {context.var: context.value})
        self.run(model.real, how, context.__enter__, context.__aenter__)

    def leave_in(self, model: Model, number: int, how: str) -> None:
        context = self.contexts[number]
        leave = partial(context.__exit__, None, None, None)
        leave_async = partial(context.__aexit__, None, None, None)
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            self.run(model.real, how, leave, leave_async)
        categories = [] if model.leave(number) else [ForeignExitWarning]
        assert [each.category for each in record] == categories

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
