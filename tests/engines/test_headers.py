"""Baggage in the headers of libraries that the other tests do without: rule I6."""

from __future__ import annotations

import os
import subprocess
import sys

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from aiohttp.test_utils import make_mocked_request
from grpc.aio import Metadata  # type: ignore[import-untyped]  # has no types
from multidict import CIMultiDict, CIMultiDictProxy
from requests import PreparedRequest, Request, Response
from requests.structures import CaseInsensitiveDict
from werkzeug.datastructures import EnvironHeaders, Headers

from aura_context import PlanContext, plan_context
from aura_context.integrations.baggage import extract, inject

from .conftest import EXAMPLES


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# Django has no types, and wants settings first.
SETTINGS: Any = import_module("django.conf").settings
if not SETTINGS.configured:
    SETTINGS.configure()
DJANGO: Any = import_module("django.http")

PLAN = {"plan_name": PlanContext}

GIVEN = [
    ("Baggage", "user=alice;ttl=1"),
    ("X-Other", "1"),
    ("baggage", "plan_name=old,b=2"),
]
JOINED = {"X-Other": "1", "Baggage": "user=alice;ttl=1,plan_name=old,b=2"}


def django_response() -> Any:
    return DJANGO.HttpResponse(headers=JOINED).headers


def prepared() -> Any:
    request: PreparedRequest = Request("GET", "http://localhost", JOINED).prepare()
    return request.headers


WRITABLE: dict[str, Callable[[], Any]] = {
    "werkzeug's": lambda: Headers(GIVEN),
    "Django's": django_response,
    "requests'": lambda: CaseInsensitiveDict(JOINED),
    "a prepared request's": prepared,
    "aiohttp's": lambda: CIMultiDict(GIVEN),
    "gRPC's": lambda: Metadata(*((name.lower(), value) for name, value in GIVEN)),
}


def values(headers: Any, name: str) -> list[str]:
    pairs: Iterable[tuple[str, str]] = headers
    if not isinstance(headers, Metadata):  # whose items() are no pairs
        pairs = headers.items()
    return [value for each, value in pairs if each.lower() == name]


class TestI6Headers:
    @pytest.mark.parametrize("make", WRITABLE.values(), ids=WRITABLE)
    def test_written_and_read(self, make: Callable[[], Any]) -> None:
        headers = make()
        assert extract(headers, PLAN) == {PlanContext: "old"}
        with plan_context("new"):
            inject(headers, PLAN)
        assert values(headers, "baggage") == ["user=alice;ttl=1,b=2,plan_name=new"]
        assert values(headers, "x-other") == ["1"]
        assert extract(headers, PLAN) == {PlanContext: "new"}
        inject(headers, PLAN)
        assert values(headers, "baggage") == ["user=alice;ttl=1,b=2"]

    @pytest.mark.parametrize("make", WRITABLE.values(), ids=WRITABLE)
    def test_none_before_and_none_after(self, make: Callable[[], Any]) -> None:
        headers = make()
        while values(headers, "baggage"):  # gRPC's go one by one
            del headers["baggage"]
        inject(headers, PLAN)
        assert values(headers, "baggage") == []
        assert extract(headers, PLAN) == {}
        with plan_context("new"):
            inject(headers, PLAN)
        assert values(headers, "baggage") == ["plan_name=new"]
        inject(headers, PLAN)
        assert values(headers, "baggage") == []

    @pytest.mark.parametrize(
        "headers",
        [
            EnvironHeaders({"HTTP_BAGGAGE": "plan_name=old"}),
            DJANGO.HttpHeaders({"HTTP_BAGGAGE": "plan_name=old"}),
            CIMultiDictProxy(CIMultiDict(GIVEN)),
        ],
        ids=lambda headers: type(headers).__name__,
    )
    def test_received_headers_are_read_alone(self, headers: Any) -> None:
        assert extract(headers, PLAN) == {PlanContext: "old"}
        with plan_context("new"), pytest.raises(TypeError, match=r"(?i)header"):
            inject(headers, PLAN)
        assert extract(headers, PLAN) == {PlanContext: "old"}

    @pytest.mark.parametrize(
        "given",
        [
            DJANGO.HttpRequest(),
            DJANGO.HttpResponse(),
            make_mocked_request("GET", "/", headers=JOINED),
            Response(),
        ],
        ids=lambda given: type(given).__name__,
    )
    def test_a_whole_request_is_none(self, given: Any) -> None:
        with pytest.raises(TypeError, match=r"pass its headers$"):
            extract(given, PLAN)

    @pytest.mark.parametrize(
        ("name", "lines"),
        [
            ("aiohttp_plans", ["nightly", "日报 sales", "None"]),
            ("grpc_plans", ["nightly: report", "日报 sales: report", "None: report"]),
        ],
    )
    def test_every_request_of_a_client(self, name: str, lines: list[str]) -> None:
        done = subprocess.run(  # noqa: S603 - our own programs
            [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == lines
