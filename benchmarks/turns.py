"""The one way to measure here: candidates take turns, and ratios are what counts.

pyperf runs one candidate to its end before the next one begins, so what a busy machine
does meanwhile ends up in their ratio. Here the candidates take short turns, so that it
slows all of them alike.
"""

from __future__ import annotations

import json
import subprocess
import sys

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple, TypeAlias


Loop: TypeAlias = Callable[[int], object]
"""Does the same thing so many times."""

STEPS = 1_000


class Cost(NamedTuple):
    """What one step of a candidate costs, beside its yardstick's."""

    nanoseconds: float
    """That of the best turn; the median of all processes."""
    ratio: float
    """To the yardstick of the same process; the median of all processes."""
    lowest: float
    highest: float


class Point(NamedTuple):
    """What one step costs at a size: with this package, and on a bare variable."""

    size: int
    ours: float
    other: float


class Series(NamedTuple):
    """A quantity as something grows."""

    title: str
    grows: str
    unit: str
    points: list[Point]


def take_turns(
    candidates: Mapping[str, Callable[[], float]], turns: int
) -> dict[str, list[float]]:
    """Have each candidate measured once in each turn; return the figures of each."""
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(turns):
        for name, measure in candidates.items():
            figures[name].append(measure())
    return figures


def timed(function: Callable[[], object], steps: int) -> float:
    """Return the nanoseconds of a step, if the function takes so many."""
    start = perf_counter_ns()
    function()
    return (perf_counter_ns() - start) / steps


def awaits(function: Callable[[int], Any]) -> Loop:
    """Return a loop of a coroutine function that never suspends.

    Driven by hand, so that no event loop's own cost is in it.
    """

    def loop(steps: int) -> None:
        with suppress(StopIteration):
            function(steps).send(None)

    return loop


def best_turns(loops: Mapping[str, Loop], turns: int) -> dict[str, float]:
    """Return the nanoseconds of a step in each candidate's best turn."""
    for loop in loops.values():  # warm, and specialised
        loop(STEPS)

    def measure(loop: Loop) -> float:
        context = Context()  # empty: what the others have set there would cost
        return context.run(timed, partial(loop, STEPS), STEPS)

    candidates = {name: partial(measure, loop) for name, loop in loops.items()}
    return {
        name: min(figures) for name, figures in take_turns(candidates, turns).items()
    }


def in_processes(
    program: str, arguments: Sequence[str], count: int
) -> list[dict[str, float]]:
    """Run a program so often, one at a time; each run prints what it has measured.

    Several, because a process has luck or none with its hashes and addresses.
    """
    results: list[dict[str, float]] = []
    for _ in range(count):
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, program, *arguments], stdout=subprocess.PIPE, check=True
        )
        results.append(json.loads(done.stdout))
    return results


def compare(
    results: Sequence[Mapping[str, float]], yardstick: Callable[[str], str]
) -> dict[str, Cost]:
    """Return what each candidate costs beside its yardstick."""
    costs: dict[str, Cost] = {}
    for name in results[0]:
        ratios = [result[name] / result[yardstick(name)] for result in results]
        nanoseconds = median(result[name] for result in results)
        costs[name] = Cost(nanoseconds, median(ratios), min(ratios), max(ratios))
    return costs
