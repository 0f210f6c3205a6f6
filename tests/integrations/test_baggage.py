"""Rule I6: what is bound here, in the ``baggage`` header of a request."""

from __future__ import annotations

import re
import string

from collections.abc import Callable, Iterator, MutableMapping
from contextvars import Context, ContextVar
from email import message_from_bytes
from email.message import Message
from enum import Enum
from http.client import HTTPMessage
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import quote
from wsgiref.headers import Headers as WSGIHeaders
from wsgiref.util import setup_testing_defaults

import httpx
import pytest
import starlette.datastructures as starlette
import starlette.requests as starlette_requests
import websockets.datastructures as websockets

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context as TelemetryContext
from typing_extensions import override

from aura_context import (
    PlanContext,
    Snapshot,
    VarContext,
    current_plan_name,
    plan_context,
)
from aura_context.integrations.baggage import extract, inject
from tests.contexts import TenantContext, current_tenant


PLAN = {"plan_name": PlanContext}
BOTH: dict[str, type[VarContext[Any]]] = {**PLAN, "tenant": TenantContext}

TOKEN = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
KEYS = st.text(TOKEN, min_size=1, max_size=20)
# Up to twelve bytes a character, percent-encoded.
NAMES = st.text(max_size=300).filter(lambda name: name.isprintable() and name.strip())
SPACES = st.text(" \t", max_size=3)


class Plan(str, Enum):  # noqa: UP042 - the kind whose str() is not its value
    NIGHTLY = "nightly"


class SecretContext(VarContext[str | None]):
    var = ContextVar("current_secret", default=None)
    carried = False


class PickyContext(VarContext[str | None]):
    """Refuses what comes over the network in ways of its own."""

    var = ContextVar("current_picky", default=None)
    known: dict[str, str] = {"one": "1"}  # noqa: RUF012 - it is never changed

    def __init__(self, value: str) -> None:
        super().__init__(self.known[value])


