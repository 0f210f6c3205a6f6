"""Bind a context around each request of an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, TypeAlias

from aura_context import Snapshot
from aura_context._stack import leave_leftovers

from ._resolved import Resolved, checked


__all__ = ["App", "ContextMiddleware", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
"""The scope: what the server knows of a request."""

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""What an application calls for the next message of the server."""

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
"""What an application calls with a message for the server."""

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]
"""An application. Any, because frameworks spell the three types in ways that exclude
each other."""


class ContextMiddleware:
    """Binds what `resolve` returns for the whole of a request or websocket.

    The block ends when the application returns, so it includes streamed bodies and
    background work that the application awaits. Every request starts clean, whatever
    the server's Context holds: variables that are not bound have their default.
    Lifespan passes through unchanged.

    Args:
        app: The application to wrap. Apply this middleware once, outermost.
        resolve: A function, sync or async, that gets the scope and returns a context,
            a Snapshot, or None to bind nothing. Only this function decides what in the
            scope to trust. An exception that it raises goes to the server.

    Raises:
        TypeError: At a request, if `resolve` returns anything else.

    Example:
        >>> import asyncio
        >>> from aura_context import current_plan_name, plan_context
        >>> async def app(scope, receive, send):
        ...     print(current_plan_name.get())
        >>> def resolve(scope):
        ...     return plan_context(scope["path"].strip("/"))
        >>> bound = ContextMiddleware(app, resolve)
        >>> asyncio.run(bound({"type": "http", "path": "/nightly"}, None, None))
        nightly
    """

    def __init__(
        self, app: App, resolve: Callable[[Scope], Resolved | Awaitable[Resolved]]
    ) -> None:
        self._app = app
        self._resolve = resolve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve a request or websocket, bound to what `resolve` returns.

        Returns:
            What the application returns, because some servers act on it.
        """
        if scope["type"] not in {"http", "websocket"}:
            return await self._app(scope, receive, send)
        # A private handle, as that of a decorated call: no other exit leaves its block
        # (R3), and it does not warn if the request is dropped in another Context.
        with Snapshot.call_class(Snapshot()) as clean:
            try:
                resolved = self._resolve(scope)
                if isawaitable(resolved):
                    resolved = await resolved
                return await self._run_under(checked(resolved), scope, receive, send)
            finally:
                leave_leftovers(clean)

    async def _run_under(self, context: Any, *args: Any) -> Any:
        if context.overrides("__enter__", "__exit__", "__aenter__", "__aexit__"):
            async with context:  # an override runs on the context itself
                try:
                    return await self._app(*args)
                finally:
                    leave_leftovers(context)
        with context.call_class(context):
            return await self._app(*args)
