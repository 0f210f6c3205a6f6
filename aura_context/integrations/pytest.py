"""A pytest plugin: each test starts clean, and a test that leaves something fails.

It is off by default; ``pytest -p aura_context.integrations.pytest`` turns it on.

It has no assertions to rewrite, so pytest need not warn: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing, contextmanager, nullcontext
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, ismethod
from types import MethodType
from typing import TYPE_CHECKING, Any, Final
from unittest import IsolatedAsyncioTestCase

import pytest

from aura_context import (
    Snapshot,
    VarContext,
    _stack,
    _variables,
    active_contexts,
    current_plan_name,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator


__all__ = [
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
]


class _State:
    """What is open and bound at some moment, to find leftovers later."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Take what is open and bound now."""
        self._open = active_contexts()
        self._values = {cls: cls.var.get() for cls in _variables.declared_classes()}

    def left(self) -> str:
        """Describe what has been opened or changed since."""
        opened = self._opened()
        told = {
            cls.var
            for cls in _variables.declared_classes()
            for context in opened
            # A Snapshot binds them all.
            if isinstance(context, Snapshot) or context.var is cls.var
        }
        words = [f"{context.describe()} open" for context in opened]
        words += [
            _changed(cls, cls.var.get())
            for cls in self._changed()
            if cls.var not in told
        ]
        return " and ".join(words)

    @staticmethod
    def lost() -> str:
        """Settle abandoned blocks, and describe what they had changed."""
        before = _State()
        with Snapshot():
            pass
        return " and ".join(
            _changed(cls, before._before(cls)) for cls in before._changed()
        )

    def put_back(self) -> str:
        """Leave and restore what `left` describes, and return the description."""
        words = self.left()
        if words:
            opened = [id(context) for context in self._opened()]
            for entry in [*_stack.walk(_stack.stack.get())]:
                handle = entry()
                # The handle of a decorated call is its own; what it lists is not.
                if handle is not None and id(handle.listed()) in opened:
                    opened.remove(id(handle.listed()))
                    if entry.belongs_here():
                        entry.leave()
            self.lost()
            for cls in self._changed():
                cls.var.set(self._before(cls))
        return words

    def check(self, who: str, found: list[str]) -> None:
        """Fail if there are leftovers, and restore what they changed."""
        if left := self.put_back():
            found.append(f"{who} left {left}")
            pytest.fail(found[-1], pytrace=False)

    @contextmanager
    def noted(self, who: str, found: list[str]) -> Generator[None]:
        """If the block raises, restore leftovers and add a note to the exception."""
        try:
            yield
        except BaseException as error:
            if left := self.put_back():
                found.append(f"{who} left {left}")
                error.add_note(found[-1])
            raise

    @contextmanager
    def checked(self, who: str, found: list[str]) -> Generator[None]:
        """Check after the block, whether it raises or not."""
        with self.noted(who, found):
            yield
        self.check(who, found)

    def accept(self, inner: _State) -> None:
        """Accept what a fixture has bound since, because the fixture restores it."""
        self._open += tuple(inner._opened())
        self._values.update({cls: cls.var.get() for cls in inner._changed()})

    def is_clean(self) -> bool:
        """Whether nothing is open, and every variable has its default."""
        return not self._open and all(
            _stack.same(value, _variables.default(cls.var))
            for cls, value in self._values.items()
        )

    def _opened(self) -> list[VarContext[Any] | Snapshot]:
        known = Counter(map(id, self._open))
        opened: list[VarContext[Any] | Snapshot] = []
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


def _changed(cls: type[VarContext[Any]], now: object) -> str:
    if cls.var is not current_plan_name or not isinstance(now, str | None):
        return f"{cls.var.name} changed"
    return f"{cls.var.name} changed to {now!r}, as by PlanContext({now!r})"


class _Session:
    """What belongs to one run of pytest: a test may run another inside."""

    def __init__(self) -> None:
        self.before = _State()
        """From before the test was set up."""
        self.watched: list[_State] = []
        """From before what runs now, outermost first: the fixtures that are being set
        up, each requested by the one before, and the test.
        """
        self.found: list[str] = []
        """What was left in this phase of a test; its report takes it."""


_SESSION: Final = pytest.StashKey[_Session]()


