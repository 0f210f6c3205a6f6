"""Running functions of all four kinds under a context.

On Python 3.14 and earlier, ``contextlib.ContextDecorator`` leaves its block before the
body of a coroutine or generator has begun. Here a coroutine is awaited inside the
block; and a generator is bound around each of its steps, so that its consumer never
sees the value, and only blocks and variables of this library move in and out.
"""

from __future__ import annotations

import inspect
import sys

from dis import opmap
from functools import partial, wraps
from inspect import (
    CO_ITERABLE_COROUTINE,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
)
from types import (
    AsyncGeneratorType,
    CoroutineType,
    GeneratorType,
    MethodType,
    coroutine,
)
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from . import _steps


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from ._stack import Suspended


SYNC, ASYNC = ("__enter__", "__exit__"), ("__aenter__", "__aexit__")


class Decorator(Protocol):
    """The context that all calls of a decorated function share."""

    call_class: ClassVar[type[Any]]
    """The class of the handles, one for each call."""

    def overrides(self, *names: str) -> bool:
        """Whether a subclass overrides one of these methods."""
        ...

    def describe(self) -> str:
        """Return what messages show."""
        ...


def decorate(context: Decorator, function: Any) -> Any:
    """Return a function of the same kind that runs under the context.

    Raises:
        TypeError: If that is no function, or an override could not be honoured.
    """
    if isinstance(function, (classmethod, staticmethod)):
        method = cast("Any", function)
        return type(method)(decorate(context, method.__func__))
    if isinstance(function, MethodType):
        # So that the wrapper of a generator does not keep its `self` alive (F3).
        return MethodType(decorate(context, function.__func__), function.__self__)
    if isinstance(function, type) or not callable(function):
        msg = (
            "only functions and methods can be decorated or carried, to run under "
            f"{context.describe()}; got {describe(function)}"
        )
        raise TypeError(msg)
    if _is(iscoroutinefunction, function):
        return _run_coroutine(context, function)
    _refuse_overrides(context, function, ASYNC)
    is_generator = _is(isgeneratorfunction, function)
    if not (is_generator or _is(isasyncgenfunction, function)):
        return _run_plain(context, function)
    _refuse_overrides(context, function, SYNC)
    if not is_generator:
        return _run_async_generator(context, function)
    run = _run_generator(context, function)
    return coroutine(run) if _is(_is_awaitable_generator, function) else run


