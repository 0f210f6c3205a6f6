"""Rules N1 to N3: names, values and what is bound here."""

from __future__ import annotations

import asyncio

from contextvars import Context, ContextVar
from enum import StrEnum
from typing import Any
from unicodedata import category

import pytest

from hypothesis import given
from hypothesis import strategies as st

from aura_context import (
    NotBoundError,
    PlanContext,
    VarContext,
    current_plan_name,
    plan_context,
)

from .contexts import (
    UNSET,
    RunContext,
    TenantContext,
    current_run,
    current_tenant,
    held,
)


EMPTY_BAG: list[int] = []

BIDIRECTIONAL = {
    *(0x061C, 0x200E, 0x200F),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
}


class TestCurrentPlanName:
    def test_is_a_plain_contextvar(self) -> None:
        assert type(current_plan_name) is ContextVar
        assert current_plan_name.name == "current_plan_name"
        assert Context().run(current_plan_name.get) is None

    def test_the_seed_works_as_it_stands(self) -> None:
        def far_away() -> list[str | None]:
            seen = [current_plan_name.get()]
            token = current_plan_name.set("raw")
            seen.append(current_plan_name.get())
            current_plan_name.reset(token)
            return [*seen, current_plan_name.get()]

        async def main() -> list[str | None]:
            async with plan_context("my_plan"):
                return far_away()

        assert asyncio.run(main()) == ["my_plan", "raw", "my_plan"]


class TestN1Refusals:
    @pytest.mark.parametrize("name", [1, b"plan", ["plan"], object, True, 0.5])
    def test_neither_str_nor_none(self, name: object) -> None:
        with pytest.raises(TypeError, match="must be a str, or None") as error:
            PlanContext(name)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested
        assert repr(name) in str(error.value)
        assert type(name).__name__ in str(error.value)

    def test_the_whole_of_what_a_function_is_told(self) -> None:
        given: Any = len
        with pytest.raises(TypeError) as error:
            PlanContext(given)
        assert str(error.value) == (
            f"plan_name must be a str, or None for no plan; got {len!r} of type "
            "builtin_function_or_method. To decorate a function, write "
            '@plan_context("name")'
        )

    def test_a_name_that_forges_is_told_why(self) -> None:
        with pytest.raises(ValueError, match="plan_name") as error:
            PlanContext("a\nb")
        assert str(error.value) == (
            "plan_name must have something to see in it, and no control character, "
            "line separator, lone surrogate or bidirectional control; "
            r"got 'a\nb'. For no plan, pass None"
        )

    @pytest.mark.parametrize("name", [10**5000, [10**5000]], ids=["int", "list"])
    def test_what_python_does_not_write(self, name: Any) -> None:
        kind = f"got an object of type {type(name).__name__}$"
        with pytest.raises(TypeError, match=kind):
            PlanContext(name)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            " ",
            " \t ",
            "\u3000",
            "\u200b",
            "\u200b \u2060",
            "\ufeff",
            "\u200c\u200d",
        ],
    )
    def test_nothing_to_see(self, name: str) -> None:
        with pytest.raises(ValueError, match="something to see") as error:
            plan_context(name)
        assert repr(name) in str(error.value)
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        "name",
        [
            *("a\nb", "a\rb", "\x00", "a\x1b[31m", "a\x7f", "a\x85b", "a\tb"),  # Cc
            *("a\u2028b", "a\u2029b"),  # Zl, Zp
            *("\ud800", "a\udfff"),  # Cs
            *(f"a{chr(code)}b" for code in BIDIRECTIONAL),
        ],
    )
    def test_what_forges_or_reorders_a_line(self, name: str) -> None:
        with pytest.raises(ValueError, match="no control character") as error:
            plan_context(name)
        assert repr(name) in str(error.value)
        assert str(error.value).isprintable()

    @given(st.text())
    def test_every_name_is_bound_as_it_is_or_refused(self, name: str) -> None:
        categories = {category(character) for character in name}
        forges = categories & {"Cc", "Zl", "Zp", "Cs"}
        reorders = BIDIRECTIONAL & {*map(ord, name)}
        if forges or reorders or categories <= {"Zs", "Cf"}:
            with pytest.raises(ValueError, match="plan_name"):
                plan_context(name)
            return
        with plan_context(name):
            assert current_plan_name.get() is name

    @pytest.mark.parametrize(
        "name",
        [
            *("计划", "a b", "ünï-cødé", "🜁", " padded ", "!", "~"),
            "计划\u3000A",  # an ideographic space, as input methods type it
            "a\u00a0b",
            "\u00a0a",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
            "\U0001f469\u200d\U0001f4bb",  # an emoji that is joined
            "a\u200bb",
            "\ufeffa",
            "\ue000",  # a private character
            "\u0378",  # one that is not assigned
        ],
    )
    def test_anything_else_is_a_name(self, name: str) -> None:
        context = plan_context(name)
        assert context.plan_name == name
        with context:
            assert current_plan_name.get() is name

    def test_a_function_is_told_how_to_decorate(self) -> None:
        class Job:
            def __call__(self) -> None: ...

        functions: list[Any] = [plan_context, len, lambda: None, Job(), Job, held]
        functions += [method(functions[0]) for method in (staticmethod, classmethod)]
        for function in functions:
            with pytest.raises(TypeError, match=r'write @plan_context\("name"\)'):
                plan_context(function)

    @pytest.mark.parametrize("name", [1, "", b"plan"])
    def test_what_is_no_function_is_not(self, name: Any) -> None:
        with pytest.raises((TypeError, ValueError)) as error:
            plan_context(name)
        assert "decorate" not in str(error.value)

    def test_a_subclass_of_str_keeps_its_type(self) -> None:
        class Plan(StrEnum):
            NIGHTLY = "nightly"

        with plan_context(Plan.NIGHTLY):
            assert current_plan_name.get() is Plan.NIGHTLY

    def test_none_means_no_plan(self) -> None:
        with plan_context("outer"):
            with plan_context(None) as none:
                assert none.plan_name is None
                assert current_plan_name.get() is None
            assert current_plan_name.get() == "outer"


