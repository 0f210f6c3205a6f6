"""Binding a context around each request of a WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from aura_context import Snapshot
from aura_context._stack import leave_leftovers

from ._resolved import Resolved, checked


if TYPE_CHECKING:
    from collections.abc import Generator


__all__ = ["ContextMiddleware"]


class ContextMiddleware:
    """Binds what `resolve` finds for the whole of a request.

    The call of the application, each step of the body that it returns, and the
    body's ``close()`` are the steps of one generator. What one of them leaves open or
    sets raw, the next ones have; the server, which may take the steps in any thread,
    never does, and nothing is left when the request is over. Every request starts
    clean, whatever the server's Context holds: what is not resolved has its default.

    Args:
        app: The application to wrap. Put this outermost, and once.
        resolve: Gets the environ and returns a context, a Snapshot, or None for
            nothing. Nothing in the environ is trusted but by it, and what it raises
            goes to the server.

    Raises:
        TypeError: At a request, if `resolve` returns anything else, or a context
            whose class overrides how to enter and leave, as that cannot be done
            around each step.

    Example:
        >>> from aura_context import current_plan_name, plan_context
        >>> def app(environ, start_response):
        ...     yield str(current_plan_name.get()).encode()
        >>> def resolve(environ):
        ...     return plan_context(environ["PATH_INFO"].strip("/"))
        >>> bound = ContextMiddleware(app, resolve)
        >>> [*bound({"PATH_INFO": "/nightly"}, None)]
        [b'nightly']
    """

    def __init__(
        self, app: WSGIApplication, resolve: Callable[[WSGIEnvironment], Resolved]
    ) -> None:
        self._app = app
        self._resolve = resolve

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve a request, bound to what was resolved."""
        with Snapshot.call_class(Snapshot()) as clean:  # as in the ASGI middleware
            try:
                context = checked(self._resolve(environ))
            finally:
                leave_leftovers(clean)
        steps = Snapshot()(context(_steps))(self._app, environ, start_response)
        try:
            first = next(steps)
        except StopIteration as done:
            body: Iterable[bytes] = done.value
            return body
        bound = _Body(steps)
        if first is _IDLE:
            return bound
        first.close = bound.close
        file: Iterable[bytes] = first
        return file


_IDLE: Final = object()
"""Yielded where there is nothing for the server."""


def _steps(
    app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Generator[Any, None, Iterable[bytes] | None]:
    """Call the application and iterate over its body, waiting twice to be closed.

    All are steps of one generator, so what the call leaves open the body has, and the
    server has not (F2). A body that runs no code of the application is returned, and a
    file is yielded first.
    """
    body: Any = app(environ, start_response)
    # Servers know these by their type: they take the length of the ones, and give the
    # other to the kernel. Closing that may run code of the application, as Django's.
    wrapper = environ.get("wsgi.file_wrapper")
    is_file = isinstance(wrapper, type) and isinstance(body, wrapper)
    if type(body) in (list, tuple) or (is_file and not hasattr(body, "__dict__")):
        unchanged: Iterable[bytes] = body
        return unchanged
    close: Any = getattr(body, "close", None)
    try:
        if is_file:
            yield body
        else:
            yield _IDLE
            for chunk in body:  # noqa: UP028 - delegating would close the body by itself
                yield chunk
        while True:
            yield _IDLE
    finally:
        if close is not None:
            close()


class _Body:
    """The body of a response, each step of it bound."""

    def __init__(self, steps: Generator[Any, None, Any]) -> None:
        self._steps = steps

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._steps)
        if chunk is _IDLE:
            raise StopIteration
        result: bytes = chunk
        return result

    def close(self) -> None:
        self._steps.close()
