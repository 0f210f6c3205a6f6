"""A Django site whose views run at once, and forget to leave blocks.

A server imports this. The plan is bound by halves, the region by ours, outermost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from sites import (  # type: ignore[import-not-found]
    PATIENCE,
    RegionContext,
    at_once,
    forget,
    in_threads_at_once,
    looked_into_asgi,
    read,
)

from aura_context.integrations.asgi import ContextMiddleware


if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def sync_view(request: HttpRequest, **_plan: str) -> HttpResponse:
    before = read()
    in_threads_at_once.wait(PATIENCE)
    if "forget" in request.GET:
        forget()
    return HttpResponse(before + read())


async def async_view(request: HttpRequest, **_plan: str) -> HttpResponse:
    before = read()
    await at_once.wait()
    assert await sync_to_async(read)() == before
    if "forget" in request.GET:
        forget()
    return HttpResponse(before + read())


def streaming_view(_request: HttpRequest, **_plan: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(rows())


async def rows() -> AsyncIterator[str]:
    yield read()
    await at_once.wait()
    yield read()


settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django_halves.PlanHalves"],
    ROOT_URLCONF=__name__,
)
urlpatterns = [
    path("<plan>/sync", sync_view),
    path("<plan>/async", async_view),
    path("<plan>/rows", streaming_view),
]


def resolve(scope: Any) -> RegionContext:
    return RegionContext(scope["path"].split("/")[1].upper())


halves = looked_into_asgi(get_asgi_application())
wrapped = looked_into_asgi(ContextMiddleware(get_asgi_application(), resolve))
