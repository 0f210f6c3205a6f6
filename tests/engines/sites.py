"""Applications that forget to leave blocks, and a look into the server's process.

The servers of the tests import this.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aura_context import (
    PlanContext,
    VarContext,
    active_contexts,
    current_plan_name,
    plan_context,
)
from aura_context._stack import LEFT, Entry
from aura_context.integrations import asgi, wsgi


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


AT_ONCE = int(os.environ.get("AT_ONCE", "1"))
"""How many requests wait for each other, so that all of them are open at once."""

PATIENCE = 30

current_region: ContextVar[str | None] = ContextVar("current_region", default=None)


class RegionContext(VarContext[str | None]):
    """A context of the application's own."""

    var = current_region


FORGOTTEN = RegionContext("forgotten")
"""Entered and never left."""


def forget() -> None:
    """Enter blocks and never leave them."""
    for _ in range(5):
        FORGOTTEN.__enter__()


def read() -> str:
    """Return what is bound; this takes the longer, the more blocks are open."""
    active_contexts()
    return f"{current_plan_name.get()} {current_region.get()};"


def expected(plan: str) -> str:
    """Return what the applications should answer."""
    return f"{plan} None;{plan} forgotten;{plan} forgotten;"


def by_path(path: str) -> PlanContext | None:
    """Return the plan that the first part of a path names."""
    return plan_context(path.split("/")[1])


# A look into the process -------------------------------------------------------------


left_in_tasks: list[object] = []
"""What is open at the end of a request's task, whose Context then goes."""


def state() -> bytes:
    """Return how many blocks are left in any Context, and the time used so far."""
    gc.collect()
    blocks = [each for each in gc.get_objects() if isinstance(each, Entry)]
    left = sum(each.stack_token is not LEFT for each in blocks) + len(left_in_tasks)
    return json.dumps({"left": left, "seconds": time.process_time()}).encode()


def looked_into_asgi(app: Any) -> Any:
    """Answer ``/state`` outside of the application."""

    async def outermost(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != "/state":
            await app(scope, receive, send)
            left_in_tasks.extend(active_contexts())
        else:
            await answer(send, state())

    return outermost


def looked_into_wsgi(app: WSGIApplication) -> WSGIApplication:
    """Answer ``/state`` outside of the application."""

    def outermost(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/state":
            return app(environ, start_response)
        start_response("200 OK", [])
        return [state()]

    return outermost


# ASGI --------------------------------------------------------------------------------


async def answer(send: Any, *chunks: bytes) -> None:
    """Send a response."""
    headers = [(b"content-length", str(sum(map(len, chunks))).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


at_once = asyncio.Barrier(AT_ONCE)


async def _asgi_app(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] != "http":  # the lifespan, which it does without
        raise NotImplementedError
    before = read()
    forget()
    async with asyncio.timeout(PATIENCE):
        await at_once.wait()
    inside = read()
    in_thread = await asyncio.to_thread(read)
    await answer(send, before.encode(), inside.encode(), in_thread.encode())


asgi_app = looked_into_asgi(
    asgi.ContextMiddleware(_asgi_app, lambda scope: by_path(scope["path"]))
)


# WSGI --------------------------------------------------------------------------------


in_threads_at_once = threading.Barrier(AT_ONCE)


def _wsgi_app(
    _environ: WSGIEnvironment, start_response: StartResponse
) -> Iterator[bytes]:
    before = read()
    forget()
    start_response("200 OK", [])
    return rows(before)


def rows(before: str) -> Iterator[bytes]:
    """Stream what was and what is bound."""
    yield before.encode()
    in_threads_at_once.wait(PATIENCE)
    yield read().encode()
    yield read().encode()
    forget()


wsgi_app = looked_into_wsgi(
    wsgi.ContextMiddleware(_wsgi_app, lambda environ: by_path(environ["PATH_INFO"]))
)
