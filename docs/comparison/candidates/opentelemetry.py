"""OpenTelemetry's `attach` and `detach`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from opentelemetry.context import attach, create_key, detach, get_value, set_value

from . import Candidate


if TYPE_CHECKING:
    from collections.abc import Generator

KEY = create_key("plan_name")


@contextmanager
def attached(value: str) -> Generator[None, None, None]:
    """Bind the plan's name for a block.

    It spares the programs a `try`, and is not judged as a context manager itself.
    """
    token = attach(set_value(KEY, value))
    try:
        yield
    finally:
        detach(token)


CANDIDATE = Candidate(
    title="OpenTelemetry",
    distribution="opentelemetry-api",
    block=attached,
    get=lambda: cast("str | None", get_value(KEY)),
    raw_set=lambda value: attach(set_value(KEY, value)),
)
