"""A context and jobs that worker processes import."""

from __future__ import annotations

import os

from contextvars import ContextVar
from typing import Any

from aura_context import (
    VarContext,
    carry,
    current_plan_name,
    plan_context,
)


current_region: ContextVar[str | None] = ContextVar("current_region", default=None)
current_secret: ContextVar[str | None] = ContextVar("current_secret", default=None)


class RegionContext(VarContext[str | None]):
    """A context that travels."""

    var = current_region


class SecretContext(VarContext[str | None]):
    """A context that does not."""

    var = current_secret
    carried = False


class JobError(Exception):
    """An exception of a job."""


Seen = tuple[object, str | None, str | None, str | None, int]


def look(argument: object = None) -> Seen:
    """Return the argument, what is bound, and where."""
    return (
        argument,
        current_plan_name.get(),
        current_region.get(),
        current_secret.get(),
        os.getpid(),
    )


def leave_behind(argument: object) -> None:
    """Set all raw, and raise."""
    current_plan_name.set("left behind")
    current_region.set("left behind")
    raise JobError(argument, current_plan_name.get())


def nested(argument: object) -> list[Seen]:
    """Submit jobs from within a job."""
    import distributed  # noqa: PLC0415 - for the one engine

    dask: Any = distributed
    with dask.worker_client() as client:
        outer = client.submit(carry(look), argument, pure=False)
        with plan_context("inner"):
            inner = client.submit(carry(look), argument, pure=False)
        bare = client.submit(look, argument, pure=False)
        found: list[Seen] = client.gather([outer, inner, bare])
    return [look(argument), *found]
