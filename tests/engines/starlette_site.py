"""A Starlette site whose endless bodies are dropped when their clients go away.

A server imports this.
"""

from __future__ import annotations

import gc

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from aura_context import PlanContext, carry, current_plan_name, plan_context
from aura_context.integrations.asgi import ContextMiddleware


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response


ended: list[tuple[str, str | None]] = []
"""For which plan a body was, and which its `finally` has read."""


async def endless(plan: str) -> AsyncIterator[bytes]:
    try:
        while True:  # never waits by itself, so it is dropped at the yield
            yield b"row"
    finally:
        ended.append((plan, current_plan_name.get()))


async def bodies(request: Request) -> Response:
    plan = PlanContext.require()
    is_carried = request.path_params["kind"] == "carried"
    function = carry(endless) if is_carried else plan_context(plan)(endless)
    return StreamingResponse(function(plan))


async def collect(_request: Request) -> Response:
    gc.collect()
    return JSONResponse(ended)


async def pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


site = Starlette(
    routes=[Route("/{plan}/collect", collect), Route("/{plan}/{kind}", bodies)],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)],
)


def resolve(scope: Any) -> PlanContext:
    return plan_context(scope["path"].split("/")[1])


application = ContextMiddleware(site, resolve)
