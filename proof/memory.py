"""What stays in memory after many blocks, and what threads do to each other."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import warnings

from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import typing_extensions

import aura_context

from aura_context import ForeignExitWarning, Snapshot, VarContext, carry, plan_context
from tables import Cell, Table, Zero


if TYPE_CHECKING:
    from collections.abc import Callable

STRESS = Path(__file__).parents[1] / "tests" / "programs" / "stress.py"
MOST = 100_000


class BoomError(Exception):
    """What a block raises."""


def block() -> None:
    with plan_context("plan"):
        pass


def foreign_exit() -> None:
    """Leave a block where it was never entered; it is abandoned then."""
    context = plan_context("plan").__enter__()
    Context().run(context.__exit__, None, None, None)


def exception() -> None:
    with suppress(BoomError), plan_context("outer"), plan_context("inner"):
        raise BoomError


def carried() -> None:
    with plan_context("plan"):
        function = carry(block)
    Context().run(function)


def declared() -> None:
    variable: ContextVar[int] = ContextVar("declared", default=0)
    context: Any = type("Declared", (VarContext,), {"var": variable})
    with context(1):
        Snapshot.capture()


class Generations:
    """Contexts, each a copy that was made inside a block of the one before."""

    def __init__(self) -> None:
        self.here = Context()

    def __call__(self) -> None:
        context = plan_context("plan")
        self.here.run(context.__enter__)
        child = self.here.run(copy_context)
        self.here.run(context.__exit__, None, None, None)
        self.here = child


def kept(function: Callable[[], None], times: int) -> tuple[Cell, ...]:
    """Return how many objects and bytes there are more after so many times."""

    def repeated(times: int) -> tuple[int, int]:
        for _ in range(times):
            function()
        gc.collect()
        return len(gc.get_objects()), tracemalloc.get_traced_memory()[0]

    repeated(times // 10)  # what is made once, is
    tracemalloc.start()
    repeated(100)
    objects, used = repeated(100)
    objects_after, used_after = repeated(times)
    tracemalloc.stop()
    # No object takes fewer than 16 bytes: less is the measurement's own.
    per_time = max(0, used_after - used) // times // 16 * 16
    return times, Zero(max(0, objects_after - objects)), Zero(per_time)


def threads(seconds: float) -> Table:
    """Run the stress program, on a free-threaded Python as well if there is one."""
    rows: dict[str, tuple[Cell, ...]] = {}
    # All that it needs is Python alone, so that of another one will do.
    needed = [
        str(Path(aura_context.__file__).parents[1]),
        str(Path(typing_extensions.__file__).parent),
    ]
    for name in (sys.executable, which("python3.14t") or which("python3.13t")):
        if name is None:
            continue
        done = subprocess.run(  # noqa: S603 - our own program
            [name, STRESS, str(seconds)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(needed)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout)
        turns = done.stdout.partition("{")[2].partition("}")[0]
        count = sum(int(each.partition(":")[2]) for each in turns.split(",") if each)
        rows["this Python" if name == sys.executable else Path(name).name] = (
            count,
            Zero(done.returncode),
        )
    return Table("Threads that share everything", ("turns", "failures"), rows)


def measure(seconds: float, *, peers: bool) -> list[Table]:
    del peers
    warnings.simplefilter("ignore", ForeignExitWarning)
    times = MOST if seconds > 30 else MOST // 10  # noqa: PLR2004
    functions: dict[str, Callable[[], None]] = {
        "blocks": block,
        "exits in another Context": foreign_exit,
        "exceptions": exception,
        "calls carried elsewhere": carried,
        "generations of Contexts": Generations(),
        "classes declared and dropped": declared,
    }
    rows = {
        title: Context().run(kept, function, times)
        for title, function in functions.items()
    }
    columns = ("times", "objects kept", "bytes kept, a time")
    return [Table("Memory", columns, rows), threads(seconds / 6)]
