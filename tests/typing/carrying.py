"""What type checkers are told of Snapshots and executors; as in ``api.py``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import assert_type

from aura_context import (
    ContextExecutor,
    ContextThreadPoolExecutor,
    PlanContext,
    Snapshot,
    VarContext,
    carry,
    plan_context,
)


current_tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


class TenantContext(VarContext[str | None]):
    var = current_tenant
    carried = False


def plain(number: int, *, text: str = "") -> str:
    return text * number


async def coroutine(number: int) -> str:
    return "" * number


def generator(number: int) -> Generator[int, str, bytes]:
    yield number
    return b""


async def async_generator(number: int) -> AsyncGenerator[int, str]:
    yield number


class Service:
    def method(self, number: int) -> str:
        return "" * number


def snapshots() -> None:
    assert_type(Snapshot.capture(), Snapshot)
    assert_type(Snapshot(), Snapshot)
    snapshot = Snapshot(plan_context("p"), TenantContext(None))
    assert_type(len(snapshot), int)
    assert_type(PlanContext in snapshot, bool)
    assert_type(snapshot.run(plain, 1, text="t"), str)
    with snapshot as entered:
        assert_type(entered, Snapshot)

    Snapshot("p")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    snapshot.run(plain, "1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    snapshot.run(plain)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    snapshot[PlanContext] = "q"  # type: ignore[index] # pyright: ignore[reportIndexIssue]


async def async_snapshots() -> None:
    async with Snapshot.capture() as snapshot:
        assert_type(snapshot, Snapshot)
    assert_type(await snapshot.run(coroutine, 1), str)
    assert_type(await carry(coroutine)(1), str)


def blocks_let_exceptions_pass() -> int:
    with Snapshot():
        return 1


def carried() -> None:
    assert_type(carry(plain)(1, text="t"), str)
    assert_type(carry(generator)(1), Generator[int, str, bytes])
    assert_type(carry(async_generator)(1), AsyncGenerator[int, str])
    assert_type(carry(Service().method)(1), str)
    assert_type(Snapshot()(plain)(1), str)

    carry(plain)("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    carry("p")  # type: ignore[type-var] # pyright: ignore[reportArgumentType]


def executors() -> None:
    pool = ContextThreadPoolExecutor(2, thread_name_prefix="worker")
    threads: ThreadPoolExecutor = pool
    wrapped: Executor = ContextExecutor(threads)
    for executor in (pool, ContextExecutor(wrapped)):
        assert_type(executor.submit(plain, 1, text="t"), Future[str])
        assert_type(executor.map(plain, [1, 2]), Iterator[str])
        executor.map(plain, [1, 2], timeout=1, chunksize=2)
        executor.submit(plain, "1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        executor.submit(plain)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    wrapped.shutdown(wait=False, cancel_futures=True)

    ContextExecutor(plain)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def takes_a_callback(function: Callable[[int], str]) -> None:
    takes_a_callback(carry(plain))
    takes_a_callback(function)
