"""Share everything between threads for a while; fail if anything shows.

    python tests/programs/stress.py [seconds]

For free-threaded builds, where the threads really run at once; it runs on all others
too. Threads share instances, Snapshots, the stack that they start with, and the
classes that they declare, while one of them does nothing but collect garbage.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import threading
import time

from collections import Counter
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING

from aura_context import (
    Snapshot,
    VarContext,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator

WORKERS = 2  # of each kind
SHARED = [plan_context(f"shared {number}") for number in range(4)]
COUNTING = threading.Lock()
turns: Counter[str] = Counter()


class Count(VarContext[int]):
    """A second variable, so that a Snapshot has two."""

    var = ContextVar("count", default=0)


with plan_context("taken"), Count(7):
    SNAPSHOT = Snapshot.capture()


@SHARED[0]
def steps() -> Generator[str | None, None, None]:
    """Bind at each step."""
    for _ in range(4):
        yield current_plan_name.get()


def share_instances() -> None:
    """Nest instances that all the others are in as well, and leave out of order."""
    for outer in SHARED:
        for inner in SHARED:
            with outer, inner, outer:
                assert current_plan_name.get() == outer.value
                assert len(active_contexts()) == 3
            first, second = outer.__enter__(), inner.__enter__()
            first.__exit__(None, None, None)
            assert current_plan_name.get() == inner.value
            second.__exit__(None, None, None)
    assert current_plan_name.get() is None
    assert active_contexts() == ()


def share_snapshots() -> None:
    """Run under one Snapshot, and carry a function from block to block."""
    with SNAPSHOT:
        assert (current_plan_name.get(), Count.var.get()) == ("taken", 7)
    assert SNAPSHOT.run(current_plan_name.get) == "taken"
    with plan_context("here"):
        carried = carry(current_plan_name.get)
        assert [*steps()] == [SHARED[0].value] * 4
    assert carried() == "here"
    assert current_plan_name.get() is None


def share_stack() -> None:
    """Open a block, and have threads that inherit it work on and leave it."""
    with plan_context("parent") as parent:
        context = copy_context()

    def child() -> None:
        for shared in SHARED:
            with shared:
                assert current_plan_name.get() == shared.value
                assert parent not in active_contexts()
            assert current_plan_name.get() == "parent"

    run_all([lambda: context.copy().run(child)] * 3)
    assert current_plan_name.get() is None


def declare() -> None:
    """Declare a variable while the others take Snapshots of all that are declared."""
    variable: ContextVar[int] = ContextVar("declared", default=0)
    context = type("Declared", (VarContext,), {"var": variable})
    with context(1):
        snapshot = Snapshot.capture()
        assert variable.get() == 1
    assert variable.get() == 0
    assert snapshot.run(variable.get) == 1


def collect() -> None:
    """Collect what the others leave, in the middle of whatever they do."""
    gc.collect()


def run_all(functions: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own, in a Context of its own; raise what they do."""
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            copy_context().run(function)
        except BaseException as error:  # noqa: BLE001 - raised below, by the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def repeat(function: Callable[[], None], end: float) -> Callable[[], None]:
    """Return what calls it until the end, and counts."""

    def run() -> None:
        count = 0
        while time.monotonic() < end:
            function()
            count += 1
        with COUNTING:
            turns[function.__name__] += count

    return run


def main() -> int:
    """Run all kinds at once."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    end = time.monotonic() + seconds
    kinds = [share_instances, share_snapshots, share_stack] * WORKERS
    # One declares: a class declared again withdraws the one before.
    kinds += [declare, collect]
    run_all([repeat(each, end) for each in kinds])
    print(f"{len(kinds)} threads, {seconds:g} s: {dict(turns)}")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        is_on = getattr(sys, "_is_gil_enabled")()  # noqa: B009 - checkers at 3.11
        print(f"free-threaded, the GIL is {'on' if is_on else 'off'} at the end")
        return int(is_on)
    return 0


if __name__ == "__main__":
    sys.exit(main())