class Headers(MutableMapping[str, str]):
    """Headers as frameworks have them: of any case, and any number of times."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = [*pairs]

    @override
    def __getitem__(self, key: str) -> str:
        for name, value in self.pairs:
            if name.lower() == key.lower():
                return value
        raise KeyError(key)

    @override
    def __setitem__(self, key: str, value: str) -> None:
        self.pairs.append((key, value))

    @override
    def __delitem__(self, key: str) -> None:
        self[key]
        self.pairs = [each for each in self.pairs if each[0].lower() != key.lower()]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self.pairs])

    @override
    def __len__(self) -> int:
        return len(self.pairs)

    @override
    def items(self) -> Any:
        return [*self.pairs]


def sent(plan_name: str | None, baggage: str | None = None) -> str:
    """Return the header that a plan makes of one that is there; "" is none."""
    headers = {} if baggage is None else {"baggage": baggage}
    with plan_context(plan_name):
        inject(headers, PLAN)
    assert headers.keys() <= {"baggage"}
    assert headers.get("baggage") != ""
    return headers.get("baggage", "")


def received(baggage: str) -> str | None:
    """Return the plan that a header names, or None."""
    snapshot = extract({"baggage": baggage}, accept=PLAN)
    assert snapshot.keys() <= {PlanContext}
    return snapshot.get(PlanContext)


def is_name(text: str) -> bool:
    """Return whether a plan may have this name."""
    try:
        return PlanContext(text).plan_name == text
    except ValueError:
        return False


class TestI6RoundTrip:
    @given(NAMES)
    def test_of_any_legal_name(self, name: str) -> None:
        baggage = sent(name)
        assert re.fullmatch(r"plan_name=[\w.~%-]+", baggage, re.ASCII)
        assert received(baggage) == name

    @given(KEYS, NAMES)
    def test_under_any_legal_key(self, key: str, name: str) -> None:
        headers = {"baggage": "plan=other"}
        with plan_context(name):
            inject(headers, {key: PlanContext})
        assert dict(extract(headers, {key: PlanContext})) == {PlanContext: name}

    @pytest.mark.parametrize(
        ("name", "encoded"),
        [
            ("nightly", "nightly"),
            ("计划", "%E8%AE%A1%E5%88%92"),
            ("daily sales", "daily%20sales"),
            ("a+b", "a%2Bb"),
            ("a/b", "a%2Fb"),
            ("50% off", "50%25%20off"),
            ("%20", "%2520"),
            ("a,b;c=d", "a%2Cb%3Bc%3Dd"),
            (" kept ", "%20kept%20"),
        ],
    )
    def test_is_percent_encoded(self, name: str, encoded: str) -> None:
        assert sent(name) == f"plan_name={encoded}"
        assert received(f"plan_name={encoded}") == name

    def test_the_snapshot_is_a_block(self) -> None:
        with TenantContext("acme"), plan_context("outer"):
            with extract({"baggage": "plan_name=p"}, accept=PLAN) as snapshot:
                assert type(snapshot) is Snapshot
                assert current_plan_name.get() == "p"
                assert current_tenant.get() is None
            assert current_plan_name.get() == "outer"

    def test_of_several_contexts(self) -> None:
        headers: dict[str, str] = {}
        with plan_context("p"), TenantContext("acme"):
            inject(headers, BOTH)
        assert headers == {"baggage": "plan_name=p,tenant=acme"}
        assert extract(headers, accept=BOTH) == {
            PlanContext: "p",
            TenantContext: "acme",
        }
        assert received(headers["baggage"]) == "p"


class TestI6Inject:
    def test_keeps_other_headers_and_members(self) -> None:
        headers = {"accept": "*/*", "baggage": "a=1;ttl=60 ;x , b = 2,a=3"}
        with plan_context("p"):
            inject(headers, PLAN)
        assert headers == {
            "accept": "*/*",
            "baggage": "a=1;ttl=60 ;x,b = 2,a=3,plan_name=p",
        }

    @pytest.mark.parametrize(
        "old",
        ["plan_name=old", "plan_name \t= old;ttl=60", "plan_name", "plan_name=a b"],
    )
    def test_replaces_and_removes_its_own(self, old: str) -> None:
        assert sent("p", f"a=1,{old},b=2,{old}") == "a=1,b=2,plan_name=p"
        assert sent(None, f"a=1,{old},b=2") == "a=1,b=2"
        assert sent(None, old) == ""

    def test_a_name_that_only_looks_alike_is_another(self) -> None:
        others = "plan_names=1,Plan_Name=2,my.plan_name=3,x=plan_name,plan_name\xa0=4"
        assert sent("p", others) == f"{others},plan_name=p"
        assert sent(None, others) == others

    def test_a_name_may_end_in_any_letter(self) -> None:
        headers = {"baggage": "a=1,aX=2,X=3"}
        with plan_context("p"):
            inject(headers, {"X": PlanContext, "a": TenantContext})
        assert headers == {"baggage": "aX=2,X=p"}

    def test_what_is_not_set_writes_nothing(self) -> None:
        headers: dict[str, str] = {}
        Context().run(inject, headers, PLAN)
        assert headers == {}
        assert sent(None) == ""

    def test_a_default_that_is_text_is_not_written(self) -> None:
        class RegionContext(VarContext[str]):
            var = ContextVar("current_region", default="anywhere")

        headers = {"baggage": "region=north"}
        with RegionContext("".join(["any", "where"])):
            inject(headers, {"region": RegionContext})
        assert headers == {}

    def test_what_is_bound_raw_is_written(self) -> None:
        token = current_plan_name.set("raw")
        headers: dict[str, str] = {}
        inject(headers, PLAN)
        current_plan_name.reset(token)
        assert headers == {"baggage": "plan_name=raw"}

    def test_a_subclass_of_str_is_written_as_what_it_is(self) -> None:
        assert sent(Plan.NIGHTLY) == "plan_name=nightly"

    @pytest.mark.parametrize("name", ["baggage", "Baggage", "BAGGAGE"])
    def test_the_headers_name_is_matched_in_any_case(self, name: str) -> None:
        headers = {name: "a=1"}
        with plan_context("p"):
            inject(headers, PLAN)
        assert headers == {name: "a=1,plan_name=p"}
        assert extract(headers, accept=PLAN) == {PlanContext: "p"}

    def test_headers_of_the_name_become_one(self) -> None:
        headers = {"Baggage": "a=1,plan_name=x", "x": "y", "baggage": "plan_name=z,b=2"}
        with plan_context("p"):
            inject(headers, PLAN)
        assert headers == {"x": "y", "Baggage": "a=1,b=2,plan_name=p"}

    def test_a_frameworks_headers(self) -> None:
        headers = Headers(("Baggage", "a=1"), ("x", "y"), ("baggage", "plan_name=q"))
        assert extract(headers, accept=PLAN) == {PlanContext: "q"}
        with plan_context("p"):
            inject(headers, PLAN)
        assert headers.pairs == [("x", "y"), ("Baggage", "a=1,plan_name=p")]
        inject(headers, {**PLAN, "a": TenantContext})
        assert headers.pairs == [("x", "y")]

    def test_empty_text_travels(self) -> None:
        headers = {"baggage": "a=1"}
        with TenantContext(""):
            inject(headers, {"tenant": TenantContext})
        assert headers == {"baggage": "a=1,tenant="}

    @pytest.mark.parametrize("value", [1, b"bytes", ["list"], 0])
    def test_only_text_travels(self, value: object) -> None:
        headers = {"baggage": "a=1"}
        context: VarContext[Any] = TenantContext(value)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested
        with (
            context,
            pytest.raises(TypeError, match="tenant: baggage takes text") as error,
        ):
            inject(headers, {"tenant": TenantContext})
        name = type(value).__name__
        assert str(error.value).endswith(f"got an object of type {name}")
        assert headers == {"baggage": "a=1"}

    def test_what_utf_8_cannot_encode_is_an_error(self) -> None:
        with TenantContext("hunter2\ud800"), pytest.raises(ValueError) as error:  # noqa: PT011 - checked below
            inject({}, {"tenant": TenantContext})
        assert str(error.value) == (
            "tenant: baggage takes text in UTF-8, which has no lone surrogates"
        )
        assert error.value.__suppress_context__


class TestI6WhatIsNamed:
    @pytest.mark.parametrize(
        "key",
        ["", "a b", "a=b", "a,b", "a;b", 'a"b', "计划", "a\n", "(a)", "a/b", "é", 3],
    )
    def test_a_key_is_a_token(self, key: Any) -> None:
        with pytest.raises(ValueError, match="must be a token") as error:
            inject({}, {key: PlanContext})
        assert repr(key) in str(error.value)
        with pytest.raises(ValueError, match="must be a token"):
            extract({}, accept={key: PlanContext})

    @pytest.mark.parametrize(
        ("cls", "shown"),
        [
            (current_plan_name, "an object of type ContextVar"),
            ("hunter2", "an object of type str"),
            (TenantContext("hunter2"), r"TenantContext\(\.\.\.\)"),
            (plan_context("p"), r"PlanContext\('p'\)"),
            (str, "<class 'str'>"),
            (VarContext, "<class .*VarContext'>"),
            (SecretContext, "<class .*SecretContext'>"),
        ],
    )
    def test_a_value_is_a_class_of_contexts_that_are_carried(
        self, cls: Any, shown: str
    ) -> None:
        match = f"context classes that are carried, got {shown}$"
        with pytest.raises(TypeError, match=match):
            inject({}, {"key": cls})
        with pytest.raises(TypeError, match=match):
            extract({}, accept={"key": cls})

    @pytest.mark.parametrize(
        "contexts", [PlanContext, "plan_name", ["plan_name"], None, {"plan_name"}]
    )
    def test_they_are_a_mapping(self, contexts: Any) -> None:
        match = "maps names to context classes, got (an object of type|<class)"
        with pytest.raises(TypeError, match=match):
            inject({}, contexts)
        with pytest.raises(TypeError, match=match):
            extract({}, accept=contexts)

    def test_there_is_no_default(self) -> None:
        with pytest.raises(TypeError, match="accept"):
            extract({})  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - what is tested

    def test_nothing_else_is_read(self) -> None:
        headers = {"baggage": "plan_name=p,tenant=acme,current_tenant=acme"}
        assert extract(headers, accept={}) == {}
        assert extract(headers, accept={"tenant": TenantContext}) == {
            TenantContext: "acme"
        }

    def test_two_names_for_one_context(self) -> None:
        accept = {"plan": PlanContext, "plan_name": PlanContext}
        for baggage in ("plan=a,plan_name=b", "plan_name=a,plan=b", "plan=b,plan=%0A"):
            assert extract({"baggage": baggage}, accept) == {PlanContext: "b"}


class TestI6Extract:
    @pytest.mark.parametrize(
        "baggage",
        [
            "plan_name=p",
            " \tplan_name\t = p \t",
            "a=1,plan_name=p",
            ",, ,plan_name=p,,",
            "plan_name=%70",
            "plan_name=p;ttl=60",
            "plan_name=p ; ttl = 60 ;x;y=;z=%zz",
            "plan_name=o,plan_name=p",
            "plan_name=p,plan_name=%0A,plan_name",
            "a b=1,=,plan_name=p,\x00,;;,计划=1",
        ],
    )
    def test_reads(self, baggage: str) -> None:
        assert received(baggage) == "p"

    @pytest.mark.parametrize(
        ("encoded", "name"),
        [
            ("a+b", "a+b"),
            ("a=b==", "a=b=="),
            ("%e8%ae%a1", "计"),
            ("!#$&'()*+-./:<=>?@[]^_`{|}~", "!#$&'()*+-./:<=>?@[]^_`{|}~"),
        ],
    )
    def test_reads_all_that_a_value_may_hold(self, encoded: str, name: str) -> None:
        assert received(f"plan_name={encoded}") == name

    @pytest.mark.parametrize(
        "member",
        [
            "plan_name",
            "=",
            "=p",
            "plan_name:p",
            "plan_name p",
            "plan name=p",
            "plan_name=a b",
            "plan_name=a\tb",
            'plan_name="p"',
            "plan_name=a\\b",
            "plan_name=计划",
            "plan_name=\xe8\xae\xa1",
            "plan_name=\ud800",
            "plan_name=p\n",
            "plan_name=p\x00",
            "\u2003plan_name=p",
            "plan_name=p\xa0",
            "plan_name=%",
            "plan_name=%7",
            "plan_name=%zz",
            "plan_name=%+1",
            "plan_name=100%",
            "plan_name=%FF",
            "plan_name=%C0%AF",
            "plan_name=%E8%AE",
            "plan_name=%ED%A0%80",
            "plan_name=p;",
            "plan_name=p;;ttl",
            "plan_name=p;=60",
            "plan_name=p;a b",
            'plan_name=p;a="b"',
            "plan_name;ttl=60",
            "Plan_Name=p",
            "plan%5Fname=p",
            # Refused by N1.
            "plan_name=",
            "plan_name= ;ttl=60",
            "plan_name=%20",
            "plan_name=a%0Ab",
            "plan_name=a%0D%0AX-Header:%20b",
            "plan_name=%1b[31m",
            "plan_name=%00",
            "plan_name=%E2%80%A8",
        ],
    )
    def test_drops_what_is_malformed_or_refused_alone(self, member: str) -> None:
        assert received(member) is None
        for baggage in (f"tenant=acme,{member}", f"{member},tenant=acme"):
            bound = extract({"baggage": baggage}, accept=BOTH)
            assert bound == {TenantContext: "acme"}
        assert received(f"{member},plan_name=p,{member}") == "p"

    def test_a_class_may_refuse_however_it_likes(self) -> None:
        accept = {"picky": PickyContext, **PLAN}
        headers = {"baggage": "picky=one,plan_name=p,picky=two"}
        assert extract(headers, accept) == {PickyContext: "1", PlanContext: "p"}

    def test_headers_without_baggage(self) -> None:
        assert extract({}, accept=PLAN) == {}
        assert extract({"x-baggage": "plan_name=p"}, accept=PLAN) == {}

    @pytest.mark.parametrize("run", [" ", "\t ", ";a", "; a ", "a", "%41", ";a = b "])
    def test_a_long_run_takes_no_time(self, run: str) -> None:
        # What goes back and tries again would hang on one of these.
        assert received(f'plan_name=a{run * (4000 // len(run))}"') is None


GIVEN = [
    ("Baggage", "user=alice;ttl=1"),
    ("X-Other", "1"),
    ("baggage", "plan_name=old,b=2"),
]


def email_headers(kind: type[Message]) -> Message:
    message = kind()
    for name, value in GIVEN:
        message[name] = value
    return message


def websockets_headers() -> websockets.Headers:
    headers = websockets.Headers()
    for name, value in GIVEN:
        headers[name] = value
    return headers


RAW = [(name.lower().encode(), value.encode()) for name, value in GIVEN]

WRITABLE = {
    "dict": lambda: dict(GIVEN),
    "email's": lambda: email_headers(Message),
    "http.client's": lambda: email_headers(HTTPMessage),
    "wsgiref's": lambda: WSGIHeaders([*GIVEN]),
    "httpx's": lambda: httpx.Headers(GIVEN),
    "starlette's": lambda: starlette.MutableHeaders(raw=[*RAW]),
    "websockets'": websockets_headers,
}


class TestI6Headers:
    """What libraries have; `tests/engines` has more of them."""

    @pytest.mark.parametrize("make", WRITABLE.values(), ids=WRITABLE)
    def test_written_and_read(self, make: Callable[[], Any]) -> None:
        headers = make()
        assert extract(headers, PLAN) == {PlanContext: "old"}
        with plan_context("new"):
            inject(headers, PLAN)
        lines = [line for name, line in headers.items() if name.lower() == "baggage"]
        assert lines == ["user=alice;ttl=1,b=2,plan_name=new"]
        assert headers["X-Other"] == "1"
        assert extract(headers, PLAN) == {PlanContext: "new"}
        inject(headers, {**PLAN, "user": TenantContext, "b": TenantContext})
        assert [*headers.items()] in ([("X-Other", "1")], [("x-other", "1")])
        with plan_context("first"):
            inject(headers, PLAN)
        assert headers["baggage"] == "plan_name=first"

    @pytest.mark.parametrize(
        "headers",
        [
            GIVEN,
            (*GIVEN,),
            RAW,
            [[name, value] for name, value in GIVEN],
            [(name, value.encode()) for name, value in GIVEN],
            dict(RAW),
            dict(GIVEN).items(),
            starlette.Headers(raw=RAW),
            MappingProxyType(dict(GIVEN)),
            {"BAGGAGE": b"plan_name=old", "x": 5, "y": None},
            [("baggage", "plan_name=old"), ("retries", 3), ("empty", None)],
        ],
        ids=lambda headers: type(headers).__name__,
    )
    def test_read_alone(self, headers: Any) -> None:
        assert extract(headers, PLAN) == {PlanContext: "old"}
        before = str(headers)
        with plan_context("new"), pytest.raises(TypeError, match="header"):
            inject(headers, PLAN)
        assert str(headers) == before

    @pytest.mark.parametrize("headers", [GIVEN, None, MappingProxyType(dict(GIVEN))])
    def test_that_cannot_be_changed(self, headers: Any) -> None:
        with pytest.raises(TypeError) as error:
            inject(headers, PLAN)
        assert str(error.value) == (
            "inject writes into headers that can be changed, such as a dict or those "
            f"of a request to send; got an object of type {type(headers).__name__}"
        )

    def test_pairs_that_come_one_by_one(self) -> None:
        assert extract(iter(RAW), PLAN) == {PlanContext: "old"}
        assert extract((pair for pair in GIVEN), PLAN) == {PlanContext: "old"}
        assert extract([], PLAN) == extract((), PLAN) == {}

    @pytest.mark.parametrize(
        ("headers", "match"),
        [
            ({"baggage": ["plan_name=old"]}, "an object of type dict with .* list as"),
            ({"baggage": None}, "dict with an object of type NoneType as baggage"),
            ({"Baggage": 5}, "dict with an object of type int as baggage"),
            ([("baggage", None)], "list with an object of type NoneType as baggage"),
            ([(b"baggage", {"plan_name": "old"})], "with .* dict as baggage"),
            ({5: "x"}, "dict with an object of type int as a name"),
            ([(None, "x")], "list with an object of type NoneType as a name"),
            *[
                (given, f"got an object of type {type(given).__name__}$")
                for given in (
                    None,
                    5,
                    "",
                    "baggage: plan_name=old",
                    b"",
                    b"plan_name=old",
                    ["baggage", "plan_name=old"],
                    ["ab"],
                    [b"plan_name=old"],
                    [("baggage", "plan_name=old", "x")],
                    [("baggage",)],
                    {"baggage", "plan_name=old"},
                    object(),
                )
            ],
        ],
    )
    def test_what_is_none(self, headers: Any, match: str) -> None:
        before = str(headers)
        with pytest.raises(TypeError, match=match) as error:
            extract(headers, PLAN)
        assert str(error.value).startswith("baggage is in headers: ")
        assert "old" not in str(error.value)
        with plan_context("new"), pytest.raises(TypeError, match=r"(?i)header"):
            inject(headers, PLAN)
        assert str(headers) == before

    @pytest.mark.parametrize("use", [inject, extract])
    def test_a_whole_request(self, use: Callable[[Any, Any], object]) -> None:
        environ: dict[str, Any] = {"HTTP_BAGGAGE": "plan_name=old"}
        setup_testing_defaults(environ)
        scope: dict[str, Any] = {"type": "http", "method": "GET", "headers": RAW}
        meta = starlette_requests.Request(scope)
        with pytest.raises(TypeError, match=r"an environ: pass .*'HTTP_BAGGAGE'"):
            use(environ, PLAN)
        with pytest.raises(TypeError) as error:
            use(scope, PLAN)
        assert str(error.value) == (
            "baggage is in headers, got an ASGI scope: pass scope['headers']"
        )
        with pytest.raises(TypeError, match="header"):
            use(meta, PLAN)
        environ = {"baggage": environ.get("HTTP_BAGGAGE", "")}
        assert extract(environ, PLAN) == extract(RAW, PLAN)

    def test_a_whole_request_that_can_be_iterated_over(self) -> None:
        class Request(dict[str, Any]):
            """As that of aiohttp, a mapping for what middlewares keep."""

            headers: ClassVar = {"baggage": "plan_name=old"}

        with pytest.raises(TypeError, match=r"Request: pass its headers$"):
            extract(Request(), PLAN)
        with plan_context("new"), pytest.raises(TypeError, match=r"pass its headers$"):
            inject(Request(), PLAN)
        assert extract(Request().headers, PLAN) == {PlanContext: "old"}

    @pytest.mark.parametrize("name", ["wsgi.version", "headers", "REQUEST_METHOD"])
    def test_no_clients_header_is_taken_for_one(self, name: str) -> None:
        headers = {name: "(1, 0)", "baggage": "plan_name=old"}
        assert extract(headers, PLAN) == {PlanContext: "old"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        assert extract(raw, PLAN) == {PlanContext: "old"}

    def test_bytes_are_latin_1(self) -> None:
        headers = [(b"b\xe4ggage", b"x"), (b"baggage", bytes(range(256)))]
        assert extract([*headers, (b"baggage", b"plan_name=p")], PLAN) == {
            PlanContext: "p"
        }
        assert extract([(b"baggage", b"plan_name=\xe9")], PLAN) == {}

    def test_bytes_in_a_mail(self) -> None:
        mail = b"Baggage: plan_name=\xff\nbaggage: plan_name=p,b=\xe9\n\n"
        headers = message_from_bytes(mail)
        assert extract(headers, PLAN) == {PlanContext: "p"}
        with plan_context("new"):
            inject(headers, PLAN)
        assert headers["baggage"].endswith(",plan_name=new")

    @given(st.lists(st.tuples(st.binary(), st.binary())))
    def test_no_bytes_hurt(self, pairs: list[tuple[bytes, bytes]]) -> None:
        pairs += [(b"baggage", value) for _, value in pairs]
        assert extract(pairs, PLAN) == {}
        assert extract(dict(pairs), PLAN) == {}


class TestI6NoStringHurts:
    @given(st.text() | st.text(TOKEN + ',;=% \t"\\').map("plan_name=".__add__))
    def test_whatever_the_header_is(self, baggage: str) -> None:
        name = received(baggage)
        assert name is None or PlanContext(name).plan_name == name

    @given(st.dictionaries(st.text(), st.text()))
    def test_whatever_the_headers_are(self, headers: dict[str, str]) -> None:
        assert extract(headers, accept=PLAN) == {}

    @given(st.lists(st.tuples(KEYS | st.sampled_from([*BOTH]), SPACES, st.text())))
    def test_nothing_is_read_that_is_not_named(
        self, members: list[tuple[str, str, str]]
    ) -> None:
        baggage = ",".join(
            f"{key}{space}={space}{quote(value)}" for key, space, value in members
        )
        bound = extract({"baggage": baggage}, accept=BOTH)
        assert bound.keys() <= {PlanContext, TenantContext}
        if len(members) > 180 or any(len(value) > 300 for *_, value in members):
            return
        tenants = [value for key, _, value in members if key == "tenant"]
        plans = [
            value for key, _, value in members if key == "plan_name" and is_name(value)
        ]
        if len(baggage) <= 8192:
            assert bound.get(PlanContext) == (plans[-1] if plans else None)
            assert bound.get(TenantContext) == (tenants[-1] if tenants else None)

    @given(st.text(), NAMES)
    def test_what_others_wrote_does_not_hinder_writing(
        self, baggage: str, name: str
    ) -> None:
        written = sent(name, baggage)
        assert written.endswith(f"plan_name={quote(name, safe='')}")
        if len(written.encode("utf-8", "surrogatepass")) <= 8192:
            assert received(written) == name


class TestI6Limits:
    def filler(self, members: int) -> str:
        return ",".join(f"k{n}=v" for n in range(members))

    def test_180_members(self) -> None:
        assert received(f"{self.filler(179)},plan_name=p") == "p"
        assert received(f"{self.filler(180)},plan_name=p") is None
        assert received(f"plan_name=p,{self.filler(180)}") == "p"
        assert sent("p", self.filler(179)) == f"{self.filler(179)},plan_name=p"
        with pytest.raises(ValueError, match=r"181 members .* limit is 180"):
            sent("p", self.filler(180))

    def test_4096_bytes_a_member(self) -> None:
        fits = "n" * (4096 - len("plan_name="))
        baggage = sent(fits)
        assert baggage == f"plan_name={fits}"
        assert len(baggage) == 4096
        assert received(baggage) == fits
        assert received(f"{baggage}n") is None
        assert received(f"plan_name=p,{baggage}n") == "p"
        with pytest.raises(
            ValueError, match=r"4097 bytes .* plan_name .* limit is 4096"
        ):
            sent(fits + "n")

    def test_the_bytes_are_those_of_the_encoded_name(self) -> None:
        fits = "计" * ((4096 - len("plan_name=")) // 9)
        assert received(sent(fits)) == fits
        with pytest.raises(ValueError, match="limit is 4096"):
            sent(fits + "划")

    def test_8192_bytes_in_all(self) -> None:
        filler = (
            "a=" + "v" * (4096 - 2) + ",b=" + "v" * (4095 - 2 - len(",plan_name=p"))
        )
        baggage = sent("p", filler)
        assert baggage == f"{filler},plan_name=p"
        assert len(baggage) == 8192
        assert received(baggage) == "p"
        assert received(f"{baggage} ") is None
        assert received(f"plan_name=p{' ' * 8192}") is None
        with pytest.raises(ValueError, match=r"8193 bytes .* limit is 8192"):
            sent("pp", filler)

    def test_several_headers_count_as_one(self) -> None:
        headers = {"Baggage": "a=" + "v" * 4000, "baggage": "b=" + "v" * 4176}
        assert extract({**headers, "BAGGAGE": "plan_name=p"}, accept=PLAN) == {}
        headers["baggage"] = "b=v"
        assert extract({**headers, "BAGGAGE": "plan_name=p"}, accept=PLAN) == {
            PlanContext: "p"
        }

    def test_the_bytes_are_those_of_utf_8(self) -> None:
        assert received(f"plan_name=p,{'é' * 4090}") == "p"
        assert received(f"plan_name=p,{'é' * 4091}") is None

    def test_an_error_leaves_the_headers_alone(self) -> None:
        headers = {
            "Baggage": self.filler(90),
            "baggage": f"plan_name=q,{self.filler(90)}",
        }
        before = dict(headers)
        with plan_context("p"), pytest.raises(ValueError, match="limit is 180"):
            inject(headers, PLAN)
        assert headers == before

    def test_what_others_wrote_is_theirs_where_nothing_is_written(self) -> None:
        assert sent(None, self.filler(1000)) == self.filler(1000)
        assert sent("p", f"a={'v' * 5000}") == f"a={'v' * 5000},plan_name=p"


class TestI6OpenTelemetry:
    """Against the real propagator, in both directions."""

    propagator = W3CBaggagePropagator()

    def read(self, baggage: str) -> dict[str, object]:
        carrier = {"baggage": baggage}
        return {**get_all(self.propagator.extract(carrier, TelemetryContext()))}

    def written(self, name: str) -> str:
        carrier: dict[str, str] = {}
        context = set_baggage("plan_name", name, TelemetryContext())
        self.propagator.inject(carrier, context)
        return carrier.get("baggage", "")

    @given(NAMES)
    def test_reads_what_is_written_here(self, name: str) -> None:
        # It strips what it has decoded.
        assert self.read(sent(name)) == {"plan_name": name.strip()}

    @given(NAMES.filter(lambda name: " " not in name))
    def test_writes_what_is_read_here(self, name: str) -> None:
        assert received(self.written(name)) == name

    @pytest.mark.parametrize("name", ["计划", "a+b", "50%", "a,b;c=d", 'a"b\\c', "é/ü"])
    def test_both_ways(self, name: str) -> None:
        assert self.read(sent(name)) == {"plan_name": name}
        assert received(self.written(name)) == name

    def test_it_writes_a_space_as_a_plus_sign(self) -> None:
        assert self.written("daily sales") == "plan_name=daily+sales"
        assert received(self.written("daily sales")) == "daily+sales"

    def test_it_reads_a_plus_sign_as_a_space(self) -> None:
        assert self.read("plan_name=daily+sales") == {"plan_name": "daily sales"}
        assert received("plan_name=daily+sales") == "daily+sales"
        # Which is why there is none in what is written here.
        assert self.read(sent("daily+sales")) == {"plan_name": "daily+sales"}
        assert self.read(sent("daily sales")) == {"plan_name": "daily sales"}

    def test_it_takes_properties_for_a_part_of_the_value(self) -> None:
        assert self.read("plan_name=p;ttl=60") == {"plan_name": "p;ttl=60"}
        assert received("plan_name=p;ttl=60") == "p"

    def test_it_keeps_the_last_of_equal_names_as_well(self) -> None:
        assert self.read("plan_name=a,plan_name=b") == {"plan_name": "b"}
        assert received("plan_name=a,plan_name=b") == "b"

    def test_the_limits_are_the_same(self) -> None:
        for size, is_read in ((4096, True), (4097, False)):
            baggage = f"plan_name={'n' * (size - len('plan_name='))}"
            assert bool(self.read(baggage)) is bool(received(baggage)) is is_read
        for members, is_read in ((179, True), (180, False)):
            baggage = "".join(f"k{n}=v," for n in range(members)) + "plan_name=p"
            found = "plan_name" in self.read(baggage)
            assert found is bool(received(baggage)) is is_read
        for spaces, is_read in ((0, True), (1, False)):
            baggage = f"a={'v' * 4094},plan_name=p,b={'v' * 4081}{' ' * spaces}"
            found = "plan_name" in self.read(baggage)
            assert found is bool(received(baggage)) is is_read

    def test_each_leaves_room_for_the_other(self) -> None:
        carrier: dict[str, str] = {}
        context = set_baggage("user", "alice", TelemetryContext())
        with plan_context("p"):
            self.propagator.inject(carrier, context)
            inject(carrier, PLAN)
            assert carrier == {"baggage": "user=alice,plan_name=p"}
            # In this order only: the propagator writes over what is there.
            self.propagator.inject(carrier, context)
        assert carrier == {"baggage": "user=alice"}
