"""Work for several plans on a pool of processes.

Run it as ``python processes.py [METHOD]``; the method is a way in which Python can
start processes: ``fork``, ``forkserver`` or ``spawn``. The exit status is 0 if every
job was answered as its own plan's.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

from concurrent.futures import Executor, ProcessPoolExecutor
from contextvars import ContextVar
from itertools import repeat

from aura_context import (
    ContextExecutor,
    VarContext,
    carry,
    current_plan_name,
    plan_context,
)


# At module level, where a worker process finds it again. `__main__` will do.
current_region: ContextVar[str | None] = ContextVar("current_region", default=None)


class RegionContext(VarContext[str | None]):
    """Binds the region that is worked for."""

    var = current_region


def total(amounts: list[int]) -> str:
    """Add up; who it is for is nobody's argument."""
    return f"{current_plan_name.get()}/{current_region.get()}: {sum(amounts)}"


def scaled(amount: int, factor: int) -> str:
    """Multiply; likewise."""
    return f"{current_plan_name.get()}/{current_region.get()}: {amount * factor}"


def work(pool: Executor) -> list[str]:
    """Hand over jobs of two plans, in three ways."""
    executor = ContextExecutor(pool)
    with plan_context("nightly"), RegionContext("eu"):
        submitted = executor.submit(total, [1, 2, 3])
        mapped = executor.map(scaled, [1, 2], repeat(10))
    with plan_context("hourly"):
        carried = carry(total)  # for any executor, also one that is not wrapped
    return [
        submitted.result(),
        *mapped,
        pool.submit(carried, [4, 5]).result(),
        executor.submit(total, []).result(),  # the worker is clean
    ]


def main(method: str | None = None) -> int:
    """Print what the jobs say, and return the exit status."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, context) as pool:
        lines = work(pool)
    print(f"parent {os.getpid()}:", *lines, sep="\n  ")
    expected = ["nightly/eu: 6", "nightly/eu: 10", "nightly/eu: 20"]
    return int(lines != [*expected, "hourly/None: 9", "None/None: 0"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
