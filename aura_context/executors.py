"""Executors that take what is bound in the caller along to the worker."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from typing_extensions import override

from ._variables import bind
from .snapshot import Snapshot


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


__all__ = ["ContextExecutor", "ContextThreadPoolExecutor"]

P = ParamSpec("P")
R = TypeVar("R")


def _run(
    snapshot: Snapshot, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Run a job in a copy of the worker's Context, so that nothing it does stays.

    The copy needs no restoring, so there is no block; and what a job leaves open, as
    a suspended generator does, is gone with it.
    """
    return copy_context().run(_bind_and_call, snapshot, function, args, kwargs)


def _bind_and_call(
    snapshot: Snapshot,
    function: Callable[..., R],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R:
    bind(snapshot)
    return function(*args, **kwargs)


class ContextExecutor(Executor):
    """Wraps any executor: each job runs under what is bound where it is submitted.

    The capture happens in the caller, at the moment of the call; the worker is as
    clean after a job as before it.

    Args:
        executor: What runs the jobs: a thread or process pool, or a cluster's.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from aura_context import current_plan_name, plan_context
        >>> with ContextExecutor(ThreadPoolExecutor()) as executor:
        ...     with plan_context("nightly"):
        ...         future = executor.submit(current_plan_name.get)
        ...     future.result()
        'nightly'

    .. versionadded:: 0.1.0
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @override
    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Same as the executor's, under what is bound here."""
        return self._executor.submit(_run, Snapshot.capture(), fn, *args, **kwargs)

    @override
    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], **options: Any
    ) -> Iterator[R]:
        """Same as the executor's, under what is bound here."""
        job = partial(_run, Snapshot.capture(), fn)
        return self._executor.map(job, *iterables, **options)

    @override
    def shutdown(self, wait: bool = True, **options: Any) -> None:
        """Same as the executor's."""
        self._executor.shutdown(wait, **options)  # not all take cancel_futures


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A thread pool whose jobs run under what is bound where they are submitted.

    For ``loop.set_default_executor``, which insists on a `ThreadPoolExecutor`: then
    ``loop.run_in_executor(None, ...)`` takes the plan along.

    Example:
        >>> from aura_context import current_plan_name, plan_context
        >>> with ContextThreadPoolExecutor() as executor, plan_context("nightly"):
        ...     list(executor.map(lambda n: (n, current_plan_name.get()), range(2)))
        [(0, 'nightly'), (1, 'nightly')]

    .. versionadded:: 0.1.0
    """

    @override
    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Same as the base class's, under what is bound here."""
        return super().submit(_run, Snapshot.capture(), fn, *args, **kwargs)

    @override
    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], **options: Any
    ) -> Iterator[R]:
        """Same as the base class's, under what is bound here."""
        # Since Python 3.14 some of the jobs may be submitted later than now.
        job = partial(_run, Snapshot.capture(), fn)
        return super().map(job, *iterables, **options)
