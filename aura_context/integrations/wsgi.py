"""Bind a context around each request of a WSGI application."""

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
    """Binds what `resolve` returns for the whole of a request.

    The call of the application, each step of the body that it returns, and the body's
    ``close()`` are the steps of one generator. A block that one step leaves open, or a
    raw value that it sets, is there in the next steps. The server never sees it, in
    whichever thread it takes the steps, and nothing is left after the request. Every
    request starts clean, whatever the server's Context holds: variables that are not
    bound have their default.

    Args:
        app: The application to wrap. Apply this middleware once, outermost.
        resolve: A function that gets the environ and returns a context, a Snapshot, or
            None to bind nothing. Only this function decides what in the environ to
            trust. An exception that it raises goes to the server.

    Raises:
        TypeError: At a request, if `resolve` returns anything else, or a context
            whose class overrides ``__enter__`` or ``__exit__``, which cannot be called
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
        """Serve a request, bound to what `resolve` returns."""
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
"""Yielded if there is nothing for the server."""


def _steps(
    app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Generator[Any, None, Iterable[bytes] | None]:
    """Call the application and iterate over its body, waiting twice to be closed.

    All are steps of one generator, so a block that the call leaves open is there in the
    body, and not in the server (F2). A body that runs no code of the application is
    returned as it is. A file is yielded first.
    """
    body: Any = app(environ, start_response)
    # Servers know these by their type: they take the length of lists, and pass files to
    # the kernel. Closing a file may run code of the application, as in Django.
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


_steps.__qualname__ = "a WSGI request"  # what a refusal says of it


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
