"""Serve a Django site for several plans.

Start it with ``uvicorn django_plans:application`` in this folder, and ask for
``/nightly/sync``, ``/nightly/async`` or ``/nightly/rows``.
"""

from __future__ import annotations

import asyncio

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from aura_context import PlanContext, current_plan_name, plan_context
from aura_context.integrations.asgi import ContextMiddleware


if TYPE_CHECKING:
    from collections.abc import AsyncIterator


PLANS = {"nightly", "hourly"}


def sync_view(_request: HttpRequest, plan: str) -> HttpResponse:
    """Run in a thread, in a copy of the request's Context."""
    return HttpResponse(f"{plan} for {current_plan_name.get()}")


async def async_view(_request: HttpRequest, plan: str) -> HttpResponse:
    """Run in the request's task."""
    await asyncio.sleep(0)
    return HttpResponse(f"{plan} for {current_plan_name.get()}")


def streaming_view(_request: HttpRequest, plan: str) -> StreamingHttpResponse:
    """Answer row by row."""
    return StreamingHttpResponse(rows(plan))


async def rows(plan: str) -> AsyncIterator[str]:
    """Run after the view and all middlewares have returned."""
    for number in range(2):
        await asyncio.sleep(0)
        yield f"{plan} {number} for {current_plan_name.get()}\n"


urlpatterns = [
    path("<str:plan>/sync", sync_view),
    path("<str:plan>/async", async_view),
    path("<str:plan>/rows", streaming_view),
]
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)


def resolve(scope: Any) -> PlanContext | None:
    """Return the plan that the path names, if there is one of that name."""
    plan = scope["path"].split("/")[1]
    return plan_context(plan) if plan in PLANS else None


application = ContextMiddleware(get_asgi_application(), resolve)
