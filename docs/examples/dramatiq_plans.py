"""Work for several plans through dramatiq.

Where REDIS_URL says where the broker is, start a worker with ``dramatiq
dramatiq_plans`` in this folder; then run this file. The exit status is 0 if every
message was worked on as its own plan's.
"""

from __future__ import annotations

import os
import sys
import threading

from typing import Any

import dramatiq

from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from aura_context import PlanContext, Snapshot, current_plan_name, plan_context
from aura_context.integrations.messages import dump, load


CONTEXTS = {"plan_name": PlanContext}


class PlanMiddleware(dramatiq.Middleware):
    """Sends the plan with each message, and binds it where the message is worked on."""

    def __init__(self) -> None:
        self.thread = threading.local()  # which works on one message at a time

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:  # noqa: ARG002 - dramatiq gives it
        """Write what is bound; a retry brings what its first message brought."""
        if "aura_context" not in message.options:
            message.options["aura_context"] = dump(CONTEXTS)

    def before_process_message(self, broker: Any, message: Any) -> None:  # noqa: ARG002 - likewise
        """Bind what came with the message."""
        snapshot = load(message.options.get("aura_context"), accept=CONTEXTS)
        self.thread.block = snapshot.__enter__()

    def after_process_message(
        self,
        broker: Any,  # noqa: ARG002 - likewise
        message: Any,  # noqa: ARG002 - likewise
        *,
        result: Any = None,  # noqa: ARG002 - likewise
        exception: Any = None,  # noqa: ARG002 - likewise
    ) -> None:
        """Leave the block, however the work ended."""
        block: Snapshot = self.thread.block
        block.__exit__(None, None, None)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """Leave the block of a message that another middleware skips."""
        self.after_process_message(broker, message)


broker: Any = RedisBroker(  # type: ignore[no-untyped-call]  # dramatiq has few types
    url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
)
broker.add_middleware(CurrentMessage())
results: Any = Results(  # type: ignore[no-untyped-call]  # likewise
    backend=RedisBackend(client=broker.client)
)
broker.add_middleware(results)
# Before all others, as the outermost: what they publish carries the plan too.
broker.add_middleware(PlanMiddleware(), before=dramatiq.Middleware)
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def total(amounts: list[int]) -> str:
    """Add up; who it is for is not among the arguments."""
    return f"{current_plan_name.get()}: {sum(amounts)}"


@dramatiq.actor(store_results=True)
def report(line: str) -> str:
    """Go on with what another actor has found."""
    return f"{line}, reported for {current_plan_name.get()}"


@dramatiq.actor(store_results=True, min_backoff=10, max_retries=3)
def fetch(page: int) -> str:
    """Fail at first, and try again."""
    message: Any = CurrentMessage.get_current_message()
    if not message.options.get("retries"):
        raise ConnectionError
    return f"{current_plan_name.get()}: fetched page {page} at the second attempt"


def main() -> int:
    """Print what the actors say, and return the exit status."""
    then: Any = report  # which gets its argument from the actor before
    with plan_context("nightly"):
        messages: list[Any] = [
            total.send([1, 2, 3]),
            (total.message([4, 5]) | then.message()).run(),
        ]
    with plan_context("hourly"):
        messages += [fetch.send(7)]
    messages += [total.send([])]
    lines = [message.get_result(block=True, timeout=60_000) for message in messages]
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
    sys.exit(main())
