"""Random histories of blocks, and what a plain model says of every read.

A history is some fifty operations in up to four Contexts, some of them copies of
others. After each operation every variable is read in every Context, and compared with
``tests/model.py``. At the end all blocks are left, and one more is entered and left in
each Context: then everything has to read as the model says, once more.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import warnings

from contextvars import Context
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from aura_context import (
    ForeignExitWarning,
    Snapshot,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)
from candidates import NAMES, load
from tables import Cell, Table, Zero, share
from tests.contexts import UNSET, RunContext, current_run
from tests.model import Model


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from candidates import Candidate

Values: TypeAlias = "dict[Any, object]"

OPERATIONS, CONTEXTS = 50, 4
PLANS = ("a", "b", "plan", str(b"plan", "ascii"))  # two are equal, not the same
RUNS = (0, 1000, int("1000"))  # likewise
ERRORS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def holding(manager: Any) -> Generator[None, None, None]:
    with manager:
        yield


async def async_holding(manager: Any) -> AsyncGenerator[None, None]:
    if not hasattr(manager, "__aenter__"):
        with manager:
            yield
    else:
        async with manager:
            yield


class Handle:
    """What enters and leaves blocks: a context manager, or a generator with one."""

    def __init__(
        self, kind: str, manager: Any, values: Callable[[Model], Values]
    ) -> None:
        if kind == "async with" and not hasattr(manager, "__aenter__"):
            kind = "with"
        self.kind = kind
        self.manager: Any = manager
        self.values = values
        self.is_generator = "generator" in kind
        self.steps: Any = None

    async def enter(self) -> None:
        if self.kind == "with":
            self.manager.__enter__()
        elif self.kind == "async with":
            await self.manager.__aenter__()
        else:
            is_async = self.kind == "async generator"
            self.steps = (async_holding if is_async else holding)(self.manager)
            self.manager = None  # now the generator's alone
            if is_async:
                await anext(self.steps)
            else:
                next(self.steps)

    async def leave(self) -> None:
        if self.kind == "with":
            self.manager.__exit__(None, None, None)
        elif self.kind == "async with":
            await self.manager.__aexit__(None, None, None)
        elif self.kind == "async generator":
            await self.steps.aclose()
        else:
            self.steps.close()


class History:
    """One history of a candidate, with what every candidate can do."""

    plan: Any = "plan"

    def __init__(self, candidate: Candidate, seed: str) -> None:
        self.candidate = candidate
        self.random = Random(seed)
        self.reads = self.wrong = self.errors = self.left = 0
        self.defaults: Values = {self.plan: None}
        self.models: list[Model] = []
        self.blocks: list[Any] = []
        self.handles: dict[int, Handle] = {}
        self.entered = 0
        self.current: Model | None = None
        """Whose Context runs an operation in this thread."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.note_error)
        sys.unraisablehook = self.note_error

    def note_error(self, *_: object) -> None:
        self.errors += 1

    def operations(self) -> list[Callable[[], None]]:
        """Return what a history is made of."""
        return [
            self.another_context,
            self.enter,
            self.enter,
            self.leave,
            self.leave_own,
            self.abandon,
            self.in_a_merged_copy,
            *([self.set_raw] if self.candidate.raw_set else []),
        ]

    def play(self) -> None:
        self.models.append(self.fresh())
        operations = self.operations()
        for _ in range(OPERATIONS):
            self.random.choice(operations)()
            self.check()
        for model in self.models:
            for block in reversed(model.own):
                if block.context:
                    self.leave_in(model, block.number)
        for model in self.models:
            number = self.add(Handle("with", *self.new_plan()))
            self.enter_in(model, number)
            self.leave_in(model, number)
        wrong = self.wrong
        self.check()
        self.left = self.wrong > wrong
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def check(self) -> None:
        """Read everything everywhere, and compare."""
        for model in self.models:
            for var, value in model.real.run(self.read).items():
                expected = model.now[var]
                if expected is UNSET:
                    expected = self.defaults[var]
                self.reads += 1
                self.wrong += value is not expected and value != expected

    def read(self) -> Values:
        return {self.plan: self.candidate.get()}

    # What the operations are.

    def another_context(self) -> None:
        if len(self.models) < CONTEXTS:
            copied = self.random.choice(self.models).copy()
            self.models.append(self.random.choice((copied, self.fresh())))

    def enter(self) -> None:
        """Open a new block, in one of the four ways."""
        kinds = "with", "async with", "generator", "async generator"
        kind = self.random.choice(kinds)
        self.enter_in(self.any_model(), self.add(Handle(kind, *self.new())))

    def leave(self) -> None:
        """Leave a block that is open somewhere, perhaps elsewhere."""
        model = self.random.choice(self.models)
        if numbers := [each.number for each in self.blocks if each.open]:
            self.leave_in(model, self.random.choice(numbers))

    def leave_own(self) -> None:
        """Leave a block where it was entered, in any order."""
        model = self.random.choice(self.models)
        if numbers := [block.number for block in model.own if block.context]:
            self.leave_in(model, self.random.choice(numbers))

    def abandon(self) -> None:
        """Drop a generator, for its finaliser to close it."""
        numbers = [each for each in self.handles if self.handles[each].is_generator]
        if numbers:
            self.forget(self.random.choice(numbers))

    def in_a_merged_copy(self) -> None:
        """Enter or leave in a copy, and set here what differs, as asgiref does."""
        model = self.any_model()
        copy = model.copy()
        numbers = [each.number for each in model.active]
        if numbers and self.random.getrandbits(1):
            self.leave_in(copy, self.random.choice(numbers))
        else:
            self.enter_in(copy, self.add(Handle("with", *self.new())))
        model.merge(copy)

        def copy_back() -> None:
            for var, value in copy.real.items():
                if var.get(UNSET) != value:
                    var.set(value)

        model.real.run(copy_back)

    def set_raw(self) -> None:
        """Set the variable as code does that knows of no block."""
        model, plan = self.any_model(), self.random.choice(PLANS)
        model.now[self.plan] = plan
        if self.candidate.raw_set:
            model.real.run(self.candidate.raw_set, plan)

    # How they are done.

    def fresh(self) -> Model:
        now: Values = dict.fromkeys(self.defaults, UNSET)
        return Model(Context(), now, self.defaults, self.models, self.blocks)

    def any_model(self) -> Model:
        return self.random.choice(self.models)

    def new_plan(self) -> tuple[Any, Callable[[Model], Values]]:
        """Return a new context manager, and what it binds where it is entered."""
        plan = self.random.choice(PLANS)
        return self.candidate.block(plan), lambda _: {self.plan: plan}

    def new(self) -> tuple[Any, Callable[[Model], Values]]:
        return self.new_plan()

    def add(self, handle: Handle) -> int:
        self.entered += 1
        self.handles[self.entered] = handle
        return self.entered

    def forget(self, number: int) -> None:
        """Drop what leaves the blocks of this number."""
        is_async = self.handles.pop(number).kind == "async generator"
        for block in self.blocks:
            if block.number == number:
                block.context = None
        if is_async:  # the event loop closes it
            self.loop.run_until_complete(asyncio.sleep(0))

    def enter_in(self, model: Model, number: int) -> None:
        handle = self.handles[number]
        values = handle.values(model)
        self.run(model, handle.enter())
        model.enter(handle, number, values)

    def leave_in(self, model: Model, number: int) -> None:
        handle = self.handles[number]
        self.run(model, handle.leave())
        model.leave(number)
        if handle.is_generator:
            del handle
            self.forget(number)

    def run(self, model: Model, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run in the Context, in one of the ways that end up there."""
        (how,) = self.random.choices(("here", "task", "thread"), (12, 4, 1))
        try:
            if how == "task":
                task = self.loop.create_task(coroutine, context=model.real)
                self.loop.run_until_complete(task)
            elif how == "here":
                model.real.run(self.drive, coroutine, model)
            else:
                arguments = self.drive, coroutine, model
                thread = threading.Thread(target=model.real.run, args=arguments)
                thread.start()
                thread.join()
        except ERRORS:
            self.errors += 1

    def drive(self, coroutine: Coroutine[Any, Any, None], model: Model) -> None:
        """Run what never suspends."""
        if threading.current_thread() is threading.main_thread():
            self.current = model
        try:
            coroutine.send(None)
        except StopIteration:
            return
        except ERRORS:
            self.errors += 1
        finally:
            self.current = None


class FullHistory(History):
    """One of ours, with all that we offer."""

    plan = current_plan_name

    def __init__(self, candidate: Candidate, seed: str) -> None:
        super().__init__(candidate, seed)
        self.defaults = {current_plan_name: None, current_run: 0}
        self.carried: list[tuple[Callable[[], Values], Values]] = []
        self.decorated: list[tuple[Generator[str | None], str | None]] = []
        signal.signal(signal.SIGALRM, self.strike)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    def operations(self) -> list[Callable[[], None]]:
        """Return what a history is made of."""
        return [
            *super().operations(),
            self.enter_again,
            self.leave_any,
            self.set_run_raw,
            self.carry,
            self.take_a_step,
        ]

    def play(self) -> None:
        try:
            super().play()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def read(self) -> Values:
        return {var: var.get() for var in self.defaults}

    def check(self) -> None:
        super().check()
        for model in self.models:
            self.reads += 1
            self.wrong += len(model.real.run(active_contexts)) != len(model.active)

    def new(self) -> tuple[Any, Callable[[Model], Values]]:
        kind = self.random.choice(("plan", "run", "snapshot"))
        if kind == "plan":
            return self.new_plan()
        if kind == "run":
            run = self.random.choice(RUNS)
            return RunContext(run), lambda _: {current_run: run}
        model = self.any_model()
        held = {var: value for var, value in model.now.items() if value is not UNSET}
        # What it does not hold has its default inside, and is left alone if unset.
        return model.real.run(Snapshot.capture), lambda here: {
            var: held.get(var, UNSET if now is UNSET else self.defaults[var])
            for var, now in here.now.items()
        }

    def enter_again(self) -> None:
        """Enter an instance that may be open, here and elsewhere."""
        if numbers := self.shared():
            self.enter_in(self.any_model(), self.random.choice(numbers))

    def leave_any(self) -> None:
        """Leave an instance that may have no block."""
        if numbers := self.shared():
            self.leave_in(self.any_model(), self.random.choice(numbers))

    def abandon(self) -> None:
        """Drop anything."""
        if self.handles:
            self.forget(self.random.choice([*self.handles]))

    def shared(self) -> list[int]:
        return [each for each in self.handles if not self.handles[each].is_generator]

    def set_run_raw(self) -> None:
        model, run = self.any_model(), self.random.choice(RUNS)
        model.now[current_run] = run
        model.real.run(current_run.set, run)

    def carry(self) -> None:
        """Capture in one Context, and call in another one what was captured before."""
        model = self.any_model()
        expected = model.real.run(self.read)
        self.carried.append((model.real.run(carry, self.read), expected))
        function, expected = self.random.choice(self.carried)
        model = self.any_model()
        model.settle()
        self.reads += 1
        self.wrong += model.real.run(function) != expected

    def take_a_step(self) -> None:
        """Take a step of a decorated generator, or close it, wherever."""
        if not self.decorated or self.random.getrandbits(1):
            outer, inner = self.random.choice(PLANS), self.random.choice((*PLANS, None))

            @plan_context(outer)
            def steps() -> Generator[str | None]:
                with plan_context(inner):
                    while True:
                        yield current_plan_name.get()

            self.decorated.append((steps(), inner))
            number = -1
        else:
            number = self.random.randrange(len(self.decorated))
        model = self.any_model()
        model.settle()
        if number >= 0 and self.random.randrange(3) == 0:
            model.real.run(self.decorated.pop(number)[0].close)
            return
        generator, expected = self.decorated[number]
        self.reads += 1
        self.wrong += model.real.run(next, generator) != expected

    def strike(self, *_: object) -> None:
        """Use blocks in the middle of an operation, as a signal handler may.

        Not in a copy, for which it matters whether that is before the operation or
        after it, and the model cannot know.
        """
        model, self.current = self.current, None
        if model is None or model not in self.models:
            return
        with plan_context("signal"), RunContext(-1):
            self.reads += 1
            self.wrong += self.read() != {current_plan_name: "signal", current_run: -1}
        model.settle()
        self.current = model


def played(
    kind: type[History], candidate: Candidate, seconds: float, *, ours: bool
) -> tuple[Cell, ...]:
    """Play histories until the time is over."""
    gc.collect()
    gc.freeze()
    # Garbage of one history must take no part in the next one, and on Python 3.11 no
    # finaliser may run where it can do harm (docs/explanation/limits.md).
    gc.disable()
    end = monotonic() + seconds
    histories = reads = wrong = errors = left = 0
    while monotonic() < end:
        history = kind(candidate, f"history {histories}")
        history.play()
        histories += 1
        reads += history.reads
        wrong += history.wrong
        errors += history.errors
        left += history.left
        if ours and (history.wrong or history.errors or history.left):
            print(f"wrong: {kind.__name__}(..., 'history {histories - 1}')")
        del history
        gc.collect()
    gc.enable()
    if ours:
        return histories, reads, Zero(wrong), Zero(errors), Zero(left)
    return histories, reads, share(wrong, reads), errors, share(left, histories)


def measure(seconds: float, *, peers: bool) -> list[Table]:
    warnings.simplefilter("ignore", ForeignExitWarning)
    logging.disable()  # OpenTelemetry logs what others raise
    us = load("aura")
    if not peers:
        rows = {
            "everything": played(FullHistory, us, seconds * 0.8, ours=True),
            "what the others can do": played(History, us, seconds * 0.2, ours=True),
        }
    else:
        others = [load(name) for name in NAMES if name != "aura"]
        each = seconds / 2 / (len(others) + 1)
        rows = {
            "`aura_context`, everything": played(
                FullHistory, us, seconds / 2, ours=True
            ),
            "`aura_context`, what all can do": played(History, us, each, ours=True),
            **{
                other.title: played(History, other, each, ours=False)
                for other in others
            },
        }
    columns = ("histories", "reads", "reads wrong", "errors", "something left set")
    return [Table("Random histories", columns, rows)]
