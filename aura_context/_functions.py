"""Running functions of all four kinds under a context.

``contextlib.ContextDecorator`` leaves its block before the body of a coroutine or
generator has begun. Here a coroutine is awaited inside the block; and a generator is
bound around each of its steps, so that its consumer never sees the value, and only
what is ours is put in and taken out again.
"""

from __future__ import annotations

import sys

from functools import partial, wraps
from inspect import (
    CO_ITERABLE_COROUTINE,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
)
from types import coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from . import _steps


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    class BlockContext(
        AbstractContextManager[Any, Literal[False] | None],
        AbstractAsyncContextManager[Any, Literal[False] | None],
        Protocol,
    ):
        """A context: a block can be opened with it, in two ways."""


def decorate(
    context: BlockContext,
    function: Any,
    base: type,
    bindings: Callable[[], _steps.Held],
) -> Any:
    """Return a function of the same kind that runs under the context.

    Args:
        context: What all calls share.
        function: What is decorated.
        base: The class whose own enter and exit do no more than bind.
        bindings: Returns what the context binds around the steps of a generator.

    Raises:
        TypeError: If that is no function, or an override could not be honoured.
    """
    if isinstance(function, (classmethod, staticmethod)):
        method = cast("Any", function)
        return type(method)(decorate(context, method.__func__, base, bindings))
    if isinstance(function, type) or not callable(function):
        msg = f"only functions and methods can run under {context!r}, got {function!r}"
        raise TypeError(msg)

    if _is(iscoroutinefunction, function):
        return _run_coroutine(context, function)
    _refuse_overrides(context, function, base, "__aenter__", "__aexit__")
    is_generator = _is(isgeneratorfunction, function)
    if not (is_generator or _is(isasyncgenfunction, function)):
        return _run_plain(context, function)
    _refuse_overrides(context, function, base, "__enter__", "__exit__")
    if not is_generator:
        return _run_async_generator(bindings, function)
    run = _run_generator(bindings, function)
    return coroutine(run) if _is(_is_awaitable_generator, function) else run


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Whether calling this gives that kind: a function, or an object like one."""
    while isinstance(function, partial):
        function = function.func
    # An object may be marked itself, as by `inspect.markcoroutinefunction`.
    return kind(function) or kind(function.__call__)


def _is_awaitable_generator(function: Any) -> bool:
    """Whether `types.coroutine` has made a generator function awaitable."""
    return isgeneratorfunction(function) and bool(
        function.__code__.co_flags & CO_ITERABLE_COROUTINE
    )


def _refuse_overrides(
    context: BlockContext, function: object, base: type, *names: str
) -> None:
    """Refuse to decorate where an override would silently not be called."""
    cls = type(context)
    if any(getattr(cls, name) is not getattr(base, name) for name in names):
        msg = (
            f"{cls.__qualname__} overrides {' or '.join(names)}, which decorating "
            f"{function!r} would not call: open a block inside it instead"
        )
        raise TypeError(msg)


def _run_plain(context: BlockContext, function: Callable[..., Any]) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with context:
            return function(*args, **kwargs)

    return wrapper


def _run_coroutine(context: BlockContext, function: Callable[..., Any]) -> Any:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        async with context:
            return await function(*args, **kwargs)

    return wrapper


# The two below are PEP 380's delegation, with our blocks around each step. What is
# yielded goes through a list, so that no local of ours keeps it while suspended.


def _run_generator(
    bindings: Callable[[], _steps.Held], function: Callable[..., Any]
) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        held = bindings()
        resume, value = generator.send, None
        while True:
            outermost = _steps.put(held)
            try:
                yielded = [resume(value)]
            except StopIteration as stop:
                return stop.value
            finally:
                held = _steps.lift(outermost) or held
                value = None
            try:
                value = yield yielded.pop()
                resume = generator.send
            except BaseException as error:  # noqa: BLE001 - GeneratorExit too
                resume, value = generator.throw, _as_thrown(error)

    return wrapper


def _run_async_generator(
    bindings: Callable[[], _steps.Held], function: Callable[..., Any]
) -> Any:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        held = bindings()
        # The event loop finalises this generator, and must know of no other; nor may
        # the garbage collector, which tells of both where they are in a cycle. Either
        # would close the inner one behind our back.
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, _leave_to_wrapper)
        step: Any
        try:
            step = generator.asend(None)
        finally:
            sys.set_asyncgen_hooks(*hooks)
        while True:
            outermost = _steps.put(held)
            try:
                yielded = [await step]
            except StopAsyncIteration:
                return
            finally:
                held = _steps.lift(outermost) or held
                step = None
            try:
                step = generator.asend((yield yielded.pop()))
            except BaseException as error:  # noqa: BLE001 - GeneratorExit too
                step = generator.athrow(_as_thrown(error))

    return wrapper


def _leave_to_wrapper(generator: AsyncGenerator[Any, Any]) -> None:
    """Finalise nothing: the wrapper closes its generator when it is closed itself."""


def _as_thrown(error: BaseException) -> BaseException:
    """Return the error as it was before it reached our frame."""
    traceback = error.__traceback__
    return error.with_traceback(traceback and traceback.tb_next)
