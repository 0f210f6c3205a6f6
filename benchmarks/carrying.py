"""What it costs to take the plan along: to a call, and to a thread of a pool.

    python benchmarks/carrying.py [--quick]

The yardstick is what is written by hand without this package:
``contextvars.copy_context().run(f)``, which takes *every* variable along. It does so by
reference, so its cost does not depend on how many there are; ours takes them one by
one, so each table is there for 1, 4 and 16 declared contexts, one of which is bound.

The candidates take turns, many times, so that a busy machine slows all of them. Shown
are the best turn of each and the spread of the middle half of its turns; the ratio is
the median of the turns' ratios.
"""

from __future__ import annotations

import sys

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import repeat
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, TypeAlias

from turns import take_turns, timed

from aura_context import (
    ContextThreadPoolExecutor,
    Snapshot,
    VarContext,
    carry,
    plan_context,
)


if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


TURNS = 3 if "--quick" in sys.argv else 101
CALLS = 1_000
JOBS = 300

Loop: TypeAlias = "Callable[[], None]"


def job(rounds: int = 0) -> None:
    """Keep the interpreter busy."""
    for _ in repeat(None, rounds):
        pass


def rounds_for(microseconds: int) -> int:
    """Return how many rounds take that long on this machine."""
    if not microseconds:
        return 0
    trial = 100_000
    best = min(timed(partial(job, trial), 1) for _ in range(20))
    return int(microseconds * 1_000 / best * trial)


def calls(function: Callable[[], object]) -> Loop:
    """Return a loop that calls the function each time."""

    def loop() -> None:
        for _ in repeat(None, CALLS):
            function()

    return loop


def submits(submit: Callable[[], Future[Any]]) -> Loop:
    """Return a loop that submits a job each time, and then waits for all."""

    def loop() -> None:
        for future in [submit() for _ in repeat(None, JOBS)]:
            future.result()

    return loop


def compare(candidates: dict[str, Loop], count: int) -> None:
    """Print a row for each candidate; the first one is the yardstick."""
    columns = take_turns(
        {name: partial(timed, loop, count) for name, loop in candidates.items()}, TURNS
    )
    yardstick = next(iter(columns.values()))
    for name, column in columns.items():
        low, _, high = (each / 1_000 for each in quantiles(column))
        ratio = median(
            mine / other for mine, other in zip(column, yardstick, strict=True)
        )
        spread = f"{low:.2f}-{high:.2f}"
        print(f"  {name:34}{min(column) / 1_000:8.2f}us{spread:>16}{ratio:8.2f}")


def compare_calls() -> None:
    """Compare calls in the same thread."""
    carried = carry(job)
    compare(
        {
            "copy_context().run(f)": calls(lambda: copy_context().run(job)),
            "Snapshot.capture()": calls(Snapshot.capture),
            "carry(f)()": calls(carried),
            "carry(f)": calls(lambda: carry(job)),
            "Snapshot.capture().run(f)": calls(lambda: Snapshot.capture().run(job)),
        },
        CALLS,
    )


def compare_pools(microseconds: int) -> None:
    """Compare pools of one worker, whose jobs take that long."""
    work = partial(job, rounds_for(microseconds))
    with ThreadPoolExecutor(1) as bare, ContextThreadPoolExecutor(1) as ours:
        compare(
            {
                f"bare pool, {microseconds} us": submits(
                    lambda: bare.submit(copy_context().run, work)
                ),
                f"our pool, {microseconds} us": submits(lambda: ours.submit(work)),
            },
            JOBS,
        )


def main() -> None:
    """Print the tables."""
    declared = 1  # that of the plan
    for count in (1, 4, 16):
        for number in range(declared, count):
            var: ContextVar[None] = ContextVar(f"benchmark {number}", default=None)
            type(f"Benchmark{number}", (VarContext,), {"var": var})
        declared = count
        print(f"{count:2} declared{'best':>34}{'spread':>16}{'ratio':>8}")
        with plan_context("benchmark"):
            compare_calls()
            compare_pools(0)
            compare_pools(100)


if __name__ == "__main__":
    main()
