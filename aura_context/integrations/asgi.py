"""Binding a context around each request of an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, TypeAlias

from aura_context import Snapshot
from aura_context._stack import leave_leftovers

from ._resolved import Resolved, checked


__all__ = ["App", "ContextMiddleware", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
"""What a server says of a request."""

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""What an application calls for the next message of the server."""

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
"""What an application calls with a message for the server."""

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]
"""An application. Any, because frameworks spell the three types in ways that exclude
each other."""


class ContextMiddleware:
    """Binds what `resolve` finds for the whole of a request or websocket.

    That is until the application returns, so streamed bodies and background work
    that it awaits are included. Every request starts clean, whatever the server's
    Context holds: what is not resolved has its default. Lifespan goes by untouched.

    Args:
        app: The application to wrap. Put this outermost, and once.
        resolve: Gets the scope and returns a context, a Snapshot, or None for
            nothing; may be async. Nothing in the scope is trusted but by it, and
            what it raises goes to the server.

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
        """Serve a request or websocket, bound to what was resolved.

        Returns:
            What the application returns, as some servers act on it.
        """
        if scope["type"] not in {"http", "websocket"}:
            return await self._app(scope, receive, send)
        # Only such a handle leaves its block (R3), as that of a decorated call, and
        # does not warn if the request is dropped in another Context.
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
                return await self._run(context, *args)
        with context.call_class(context) as handle:
            return await self._run(handle, *args)

    async def _run(self, handle: object, *args: Any) -> Any:
        try:
            return await self._app(*args)
        finally:
            leave_leftovers(handle)
