"""Work for several plans through Celery.

Where CELERY_BROKER_URL and CELERY_RESULT_BACKEND say where the broker is, start a
worker with ``celery -A celery_plans worker`` in this folder; then run this file. The
exit status is 0 if every task was run as its own plan's.
"""

from __future__ import annotations

import sys

from typing import TYPE_CHECKING, Any

from celery import Celery

from aura_context import current_plan_name, plan_context
from aura_context.integrations.celery import install


if TYPE_CHECKING:
    from celery import Task

# The address of the broker is in the environment: Celery reads it there.
app = Celery("celery_plans")
install(app)


@app.task
def total(amounts: list[int]) -> str:
    """Add up; who it is for is nobody's argument."""
    return f"{current_plan_name.get()}: {sum(amounts)}"


@app.task
def report(line: str) -> str:
    """Go on with what another task has found."""
    return f"{line}, reported for {current_plan_name.get()}"


@app.task(bind=True)
def fetch(self: Task[Any, Any], page: int) -> str:
    """Fail at first, and try again."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    return (
        f"{current_plan_name.get()}: fetched page {page} "
        f"at attempt {self.request.retries + 1}"
    )


def main() -> int:
    """Print what the tasks say, and return the exit status."""
    with plan_context("nightly"):
        results: list[Any] = [
            total.delay([1, 2, 3]),
            (total.s([4, 5]) | report.s()).delay(),
        ]
    with plan_context("hourly"):
        results += [fetch.delay(7)]
    results += [total.delay([])]
    lines = [result.get(timeout=60) for result in results]
    print(*lines, sep="\n")
    plans = [line.partition(":")[0] for line in lines]
    return int(plans != ["nightly", "nightly", "hourly", "None"])


if __name__ == "__main__":
    sys.exit(main())
