"""structlog's `bound_contextvars`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    get_contextvars,
)

from . import Candidate


if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def bound(value: str) -> AbstractContextManager[None]:
    """Bind the plan's name for a block."""
    return bound_contextvars(plan_name=value)


CANDIDATE = Candidate(
    title="structlog",
    distribution="structlog",
    block=bound,
    get=lambda: get_contextvars().get("plan_name"),
    raw_set=lambda value: bind_contextvars(plan_name=value),
    instance=bound,
    decorator=lambda value: bound_contextvars(plan_name=value),
)
