"""Serve gRPC calls for several plans; here the client is in the same process.

The exit status is 0 if every call was served as its own plan's.
"""

from __future__ import annotations

import asyncio
import sys

from typing import Any

import grpc  # type: ignore[import-untyped]  # has no types

from grpc import aio

from aura_context import PlanContext, current_plan_name, plan_context
from aura_context.integrations.baggage import extract, inject


CONTEXTS = {"plan_name": PlanContext}

GRPC: Any = grpc
AIO: Any = aio


class PlanInterceptor(AIO.ServerInterceptor):  # type: ignore[misc]  # likewise
    """Binds the plan that the client sent for as long as the handler runs."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return a handler that runs under what the metadata brought."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        snapshot = extract(details.invocation_metadata, accept=CONTEXTS)
        return handler._replace(unary_unary=snapshot(handler.unary_unary))


async def report(request: bytes, _context: Any) -> bytes:
    """Answer with the plan that the call is for."""
    await asyncio.sleep(0)
    return f"{current_plan_name.get()}: {request.decode()}".encode()


async def ask(channel: Any, plan_name: str | None) -> str:
    """Call the service on behalf of a plan."""
    metadata: dict[str, str] = {}
    with plan_context(plan_name):
        inject(metadata, CONTEXTS)
    call = channel.unary_unary("/Reports/Report")
    answer: bytes = await call(b"report", metadata=tuple(metadata.items()))
    return answer.decode()


async def main() -> int:
    """Print what the calls are answered, and return the exit status."""
    server = AIO.server(interceptors=[PlanInterceptor()])
    handlers = {"Report": GRPC.unary_unary_rpc_method_handler(report)}
    server.add_generic_rpc_handlers(
        [GRPC.method_handlers_generic_handler("Reports", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    plans = ["nightly", "日报 sales", None]
    async with AIO.insecure_channel(f"127.0.0.1:{port}") as channel:
        lines = await asyncio.gather(*(ask(channel, plan) for plan in plans))
    await server.stop(None)
    print(*lines, sep="\n")
    return int([*lines] != [f"{plan}: report" for plan in plans])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
