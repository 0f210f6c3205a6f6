"""Rules N1 to N3: names, values and what is bound here."""

from __future__ import annotations

import asyncio

from contextvars import Context, ContextVar
from enum import StrEnum

import pytest

from hypothesis import given
from hypothesis import strategies as st

from aura_context import (
    NotBoundError,
    PlanContext,
    current_plan_name,
    plan_context,
)

from .contexts import UNSET, held


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

    @pytest.mark.parametrize(
        "name",
        [
            "",
            " ",
            " \t ",
            "a\nb",
            "a\rb",
            "\x00",
            "a\x1b[31m",
            "\u2028",
            "a\u200bb",
            "\ud800",
        ],
    )
    def test_not_printable_or_empty(self, name: str) -> None:
        with pytest.raises(ValueError, match="something to read") as error:
            plan_context(name)
        assert repr(name) in str(error.value)
        assert str(error.value).isprintable()

    @given(st.text())
    def test_every_name_is_bound_as_it_is_or_refused(self, name: str) -> None:
        if not name.isprintable() or not name.strip():
            with pytest.raises(ValueError, match="plan_name"):
                plan_context(name)
            return
        with plan_context(name):
            assert current_plan_name.get() is name

    @pytest.mark.parametrize("name", ["计划", "a b", "ünï-cødé", "🜁"])
    def test_any_readable_name_will_do(self, name: str) -> None:
        assert plan_context(name).plan_name == name

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

    def test_the_error_is_a_lookup_error(self) -> None:
        with pytest.raises(LookupError):
            PlanContext.require()

    def test_reading_never_writes(self) -> None:
        PlanContext.current()
        with pytest.raises(NotBoundError):
            PlanContext.require()
        assert held() == UNSET