def describe(thing: object) -> str:
    """Return what a message shows of a thing that was given: no value (N6)."""
    if isinstance(thing, type):
        return f"the class {thing.__qualname__}"
    while isinstance(thing, partial):
        thing = thing.func
    name = getattr(thing, "__qualname__", None)
    return name or f"an object of type {type(thing).__qualname__}"


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Whether a call gives that kind, of a function or of an object that is called."""
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
    context: Decorator, function: object, names: tuple[str, str]
) -> None:
    """Refuse to decorate if an override would silently not be called (F4)."""
    if context.overrides(*names):
        msg = (
            f"{type(context).__qualname__} overrides {' or '.join(names)}, which "
            f"decorating {describe(function)} would not call: open a block inside it "
            "instead"
        )
        raise TypeError(msg)


# The wrappers of the four kinds. Those of coroutines and generators delete what they no
# longer need, because their frames live as long as the body (F3). Each call has its own
# block (R3), but an override is called on the context that all calls share.


def _run_plain(context: Any, function: Callable[..., Any]) -> Any:
    call_class, is_shared = context.call_class, context.overrides(*SYNC)

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with context if is_shared else call_class(context):
            result = function(*args, **kwargs)
            return _run_later(context, result) if isinstance(result, LATER) else result

    return wrapper


def _run_coroutine(context: Any, function: Callable[..., Any]) -> Any:
    call_class, is_shared = context.call_class, context.overrides(*SYNC)

    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with context if is_shared else call_class(context):
            awaitable = function(*args, **kwargs)
            del args, kwargs
            return await awaitable

    @wraps(function)
    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        async with context:
            awaitable = function(*args, **kwargs)
            del args, kwargs
            return await awaitable

    return async_wrapper if context.overrides(*ASYNC) else wrapper


# The next two delegate as PEP 380 does, with blocks around each step. What is yielded
# goes through a list, so that no local variable keeps it while the body is suspended.


def _run_generator(context: Decorator, function: Callable[..., Any]) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        del args, kwargs
        handle = _steps.new_handle(context)
        suspended: Sequence[Suspended] = ()
        resume, value = generator.send, None
        while True:
            entry = _steps.begin(handle, suspended)
            try:
                yielded = [resume(value)]
            except StopIteration as stop:
                return stop.value
            finally:
                suspended = _steps.end(handle, entry)
                value = None
            try:
                value = yield yielded.pop()
                resume = generator.send
            except BaseException as error:  # noqa: BLE001 - GeneratorExit too
                resume, value = generator.throw, _as_thrown(error)

    return wrapper


def _run_async_generator(context: Decorator, function: Callable[..., Any]) -> Any:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        del args, kwargs
        handle = _steps.new_handle(context)
        suspended: Sequence[Suspended] = ()
        resume: Callable[[Any], Any] = partial(_first_step, generator)
        value: Any = None
        while True:
            entry = _steps.begin(handle, suspended)
            try:
                yielded = [await resume(value)]
            except StopAsyncIteration:
                return
            finally:
                suspended = _steps.end(handle, entry)
                value = None
            try:
                value = yield yielded.pop()
                resume = generator.asend
            except BaseException as error:  # noqa: BLE001 - GeneratorExit too
                resume, value = generator.athrow, _as_thrown(error)

    return wrapper


def _first_step(generator: AsyncGenerator[Any, Any], _: None) -> Any:
    """Take the first step of a generator that only its wrapper may finalise.

    The event loop finalises the wrapper. If it or the garbage collector finalised the
    generator as well, that would be closed before the wrapper.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, _leave_to_wrapper)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave_to_wrapper(generator: AsyncGenerator[Any, Any]) -> None:
    """Finalise nothing: the wrapper closes its generator when it is closed itself."""


def _as_thrown(error: BaseException) -> BaseException:
    """Return the error as it was before it reached the wrapper's frame."""
    traceback = error.__traceback__
    return error.with_traceback(traceback and traceback.tb_next)


# A plain function may return a coroutine or generator, which runs later: a wrapper that
# hides the kind of what it wraps, a lambda, a method that returns a generator (F1).

LATER = CoroutineType, GeneratorType, AsyncGeneratorType


def _run_later(context: Decorator, result: Any) -> Any:
    """Bind what a plain function has returned, if it has not begun."""
    if _has_begun(result):
        return result

    def function() -> Any:
        return result

    function.__name__, function.__qualname__ = result.__name__, result.__qualname__
    if isinstance(result, CoroutineType):
        return _run_coroutine(context, function)()
    _refuse_overrides(context, function, SYNC)
    if isinstance(result, AsyncGeneratorType):
        return _run_async_generator(context, function)()
    run = _run_generator(context, function)
    if result.gi_code.co_flags & CO_ITERABLE_COROUTINE:
        run = coroutine(run)
    return run()


def _has_begun(result: Any) -> bool:
    if inspect.iscoroutine(result):
        return inspect.getcoroutinestate(result) != inspect.CORO_CREATED
    if inspect.isgenerator(result):
        return inspect.getgeneratorstate(result) != inspect.GEN_CREATED
    if sys.version_info >= (3, 12):
        return inspect.getasyncgenstate(result) != inspect.AGEN_CREATED
    # Python 3.11 has no function for it: the frame of one that has not begun is at the
    # instruction that made the generator.
    frame, code = result.ag_frame, result.ag_code.co_code
    return frame is None or code[frame.f_lasti] != opmap["RETURN_GENERATOR"]
