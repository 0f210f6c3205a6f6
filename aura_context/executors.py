"""Executors that carry what is bound in the caller to the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Generic, ParamSpec, TypeVar

from typing_extensions import override

from ._functions import describe
from ._groups import stay_behind
from ._variables import bind
from .snapshot import Snapshot


__all__ = ["ContextExecutor", "ContextThreadPoolExecutor"]

P = ParamSpec("P")
R = TypeVar("R")


class _Job(Generic[P, R]):
    """A function, and what to run it under in the worker."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.snapshot = Snapshot.capture()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it in a copy of the worker's Context, so that nothing it does stays.

        The copy is dropped, so no block is needed to restore it. What a job leaves
        open, as a suspended generator does, is dropped too.
        """
        result: R = copy_context().run(self._bind_and_call, args, kwargs)
        return result

    def _bind_and_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bind(self.snapshot)
        return self.function(*args, **kwargs)


class _JobInCopy(Generic[P, R]):
    """A function, and a copy of the caller's whole Context (S6)."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.context = copy_context()
        self.context.run(stay_behind)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # Jobs of one `map` run at once, and a Context runs one thing at a time.
        return self.context.copy().run(self.function, *args, **kwargs)

    def __reduce__(self) -> str:
        msg = (
            "copy_context=True works within one process: a Context cannot be pickled. "
            "Without it, the executor takes along what VarContext classes declare"
        )
        raise TypeError(msg)


def _job(function: Callable[P, R], *, copy_context: bool) -> Callable[P, R]:
    """Capture in the caller, now."""
    # Not all callers check types.
    if not callable(function):
        msg = f"a job must be callable, got {describe(function)}"
        raise TypeError(msg)
    return (_JobInCopy if copy_context else _Job)(function)


class ContextExecutor(Executor):
    """Wraps any executor: each job runs under what is bound where it is submitted.

    Values are captured in the caller, at the moment of the call. The worker is as clean
    after a job as before it.

    Args:
        executor: What runs the jobs: a thread or process pool, or a cluster's.
        copy_context: Whether each job runs in a copy of the caller's whole Context, as
            with :func:`asyncio.to_thread`, so that a tracer's span and a logger's keys
            are carried too. This works within one process only.

    Raises:
        TypeError: If that is no executor.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from aura_context import current_plan_name, plan_context
        >>> with ContextExecutor(ThreadPoolExecutor()) as executor:
        ...     with plan_context("nightly"):
        ...         future = executor.submit(current_plan_name.get)
        ...     future.result()
        'nightly'
    """

    def __init__(self, executor: Executor, *, copy_context: bool = False) -> None:
        # Distributed's executor is one without being a subclass.
        is_class = isinstance(executor, type)
        if is_class or not callable(getattr(executor, "submit", None)):
            msg = (
                "ContextExecutor wraps an executor, such as ThreadPoolExecutor(4); got "
                f"{describe(executor)}. ContextThreadPoolExecutor(4) is a thread pool"
            )
            raise TypeError(msg)
        self._executor = executor
        self._copy_context = copy_context

    @override
    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Same as the executor's, under what is bound here."""
        job = _job(fn, copy_context=self._copy_context)
        return self._executor.submit(job, *args, **kwargs)

    @override
    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], **options: Any
    ) -> Iterator[R]:
        """Same as the executor's, under what is bound here."""
        job = _job(fn, copy_context=self._copy_context)
        return self._executor.map(job, *iterables, **options)

    @override
    def shutdown(self, wait: bool = True, **options: Any) -> None:
        """Same as the executor's."""
        self._executor.shutdown(wait, **options)  # not all take cancel_futures


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A thread pool whose jobs run under what is bound where they are submitted.

    It suits ``loop.set_default_executor``, which insists on a `ThreadPoolExecutor`.
    Then ``loop.run_in_executor(None, ...)`` carries the plan.

    Args:
        copy_context: Whether each job runs in a copy of the caller's whole Context; see
            `ContextExecutor`. All other arguments are those of the base class.

    Example:
        >>> from aura_context import current_plan_name, plan_context
        >>> with ContextThreadPoolExecutor() as executor, plan_context("nightly"):
        ...     list(executor.map(lambda n: (n, current_plan_name.get()), range(2)))
        [(0, 'nightly'), (1, 'nightly')]
    """

    def __init__(self, *args: Any, copy_context: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._copy_context = copy_context

    @override
    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Same as the base class's, under what is bound here."""
        job = _job(fn, copy_context=self._copy_context)
        return super().submit(job, *args, **kwargs)

    @override
    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], **options: Any
    ) -> Iterator[R]:
        """Same as the base class's, under what is bound here."""
        # Here too: since Python 3.14 some of the jobs may be submitted later than now.
        job = _job(fn, copy_context=self._copy_context)
        return super().map(job, *iterables, **options)
