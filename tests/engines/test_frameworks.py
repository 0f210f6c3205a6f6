"""Rules I3 and R5 on Django and Flask, which run parts of a request in copies."""

from __future__ import annotations

import json
import os
import sys

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .conftest import (
    EXAMPLES,
    HERE,
    ask,
    disconnect,
    free_port,
    look_into,
    serving,
    wait_until,
)


if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


# Each with how many of the requests wait for each other.
SERVERS = {
    "django": (40, "uvicorn {site} --no-access-log --port {port}"),
    "starlette": (1, "uvicorn {site} --no-access-log --port {port}"),
    "flask": (20, "waitress --threads 20 --listen 127.0.0.1:{port} {site}"),
}
FRAMEWORK = pytest.mark.parametrize("framework", ["django", "flask"])


@contextmanager
def site(framework: str, name: str, folder: Path) -> Generator[int]:
    """Serve a site; return the port."""
    at_once, line = SERVERS[framework]
    port = free_port()
    arguments = line.format(site=f"{framework}_{name}", port=port).split()
    environ = {
        "PYTHONPATH": os.pathsep.join(map(str, [HERE, EXAMPLES])),
        "AT_ONCE": str(at_once),
    }
    command = [sys.executable, "-m", *arguments]
    with serving(command, port, folder / "log", environ):
        yield port


def paths(*kinds: str) -> list[str]:
    """Return 200 paths: 20 plans, each with all kinds of requests."""
    return [
        f"/plan-{number % 20}/{kinds[number // 20 % len(kinds)]}"
        for number in range(200)
    ]


@FRAMEWORK
class TestI3Wrapped:
    def test_200_at_once_for_20_plans(self, framework: str, tmp_path: Path) -> None:
        asked = paths("sync", "async", "rows", "sync?forget", "async?forget")
        with site(framework, "site:wrapped", tmp_path) as port:
            answers = ask(port, asked)
            # A second later: timers of the server hold copies of the Contexts.
            wait_until(lambda: look_into(port)["left"] == 0, "blocks left", 10)
        for path, answer in zip(asked, answers, strict=True):
            _, plan, kind = path.split("/")
            first = (
                f"None {plan.upper()};" if kind == "rows" else f"{plan} {plan.upper()};"
            )
            second = f"{plan} forgotten;" if "forget" in kind else first
            assert answer == first + second, path


@FRAMEWORK
class TestR5Halves:
    def test_200_at_once_for_20_plans(self, framework: str, tmp_path: Path) -> None:
        asked = paths("sync", "async", "rows")
        with site(framework, "site:halves", tmp_path) as port:
            answers = ask(port, asked)
            # A second later: timers of the server hold copies of the Contexts.
            wait_until(lambda: look_into(port)["left"] == 0, "blocks left", 10)
        for path, answer in zip(asked, answers, strict=True):
            _, plan, kind = path.split("/")
            # The response's half is over when the body is streamed.
            assert answer == ("None None;" if kind == "rows" else f"{plan} None;") * 2


@FRAMEWORK
class TestExample:
    def test_every_answer_has_the_plan(self, framework: str, tmp_path: Path) -> None:
        with site(framework, "plans:application", tmp_path) as port:
            assert ask(port, ["/nightly/sync", "/hourly/async", "/nightly/rows"]) == [
                "nightly for nightly",
                "hourly for hourly",
                "nightly 0 for nightly\nnightly 1 for nightly\n",
            ]


class TestI3Disconnected:
    def test_20_bodies_end_as_their_own_plans(self, tmp_path: Path) -> None:
        plans = [f"plan-{number}" for number in range(20)]
        kinds = ["carried", "decorated"]
        with site("starlette", "site:application", tmp_path) as port:
            disconnect(port, [f"/{plan}/{kind}" for plan in plans for kind in kinds])
            ended: list[list[str]] = []

            def have_ended() -> bool:
                ended[:] = json.loads(ask(port, ["/other/collect"])[0])
                return len(ended) == len(plans) * len(kinds)

            wait_until(have_ended, "the end of the bodies")
        assert sorted(ended) == sorted([plan, plan] for plan in plans for _ in kinds)
