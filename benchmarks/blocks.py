"""The same work, side by side: bind one name for the length of a block.

    python benchmarks/blocks.py [--check] [--quick] [--write]

Each row is a loop over a block with nothing in it, in a Context with nothing in it.
Ratios are to what this package replaces: a ``@contextmanager`` or
``@asynccontextmanager`` around ``set`` and ``reset``.
With ``--check`` the exit status is 1 if a target is missed by more than 10 %. With
``--quick`` there are fewer turns, and none of the other libraries. ``--write`` puts the
table and a drawing of it into the documentation.
"""

from __future__ import annotations

import json
import platform
import sys
import sysconfig

from argparse import ArgumentParser
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from itertools import repeat
from typing import TYPE_CHECKING

from turns import Cost, Loop, awaits, best_turns, compare, in_processes

from aura_context import (
    PlanContext,
    VarContext,
    carry,
    current_plan_name,
    plan_context,
)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping


BY_HAND = "@contextmanager"
ASYNC_BY_HAND = "@asynccontextmanager"
ASYNC = "async with plan_context"

# To the yardstick, on a build with optimisation: on CPython 3.14 and later, and before.
TARGETS = {
    "with plan_context": (1.10, 1.20),
    "with PlanContext": (1.06, 1.17),
    "a shared instance": (0.90, 0.97),
    ASYNC: (0.95, 1.07),
}
TOLERANCE = 1.10

current_tenant: ContextVar[str | None] = ContextVar("current_tenant", default=None)


class TenantContext(VarContext[str | None]):
    """A context of one's own."""

    var = current_tenant


@contextmanager
def by_hand(name: str) -> Generator[None]:
    """Do what everybody writes."""
    token = current_plan_name.set(name)
    try:
        yield
    finally:
        current_plan_name.reset(token)


@asynccontextmanager
async def async_by_hand(name: str) -> AsyncGenerator[None]:
    """Do what everybody writes."""
    token = current_plan_name.set(name)
    try:
        yield
    finally:
        current_plan_name.reset(token)


shared = plan_context("plan")


def inline(steps: int) -> None:
    """Bind without a context manager: nothing can be cheaper."""
    for _ in repeat(None, steps):
        token = current_plan_name.set("plan")
        try:
            pass
        finally:
            current_plan_name.reset(token)


def with_by_hand(steps: int) -> None:
    """Bind as everybody does."""
    for _ in repeat(None, steps):
        with by_hand("plan"):
            pass


def with_plan_context(steps: int) -> None:
    """Bind as our README does."""
    for _ in repeat(None, steps):
        with plan_context("plan"):
            pass


def with_class(steps: int) -> None:
    """Do without the factory."""
    for _ in repeat(None, steps):
        with PlanContext("plan"):
            pass


def with_shared(steps: int) -> None:
    """Make the context once."""
    for _ in repeat(None, steps):
        with shared:
            pass


def with_tenant(steps: int) -> None:
    """Bind a variable of one's own."""
    for _ in repeat(None, steps):
        with TenantContext("tenant"):
            pass


def same_name(steps: int) -> None:
    """Bind what is bound already."""
    with shared:
        with_plan_context(steps)


def one_down(steps: int) -> None:
    """Bind inside a block of another name."""
    with plan_context("outer"):
        with_plan_context(steps)


def one_down_by_hand(steps: int) -> None:
    """Bind inside a block of another name, as everybody does."""
    with by_hand("outer"):
        with_by_hand(steps)


