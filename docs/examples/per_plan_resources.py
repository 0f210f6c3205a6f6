"""One database for each plan: made when first asked for, closed at the end.

Deep inside, code says ``database()`` and gets that of the plan it works for. What
keeps them is Python's own: a cache whose key is the plan's name, and an `ExitStack`.

Run it as ``python per_plan_resources.py``.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import sys
import time

from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Final

from aura_context import ContextThreadPoolExecutor, PlanContext, carry, plan_context
from aura_context.integrations.logging import ContextFilter


if TYPE_CHECKING:
    from concurrent.futures import Future


OPEN: Final = ExitStack()
LOCKS: Final[dict[str, Lock]] = {}

log = logging.getLogger("per_plan_resources")


class Database:
    """A database in memory, which one thread at a time may use."""

    def __init__(self) -> None:
        time.sleep(0.05)  # making one takes its time
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = Lock()
        self.run("CREATE TABLE rows (plan TEXT, number INTEGER)")
        log.info("opened the database")

    def run(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Run a query and return the rows that it gives."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close it."""
        self._connection.close()
        log.info("closed the database")


def database() -> Database:
    """Return the database of the plan that is bound here.

    Raises:
        NotBoundError: If no plan is bound: there is no database for nobody.
    """
    plan_name = PlanContext.require()
    # A cache lets two threads that ask at once both make what is missing. The lock is
    # the plan's own, so that a plan does not wait until another's is made.
    with LOCKS.setdefault(plan_name, Lock()):
        return connect(plan_name)


@functools.cache
def connect(plan_name: str) -> Database:  # noqa: ARG001 - it is the cache's key
    """Make the database of a plan, and see that it is closed as part of the plan."""
    made = Database()
    OPEN.callback(carry(made.close))
    return made


def store(number: int) -> None:
    """Store a row for whichever plan is asking."""
    database().run("INSERT INTO rows VALUES (?, ?)", PlanContext.require(), number)


def main() -> None:
    """Let two plans work in a pool of threads, then show what each has stored."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("%(aura_plan_name)s | %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)

    names = ("nightly", "hourly")
    with OPEN:
        OPEN.callback(connect.cache_clear)  # or a closed one could be asked for
        with ContextThreadPoolExecutor(4) as pool:
            jobs: list[Future[None]] = []
            for number in range(6):
                for name in names:
                    with plan_context(name):
                        jobs.append(pool.submit(store, number))
        for job in jobs:
            job.result()
        for name in names:
            with plan_context(name):
                query = "SELECT plan, count(*), sum(number) FROM rows GROUP BY plan"
                log.info("stored: %s", database().run(query))


if __name__ == "__main__":
    main()
