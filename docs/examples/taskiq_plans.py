"""Work for several plans through taskiq.

Where REDIS_URL says where the broker is, start a worker with ``taskiq worker
taskiq_plans:broker`` in this folder; then run this file. The exit status is 0 if every
message was worked on as its own plan's.
"""

from __future__ import annotations

import asyncio
import os
import sys

from contextvars import ContextVar
from typing import Any

from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqMiddleware
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from aura_context import PlanContext, Snapshot, current_plan_name, plan_context
from aura_context.integrations.messages import dump, load


CONTEXTS = {"plan_name": PlanContext}


class PlanMiddleware(TaskiqMiddleware):
    """Sends the plan with each message, and binds it where the message is worked on."""

    # More than one where a broker of tests works on a message inside another.
    _blocks: ContextVar[tuple[Snapshot, ...]] = ContextVar("blocks", default=())

    def pre_send(self, message: Any) -> Any:
        """Write what is bound; a retry brings what its first message brought."""
        if "aura_context" not in message.labels:
            message.labels["aura_context"] = dump(CONTEXTS)
        return message

    def pre_execute(self, message: Any) -> Any:
        """Bind what came with the message."""
        snapshot = load(message.labels.get("aura_context"), accept=CONTEXTS)
        self._blocks.set((*self._blocks.get(), snapshot.__enter__()))
        return message

    def post_execute(self, message: Any, result: Any) -> None:  # noqa: ARG002 - taskiq gives them
        """Leave the block, however the work ended."""
        *outer, block = self._blocks.get()
        self._blocks.set((*outer,))
        block.__exit__(None, None, None)


URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

broker = (
    ListQueueBroker(URL, socket_timeout=None)  # it waits for messages
    .with_result_backend(RedisAsyncResultBackend(URL))
    # The first is the outermost: what the others publish carries the plan too.
    .with_middlewares(PlanMiddleware(), SimpleRetryMiddleware())
)


@broker.task("total")
async def total(amounts: list[int]) -> str:
    """Add up; who it is for is not among the arguments."""
    return f"{current_plan_name.get()}: {sum(amounts)}"


@broker.task("report")
def report(line: str) -> str:
    """Run in a thread, with a copy of the Context."""
    return f"{line}, reported for {current_plan_name.get()}"


@broker.task("both")
async def both(amounts: list[int]) -> str:
    """Publish another task, and wait for it."""
    task = await total.kiq(amounts)
    return await _result(await report.kiq(await _result(task)))


@broker.task("fetch", retry_on_error=True, max_retries=3)
async def fetch(page: int, context: Context = TaskiqDepends()) -> str:  # noqa: B008 - taskiq's way
    """Fail at first, and try again."""
    if "_retries" not in context.message.labels:
        raise ConnectionError
    return f"{current_plan_name.get()}: fetched page {page} at the second attempt"


async def _result(task: Any) -> str:
    result = await task.wait_result(timeout=30)
    result.raise_for_error()
    line: str = result.return_value
    return line


async def main() -> int:
    """Print what the tasks say, and return the exit status."""
    await broker.startup()
    with plan_context("nightly"):
        tasks = [await total.kiq([1, 2, 3]), await both.kiq([4, 5])]
    with plan_context("hourly"):
        tasks += [await fetch.kiq(7)]
    tasks += [await total.kiq([])]
    lines = [await _result(task) for task in tasks]
    await broker.shutdown()
    print(*lines, sep="\n")
    return int(
        lines
        != [
            "nightly: 6",
            "nightly: 9, reported for nightly",
            "hourly: fetched page 7 at the second attempt",
            "None: 0",
        ]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
