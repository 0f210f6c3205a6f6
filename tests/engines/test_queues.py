"""Rule I7: the plan through queues, with a real broker and real workers."""

from __future__ import annotations

import os
import subprocess
import sys

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from rq import Retry

from aura_context import PlanContext, plan_context
from aura_context.integrations.baggage import extract, inject
from aura_context.integrations.messages import dump, load

from .conftest import EXAMPLES, HERE, running, wait_until


if TYPE_CHECKING:
    from pathlib import Path


CONTEXTS = {"plan_name": PlanContext}
RAISED: Any = import_module("huey.exceptions").TaskException  # has no types

WORKERS = {
    "dramatiq_plans": ["dramatiq", "dramatiq_plans", "-p", "1", "-t", "4"],
    "taskiq_plans": ["taskiq", "worker", "taskiq_plans:broker", "-w", "1"],
}
READY = {"dramatiq_plans": "is ready for action", "taskiq_plans": "Listening started"}

LINES = [
    "nightly: 6",
    "nightly: 9, reported for nightly",
    "hourly: fetched page 7 at the second attempt",
    "None: 0",
]


@pytest.mark.parametrize("name", WORKERS)
def test_retries_and_what_follows_keep_the_plan(
    name: str, redis_url: str, tmp_path: Path
) -> None:
    environ = {"REDIS_URL": redis_url, "PYTHONPATH": str(EXAMPLES)}
    log = tmp_path / "log"
    command: list[str | Path] = [sys.executable, "-m", *WORKERS[name]]
    with running(command, log, environ) as worker:
        wait_until(
            lambda: READY[name] in log.read_text("utf-8") or worker.poll() is not None,
            "the worker",
        )
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, EXAMPLES / f"{name}.py"],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, **environ},
            check=False,
            timeout=120,
        )
        assert done.stdout.splitlines() == LINES, done.stderr
        assert done.returncode == 0


@pytest.fixture
def jobs(redis_url: str, monkeypatch: Any) -> Any:
    """The module with the jobs, as a worker imports it."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(HERE)
    return import_module("queue_jobs")


def test_rq(jobs: Any) -> None:
    published: list[Any] = []
    for plan, retry in (("nightly", None), ("hourly", Retry(max=1))):
        with plan_context(plan):
            meta = {"aura_context": dump(CONTEXTS)}
            published += [jobs.queue.enqueue(jobs.rq_job, meta=meta, retry=retry)]
    published += [jobs.queue.enqueue(jobs.rq_job)]
    subprocess.run(  # noqa: S603 - our own worker
        [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", jobs.URL],
        check=True,
        timeout=60,
    )
    assert [job.return_value(refresh=True) for job in published] == [
        ["nightly", None],
        ["hourly", None],
        [None, None],
    ]


def test_huey(jobs: Any, tmp_path: Path) -> None:
    published: list[Any] = []
    for plan in ("nightly", "hourly"):
        with plan_context(plan):
            published += [jobs.huey_job(aura_context=dump(CONTEXTS))]
    published += [jobs.huey_job()]
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "queue_jobs.huey"]
    with running(command, tmp_path / "log"):
        found = [returned(result) for result in published]
    assert found == [["nightly", None], ["hourly", None], [None, None]]


def returned(result: Any) -> Any:
    """Wait for what a job of Huey returns, and pass over what its first attempt raised.

    That is its result as well, until the second attempt has ended.
    """
    while True:
        try:
            return result.get(blocking=True, timeout=60)
        except RAISED as error:
            if "ConnectionError" not in str(error):
                raise
            result.reset()


# kafka-python reads a file of its own in an old way.
@pytest.mark.filterwarnings("ignore:.*Use files:DeprecationWarning")
@pytest.mark.parametrize("library", ["aiokafka", "kafka"])
def test_kafka_headers(library: str) -> None:
    records: Any = import_module(f"{library}.record.default_records")
    batch = records.DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 9999)
    sent: dict[str, str] = {}
    with plan_context("夜间"):
        inject(sent, CONTEXTS)
        headers = [("aura_context", dump(CONTEXTS).encode())]
    headers += [(name, value.encode()) for name, value in sent.items()]
    batch.append(0, 1, b"key", b"value", headers)
    batch.append(1, 1, b"key", b"value", [])

    bound, bare = records.DefaultRecordBatch(bytes(batch.build()))
    for message, found in ((bound, {PlanContext: "夜间"}), (bare, {})):
        text = dict(message.headers).get("aura_context")
        assert load(text, accept=CONTEXTS) == found
        assert extract(message.headers, accept=CONTEXTS) == found