class TestN2ItIsItself:
    def test_with_gives_the_context(self) -> None:
        context = plan_context("p")
        assert type(context) is PlanContext
        with context as same:
            assert same is context
            assert same.value == same.plan_name == "p"


class TestAsyncN2ItIsItself:
    def test_async_with_gives_the_context(self) -> None:
        async def main() -> None:
            context = plan_context("p")
            async with context as same:
                assert same is context
                assert same.value == same.plan_name == "p"

        asyncio.run(main())


class TestN3Reading:
    def test_current_is_what_is_bound_even_raw(self) -> None:
        assert PlanContext.current() is None
        with plan_context("p"):
            assert PlanContext.current() == "p"
            token = current_plan_name.set("raw")
            assert PlanContext.current() == "raw"
            current_plan_name.reset(token)

    def test_require_refuses_the_default(self) -> None:
        with plan_context("p"):
            assert PlanContext.require() == "p"
            with plan_context(None), pytest.raises(NotBoundError):
                PlanContext.require()
        with pytest.raises(NotBoundError, match="current_plan_name is not bound here"):
            PlanContext.require()

    def test_require_refuses_none_where_that_is_not_the_default(self) -> None:
        class StepContext(VarContext[str | None]):
            var = ContextVar("step", default="first")

        assert StepContext.current() == "first"
        with StepContext(None), pytest.raises(NotBoundError, match="StepContext"):
            StepContext.require()
        with StepContext("second"):
            assert StepContext.require() == "second"

    def test_require_takes_what_is_false_but_bound(self) -> None:
        with TenantContext(""):
            assert TenantContext.require() == ""
        token = current_plan_name.set("")
        assert PlanContext.require() == ""
        current_plan_name.reset(token)

    def test_the_error_is_a_lookup_error(self) -> None:
        with pytest.raises(LookupError):
            PlanContext.require()

    def test_reading_never_writes(self) -> None:
        PlanContext.current()
        with pytest.raises(NotBoundError):
            PlanContext.require()
        assert not PlanContext.is_bound()
        assert held() == UNSET


class TestN3IsBound:
    def test_by_a_block(self) -> None:
        assert not PlanContext.is_bound()
        with plan_context("p"):
            assert PlanContext.is_bound()
            with plan_context(None):
                assert not PlanContext.is_bound()
            assert PlanContext.is_bound()
        assert not PlanContext.is_bound()

    def test_raw(self) -> None:
        token = current_tenant.set("raw")
        assert TenantContext.is_bound()
        current_tenant.set("")
        assert TenantContext.is_bound()
        current_tenant.set(None)
        assert not TenantContext.is_bound()
        current_tenant.reset(token)
        assert not TenantContext.is_bound()

    def test_to_the_default(self) -> None:
        with RunContext(current_run.get()):
            assert not RunContext.is_bound()
        with RunContext(1):
            assert RunContext.is_bound()

    def test_an_equal_str_is_the_default_and_other_equal_values_are_not(self) -> None:
        class ModeContext(VarContext[str]):
            var = ContextVar("mode", default="not set")

        class BagContext(VarContext[list[int]]):
            var = ContextVar("bag", default=EMPTY_BAG)

        with ModeContext(" ".join(["not", "set"])), BagContext([]):
            assert not ModeContext.is_bound()
            assert BagContext.is_bound()

    def test_by_a_subclass(self) -> None:
        class Special(TenantContext):
            pass

        with Special("t"):
            assert TenantContext.is_bound()
            assert Special.is_bound()
