"""Rules S4 to S6: executors that carry, in threads and in processes."""

from __future__ import annotations

import asyncio
import gc
import itertools
import operator
import os
import pickle
import subprocess
import sys
import threading
import weakref

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from aura_context import (
    ContextExecutor,
    ContextThreadPoolExecutor,
    Snapshot,
    VarContext,
    active_contexts,
    carry,
    current_plan_name,
    plan_context,
)
from aura_context._groups import stay_behind

from .contexts import (
    UNSET,
    Boom,
    RunContext,
    TenantContext,
    Thing,
    abandon,
    current_run,
    held,
    holding,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


ROOT = Path(__file__).parents[1]
PROGRAMS = [
    ROOT / "tests" / "programs" / "processes.py",
    ROOT / "docs" / "examples" / "processes.py",
]

current_other: ContextVar[str] = ContextVar("current_other", default="other")


class Pool:
    """An executor of ours with one worker, and that worker without us."""

    def __init__(self, executor: Executor, bare: Callable[..., Future[Any]]) -> None:
        self.executor = executor
        self.bare = bare
        # The worker starts here, where nothing is bound that it could inherit.
        assert self.look() == CLEAN

    def look(self) -> object:
        """Return what the worker sees when no job of ours runs."""

        def look() -> object:
            return held(), held(current_run), held(current_other), active_contexts()

        return self.bare(look).result()


CLEAN = (UNSET, UNSET, UNSET, ())


@pytest.fixture(params=[ContextExecutor, ContextThreadPoolExecutor])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    if request.param is ContextExecutor:
        inner = ThreadPoolExecutor(1)
        with ContextExecutor(inner) as executor:
            yield Pool(executor, inner.submit)
    else:
        with ContextThreadPoolExecutor(1) as threads:

            def bare(function: Callable[..., Any]) -> Future[Any]:
                return ThreadPoolExecutor.submit(threads, function)

            yield Pool(threads, bare)


def look(*_: object) -> tuple[str | None, int]:
    return current_plan_name.get(), current_run.get()


def look_and_return(thing: object) -> object:
    return thing, look()


def echo(*args: Any, **kwargs: Any) -> object:
    return args, kwargs


class TestS5Submit:
    def test_captures_in_the_caller_at_the_moment_of_the_call(self, pool: Pool) -> None:
        go = threading.Event()
        pool.bare(go.wait)  # keeps the worker busy until all blocks are left
        with plan_context("p"), RunContext(7):
            first = pool.executor.submit(look)
            with plan_context("q"):
                second = pool.executor.submit(look)
        third = pool.executor.submit(look)
        with plan_context("later"):
            go.set()
            assert first.result() == ("p", 7)
            assert second.result() == ("q", 7)
            assert third.result() == (None, 0)

    def test_raw_values_too(self, pool: Pool) -> None:
        token = current_plan_name.set("")
        future = pool.executor.submit(look)
        current_plan_name.reset(token)
        assert future.result() == ("", 0)

    def test_takes_arguments_of_any_name(self, pool: Pool) -> None:
        names = ("self", "fn", "function", "snapshot", "args", "kwargs")
        kwargs: dict[str, Any] = {name: name for name in names}
        future = pool.executor.submit(echo, 1, 2, **kwargs)
        assert future.result() == ((1, 2), kwargs)

    @pytest.mark.parametrize("function", [int, len, Boom])
    def test_runs_classes_and_builtins(self, pool: Pool, function: Any) -> None:
        expected = function("7")
        assert repr(pool.executor.submit(function, "7").result()) == repr(expected)

    def test_a_shared_worker_serves_many_plans_in_turn(self, pool: Pool) -> None:
        futures: list[Future[tuple[str | None, int]]] = []
        for number in range(50):
            with plan_context(f"plan {number % 7}"), RunContext(number):
                futures.append(pool.executor.submit(look))
        expected = [(f"plan {number % 7}", number) for number in range(50)]
        assert [future.result() for future in futures] == expected

    def test_nested(self) -> None:
        """A job submits jobs, under its own plan or under another."""
        with ContextThreadPoolExecutor(3) as executor:

            def outer() -> tuple[object, ...]:
                own = executor.submit(look)
                with plan_context("inner"):
                    other = executor.submit(look)
                    nested = executor.submit(lambda: executor.submit(look).result())
                return look(), own.result(), other.result(), nested.result()

            with plan_context("p"), RunContext(7):
                future = executor.submit(outer)
            inner = ("inner", 7)
            assert future.result() == (("p", 7), ("p", 7), inner, inner)

    def test_a_carried_function_keeps_what_it_was_made_under(self, pool: Pool) -> None:
        with plan_context("p"):
            carried = carry(look)
        with plan_context("q"):
            assert pool.executor.submit(carried).result() == ("p", 0)


class TestS5Map:
    def test_captures_in_the_caller_at_the_moment_of_the_call(self, pool: Pool) -> None:
        with plan_context("p"):
            results = pool.executor.map(look, range(3))
        with plan_context("later"):
            assert list(results) == [("p", 0)] * 3

    def test_consumed_lazily(self, pool: Pool) -> None:
        with plan_context("p"):
            results = pool.executor.map(look_and_return, range(3))
        for number in range(3):
            with plan_context(f"consumer {number}"):
                assert next(results) == (number, ("p", 0))
        assert list(results) == []

    def test_arguments_that_open_blocks_while_they_are_made(self, pool: Pool) -> None:
        def arguments() -> Generator[int, None, None]:
            with plan_context("arguments"):
                yield from range(3)

        with plan_context("p"):
            results = pool.executor.map(look, arguments())
        assert list(results) == [("p", 0)] * 3

    def test_of_several_iterables(self, pool: Pool) -> None:
        results = pool.executor.map(operator.mul, range(4), itertools.count(1))
        assert list(results) == [0, 2, 6, 12]

    def test_options_are_handed_on(self, pool: Pool) -> None:
        go = threading.Event()
        with pytest.raises(TimeoutError):
            next(pool.executor.map(go.wait, [None], timeout=0))
        go.set()
        assert list(pool.executor.map(abs, [-1], chunksize=5)) == [1]
        nonsense: Any = {"nonsense": 1}
        with pytest.raises(TypeError):
            pool.executor.map(abs, [-1], **nonsense)

    def test_exceptions_pass(self, pool: Pool) -> None:
        with pytest.raises(ZeroDivisionError):
            list(pool.executor.map(divmod, [1, 1], [1, 0]))


class TestS5Clean:
    @pytest.mark.parametrize("fails", [False, True])
    def test_whatever_is_set_raw_in_the_job(self, pool: Pool, fails: bool) -> None:
        def job() -> None:
            current_plan_name.set("raw")
            current_run.set(7)
            current_other.set("raw")
            if fails:
                raise Boom

        with plan_context("p"):
            future = pool.executor.submit(job)
        assert isinstance(future.exception(), Boom if fails else type(None))
        assert pool.look() == CLEAN
        assert pool.executor.submit(look).result() == (None, 0)

    def test_a_block_that_the_job_leaves_open(self, pool: Pool) -> None:
        """A generator that it returns, for example."""

        def job() -> Generator[None, None, None]:
            generator = holding("left open")
            next(generator)
            assert current_plan_name.get() == "left open"
            return generator

        with plan_context("p"):
            generator = pool.executor.submit(job).result()
        assert pool.look() == CLEAN
        with pytest.warns(ResourceWarning, match="was left where it has no open block"):
            generator.close()

    def test_what_the_worker_has_bound_stays_and_no_job_sees_it(self) -> None:
        def initialize() -> None:
            current_plan_name.set("worker")
            current_other.set("worker")

        def job() -> object:
            values = (*look(), current_other.get())
            current_plan_name.set("raw")
            return values

        with ContextThreadPoolExecutor(1, initializer=initialize) as executor:
            for plan_name in ("p", None):
                with plan_context(plan_name):
                    future = executor.submit(job)
                # Other variables are the worker's own, and in sight.
                assert future.result() == (plan_name, 0, "worker")
                bare: Future[object] = ThreadPoolExecutor.submit(executor, held)
                assert bare.result() == "worker"
            assert executor.submit(look).result() == (None, 0)

    def test_what_nothing_has_set_stays_unset(self, pool: Pool) -> None:
        assert pool.executor.submit(held).result() == UNSET
        assert not pool.executor.submit(Snapshot.capture).result()

    def test_what_the_worker_has_set_alone_reads_as_its_default(self) -> None:
        def initialize() -> None:
            CarriedContext.var.set("worker")

        with ContextThreadPoolExecutor(1, initializer=initialize) as executor:
            assert executor.submit(CarriedContext.current).result() == "default"

    def test_a_job_does_not_keep_the_callers_values(self, pool: Pool) -> None:
        def submit() -> weakref.ref[Thing]:
            value: Any = Thing()
            with TenantContext(value):
                pool.executor.submit(look).result()
            return weakref.ref(value)

        reference = submit()
        pool.look()  # by now the worker has dropped the job before
        gc.collect()
        assert reference() is None


class CarriedContext(VarContext[str]):
    """Binds what has a default that is not None."""

    var: ClassVar[ContextVar[str]] = ContextVar("current_carried", default="default")


class StaysContext(VarContext[str]):
    """Binds what no job may see."""

    var: ClassVar[ContextVar[str]] = ContextVar("current_stays", default="default")
    carried = False


@pytest.fixture(params=[ContextExecutor, ContextThreadPoolExecutor])
def copying(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param is ContextExecutor:
        with ContextExecutor(ThreadPoolExecutor(2), copy_context=True) as executor:
            yield executor
    else:
        with ContextThreadPoolExecutor(2, copy_context=True) as executor:
            yield executor


class TestS6CopyContext:
    def test_takes_every_variable_along(self, copying: Executor) -> None:
        def by_map(end: str) -> object:
            return look(), current_other.get() + end

        current_other.set("span")
        with plan_context("p"), RunContext(7):
            job = copying.submit(lambda: (look(), current_other.get()))
            results = copying.map(by_map, "!?")
            current_other.set("later")
        assert job.result() == (("p", 7), "span")
        assert list(results) == [(("p", 7), "span!"), (("p", 7), "span?")]

    def test_what_is_not_carried_stays(self, copying: Executor) -> None:
        def job() -> object:
            return StaysContext.var.get(), active_contexts()

        with plan_context("a") as a, StaysContext("s"), RunContext(1) as run:
            assert copying.submit(job).result() == ("default", (a, run))
            assert (StaysContext.current(), len(active_contexts())) == ("s", 3)
        with Snapshot(plan_context("a")) as snapshot, StaysContext("s"):
            assert copying.submit(job).result() == ("default", (snapshot,))
        StaysContext.var.set("raw")
        assert copying.submit(job).result() == ("default", ())

    def test_a_block_that_the_caller_leaves_is_not_listed_any_more(
        self, copying: Executor
    ) -> None:
        left = threading.Event()

        def job() -> object:
            before = active_contexts()
            left.wait()
            return before, active_contexts(), current_plan_name.get()

        with StaysContext("s"), RunContext(1) as run:
            with plan_context("a") as a:
                started = copying.submit(job)
                while not started.running():
                    pass
                assert a is not None
            left.set()
            result: Any = started.result()
            before, after, name = result
        assert after == (run,)
        assert before in ((run, a), (run,))
        assert name == "a"

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_a_snapshot_that_is_inherited_can_be_left(self, copying: Executor) -> None:
        def job(snapshot: Snapshot) -> object:
            generator = holding("lost")
            next(generator)
            abandon(generator)
            with plan_context("next"):
                listed = active_contexts()
            snapshot.__exit__(None, None, None)
            return listed[0] is snapshot, current_plan_name.get(), active_contexts()

        with Snapshot(plan_context("a")) as snapshot, StaysContext("s"):
            assert copying.submit(job, snapshot).result() == (True, None, ())
            assert held() == "a"

    def test_jobs_that_start_jobs_do_not_grow(self) -> None:
        with plan_context("p") as block:
            context = copy_context()
            for number in range(2_000):
                context = context.run(copy_context)
                staying = StaysContext(str(number))
                context.run(staying.__enter__)
                context = context.run(copy_context)
                context.run(stay_behind)
            assert context.run(active_contexts) == (block,)

    def test_a_job_leaves_nothing_behind(self, copying: Executor) -> None:
        with plan_context("p") as block:
            for _ in range(3):
                copying.submit(current_other.set, "job").result()
                copying.submit(TenantContext("t").__enter__).result()
            assert active_contexts() == (block,)
            assert current_other.get() == "other"
            assert copying.submit(held, TenantContext.var).result() == UNSET

    def test_what_is_not_carried_and_not_set_stays_unset(
        self, copying: Executor
    ) -> None:
        assert copying.submit(held, StaysContext.var).result() == UNSET

    def test_takes_arguments_of_any_name(self, copying: Executor) -> None:
        future = copying.submit(echo, 1, fn=2, self=3)
        assert future.result() == ((1,), {"fn": 2, "self": 3})

    @pytest.mark.parametrize("wrap", [ContextExecutor, ContextThreadPoolExecutor])
    def test_only_if_asked_for(self, wrap: Any) -> None:
        of_pool: Any = ThreadPoolExecutor(1) if wrap is ContextExecutor else 1
        with wrap(of_pool) as executor:
            executor.submit(int).result()  # the worker starts before anything is set
            current_other.set("span")
            assert executor.submit(current_other.get).result() == "other"

    def test_map_takes_the_same_along_to_all_jobs(self, copying: Executor) -> None:
        current_other.set("span")
        barrier = threading.Barrier(2)

        def job(number: int) -> object:
            barrier.wait()  # both at once, each in a copy of its own
            current_other.set(f"{current_other.get()} {number}")
            return current_other.get()

        assert [*copying.map(job, range(2))] == ["span 0", "span 1"]

    @pytest.mark.skipif(
        sys.version_info < (3, 14), reason="all jobs are submitted by the call itself"
    )
    def test_map_takes_the_same_along_to_jobs_that_it_submits_later(
        self, copying: Executor
    ) -> None:
        def job(_: int) -> str:
            return current_other.get()

        map_later: Any = copying.map
        current_other.set("span")
        results = map_later(job, range(3), buffersize=1)
        current_other.set("later")
        assert [*results] == ["span", "span", "span"]

    def test_exceptions_pass(self, copying: Executor) -> None:
        def job() -> None:
            raise Boom

        with pytest.raises(Boom):
            copying.submit(job).result()

    def test_a_process_pool_says_that_it_cannot(self) -> None:
        class Pickling(Executor):
            """Pickles jobs, as a process pool does."""

            def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
                pickle.dumps((fn, args, kwargs))
                raise AssertionError

        with pytest.raises(TypeError) as caught:
            ContextExecutor(Pickling(), copy_context=True).submit(len, "")
        assert str(caught.value) == (
            "copy_context=True works within one process: a Context cannot be pickled. "
            "Without it, the executor takes along what VarContext classes declare"
        )


class TestS5Executor:
    def test_shutdown_is_the_executors(self) -> None:
        calls: list[object] = []

        class Cluster(Executor):
            """As those of Dask and loky, which do not know cancel_futures."""

            def shutdown(self, wait: bool = True) -> None:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride] # noqa: FBT002
                calls.append(wait)

        with ContextExecutor(Cluster()) as executor:
            pass
        executor.shutdown(wait=False)
        executor.shutdown()
        assert calls == [True, False, True]
        inner = ThreadPoolExecutor()
        ContextExecutor(inner).shutdown(cancel_futures=True)
        with pytest.raises(RuntimeError, match="after shutdown"):
            inner.submit(look)

    def test_shutdown_cancels_what_has_not_begun(self) -> None:
        executor = ContextExecutor(ThreadPoolExecutor(1))
        begun, ended = threading.Event(), threading.Event()

        def job() -> None:
            begun.set()
            ended.wait()

        executor.submit(job)
        begun.wait()
        waiting = executor.submit(look)
        executor.shutdown(wait=False, cancel_futures=True)
        ended.set()
        assert waiting.cancelled()

    def test_a_thread_pool_takes_the_arguments_of_its_base(self) -> None:
        with ContextThreadPoolExecutor(1, "named") as executor:
            name = executor.submit(lambda: threading.current_thread().name).result()
        assert name == "named_0"

    @pytest.mark.parametrize("given", [ThreadPoolExecutor, 3])
    def test_it_says_what_it_wraps(self, given: Any) -> None:
        shown = {3: "an object of type int"}.get(given, "the class ThreadPoolExecutor")
        with pytest.raises(TypeError) as caught:
            ContextExecutor(given)
        assert str(caught.value) == (
            "ContextExecutor wraps an executor, such as ThreadPoolExecutor(4); got "
            f"{shown}. ContextThreadPoolExecutor(4) is a thread pool"
        )

    def test_it_says_what_a_job_is(self, pool: Pool) -> None:
        given: Any = 3
        with pytest.raises(TypeError) as caught:
            pool.executor.submit(given)
        said = "a job must be callable, got an object of type int"
        assert str(caught.value) == said


class TestAsyncS5DefaultExecutor:
    def test_run_in_executor(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ContextThreadPoolExecutor(2))

            async def run(number: int) -> None:
                async with plan_context(f"plan {number}"), RunContext(number):
                    future = loop.run_in_executor(None, look)
                assert await future == (f"plan {number}", number)
                assert await loop.run_in_executor(None, look) == (None, 0)
                assert await asyncio.to_thread(look) == (None, 0)

            await asyncio.gather(*(run(number) for number in range(20)))

        asyncio.run(main())

    @pytest.mark.parametrize("carrying", [True, False])
    def test_an_async_caller_a_sync_handler_and_back_to_the_loop(
        self, carrying: bool
    ) -> None:
        """What frameworks get wrong: a bare `run_in_executor` between the two."""

        async def on_the_loop() -> str | None:
            return current_plan_name.get()

        async def main() -> list[str | None]:
            loop = asyncio.get_running_loop()
            if carrying:
                loop.set_default_executor(ContextThreadPoolExecutor(1))
            else:
                # Without Python's own help, which some builds give (3.14).
                loop.set_default_executor(ThreadPoolExecutor(1))
                with Snapshot():
                    await loop.run_in_executor(None, look)  # starts the thread

            def handler() -> list[str | None]:
                back = asyncio.run_coroutine_threadsafe(on_the_loop(), loop)
                return [current_plan_name.get(), back.result()]

            async with plan_context("p"):
                seen = await loop.run_in_executor(None, handler)
                return [current_plan_name.get(), *seen]

        lost = None if not carrying else "p"
        assert asyncio.run(main()) == ["p", lost, lost]

    def test_call_soon_threadsafe_from_a_job(self) -> None:
        async def main() -> str | None:
            loop = asyncio.get_running_loop()
            result: asyncio.Future[str | None] = loop.create_future()

            def callback() -> None:
                result.set_result(current_plan_name.get())

            with ContextThreadPoolExecutor(1) as executor, plan_context("p"):
                executor.submit(loop.call_soon_threadsafe, callback)
            return await result

        assert asyncio.run(main()) == "p"

    def test_callbacks_of_a_job(self) -> None:
        """They run in whichever thread is there; only carried ones have the plan."""
        results: list[object] = []
        go = threading.Event()
        with ContextThreadPoolExecutor(1) as executor:
            executor.submit(held).result()  # the worker starts, and inherits nothing
            with plan_context("p"):
                future = executor.submit(go.wait)
                future.add_done_callback(lambda _: results.append(held()))
                future.add_done_callback(carry(lambda _: results.append(held())))
            go.set()
        assert results == [UNSET, "p"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program as a user does; a warning is an error."""
    return subprocess.run(  # noqa: S603 - our own program
        # The second is from CPython 3.15 itself: its linecache asks for a __spec__ that
        # __main__ has not, where a spawned process prints a traceback.
        [
            *(sys.executable, "-W", "error"),
            *("-W", "ignore:Module globals is missing:DeprecationWarning"),
            *arguments,
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


class TestS4Processes:
    """In programs of their own: a fork wants a process with one thread."""

    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    @pytest.mark.parametrize("program", PROGRAMS, ids=["test", "example"])
    def test_program(self, program: Path, method: str) -> None:
        done = run(program, method)
        assert (done.returncode, done.stderr) == (0, "")
