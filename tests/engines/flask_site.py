"""A Flask site whose views run at once, and forget to leave blocks.

A server imports this. The plan is bound by halves, the region by ours, outermost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flask import Response, request
from sites import (  # type: ignore[import-not-found]
    PATIENCE,
    RegionContext,
    forget,
    in_threads_at_once,
    looked_into_wsgi,
    read,
)

from aura_context.integrations.wsgi import ContextMiddleware


if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIEnvironment

    from flask import Flask


app: Flask = import_module("flask_halves").app


@app.get("/<plan>/sync")
def sync_view(**_plan: str) -> str:
    before = read()
    in_threads_at_once.wait(PATIENCE)
    if "forget" in request.args:
        forget()
    return f"{before}{read()}"


@app.get("/<plan>/async")
async def async_view(**_plan: str) -> str:
    return sync_view()  # no other request has this loop


@app.get("/<plan>/rows")
def streaming_view(**_plan: str) -> Response:
    return Response(rows())


def rows() -> Iterator[str]:
    yield read()
    in_threads_at_once.wait(PATIENCE)
    yield read()


def resolve(environ: WSGIEnvironment) -> RegionContext:
    return RegionContext(environ["PATH_INFO"].split("/")[1].upper())


halves = looked_into_wsgi(app)
wrapped = looked_into_wsgi(ContextMiddleware(app, resolve))
