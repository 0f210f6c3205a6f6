"""Rule I4: Celery with a real broker and real workers, which fork their processes."""

from __future__ import annotations

import os
import subprocess
import sys

from typing import TYPE_CHECKING, Any

import pytest

from celery import Celery, chain, chord, group

from aura_context import plan_context

from .celery_tasks import (
    BROKERS,
    RegionContext,
    TenantContext,
    app,
    boom,
    fail,
    first,
    flaky,
    look,
    meet,
    note,
    then,
)
from .conftest import EXAMPLES, HERE, running, wait_until


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


OF_THE_WORKER = ["of the worker", "of the worker"]
TIMEOUT = 60


def start(broker: dict[str, str], folder: Path, *options: str) -> Iterator[Path]:
    log = folder / "log"
    environ = {**broker, "PYTHONPATH": str(HERE)}
    command: list[str | Path] = [sys.executable, HERE / "celery_worker.py", *options]
    with running(command, log, environ):
        wait_until(lambda: "ready." in log.read_text("utf-8"), "the worker")
        yield log


@pytest.fixture(scope="module", autouse=True)
def many(broker: dict[str, str], tmp_path_factory: Any) -> Iterator[Path]:
    """A worker of two processes, started inside a block."""
    app.conf.update(
        broker_url=broker["CELERY_BROKER_URL"],
        result_backend=broker["CELERY_RESULT_BACKEND"],
    )
    folder = tmp_path_factory.mktemp("many")
    yield from start(broker, folder, "-c", "2", "-Q", "many", "-n", "many@here")
    app.close()


@pytest.fixture(scope="module")
def one(broker: dict[str, str], tmp_path_factory: Any) -> Iterator[str]:
    """The queue of a worker of one process, started inside a block."""
    folder = tmp_path_factory.mktemp("one")
    for _log in start(broker, folder, "-c", "1", "-Q", "one", "-n", "one@here"):
        yield "one"


@pytest.fixture
def foreign(broker: dict[str, str]) -> Iterator[Any]:
    """An application that publishes to the same broker without us."""
    foreign: Any = Celery("foreign", set_as_current=False)
    foreign.conf.broker_url = broker["CELERY_BROKER_URL"]
    yield foreign
    foreign.close()


class TestWorker:
    def test_what_is_named_and_nothing_else(self) -> None:
        with plan_context("夜间"), RegionContext("eu"), TenantContext("acme"):
            result = look.delay()
        found = result.get(timeout=TIMEOUT)
        assert found["seen"] == ["夜间", "eu", None]
        assert found["between"] == OF_THE_WORKER
        assert found["pid"] != os.getpid()

    def test_not_coloured_by_the_block_it_was_started_in(self) -> None:
        assert look.delay().get(timeout=TIMEOUT)["seen"] == [None, None, None]

    def test_a_publisher_without_us(self, foreign: Any) -> None:
        with plan_context("p"):
            result = foreign.send_task("look", queue="many")
        found = app.AsyncResult(result.id).get(timeout=TIMEOUT)
        assert found["seen"] == [None, None, None]

    def test_what_the_class_refuses(self, foreign: Any, many: Path) -> None:
        forged = '{"plan_name": "nightly\\nforged", "region": "eu"}'
        headers = {"aura_context": forged}
        result = foreign.send_task("look", queue="many", headers=headers)
        found = app.AsyncResult(result.id).get(timeout=TIMEOUT)
        assert found["seen"] == [None, "eu", None]
        dropped = "a message's plan_name is dropped"
        wait_until(lambda: dropped in many.read_text("utf-8"), "the warning", 10)

    def test_two_plans_at_once(self) -> None:
        with plan_context("a"):
            a = meet.delay("a", "b")
        with plan_context("b"), RegionContext("eu"):
            b = meet.delay("b", "a")
        assert a.get(timeout=TIMEOUT) == [["a", None, None]] * 2
        assert b.get(timeout=TIMEOUT) == [["b", "eu", None]] * 2

    def test_many_plans_in_turn_in_one_process(self, one: str) -> None:
        results: list[Any] = []
        for number in range(30):
            if number % 3 == 0:
                with plan_context(f"p{number}"):
                    results.append(look.apply_async(queue=one))
            elif number % 3 == 1:
                results.append(look.apply_async(queue=one))
            else:
                with plan_context(f"p{number}"), RegionContext(str(number)):
                    flaky.apply_async(([],), queue=one)
                    results.append(look.apply_async(queue=one))
        found = [result.get(timeout=TIMEOUT) for result in results]
        assert len({each["pid"] for each in found}) == 1
        assert all(each["between"] == OF_THE_WORKER for each in found)
        assert [each["seen"] for each in found] == [
            [
                None if number % 3 == 1 else f"p{number}",
                str(number) if number % 3 == 2 else None,
                None,
            ]
            for number in range(30)
        ]

    def test_body_that_raises_and_leaves_things_behind(self, one: str) -> None:
        with plan_context("p"), RegionContext("eu"):
            failed = boom.apply_async(queue=one)
        clean = look.apply_async(queue=one)
        with plan_context("q"):
            other = look.apply_async(queue=one)
        with pytest.raises(ValueError, match="'left open', 'eu', 'left behind'"):
            failed.get(timeout=TIMEOUT)
        assert clean.get(timeout=TIMEOUT)["seen"] == [None, None, None]
        assert other.get(timeout=TIMEOUT)["seen"] == ["q", None, None]


