"""Send the plan with each request of an aiohttp client; here the server is our own.

The exit status is 0 if every request arrived as its own plan's.
"""

from __future__ import annotations

import asyncio
import sys

from typing import Any

from aiohttp import ClientSession, TraceConfig, TraceRequestStartParams, web

from aura_context import PlanContext, current_plan_name, plan_context
from aura_context.integrations.baggage import extract, inject


async def add_plan(
    _session: ClientSession, _context: Any, params: TraceRequestStartParams
) -> None:
    """Write the plan into the headers of a request that is about to be sent."""
    inject(params.headers, {"plan_name": PlanContext})


def client() -> ClientSession:
    """Return a session that writes the plan into each request."""
    trace = TraceConfig()
    trace.on_request_start.append(add_plan)
    return ClientSession(trace_configs=[trace])


async def report(request: web.Request) -> web.Response:
    """Answer with the plan of the request."""
    with extract(request.headers, accept={"plan_name": PlanContext}):
        return web.Response(text=str(current_plan_name.get()))


async def work(session: ClientSession, url: str, plan_name: str | None) -> str:
    """Ask for a report on behalf of a plan."""
    with plan_context(plan_name):
        async with session.get(url, headers={"baggage": "user=alice"}) as response:
            return await response.text()


async def main() -> int:
    """Print what the requests arrived as, and return the exit status."""
    app = web.Application()
    app.router.add_get("/", report)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    plans = ["nightly", "日报 sales", None]
    try:
        async with client() as session:
            jobs = [work(session, f"http://{host}:{port}/", plan) for plan in plans]
            arrived = await asyncio.gather(*jobs)
    finally:
        await runner.cleanup()
    print(*arrived, sep="\n")
    return int(arrived != [str(plan) for plan in plans])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
