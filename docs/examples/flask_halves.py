"""A Flask site that binds the plan in two halves, which a wrapped one needs no more."""

from __future__ import annotations

from flask import Flask, g, request

from aura_context import plan_context


app = Flask(__name__)


@app.before_request
async def bind() -> None:
    """Enter a block for the plan that the path names."""
    g.plan_block = plan_context(request.path.split("/")[1]).__enter__()


@app.teardown_request
async def unbind(_error: BaseException | None) -> None:
    """Leave it, in another event loop and another Context."""
    g.plan_block.__exit__(None, None, None)