def pytest_configure(config: pytest.Config) -> None:
    """Show `ForeignExitWarning`, unless the configuration says otherwise."""
    config.stash[_SESSION] = _Session()
    # The first, because later filters win.
    config.getini("filterwarnings").insert(
        0, "default::aura_context.ForeignExitWarning"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Start clean, whatever was bound while modules were imported."""
    with nullcontext() if _State().is_clean() else Snapshot():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a phase with leftovers, even if it skips or fails as expected."""
    report = yield
    found = item.config.stash[_SESSION].found
    if found and not report.failed:
        report.outcome = "failed"
        report.longrepr = "\n".join(dict.fromkeys(found))  # Hypothesis tries again
        vars(report).pop("wasxfail", None)
    found.clear()
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Note what is open and bound, for `pytest_runtest_teardown`."""
    item.config.stash[_SESSION].before.renew()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the test if one of its own finalizers leaves something."""
    session = item.config.stash[_SESSION]
    with session.before.checked(f"test {item.name!r}", session.found):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the test if it leaves a block open or a variable changed."""
    session = item.config.stash[_SESSION]
    who = f"test {item.name!r}"
    state = _State()
    session.watched.append(state)
    check = partial(_checked_within, who=who, found=session.found)
    owner: Any = item
    name = "obj"
    instance = getattr(getattr(item, name, None), "__self__", None)
    if isinstance(instance, IsolatedAsyncioTestCase):  # it calls its own method
        owner, name = instance, item.name
    try:
        with state.checked(who, session.found), _replaced(owner, name, check):
            return (yield)
    finally:
        session.watched.remove(state)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: Any, request: Any
) -> Generator[None, object, object]:
    """Fail the fixture if it leaves something.

    While a fixture waits at its ``yield``, it may hold a block only if it has function
    scope. Otherwise tests that do not request it would run inside the block.
    """
    session: _Session = request.config.stash[_SESSION]
    scope, found = fixturedef.scope, session.found
    who = f"fixture {fixturedef.argname!r} of {scope} scope"
    state = _State()
    # Added before the fixture's own finalizers, so that it runs after them.
    fixturedef.addfinalizer(partial(state.check, who, found))
    session.watched.append(state)
    check = partial(_checked_within, who=who, found=found, scope=scope)
    try:
        # Not only at the end of its scope, which may be that of the session.
        with state.noted(who, found), _replaced(fixturedef, "func", check):
            result = yield
    finally:
        session.watched.remove(state)
    # So that every test that asks for it gets the error, it is not kept.
    if refused := _refused(state, scope):
        found.append(f"{who} {refused}")
        fixturedef.finish(request)
        pytest.fail(f"{who} {refused}", pytrace=False)
    for outer in session.watched:
        outer.accept(state)
    if scope != "function":
        # Other tests have run when it ends. Added last, this runs first.
        fixturedef.addfinalizer(state.renew)
    return result


def _refused(state: _State, scope: str) -> str:
    """Describe what a fixture must not hold at its ``yield``."""
    if scope == "function":
        lost = state.lost()
        return lost and f"left {lost}"
    left = state.left()
    return left and (
        f"holds {left}, for tests that never asked for it too: "
        "do that in a fixture of function scope"
    )


# An async function may run in a Context of its own, so it has to be checked there, and
# so has each example of Hypothesis. All others are checked from outside, and left as
# they are.


@contextmanager
def _replaced(owner: Any, name: str, check: Callable[[Any], Any]) -> Generator[None]:
    """Check the function from within until the block ends, if that is necessary."""
    function = getattr(owner, name, None)
    # A test of Hypothesis calls another function for each of its examples.
    if hypothesis := getattr(function, "hypothesis", None):
        owner, name = hypothesis, "inner_test"
        function = getattr(owner, name, None)
    is_async = iscoroutinefunction(function) or isasyncgenfunction(function)
    if not (is_async or (hypothesis and function)):
        yield
        return
    setattr(owner, name, check(function))
    try:
        yield
    finally:
        setattr(owner, name, function)


def _checked_within(
    function: Any, who: str, found: list[str], scope: str = "function"
) -> Any:
    if ismethod(function):  # pytest binds it to another instance
        checked = _checked_within(function.__func__, who, found, scope)
        return MethodType(checked, function.__self__)
    if iscoroutinefunction(function):
        return _checked_coroutine(function, who, found)
    if isasyncgenfunction(function):
        return _checked_generator(function, who, found, scope)
    return _checked_example(function, who, found)


def _checked_example(function: Callable[..., Any], who: str, found: list[str]) -> Any:
    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        with _State().checked(who, found):
            return function(*args, **kwargs)

    return checked


def _checked_coroutine(function: Callable[..., Any], who: str, found: list[str]) -> Any:
    @wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> Any:
        with _State().checked(who, found):
            return await function(*args, **kwargs)

    return checked


def _checked_generator(
    function: Callable[..., Any], who: str, found: list[str], scope: str
) -> Any:
    @wraps(function)
    async def checked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        state = _State()
        with state.checked(who, found):
            async with aclosing(function(*args, **kwargs)) as generator:
                async for value in generator:
                    if refused := _refused(state, scope):
                        found.append(f"{who} {refused}")
                        pytest.fail(found[-1], pytrace=False)
                    yield value

    return checked
