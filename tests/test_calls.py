"""Rules R3 and R11, as they hold for calls of decorated functions."""

from __future__ import annotations

import contextvars
import gc
import inspect
import sys
import types

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest

import aura_context

from aura_context import (
    ForeignExitWarning,
    Snapshot,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    AsyncValues,
    Values,
    fresh,
    held,
    leave,
    opened,
    outcome,
)


if TYPE_CHECKING:
    from collections.abc import Generator

    from aura_context._context import BaseContext


LIBRARY = str(Path(aura_context.__file__).parent)

P = ParamSpec("P")
R = TypeVar("R")


def drive(coroutine: Any) -> object:
    """Return what a coroutine that never waits returns."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


UNDER: list[Any] = [plan_context("p"), Snapshot(plan_context("p"))]


class TestR3Calls:
    """Each call has a block of its own, and leaves no other."""

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    def test_a_body_that_enters_the_same_context(self, under: BaseContext) -> None:
        def work() -> None:
            current_plan_name.set("raw")
            under.__enter__()

        current_plan_name.set("before")
        under(work)()
        assert (held(), active_contexts()) == ("p", (under,))
        leave(under)
        assert (held(), active_contexts()) == ("before", ())
        current_plan_name.set(None)

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    def test_a_coroutine_that_is_closed_elsewhere(self, under: BaseContext) -> None:
        @types.coroutine
        def pause() -> Generator[None, None, None]:
            yield

        @under
        async def work() -> None:
            await pause()

        call = work()
        context = contextvars.Context()
        context.run(call.send, None)
        with under:
            call.close()  # and does not warn
            assert (held(), len(active_contexts())) == ("p", 1)
        assert active_contexts() == ()
        del call
        gc.collect()
        assert context.run(active_contexts) == ()
        context.run(opened("next").__enter__)
        assert context.run(held) == "next"

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    def test_a_body_cannot_leave_it(self, under: BaseContext) -> None:
        @under
        def work() -> object:
            with pytest.warns(ForeignExitWarning):
                leave(under)
            return held()

        assert work() == "p"
        assert active_contexts() == ()

    def test_snapshot_run(self) -> None:
        snapshot = Snapshot(plan_context("p"))
        assert snapshot.run(active_contexts) == (snapshot,)
        assert snapshot.run(active_contexts)[0] is snapshot
        snapshot.run(snapshot.__enter__)
        assert (held(), active_contexts()) == ("p", (snapshot,))
        leave(snapshot)
        assert active_contexts() == ()

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    def test_recursion(self, under: BaseContext) -> None:
        @under
        def work(depth: int) -> list[int]:
            listed = [len(active_contexts())]
            return listed + (work(depth - 1) if depth else [])

        assert work(3) == [1, 2, 3, 4]
        assert active_contexts() == ()

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    def test_is_listed_as_what_decorates(self, under: BaseContext) -> None:
        def plain() -> object:
            return active_contexts()

        async def work() -> object:
            return active_contexts()

        def rows() -> Values:
            yield active_contexts()

        async def events() -> AsyncValues:
            yield active_contexts()

        for each in (plain, work, rows, events):
            listed: Any = outcome(under(each)())
            assert [id(context) for context in listed] == [id(under)]


class Interruption:
    """Raises KeyboardInterrupt once, at the n-th line that the library runs."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, frame: Any, event: str, _: object) -> Any:
        if event == "line" and frame.f_code.co_filename.startswith(LIBRARY):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def begin(self) -> None:
        """Count from here, in the frames that are running too."""
        frame: Any = inspect.currentframe()
        while frame := frame.f_back:
            if frame.f_code.co_filename.startswith(LIBRARY):
                frame.f_trace = self
        sys.settrace(self)


class TestR11Calls:
    """A call's block is abandoned once its frame is gone."""

    @staticmethod
    def call(under: BaseContext, interruption: Interruption) -> None:
        under(interruption.begin)()

    @staticmethod
    def step(under: BaseContext, interruption: Interruption) -> None:
        @under
        def rows() -> Values:
            interruption.begin()
            yield

        steps = rows()
        try:
            next(steps)
        finally:
            sys.settrace(None)  # before the generator is closed

    @staticmethod
    def coroutine(under: BaseContext, interruption: Interruption) -> None:
        @under
        async def work() -> None:
            interruption.begin()

        drive(work())

    @staticmethod
    def run(_: Any, interruption: Interruption) -> None:
        Snapshot(plan_context("p")).run(interruption.begin)

    @pytest.mark.parametrize("under", UNDER, ids=["context", "snapshot"])
    @pytest.mark.parametrize("kind", ["call", "step", "coroutine", "run"])
    def test_a_call_that_was_interrupted(self, kind: str, under: BaseContext) -> None:
        """The next block puts the plan right, wherever KeyboardInterrupt struck."""

        def strike(interruption: Interruption) -> None:
            before = sys.gettrace()
            try:
                with suppress(KeyboardInterrupt):
                    getattr(self, kind)(under, interruption)
            finally:
                sys.settrace(before)
            with plan_context("next"):
                pass
            assert held() in (UNSET, None)
            assert active_contexts() == ()

        n = 1
        while True:
            interruption = Interruption(n)
            fresh(partial(strike, interruption))
            if interruption.left > 0:
                break
            n += 1
        assert n > 3
