"""Serve a Flask site for several plans.

Start it with ``waitress-serve flask_plans:application`` in this folder, and ask for
``/nightly/sync``, ``/nightly/async`` or ``/nightly/rows``.
"""

from __future__ import annotations

import asyncio

from typing import TYPE_CHECKING

from flask import Flask, Response

from aura_context import PlanContext, current_plan_name, plan_context
from aura_context.integrations.wsgi import ContextMiddleware


if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIEnvironment

PLANS = {"nightly", "hourly"}

app = Flask(__name__)


@app.get("/<plan>/sync")
def sync_view(plan: str) -> str:
    """Run in the thread of the request."""
    return f"{plan} for {current_plan_name.get()}"


@app.get("/<plan>/async")
async def async_view(plan: str) -> str:
    """Run in an event loop, in a copy of the thread's Context."""
    await asyncio.sleep(0)
    return f"{plan} for {current_plan_name.get()}"


@app.get("/<plan>/rows")
def streaming_view(plan: str) -> Response:
    """Answer row by row."""
    return Response(rows(plan))


def rows(plan: str) -> Iterator[str]:
    """Run after the view and the teardown."""
    for number in range(2):
        yield f"{plan} {number} for {current_plan_name.get()}\n"


def resolve(environ: WSGIEnvironment) -> PlanContext | None:
    """Return the plan that the path names, if there is one of that name."""
    plan = environ["PATH_INFO"].split("/")[1]
    return plan_context(plan) if plan in PLANS else None


application = ContextMiddleware(app, resolve)
