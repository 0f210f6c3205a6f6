"""What is carried to the worker processes of a pool; run as a program by the tests.

A program of its own, because a fork wants a process with one thread; and because the
context below is then one that `__main__` defines.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import sys

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from functools import partial
from typing import Any

from aura_context import (
    ContextExecutor,
    Snapshot,
    VarContext,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)


current_region: ContextVar[str | None] = ContextVar("current_region", default=None)
current_secret: ContextVar[str | None] = ContextVar("current_secret", default=None)

Seen = tuple[str | None, str | None, str | None]
CLEAN: Seen = (None, None, None)


class RegionContext(VarContext[str | None]):
    """A context that `__main__` defines."""

    var = current_region


class SecretContext(VarContext[str | None]):
    """A context that stays."""

    var = current_secret
    carried = False


def look(*_: object) -> Seen:
    """Return what this process sees."""
    return current_plan_name.get(), current_region.get(), current_secret.get()


async def look_async() -> Seen:
    """Same, after an await."""
    await asyncio.sleep(0)
    return look()


def run_async(snapshot_of: Snapshot) -> tuple[Seen, Seen]:
    """Return what is seen in a snapshot that has travelled as an argument."""
    return snapshot_of.run(look), asyncio.run(snapshot_of(look_async)())


def spoil(fail: bool) -> int:
    """Set all raw, leave a block open, and perhaps fail; return the process's id."""
    for var in (current_plan_name, current_region, current_secret):
        var.set("spoilt")
    kept.append(plan_context("left open").__enter__())
    if fail:
        raise ZeroDivisionError
    return os.getpid()


kept: list[object] = []


def die() -> None:
    """End the worker without a word, as the kernel does when memory is short."""
    os._exit(1)


def carries(pool: ProcessPoolExecutor) -> None:
    """Show what is carried, each way of handing a job over."""
    executor = ContextExecutor(pool)
    with plan_context("nightly"), RegionContext("eu"), SecretContext("s"):
        submitted = executor.submit(look)
        mapped = executor.map(look, range(5), chunksize=2)
        carried = carry(look)
        captured = Snapshot.capture()
    expected: Seen = ("nightly", "eu", None)
    assert submitted.result() == expected
    assert [*mapped] == [expected] * 5
    assert pool.submit(carried).result() == expected
    assert pool.submit(partial(carried, 1), 2).result() == expected
    assert pool.submit(captured.run, look).result() == expected
    assert pool.submit(run_async, captured).result() == (expected, expected)
    # The worker was started inside a block, which is not its jobs' business.
    assert executor.submit(look).result() == CLEAN
    with Snapshot():
        assert [*executor.map(look, range(2))] == [CLEAN] * 2


def stays_clean(pool: ProcessPoolExecutor) -> None:
    """Show that a worker is as clean after a job as before it."""
    executor = ContextExecutor(pool)
    before = pool.submit(look).result()
    with plan_context("nightly"):
        worker = executor.submit(spoil, fail=False).result()
        error = executor.submit(spoil, fail=True).exception()
    assert isinstance(error, ZeroDivisionError)
    assert worker != os.getpid()
    assert pool.submit(os.getpid).result() == worker  # there is but one
    assert pool.submit(look).result() == before
    assert pool.submit(active_contexts_there).result() == 0


def active_contexts_there() -> int:
    """Return how many blocks are open beyond those that a fork has inherited."""
    contexts: Any = active_contexts()
    return sum(context.value != "started in" for context in contexts)


def refuses_what_cannot_travel(pool: ProcessPoolExecutor) -> None:
    """Show that a context in a local scope fails with pickle's own error."""

    class LocalContext(VarContext[int]):
        var = ContextVar("local", default=0)

    with LocalContext(1), ContextExecutor(pool) as executor:
        error = executor.submit(look).exception()
    assert isinstance(error, (AttributeError, pickle.PicklingError))
    assert "refuses_what_cannot_travel.<locals>.LocalContext" in str(error)


def main(method: str) -> None:
    """Show it all under one way to start processes."""
    context = multiprocessing.get_context(method)
    with (
        plan_context("started in"),
        RegionContext("started in"),
        ProcessPoolExecutor(1, context) as pool,
    ):
        pool.submit(look).result()
        with Snapshot():
            carries(pool)
            stays_clean(pool)

    with plan_context("parent"), ProcessPoolExecutor(1, context) as pool:
        future = ContextExecutor(pool).submit(die)
        assert isinstance(future.exception(), BrokenProcessPool)
        assert look() == ("parent", None, None)
    assert look() == CLEAN

    refuses_what_cannot_travel(ProcessPoolExecutor(1, context))
    assert look() == CLEAN
    assert active_contexts() == ()


if __name__ == "__main__":
    main(sys.argv[1])