def three_deep(steps: int) -> None:
    """Open three blocks, one inside the other; a step is one of them."""
    for _ in repeat(None, steps // 3):
        with plan_context("a"), plan_context("b"), plan_context("c"):
            pass


async def async_with_by_hand(steps: int) -> None:
    """Bind as everybody does."""
    for _ in repeat(None, steps):
        async with async_by_hand("plan"):
            pass


async def async_with_plan_context(steps: int) -> None:
    """Bind as our README does."""
    for _ in repeat(None, steps):
        async with plan_context("plan"):
            pass


async def async_with_shared(steps: int) -> None:
    """Make the context once."""
    for _ in repeat(None, steps):
        async with shared:
            pass


@shared
def function() -> None:
    """Do nothing."""


@shared
async def coroutine() -> None:
    """Do nothing."""


@shared
def generator() -> Generator[None]:
    """Do nothing at each step."""
    while True:
        yield


@shared
async def async_generator() -> AsyncGenerator[None]:
    """Do nothing at each step."""
    while True:
        yield


def call_function(steps: int) -> None:
    """Call what is decorated."""
    for _ in repeat(None, steps):
        function()


def call_carried(steps: int) -> None:
    """Call what is carried."""
    carried = carry(with_nothing)
    for _ in repeat(None, steps):
        carried()


def with_nothing() -> None:
    """Do nothing."""


async def await_coroutine(steps: int) -> None:
    """Await what is decorated."""
    for _ in repeat(None, steps):
        await coroutine()


def take_steps(steps: int) -> None:
    """Iterate over what is decorated."""
    for _ in zip(repeat(None, steps), generator(), strict=False):
        pass


async def take_async_steps(steps: int) -> None:
    """Iterate over what is decorated."""
    iterator = async_generator()
    for _ in repeat(None, steps):
        await anext(iterator)
    await iterator.aclose()


def read(steps: int) -> None:
    """Read the variable."""
    for _ in repeat(None, steps):
        current_plan_name.get()


def read_ours(steps: int) -> None:
    """Read the variable inside a block."""
    with shared:
        read(steps)


def read_raw(steps: int) -> None:
    """Read the variable where it is set raw."""
    token = current_plan_name.set("plan")
    read(steps)
    current_plan_name.reset(token)


BARE: Mapping[str, Loop] = {
    "set, try, finally, reset": inline,
    BY_HAND: with_by_hand,
    "@contextmanager, one level down": one_down_by_hand,
    ASYNC_BY_HAND: awaits(async_with_by_hand),
}
OURS: Mapping[str, Loop] = {
    "with plan_context": with_plan_context,
    "with PlanContext": with_class,
    "a shared instance": with_shared,
    "the same name again": same_name,
    "one level down": one_down,
    "each of three, nested": three_deep,
    "a VarContext of one's own": with_tenant,
    ASYNC: awaits(async_with_plan_context),
    "async with a shared instance": awaits(async_with_shared),
}
CALLS: Mapping[str, Loop] = {
    "a decorated function": call_function,
    "a decorated coroutine": awaits(await_coroutine),
    "a step of a decorated generator": take_steps,
    "a step of a decorated async generator": awaits(take_async_steps),
    "carry(f)()": call_carried,
    "reading, set raw": read_raw,
    "reading, in a block": read_ours,
}


def yardstick(name: str) -> str:
    """Return which row a row is compared with."""
    if name.startswith("reading"):
        return "reading, set raw"
    is_async = "async" in name or "coroutine" in name
    return ASYNC_BY_HAND if is_async else BY_HAND


def measure(*, quick: bool) -> dict[str, Cost]:
    """Run the processes."""
    arguments = ["--quick"] if quick else []
    results = in_processes(__file__, ["--turns", *arguments], 3 if quick else 7)
    return compare(results, yardstick)


def print_turns(*, quick: bool) -> None:
    """Be one of the processes: print what has been measured, for the one that asks."""
    loops = {**BARE, **OURS, **CALLS}
    if not quick:
        from peers import PEERS  # noqa: PLC0415 - not installed where it is quick

        loops |= PEERS
    print(json.dumps(best_turns(loops, turns=40 if quick else 80)))


def missed(costs: Mapping[str, Cost]) -> list[str]:
    """Return a line for each target that is missed by more than is tolerated."""
    column = 0 if sys.version_info >= (3, 14) else 1
    return [
        f"{name}: {costs[name].ratio:.2f}, where {target[column]:.2f} is the target"
        for name, target in TARGETS.items()
        if costs[name].ratio > target[column] * TOLERANCE
    ]


def is_optimised() -> bool:
    """Return whether this Python was built with optimisation, as users have it."""
    # Debian's own leave no trace of their profile but where they are installed.
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or "'--prefix=/usr'" in arguments


def main() -> int:
    """Print the table, check the targets, write the page."""
    parser = ArgumentParser(description=__doc__)
    for flag in ("check", "quick", "write", "turns"):
        parser.add_argument(f"--{flag}", action="store_true")
    asked = parser.parse_args()
    if asked.turns:
        print_turns(quick=asked.quick)
        return 0
    if asked.write and not is_optimised():
        parser.error("this Python was built without optimisation: use another one")
    costs = measure(quick=asked.quick)
    print(f"{'':40}{'ns':>7}{'ratio':>8}{'of all runs':>16}")
    for name, cost in costs.items():
        spread = f"{cost.lowest:.2f}-{cost.highest:.2f}"
        print(f"{name:40}{cost.nanoseconds:7.0f}{cost.ratio:8.2f}{spread:>16}")
    if asked.write:
        from report import draw_blocks, write_table  # noqa: PLC0415 - wants matplotlib

        blocks = {name: cost for name, cost in costs.items() if name not in CALLS}
        draw_blocks(blocks, [*OURS])
        write_table(costs, f"CPython {platform.python_version()}, {platform.system()}")
    lines = missed(costs)
    for line in lines:
        print("MISSED", line)
    return 1 if asked.check and lines else 0


if __name__ == "__main__":
    sys.exit(main())
