"""What a block costs as everything around it grows.

    python benchmarks/scale.py [--check] [--quick] [--write]

Beside each figure stands that of the same program on bare ContextVars: ``set`` and
``reset`` in ``try`` and ``finally``. The two take turns, and the best turn counts. With
``--check`` the exit status is 1 if what should be flat has grown. With ``--quick`` the
sizes are small. ``--write`` draws the plot of the documentation.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc

from argparse import ArgumentParser
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from turns import Point, Series, take_turns, timed

from aura_context import current_plan_name, plan_context


if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable


FLAT = {"tasks, time", "tasks, memory", "depth", "generations", "threads"}
"""What must not grow from the third size on; before, what is there once counts."""
TOLERANCE = 1.5
"""For caches, that hold less of what is larger."""

BLOCKS = 1_000 if "--quick" in sys.argv else 10_000
"""How many a measurement of time has at least."""


def best(measure: Callable[[], float], other: Callable[[], float]) -> tuple[float, ...]:
    """Return the best turn of each; they take turns."""
    figures = take_turns({"ours": measure, "other": other}, 5)
    return min(figures["ours"]), min(figures["other"])


def without_collector(function: Callable[[], object], steps: int) -> float:
    """Return the nanoseconds of a step, without the cyclic garbage collector.

    It visits what lives, and when depends on the whole program: with it, a step costs
    what its share of those visits is, for a bare variable as for this package.
    """
    gc.collect()
    gc.disable()
    try:
        return timed(function, steps)
    finally:
        gc.enable()


def sizes(largest: int) -> list[int]:
    """Return the powers of ten up to there."""
    return [10**power for power in range(len(str(largest)))]


# Tasks, each in a nest of three blocks, all of them at once.


async def nest(gate: asyncio.Event) -> None:
    """Wait inside three blocks."""
    async with plan_context("a"), plan_context("b"), plan_context("c"):
        await gate.wait()


async def bare_nest(gate: asyncio.Event) -> None:
    """Wait inside what three blocks would be."""
    first = current_plan_name.set("a")
    try:
        second = current_plan_name.set("b")
        try:
            third = current_plan_name.set("c")
            try:
                await gate.wait()
            finally:
                current_plan_name.reset(third)
        finally:
            current_plan_name.reset(second)
    finally:
        current_plan_name.reset(first)


Nest: TypeAlias = "Callable[[asyncio.Event], Coroutine[None, None, None]]"


async def run_tasks(body: Nest, count: int, rounds: int = 1) -> int:
    """Run so many tasks at once; return the memory in use when all are inside."""
    used = 0
    for _ in range(rounds):
        gate = asyncio.Event()
        tasks = [asyncio.create_task(body(gate)) for _ in range(count)]
        await asyncio.sleep(0)
        if tracemalloc.is_tracing():
            used = tracemalloc.get_traced_memory()[0]
        gate.set()
        await asyncio.gather(*tasks)
    return used


def task_time(body: Nest, count: int) -> float:
    """Return the nanoseconds of a task."""
    rounds = max(1, BLOCKS // count)
    run = partial(asyncio.run, run_tasks(body, count, rounds))
    return without_collector(run, count * rounds)


def task_memory(body: Nest, count: int) -> float:
    """Return the bytes of a task."""
    asyncio.run(run_tasks(body, 1))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    used = asyncio.run(run_tasks(body, count))
    tracemalloc.stop()
    return (used - before) / count


def tasks(largest: int) -> Iterable[Series]:
    """Measure tasks that are all inside at once."""
    for title, unit, measure in (
        ("tasks, time", "ns a task", task_time),
        ("tasks, memory", "bytes a task", task_memory),
    ):
        points = [
            Point(
                count,
                *best(
                    partial(measure, nest, count), partial(measure, bare_nest, count)
                ),
            )
            for count in sizes(largest)
        ]
        yield Series(title, "tasks at once", unit, points)


# Blocks inside blocks.


def nested(depth: int) -> float:
    """Enter so many blocks and leave them again."""
    contexts = [plan_context(f"plan {number}") for number in range(depth)]

    def run() -> None:
        for context in contexts:
            context.__enter__()
        for context in reversed(contexts):
            context.__exit__(None, None, None)

    return repeated(run, depth)


def bare_nested(depth: int) -> float:
    """Set so often, and reset."""
    names = [f"plan {number}" for number in range(depth)]

    def run() -> None:
        tokens = [current_plan_name.set(name) for name in names]
        for token in reversed(tokens):
            current_plan_name.reset(token)

    return repeated(run, depth)


def repeated(run: Callable[[], None], steps: int) -> float:
    """Return the nanoseconds of a step of what is short by itself."""
    rounds = max(1, BLOCKS // steps)

    def runs() -> None:
        for _ in range(rounds):
            run()

    return without_collector(runs, rounds * steps)


def depth(largest: int) -> Series:
    """Measure blocks inside blocks."""
    points = [
        Point(size, *best(partial(nested, size), partial(bare_nested, size)))
        for size in sizes(largest)
    ]
    return Series("depth", "blocks inside each other", "ns a block", points)


# Other variables in the same Context.


def blocks() -> None:
    """Open blocks, one after the other."""
    for _ in range(BLOCKS):
        with plan_context("plan"):
            pass


def bare_blocks() -> None:
    """Set and reset, again and again."""
    for _ in range(BLOCKS):
        token = current_plan_name.set("plan")
        try:
            pass
        finally:
            current_plan_name.reset(token)


def in_context(context: Context, function: Callable[[], None]) -> float:
    """Return the nanoseconds of a block in a Context that is not empty."""
    return context.run(without_collector, function, BLOCKS)


def variables(largest: int) -> Series:
    """Measure a block among other variables."""
    points: list[Point] = []
    for size in sizes(largest // 10):
        context = Context()
        for number in range(size):
            context.run(ContextVar[int](f"other {number}").set, number)
        ours = partial(in_context, context, blocks)
        bare = partial(in_context, context, bare_blocks)
        points.append(Point(size, *best(ours, bare)))
    return Series("other variables", "ContextVars in the Context", "ns a block", points)


# A chain of tasks, each started inside the block of the one before.


async def generation(left: int, last: asyncio.Event) -> None:
    """Start the next generation inside a block."""
    async with plan_context(f"plan {left}"):
        start_next(generation, left, last)


async def bare_generation(left: int, last: asyncio.Event) -> None:
    """Start the next generation with the variable set."""
    token = current_plan_name.set(f"plan {left}")
    try:
        start_next(bare_generation, left, last)
    finally:
        current_plan_name.reset(token)


pending: set[asyncio.Task[None]] = set()


def start_next(
    body: Callable[[int, asyncio.Event], Coroutine[None, None, None]],
    left: int,
    last: asyncio.Event,
) -> None:
    """Start a task, and let go of it when it is done."""
    if left == 0:
        last.set()
        return
    task = asyncio.get_running_loop().create_task(body(left - 1, last))
    pending.add(task)
    task.add_done_callback(pending.discard)


def chain_memory(
    body: Callable[[int, asyncio.Event], Coroutine[None, None, None]], length: int
) -> float:
    """Return the bytes that are in use when the last generation runs."""

    async def main() -> int:
        last = asyncio.Event()
        before = tracemalloc.get_traced_memory()[0]
        start_next(body, length, last)
        await last.wait()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    used = asyncio.run(main())
    tracemalloc.stop()
    return used


def generations(largest: int) -> Series:
    """Measure what a chain of tasks keeps alive."""
    points = [
        Point(
            length,
            chain_memory(generation, length),
            chain_memory(bare_generation, length),
        )
        for length in sizes(largest)
    ]
    return Series(
        "generations", "tasks, each started by the last", "bytes in all", points
    )


# Leaving the outermost of many open blocks.


def out_of_order(count: int) -> float:
    """Leave the ten outermost blocks (or all) of so many, from the outside."""

    def run() -> float:
        contexts = [plan_context(f"plan {number}") for number in range(count)]
        for context in contexts:
            context.__enter__()
        leaving = contexts[:10]

        def leave() -> None:
            for context in leaving:
                context.__exit__(None, None, None)

        return without_collector(leave, len(leaving))

    return Context().run(run)


def in_order(count: int) -> float:
    """Leave the ten innermost blocks (or all) of so many, from the inside."""

    def run() -> float:
        contexts = [plan_context(f"plan {number}") for number in range(count)]
        for context in contexts:
            context.__enter__()
        leaving = contexts[:-11:-1]

        def leave() -> None:
            for context in leaving:
                context.__exit__(None, None, None)

        return without_collector(leave, len(leaving))

    return Context().run(run)


def order(largest: int) -> Series:
    """Measure exits out of order; beside them stand exits of ours in order."""
    points = [
        Point(size, *best(partial(out_of_order, size), partial(in_order, size)))
        for size in sizes(largest // 10)
    ]
    return Series(
        "out of order", "blocks open, the outermost left", "ns an exit", points
    )


# Threads.


def in_threads(function: Callable[[], None], count: int) -> float:
    """Run it in so many threads at once."""
    threads = [
        threading.Thread(target=copy_context().run, args=[function])
        for _ in range(count)
    ]

    def run() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return without_collector(run, count * BLOCKS)


def thread_counts() -> Series:
    """Measure blocks in several threads."""
    points = [
        Point(
            size,
            *best(
                partial(in_threads, blocks, size),
                partial(in_threads, bare_blocks, size),
            ),
        )
        for size in (1, 2, 4, 8, 16)
    ]
    return Series("threads", "threads at once", "ns a block", points)


def measure(largest: int) -> list[Series]:
    """Measure all, up to that size."""
    return [
        *tasks(largest),
        depth(largest),
        variables(largest),
        generations(largest),
        order(largest),
        thread_counts(),
    ]


def grown(series: Iterable[Series]) -> list[str]:
    """Return a line for each quantity that should be flat and is not."""
    return [
        f"{each.title}: {last:,.0f} {each.unit}, and {first:,.0f} with fewer"
        for each in series
        if each.title in FLAT
        for first, last in [(each.points[2].ours, each.points[-1].ours)]
        if last > first * TOLERANCE
    ]


def main() -> int:
    """Print the tables, check what should be flat, draw the plot."""
    parser = ArgumentParser(description=__doc__)
    for flag in ("check", "quick", "write"):
        parser.add_argument(f"--{flag}", action="store_true")
    asked = parser.parse_args()
    series = measure(1_000 if asked.quick else 100_000)
    for each in series:
        print(f"{each.title}: {each.unit}")
        print(f"{each.grows:>34}{'ours':>12}{'other':>12}{'ratio':>8}")
        for size, ours, other in each.points:
            print(f"{size:>34,}{ours:>12,.0f}{other:>12,.0f}{ours / other:>8.2f}")
    if asked.write:
        from report import draw_scale  # noqa: PLC0415 - wants matplotlib

        draw_scale(series)
    lines = grown(series)
    for line in lines:
        print("GROWN", line)
    return 1 if asked.check and lines else 0


if __name__ == "__main__":
    sys.exit(main())
