"""Rule R12: the same scenarios on every runtime, with nothing known of any."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

from collections.abc import Callable, Generator
from typing import TypeAlias

import anyio
import pytest
import trio

from aura_context import active_contexts, current_plan_name, plan_context

from .contexts import UNSET, held, needs


# A worker is a generator: at each yield all workers wait for one another.
Worker: TypeAlias = Callable[[], Generator[None, None, None]]
Runtime: TypeAlias = Callable[[list[Worker]], None]


def in_threads(workers: list[Worker]) -> None:
    barrier = threading.Barrier(len(workers))

    def work(worker: Worker) -> None:
        for _ in worker():
            barrier.wait()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_greenlets(workers: list[Worker]) -> None:
    import gevent.event  # noqa: PLC0415 - not for free-threaded Pythons

    # gevent has no barrier: who comes last lets all go.
    waiting: list[gevent.event.Event] = []

    def work(worker: Worker) -> None:
        for _ in worker():
            mine = gevent.event.Event()
            waiting.append(mine)
            if len(waiting) == len(workers):
                for each in waiting:
                    each.set()
                waiting.clear()
            mine.wait()

    greenlets: list[gevent.Greenlet[..., None]] = [
        gevent.spawn(work, each) for each in workers
    ]
    gevent.joinall(greenlets, raise_error=True)


async def work_in_asyncio(workers: list[Worker]) -> None:
    barrier = asyncio.Barrier(len(workers))

    async def work(worker: Worker) -> None:
        for _ in worker():
            await barrier.wait()

    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(work(worker))


def in_asyncio(workers: list[Worker]) -> None:
    asyncio.run(work_in_asyncio(workers))


def in_uvloop(workers: list[Worker]) -> None:
    import uvloop  # noqa: PLC0415 - not for all free-threaded Pythons

    uvloop.run(work_in_asyncio(workers))


async def work_in_anyio(workers: list[Worker]) -> None:
    waiting: list[anyio.Event] = []

    async def work(worker: Worker) -> None:
        for _ in worker():
            mine = anyio.Event()
            waiting.append(mine)
            if len(waiting) == len(workers):
                for each in waiting:
                    each.set()
                waiting.clear()
            await mine.wait()

    async with anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(work, worker)


def in_anyio(workers: list[Worker]) -> None:
    anyio.run(work_in_anyio, workers)


def in_trio(workers: list[Worker]) -> None:
    trio.run(work_in_anyio, workers)


@pytest.fixture(
    params=[
        in_threads,
        pytest.param(in_greenlets, marks=needs("gevent")),
        in_asyncio,
        pytest.param(in_uvloop, marks=needs("uvloop")),
        in_anyio,
        in_trio,
    ],
    ids=lambda runtime: runtime.__name__,
)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    chosen: Runtime = request.param
    return chosen


class TestR12Runtimes:
    def test_workers_do_not_see_each_other(self, runtime: Runtime) -> None:
        ended: list[str] = []

        def worker(name: str) -> Worker:
            def work() -> Generator[None, None, None]:
                yield
                with plan_context(name) as context:
                    yield  # all are inside now
                    assert current_plan_name.get() == name
                    with plan_context(f"{name}.inner"):
                        yield
                        assert current_plan_name.get() == f"{name}.inner"
                    yield
                    assert active_contexts() == (context,)
                yield
                assert held() == UNSET
                ended.append(name)

            return work

        runtime([worker(f"plan {number}") for number in range(20)])
        assert len(ended) == 20

    def test_one_instance_shared_by_all(self, runtime: Runtime) -> None:
        shared = plan_context("shared")
        ended: list[None] = []

        def work() -> Generator[None, None, None]:
            with shared:
                yield
                with plan_context("inner"), shared:
                    yield
                    assert current_plan_name.get() == "shared"
                yield
                assert active_contexts() == (shared,)
            yield
            assert held() == UNSET
            ended.append(None)

        runtime([work] * 20)
        assert len(ended) == 20

    def test_left_out_of_order(self, runtime: Runtime) -> None:
        ended: list[None] = []

        def work() -> Generator[None, None, None]:
            first, second = plan_context("first"), plan_context("second")
            first.__enter__()
            yield
            second.__enter__()
            yield
            first.__exit__(None, None, None)
            yield
            assert current_plan_name.get() == "second"
            second.__exit__(None, None, None)
            yield
            assert held() == UNSET
            ended.append(None)

        runtime([work] * 20)
        assert len(ended) == 20

    def test_an_exception_leaves_nothing(self, runtime: Runtime) -> None:
        ended: list[None] = []

        def work() -> Generator[None, None, None]:
            try:
                with plan_context("p"):
                    yield
                    raise ZeroDivisionError  # noqa: TRY301 - is what is tested
            except ZeroDivisionError:
                yield
            assert held() == UNSET
            ended.append(None)

        runtime([work] * 20)
        assert len(ended) == 20


@needs("gevent")
class TestR12Monkey:
    def test_threads_patched_by_gevent(self) -> None:
        """In a process of its own, for what gevent patches stays patched."""
        program = """
from gevent import monkey; monkey.patch_all()
import threading, time
from aura_context import current_plan_name, plan_context
seen = []
def work(name):
    with plan_context(name):
        time.sleep(0)
        seen.append((name, current_plan_name.get()))
threads = [threading.Thread(target=work, args=(str(n),)) for n in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(seen) == 10 and all(a == b for a, b in seen), seen
assert current_plan_name.get() is None
"""
        subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own
