"""loguru's `contextualize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from . import Candidate


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from loguru import Message

LEVEL = 1  # below what loguru writes to stderr by itself


seen: list[str | None] = []


def sink(message: Message) -> None:
    """Keep the plan's name that a message of ours shows."""
    if message.record["level"].no == LEVEL:
        seen.append(message.record["extra"].get("plan_name"))


def get() -> str | None:
    """Return the plan's name that a message shows, which is the way to read it."""
    logger.log(LEVEL, "read")
    if not seen:  # the first time; to add a sink for each read would be slow
        logger.add(sink, level=LEVEL)
        logger.log(LEVEL, "read")
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
