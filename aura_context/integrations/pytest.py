"""A pytest plugin: each test starts clean, and whoever leaves something is named.

It is on only where named: ``pytest -p aura_context.integrations.pytest``.

There are no assertions to rewrite, whenever it is imported: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, ismethod
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

import pytest

from aura_context import (
    PlanContext,
    Snapshot,
    VarContext,
    _stack,
    _variables,
    active_contexts,
    current_plan_name,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator


__all__ = ["pytest_fixture_setup", "pytest_runtest_call", "pytest_runtest_protocol"]


class _State:
    """What is open and bound at some moment, to tell what was left there since."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Take what is open and bound now."""
        self._open = active_contexts()
        self._values = {cls: cls.var.get() for cls in _variables.declared_classes()}

    def left(self) -> str:
        """Return what has been opened or changed since, in words."""
        opened = self._opened()
        told = {context.var for context in opened}
        words = [f"{_shown(context)} open" for context in opened]
        words += [
            _changed(cls, cls.var.get())
            for cls in self._changed()
            if cls.var not in told
        ]
        return " and ".join(words)

    @staticmethod
    def lost() -> str:
        """Put right what blocks changed that nobody can leave any more; tell of it."""
        before = _State()
        with Snapshot():
            pass
        return " and ".join(
            _changed(cls, before._before(cls)) for cls in before._changed()
        )

    def put_back(self) -> str:
        """Leave and put back what `left` tells of, and return it."""
        words = self.left()
        if words:
            for context in reversed(self._opened()):
                _stack.leave_any(context)
            self.lost()
            for cls in self._changed():
                cls.var.set(self._before(cls))
        return words

    def check(self, who: str) -> None:
        """Fail, and put all back, if anything was left."""
        if left := self.put_back():
            pytest.fail(f"{who} left {left}", pytrace=False)

    @contextmanager
    def checked(self, who: str) -> Generator[None]:
        """Check after the block; add to its exception, if it has one."""
        try:
            yield
        except BaseException as error:
            if left := self.put_back():
                error.add_note(f"{who} left {left}")
            raise
        self.check(who)

    def accept(self, inner: _State) -> None:
        """Expect what a fixture has bound since: it is that fixture's to put back."""
        self._open += tuple(inner._opened())
        self._values.update({cls: cls.var.get() for cls in inner._changed()})

    def is_clean(self) -> bool:
        """Whether nothing is open, and every variable has its default."""
        return not self._open and all(
            _stack.same(value, _variables.default(cls.var))
            for cls, value in self._values.items()
        )

    def _opened(self) -> list[VarContext[Any]]:
        known = Counter(map(id, self._open))
        opened: list[VarContext[Any]] = []
        for context in active_contexts():
            known[id(context)] -= 1
            if known[id(context)] < 0:
                opened.append(context)
        return opened

    def _changed(self) -> list[type[VarContext[Any]]]:
        return [
            cls
            for cls in _variables.declared_classes()
            if not _stack.same(cls.var.get(), self._before(cls))
        ]

    def _before(self, cls: type[VarContext[Any]]) -> Any:
        if cls in self._values:
            return self._values[cls]
        return _variables.default(cls.var)  # declared since


# Values may be secrets: only a plan's is shown.


def _shown(context: VarContext[Any]) -> str:
    if isinstance(context, PlanContext):
        return repr(context)
    return f"{type(context).__qualname__}(...)"


def _changed(cls: type[VarContext[Any]], now: object) -> str:
    if cls.var is not current_plan_name:
        return f"{cls.var.name} changed"
    return f"{cls.var.name} changed to {now!r}, as by PlanContext({now!r})"


_watched: Final[list[_State]] = []
"""From before whatever runs now, outermost first: the fixtures that are being set up,
one requested by the other, and the test.
"""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Start clean, whatever was bound while modules were imported."""
    with nullcontext() if _State().is_clean() else Snapshot():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the test if it leaves a block open or a variable changed."""
    who = f"test {item.name!r}"
    state = _State()
    _watched.append(state)
    try:
        with state.checked(who), _replaced(item, "obj", who):
            return (yield)
    finally:
        _watched.remove(state)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: Any, request: Any
) -> Generator[None, object, object]:
    """Fail in the fixture's name if it leaves something.

    While it waits at its ``yield``, only one of function scope may hold something: all
    others would do so for tests that never asked for them.
    """
    who = f"fixture {fixturedef.argname!r} of {fixturedef.scope} scope"
    state = _State()
    # Added before the fixture's own finalizers, so that it runs after them.
    fixturedef.addfinalizer(partial(state.check, who))
    _watched.append(state)
    try:
        with _replaced(fixturedef, "func", who, fixturedef.scope):
            result = yield
    finally:
        _watched.remove(state)
    # So that every test that asks for it gets the error, it is not kept.
    if refused := _refused(state, fixturedef.scope):
        fixturedef.finish(request)
        pytest.fail(f"{who} {refused}", pytrace=False)
    for outer in _watched:
        outer.accept(state)
    if fixturedef.scope != "function":
        # Other tests have run when it ends. Added last, this runs first.
        fixturedef.addfinalizer(state.renew)
    return result


def _refused(state: _State, scope: str) -> str:
    """Return what a fixture must not hold at its ``yield``, in words."""
    if scope == "function":
        lost = state.lost()
        return lost and f"left {lost}"
    left = state.left()
    return left and (
        f"holds {left}, for tests that never asked for it too: "
        "do that in a fixture of function scope"
    )


# An async function may run in a Context of its own, so it has to be checked there. All
# others are checked from outside, and left as they are.


@contextmanager
def _replaced(
    owner: Any, name: str, who: str, scope: str = "function"
) -> Generator[None]:
    """Have the function checked from within, if it is async, until the block ends."""
    function = getattr(owner, name, None)
    if not (iscoroutinefunction(function) or isasyncgenfunction(function)):
        yield
        return
    setattr(owner, name, _checked_within(function, who, scope))
    try:
        yield
    finally:
        setattr(owner, name, function)


def _checked_within(function: Any, who: str, scope: str) -> Any:
    if ismethod(function):  # pytest binds it to another instance
        checked = _checked_within(function.__func__, who, scope)
        return MethodType(checked, function.__self__)
    if iscoroutinefunction(function):
        return _checked_coroutine(function, who)
    return _checked_generator(function, who, scope)


def _checked_coroutine(function: Callable[..., Any], who: str) -> Any:
    @wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> Any:
        with _State().checked(who):
            return await function(*args, **kwargs)

    return checked


def _checked_generator(function: Callable[..., Any], who: str, scope: str) -> Any:
    @wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        state = _State()
        with state.checked(who):
            async with aclosing(function(*args, **kwargs)) as generator:
                async for value in generator:
                    if refused := _refused(state, scope):
                        pytest.fail(f"{who} {refused}", pytrace=False)
                    yield value

    return checked
