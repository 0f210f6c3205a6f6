"""Rule N6: no message shows a bound value, except a plan's name."""

from __future__ import annotations

import subprocess
import sys

from contextvars import Context, ContextVar
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from typing_extensions import override

from aura_context import (
    ContextExecutor,
    ContextThreadPoolExecutor,
    ForeignExitWarning,
    PlanContext,
    Snapshot,
    VarContext,
    carry,
    plan_context,
)

from .contexts import TenantContext, leave


if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


SECRET = "s3cret"  # noqa: S105 - what is looked for


class Credentials:
    """Shows what it holds, as many classes do."""

    def __init__(self) -> None:
        self.token = SECRET

    def __repr__(self) -> str:
        return f"Credentials({self.token!r})"


CREDENTIALS = Credentials()


class TokenContext(VarContext[Any]):
    var = ContextVar("token", default=None)


class LocalContext(VarContext[Any]):
    var = ContextVar("local", default=CREDENTIALS)
    carried = False


class Overriding(TokenContext):
    @override
    def __enter__(self) -> Any:
        return super().__enter__()

    @override
    async def __aenter__(self) -> Any:
        return await super().__aenter__()


def rows() -> Generator[None, None, None]:
    yield


def mistakes(value: Any) -> dict[str, Callable[[], object]]:
    """Return what fails, although all contexts that it uses hold the value."""
    token, local, anything = TokenContext(value), LocalContext(value), value
    blank: Any = TokenContext.__new__(TokenContext)
    blank.hint = value
    holder: Any = SimpleNamespace(value=value)

    def require_none() -> object:
        with local, token, TokenContext(None):
            return TokenContext.require()

    def require_default() -> object:
        with token, LocalContext(CREDENTIALS):
            return LocalContext.require()

    def declare(**attributes: Any) -> Callable[[], object]:
        return lambda: type("Wrong", (VarContext,), attributes)

    return {
        "decorating a class": lambda: token(int),
        "decorating the value": lambda: token(anything),
        "decorating an object": lambda: token(holder),
        "carrying the value": lambda: carry(anything),
        "an override": lambda: Overriding(value)(rows),
        "twice in a Snapshot": lambda: Snapshot(token, TokenContext(value)),
        "not carried": lambda: Snapshot(local),
        "no context": lambda: Snapshot(anything),
        "no value": blank.__enter__,
        "no value in a call": blank(lambda: value),
        "none": require_none,
        "the default": require_default,
        "no variable": declare(var=anything),
        "the variable of another class": declare(var=TokenContext.var),
        "a variable without default": declare(var=ContextVar("bare")),
        "carried in a subclass": lambda: type(
            "Changed", (TokenContext,), {"carried": False, "secret": value}
        ),
        "no executor": lambda: ContextExecutor(anything),
        "no job": lambda: ContextThreadPoolExecutor(1).submit(anything),
    }


class TestN6Errors:
    @pytest.mark.parametrize("value", [SECRET, CREDENTIALS], ids=["str", "object"])
    @pytest.mark.parametrize("what", mistakes(None))
    def test_show_no_value(self, what: str, value: Any) -> None:
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            mistakes(value)[what]()
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__

    @pytest.mark.parametrize("what", ["decorating a class", "twice in a Snapshot"])
    def test_a_context_is_shown_by_its_class(self, what: str) -> None:
        with pytest.raises((TypeError, ValueError), match=r"TokenContext\(\.\.\.\)"):
            mistakes(SECRET)[what]()

    def test_what_is_given_in_its_place_by_its_type(self) -> None:
        with pytest.raises(TypeError, match="got an object of type Credentials"):
            Snapshot(CREDENTIALS)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested

    def test_a_plan_is_shown(self) -> None:
        with pytest.raises(ValueError, match=r"PlanContext\('nightly'\)"):
            Snapshot(plan_context("weekly"), plan_context("nightly"))
        with pytest.raises(TypeError, match=r"PlanContext\('nightly'\)"):
            plan_context("nightly")(int)

    def test_a_repr_is_for_the_user_to_call(self) -> None:
        class Showing(TokenContext):
            def __repr__(self) -> str:
                return f"Showing({self.value})"

        with pytest.raises(TypeError) as error:
            Showing(SECRET)(int)
        assert SECRET not in str(error.value)
        assert SECRET in repr(Showing(SECRET))

    def test_that_of_what_carry_returns_shows_no_value(self) -> None:
        with TokenContext(SECRET):
            assert repr(carry(rows)) == "carry(rows)"
            given: Any = partial(partial(rows, SECRET), SECRET)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - it is never called
            assert repr(carry(given)) == "carry(rows)"


class TestN6Warnings:
    @pytest.mark.parametrize(
        "context",
        [
            TokenContext(SECRET),
            LocalContext(Credentials()),
            Snapshot(TokenContext(SECRET), TenantContext(SECRET)),
        ],
        ids=lambda context: type(context).__name__,
    )
    def test_show_no_value(self, context: Any) -> None:
        def never_entered() -> None:
            with pytest.warns(ForeignExitWarning) as record:
                leave(context)
            message = str(record[0].message)
            assert message.startswith(f"{type(context).__name__}(...) was left")
            assert SECRET not in message

        Context().run(never_entered)
        with context:
            Context().run(never_entered)

    def test_a_plan_is_shown(self) -> None:
        class Special(PlanContext):
            pass

        for context in (plan_context("nightly"), Special("nightly")):
            with pytest.warns(ForeignExitWarning, match=r"\('nightly'\) was left"):
                leave(context)

    def test_where_warnings_are_errors(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import sys\n"
            f"sys.path[:] = {sys.path!r}\n"
            "from contextvars import ContextVar\n"
            "from aura_context import VarContext\n"
            "class TokenContext(VarContext):\n"
            "    var = ContextVar('token', default=None)\n"
            "block = TokenContext('s3' + 'cret')\n"
            "block.__exit__(None, None, None)\n"
            "print('passed')\n"
        )
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-W", "error", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == "passed\n"
        assert "TokenContext(...) was left" in done.stderr
        assert f"{script}:8" in done.stderr
        assert SECRET not in done.stderr