class TestOnwards:
    def test_retry_keeps_what_it_was_published_with(self) -> None:
        with plan_context("p"), RegionContext("eu"):
            result = flaky.delay([])
        with plan_context("q"):
            found = result.get(timeout=TIMEOUT)
        assert found == [["p", "eu", None]] * 3

    def test_chain(self) -> None:
        with plan_context("p"), RegionContext("eu"):
            result: Any = chain(first.s(), then.s(), then.s()).delay()
        assert result.get(timeout=TIMEOUT) == [["p", "eu", None]] * 3

    def test_group(self) -> None:
        with plan_context("p"):
            result = group(first.s() for _ in range(4)).delay()
        assert result.get(timeout=TIMEOUT) == [[["p", None, None]]] * 4

    def test_chord(self) -> None:
        with plan_context("p"):
            result: Any = chord([first.s(), first.s()], then.s()).delay()
        found = result.get(timeout=TIMEOUT)
        assert found == [*[[["p", None, None]]] * 2, ["p", None, None]]

    def test_error_callback(self, broker: dict[str, str]) -> None:
        with plan_context("p"):
            fail.apply_async(link_error=note.s(key="noted"))
        with BROKERS.from_url(broker["CELERY_BROKER_URL"]) as server:
            found = server.blpop(["noted"], timeout=TIMEOUT)
        assert found[1] == repr(["p", None, None]).encode()

    def test_eager(self) -> None:
        app.conf.task_always_eager = True
        try:
            with plan_context("p"), TenantContext("acme"):
                found = look.delay().get()
                assert found["pid"] == os.getpid()
                assert found["seen"] == ["p", None, None]
                assert flaky.delay([]).get() == [["p", None, None]] * 3
        finally:
            app.conf.task_always_eager = False


class TestProgram:
    def test_of_the_how_to(self, broker: dict[str, str], tmp_path: Path) -> None:
        worker: list[str | Path] = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "celery_plans",
            "worker",
        ]
        environ = {**broker, "PYTHONPATH": str(EXAMPLES)}
        with running(worker, tmp_path / "log", environ):
            done = subprocess.run(  # noqa: S603 - our own program
                [sys.executable, "-W", "error", EXAMPLES / "celery_plans.py"],
                capture_output=True,
                encoding="utf-8",
                env={**os.environ, **broker},
                check=False,
                timeout=TIMEOUT,
            )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "nightly: 6",
            "nightly: 9, reported for nightly",
            "hourly: fetched page 7 at attempt 2",
            "None: 0",
        ]
