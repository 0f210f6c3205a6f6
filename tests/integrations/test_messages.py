"""Rule I7: what is bound, as one line of text that any queue can carry."""

from __future__ import annotations

import json
import logging
import sys

from contextvars import ContextVar
from enum import IntEnum, StrEnum
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest

from hypothesis import given
from hypothesis import strategies as st

from aura_context import (
    PlanContext,
    Snapshot,
    VarContext,
    current_plan_name,
    plan_context,
)
from aura_context.integrations.messages import dump, load
from tests.contexts import UNSET, RunContext, TenantContext


if TYPE_CHECKING:
    from collections.abc import Iterator


PLAN = {"plan_name": PlanContext}

current_thing: ContextVar[object] = ContextVar("current_thing", default=UNSET)
current_secret: ContextVar[str | None] = ContextVar("current_secret", default=None)


class ThingContext(VarContext[object]):
    var = current_thing


class SecretContext(VarContext[str | None]):
    var = current_secret
    carried = False


class PickyContext(TenantContext):
    """Refuses, and says what it was given."""

    def __init__(self, value: str) -> None:
        raise LookupError(value)


class Level(IntEnum):
    HIGH = 3


class Size(StrEnum):
    BIG = "big"


THING = {"thing": ThingContext}


@pytest.fixture
def few_digits() -> Iterator[None]:
    """Let no int of more than 640 digits be written or read."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


class TestDump:
    def test_is_one_line_of_json_in_ascii(self) -> None:
        with plan_context("日报"), RunContext(7), TenantContext("a\n\u2028b"):
            text = dump({"plan_name": PlanContext, "who": TenantContext})
        assert text.isascii()
        assert text.isprintable()
        assert json.loads(text) == {"plan_name": "日报", "who": "a\n\u2028b"}

    def test_what_has_its_default_is_not_written(self) -> None:
        contexts = {"plan_name": PlanContext, "run": RunContext}
        assert dump(contexts) == "{}"
        with plan_context("p"), plan_context(None), RunContext(0):
            assert dump(contexts) == "{}"

    def test_none_is_written_where_it_is_no_default(self) -> None:
        with ThingContext(None):
            assert dump(THING) == '{"thing": null}'

    def test_what_is_bound_raw_counts(self) -> None:
        token = current_plan_name.set("raw")
        try:
            assert dump(PLAN) == '{"plan_name": "raw"}'
        finally:
            current_plan_name.reset(token)

    @pytest.mark.parametrize(
        "value", [b"hunter2", ["hunter2"], {"a": "hunter2"}, ("hunter2",), object()]
    )
    def test_other_types_are_refused_and_not_shown(self, value: object) -> None:
        with ThingContext(value), pytest.raises(TypeError) as refused:
            dump(THING)
        assert str(refused.value) == (
            "thing: a message takes text, numbers, booleans and None, "
            f"got an object of type {type(value).__name__}"
        )

    @pytest.mark.parametrize("value", [nan, inf, -inf])
    def test_numbers_that_json_has_not(self, value: float) -> None:
        with ThingContext(value), pytest.raises(ValueError) as refused:  # noqa: PT011 - checked below
            dump(THING)
        assert str(refused.value) == (
            "thing: a message takes no number that is infinite or NaN"
        )

    @pytest.mark.parametrize("value", ["n" * 4096, "\n" * 4000, 10**4095, -(10**4094)])
    def test_values_that_just_fit(self, value: object) -> None:
        with ThingContext(value):
            assert load(dump(THING), THING) == {ThingContext: value}

    @pytest.mark.parametrize("value", ["n" * 4097, 10**4096, -(10**4095)])
    def test_values_that_do_not(self, value: object) -> None:
        with (
            ThingContext(value),
            pytest.raises(ValueError, match=r"^thing: .* 4096 .* got 4097$"),
        ):
            dump(THING)

    @pytest.mark.usefixtures("few_digits")
    def test_a_number_that_python_does_not_write(self) -> None:
        with ThingContext(10**640), pytest.raises(ValueError, match=r"^thing: Exceeds"):
            dump(THING)

    def test_all_of_it_has_to_fit(self) -> None:
        contexts: dict[str, type[VarContext[Any]]]
        contexts = {**PLAN, **THING, "tenant": TenantContext}
        with plan_context("n" * 4096), ThingContext("n" * 4052):
            assert len(dump(contexts)) == 8192 - len(', "tenant": ""')
            with TenantContext(""):
                assert len(dump(contexts)) == 8192
            with TenantContext("n"), pytest.raises(ValueError) as refused:  # noqa: PT011 - checked below
                dump(contexts)
        assert str(refused.value) == (
            "a message takes 8192 characters of context, got 8193: "
            "send shorter values for plan_name, thing, tenant"
        )

    def test_what_it_says_of_characters_outside_ascii(self) -> None:
        with plan_context("日" * 1362):
            assert len(dump(PLAN)) <= 8192
        with plan_context("日" * 1363), pytest.raises(ValueError, match="8192"):
            dump(PLAN)


def beginning(text: object) -> str:
    """Return an id by which a test can be asked for, so without backslashes.

    Where tests are collected twice in a process, pytest escapes those again.
    """
    return repr(text)[:20].replace("\\", "%")


class TestLoad:
    def test_nothing_came(self) -> None:
        assert load(None, PLAN) == load("{}", PLAN) == Snapshot()
        with plan_context("outside"), load(None, accept=PLAN):
            assert current_plan_name.get() is None

    def test_null_is_none(self) -> None:
        assert load('{"plan_name": null}', PLAN) == {PlanContext: None}

    def test_bytes_are_utf_8(self) -> None:
        with plan_context("日报"):
            assert load(dump(PLAN).encode(), PLAN) == {PlanContext: "日报"}
        assert load('{"plan_name": "日报"}'.encode(), PLAN) == {PlanContext: "日报"}

    def test_nothing_that_was_not_named(self, caplog: Any) -> None:
        text = '{"plan_name": "p", "PlanContext": "x", "current_tenant": "x"}'
        assert load(text, {}) == {}
        assert load(text, PLAN) == {PlanContext: "p"}
        assert load(text, {"tenant": TenantContext}) == {}
        assert caplog.records == []

    @pytest.mark.parametrize(
        "text",
        [
            *("", " ", "{", "{}x", "[]", "null", "7", "NaN", '"p"', "\x00", "\ud800"),
            *("[" * 8000, '{"plan_name":' * 500, '{"a": [' * 1000, "[{}]", "1e999"),
            *('[["plan_name", "p"]]', "{'plan_name': 'p'}", '\ufeff{"plan_name": "p"}'),
            '{"plan_name": "p"}' + " " * 8192,
            *(b"\xff", b'{"plan_name": "\xff"}', '{"plan_name": "p"}'.encode("utf-16")),
            *(7, 0.5, True, ["p"], {"plan_name": "p"}, object()),
        ],
        ids=beginning,
    )
    def test_what_is_malformed_is_dropped_as_a_whole(
        self, text: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert load(text, {**PLAN, "a": TenantContext}) == {}
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.name == "aura_context.integrations.messages"
        assert record.getMessage().startswith("a message's context is dropped: ")
        assert len(record.getMessage()) < 200

    @pytest.mark.parametrize(
        "text",
        [
            *("7", "true", '""', '" "', r'"a\nb"', r'"\ud800"', r'"\u202e"'),
            *("[]", "{}", "[[]]", '{"a": 1}', "NaN", "Infinity", "-Infinity", "1e999"),
            *("9" * 4097, "9" * 5000, "0." + "0" * 4096, '"' + "n" * 4097 + '"'),
        ],
        ids=beginning,
    )
    def test_what_is_refused_is_dropped_alone(
        self, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        text = f'{{"plan_name": {text}, "run": 7}}'
        assert load(text, {**PLAN, "run": RunContext}) == {RunContext: 7}
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        message = record.getMessage()
        assert message.startswith("a message's plan_name is dropped: ")
        assert message.isprintable()
        assert len(message) < 300

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (7, "it must be text, got an object of type int"),
            (" " * 8193, "it has 8193 characters, the limit is 8192"),
            ("[]", "it must be a JSON object, got an object of type list"),
        ],
        ids=["int", "long", "list"],
    )
    def test_why_it_drops_the_whole(
        self, text: Any, why: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert load(text, PLAN) == {}
        assert caplog.messages == [f"a message's context is dropped: {why}"]

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ("[]", "text, numbers, booleans and None, got an object of type list"),
            ("NaN", "no number that is infinite or NaN"),
            (f'"{"n" * 4097}"', "4096 characters a value, got 4097"),
        ],
        ids=["list", "NaN", "long"],
    )
    def test_why_it_drops_a_value(
        self, value: str, why: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert load(f'{{"plan_name": {value}}}', PLAN) == {}
        assert caplog.messages == [
            f"a message's plan_name is dropped: a message takes {why}"
        ]

    def test_what_just_fits(self) -> None:
        text = '{"plan_name": "p"}'.ljust(8192)
        assert load(text, PLAN) == load(text.encode(), PLAN) == {PlanContext: "p"}

    def test_what_did_not_come_hides_nothing_else(self) -> None:
        assert load('{"run": 7}', {**PLAN, "run": RunContext}) == {RunContext: 7}

    @pytest.mark.parametrize(
        "text", ["NaN", "1e999", "9" * 4097, "0." + "0" * 4095, "[]"]
    )
    def test_also_by_a_class_that_takes_anything(self, text: str) -> None:
        assert load(f'{{"thing": {text}, "run": 7}}', {**THING, "run": RunContext}) == {
            RunContext: 7
        }

    @pytest.mark.usefixtures("few_digits")
    def test_a_number_that_python_does_not_read(self) -> None:
        text = f'{{"thing": {10**600}, "plan_name": "p"}}'
        assert load(text, THING) == {ThingContext: 10**600}
        text = text.replace("0", "00")
        assert load(text, {**THING, **PLAN}) == {PlanContext: "p"}

    def test_a_refusal_is_not_quoted(self, caplog: pytest.LogCaptureFixture) -> None:
        assert load('{"token": "hunter2"}', {"token": PickyContext}) == {}
        assert caplog.messages == [
            "a message's token is dropped: <class 'LookupError'>"
        ]

    def test_but_that_of_a_plan_is(self, caplog: pytest.LogCaptureFixture) -> None:
        load('{"plan_name": "a\\nb"}', PLAN)
        assert r"got 'a\\nb'" in caplog.text

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
    def test_what_stops_the_process_does(self, stop: type[BaseException]) -> None:
        class Stopping(TenantContext):
            def __init__(self, value: str) -> None:
                raise stop(value)

        with pytest.raises(stop):
            load('{"tenant": "x"}', {"tenant": Stopping})

    @given(
        st.one_of(
            st.text(),
            st.binary(),
            st.from_regex(r'\{"plan_name": .*\}', fullmatch=True),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                lambda value: st.lists(value) | st.dictionaries(st.text(), value),
            ).map(lambda value: json.dumps({"plan_name": value})),
        )
    )
    def test_never_fails(self, text: str | bytes) -> None:
        logging.disable()
        try:
            snapshot = load(text, PLAN)
        finally:
            logging.disable(logging.NOTSET)
        assert snapshot == Snapshot(*map(PlanContext, snapshot.values()))


class TestBothWays:
    @given(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
    )
    def test_what_is_written_is_read(self, value: object) -> None:
        with ThingContext(value):
            text = dump(THING)
            assert len(text.splitlines()) == 1
            found = load(text, THING)[ThingContext]
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize(("value", "read"), [(Level.HIGH, 3), (Size.BIG, "big")])
    def test_enums_of_text_and_numbers(self, value: object, read: object) -> None:
        with ThingContext(value):
            assert load(dump(THING), THING) == {ThingContext: read}


class TestRefusals:
    @pytest.mark.parametrize(
        ("contexts", "error", "match"),
        [
            ({"who": str}, TypeError, "'who' must name a VarContext class, got <class"),
            (
                {"who": "hunter2"},
                TypeError,
                "VarContext class, got an object of type str$",
            ),
            (
                {"who": TenantContext("hunter2")},
                TypeError,
                r"got TenantContext\(\.\.\.\)$",
            ),
            ({"who": VarContext}, TypeError, "binds no variable"),
            ({7: PlanContext}, TypeError, "got the name 7"),
            (PlanContext, TypeError, r"maps names .*, got <class"),
            (["hunter2"], TypeError, "maps names .*, got an object of type list$"),
            (None, TypeError, "maps names .*, got an object of type NoneType$"),
            ({"s": SecretContext}, TypeError, "'s' names SecretContext, which has ca"),
            ({"a": PlanContext, "b": PlanContext}, ValueError, "'a' and 'b' share a"),
        ],
    )
    def test_of_a_mapping(
        self, contexts: Any, error: type[Exception], match: str
    ) -> None:
        with pytest.raises(error, match=match):
            dump(contexts)
        with pytest.raises(error, match=match):
            load(None, contexts)
