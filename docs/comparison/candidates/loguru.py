"""loguru's `contextualize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from . import Candidate


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from loguru import Message

LEVEL = 1  # below what loguru writes to stderr by itself


def get() -> str | None:
    """Return the plan's name that a message shows, which is the way to read it."""
    seen: list[str | None] = []

    def sink(message: Message) -> None:
        seen.append(message.record["extra"].get("plan_name"))

    number = logger.add(sink, level=LEVEL)
    logger.log(LEVEL, "read")
    logger.remove(number)
    return seen.pop()


def bound(value: str) -> AbstractContextManager[None]:
    """Bind the plan's name for a block."""
    return logger.contextualize(plan_name=value)


CANDIDATE = Candidate(
    title="loguru",
    distribution="loguru",
    block=bound,
    get=get,
    instance=bound,
    decorator=lambda value: logger.contextualize(plan_name=value),
)
