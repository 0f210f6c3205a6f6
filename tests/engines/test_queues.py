"""Rule I7: the plan through dramatiq and taskiq, a real broker and real workers."""

from __future__ import annotations

import os
import subprocess
import sys

from typing import TYPE_CHECKING

import pytest

from .conftest import EXAMPLES, running, wait_until


if TYPE_CHECKING:
    from pathlib import Path


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
