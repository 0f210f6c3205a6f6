"""What a decorated function costs, of each of the four kinds.

Run it where the package is installed: ``python benchmarks/decorated.py``.

Each row compares a decorated function with a block written by hand around the same
call or step. The candidates take turns, many times, so that a busy machine slows all
of them; the ratio is the median of the turns' ratios.

A decorator has to be called itself, with whatever arguments. So the yardstick of a
plain function and of a coroutine is a function that calls it in a block and hands its
arguments on: ``with context: f()``, plus one call. That of a generator is a block
around each step, ``with context: next(steps)``, which is less than what is asked for:
it knows nothing of the blocks that the body holds across its ``yield``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from itertools import repeat
from statistics import median
from time import perf_counter_ns
from typing import TypeAlias

from aura_context import plan_context


TURNS = 201
STEPS = 1_000

Loop: TypeAlias = Callable[[], None]
context = plan_context("benchmark")


def plain(*_: object, **__: object) -> None:
    """Do nothing."""


async def coroutine(*_: object, **__: object) -> None:
    """Do nothing."""


def generator() -> Generator[None, None, None]:
    """Do nothing at each step."""
    while True:
        yield


async def async_generator() -> AsyncGenerator[None, None]:
    """Do nothing at each step."""
    while True:
        yield


def plain_by_hand(*args: object, **kwargs: object) -> None:
    """Call the plain function in a block."""
    with context:
        plain(*args, **kwargs)


async def coroutine_by_hand(*args: object, **kwargs: object) -> None:
    """Await the coroutine in a block."""
    async with context:
        await coroutine(*args, **kwargs)


def calls(function: Callable[[], object]) -> Loop:
    """Return a loop that calls the function, or takes a step, each time."""

    def loop() -> None:
        for _ in repeat(None, STEPS):
            function()

    return loop


def calls_in_blocks(function: Callable[[], object]) -> Loop:
    """Return the same loop with a block around each call."""

    def loop() -> None:
        for _ in repeat(None, STEPS):
            with context:
                function()

    return loop


def awaits(function: Callable[[], Awaitable[object]]) -> Loop:
    """Return a loop that awaits each time; nothing awaited here suspends."""

    async def loop() -> None:
        for _ in repeat(None, STEPS):
            await function()

    return lambda: run(loop())


def awaits_in_blocks(function: Callable[[], Awaitable[object]]) -> Loop:
    """Return the same loop with a block around each await."""

    async def loop() -> None:
        for _ in repeat(None, STEPS):
            async with context:
                await function()

    return lambda: run(loop())


def run(loop: Coroutine[object, None, None]) -> None:
    """Run a coroutine that does not suspend, without an event loop's own cost."""
    with suppress(StopIteration):
        loop.send(None)


def timed(loop: Loop) -> float:
    """Return how many nanoseconds one turn of the loop takes for each step."""
    start = perf_counter_ns()
    loop()
    return (perf_counter_ns() - start) / STEPS


def main() -> None:
    """Print a row for each kind."""
    rows: dict[str, tuple[Loop, Loop, Loop]] = {
        "plain function": (
            calls(plain),
            calls(plain_by_hand),
            calls(context(plain)),
        ),
        "coroutine": (
            awaits(coroutine),
            awaits(coroutine_by_hand),
            awaits(context(coroutine)),
        ),
        "generator step": (
            calls(generator().__next__),
            calls_in_blocks(generator().__next__),
            calls(context(generator)().__next__),
        ),
        "async generator step": (
            awaits(async_generator().__anext__),
            awaits_in_blocks(async_generator().__anext__),
            awaits(context(async_generator)().__anext__),
        ),
    }
    print(f"{'':22}{'bare':>10}{'by hand':>10}{'decorated':>11}{'ratio':>8}")
    for name, loops in rows.items():
        turns = [tuple(map(timed, loops)) for _ in range(TURNS)]
        costs = "".join(f"{median(cost):8.0f}ns" for cost in zip(*turns, strict=True))
        ratio = median(decorated / by_hand for _, by_hand, decorated in turns)
        print(f"{name:22}{costs}{ratio:9.2f}")


if __name__ == "__main__":
    main()
