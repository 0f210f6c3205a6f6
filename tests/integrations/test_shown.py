"""What the integrations show: what was named, as it is bound, and as plain values."""

from __future__ import annotations

import json
import pickle

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import pytest

from aura_context import PlanContext, VarContext, current_plan_name, plan_context
from aura_context.integrations._shown import Shown, of_64_bits, plain
from aura_context.integrations.baggage import inject
from tests.contexts import RunContext, TenantContext


class TestBound:
    def test_the_plan_without_a_mapping_and_nothing_else(self) -> None:
        shown = Shown(None, "plan")
        with plan_context("p"), TenantContext("secret"):
            assert shown.bound() == shown.all() == {"plan": "p"}

    def test_an_empty_mapping_shows_nothing(self) -> None:
        with plan_context("p"):
            assert Shown({}, "plan").all() == {}

    def test_what_was_named(self) -> None:
        shown = Shown({"who": TenantContext, "run": RunContext}, "plan")
        with plan_context("p"), TenantContext("acme"), RunContext(7):
            assert shown.bound() == {"who": "acme", "run": 7}
            assert list(shown.all()) == ["who", "run"]

    def test_what_has_its_default_is_not_bound(self) -> None:
        shown = Shown({"plan": PlanContext, "run": RunContext}, "plan")
        assert shown.bound() == {}
        assert shown.all() == {"plan": "-", "run": "-"}
        with plan_context("p"), plan_context(None), RunContext(0):
            assert shown.bound() == {}

    def test_raw_values_count(self) -> None:
        token = current_plan_name.set("raw")
        try:
            assert Shown(None, "plan").bound() == {"plan": "raw"}
        finally:
            current_plan_name.reset(token)

    def test_an_own_require_is_not_asked(self) -> None:
        class Strict(TenantContext):
            @classmethod
            def require(cls) -> str:
                raise AssertionError

        assert Shown({"who": Strict}, "plan").all() == {"who": "-"}


class TestRefusals:
    @pytest.mark.parametrize("name", [1, None, b"plan", ""])
    def test_a_name_that_is_none(self, name: object) -> None:
        with pytest.raises(TypeError) as error:
            Shown({name: PlanContext}, "plan")  # type: ignore[dict-item] # pyright: ignore[reportArgumentType] - what is tested
        assert str(error.value) == (
            f"contexts maps names to context classes, got the name {name!r}"
        )

    def test_a_secret_in_place_of_a_name_is_not_shown(self) -> None:
        contexts: Any = {TenantContext("hunter2"): TenantContext}
        with pytest.raises(TypeError, match=r"the name TenantContext\(\.\.\.\)$"):
            Shown(contexts, "plan")
        with pytest.raises(ValueError, match=r"got TenantContext\(\.\.\.\)$"):
            inject({}, contexts)

    @pytest.mark.parametrize(
        ("cls", "described"),
        [
            (current_plan_name, "an object of type ContextVar"),
            ("PlanContext", "an object of type str"),
            (None, "an object of type NoneType"),
            (str, "<class 'str'>"),
            (plan_context("p"), "PlanContext('p')"),
        ],
    )
    def test_what_is_no_context_class(self, cls: object, described: str) -> None:
        with pytest.raises(TypeError) as error:
            Shown({"who": cls}, "plan")  # type: ignore[dict-item] # pyright: ignore[reportArgumentType] - what is tested
        assert str(error.value) == (
            f"'who' must name a VarContext class, got {described}"
        )

    def test_what_is_no_mapping(self) -> None:
        with pytest.raises(TypeError) as error:
            Shown(PlanContext, "plan")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested
        assert str(error.value) == (
            f"contexts maps names to context classes, got {PlanContext!r}"
        )

    def test_a_class_without_a_variable(self) -> None:
        with pytest.raises(TypeError) as error:
            Shown({"who": VarContext}, "plan")
        assert str(error.value) == "'who' names VarContext, which binds no variable"


@dataclass
class Tenant:
    name: str


class Broken:
    def __str__(self) -> str:
        raise LookupError


class Level(IntEnum):
    HIGH = 3


class Size(StrEnum):
    BIG = "big"


class Colour(Enum):
    RED = 1


class TestPlain:
    @pytest.mark.parametrize(
        "value", ["p", 7, 0.5, True, 2**70, "plän 7", "计划\u3000A", "a\u200db"]
    )
    def test_what_is_plain_stays(self, value: object) -> None:
        assert plain(value) == value
        assert type(plain(value)) is type(value)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Tenant("acme"), "Tenant(name='acme')"),
            (PurePosixPath("a/b"), "a/b"),
            (Level.HIGH, "3"),
            (Size.BIG, "big"),
            (Colour.RED, "Colour.RED"),
            (None, "None"),
            (["a"], "['a']"),
        ],
    )
    def test_the_rest_becomes_text(self, value: object, text: str) -> None:
        assert plain(value) == text
        assert json.loads(json.dumps(plain(value))) == text
        assert type(pickle.loads(pickle.dumps(plain(value)))) is str  # noqa: S301

    @pytest.mark.parametrize(
        "text",
        ["a\nb | c", "a\x1b[31m", "a\u2028b", "\ud800", "a\u202eb", "", " ", "\u200b"],
    )
    def test_nothing_forges_a_line(self, text: str) -> None:
        assert plain(text) == repr(text)
        assert str(plain(text)).isprintable()

    def test_who_logs_does_not_suffer_for_a_broken_value(self) -> None:
        assert plain(Broken()) == "<Broken: LookupError in its str()>"

    @pytest.mark.parametrize(
        "value",
        [10**5000, -(10**5000), Fraction(10**5000)],
        ids=["int", "negative", "Fraction"],
    )
    def test_nor_for_a_number_that_python_does_not_write(self, value: object) -> None:
        shown = plain(value)
        assert str(shown).isprintable()
        assert len(str(shown)) < 100
        assert f"{shown}" == shown

    @pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 7, True, 0.5, "p"])
    def test_what_64_bits_hold(self, value: str | float) -> None:
        assert of_64_bits(value) is value

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**70])
    def test_what_they_do_not(self, value: int) -> None:
        assert of_64_bits(value) == str(value)

    def test_it_is_fixed(self) -> None:
        class MutableContext(VarContext[list[str]]):
            var = ContextVar[list[str]]("mutable", default=[])  # noqa: B039 - it is not changed

        changing = ["a"]
        with MutableContext(changing):
            bound = Shown({"list": MutableContext}, "plan").bound()
        changing.append("b")
        assert bound == {"list": "['a']"}
