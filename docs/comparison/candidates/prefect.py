"""Prefect's `ContextModel`, subclassed as Prefect does it for its own contexts."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

from . import Candidate


if TYPE_CHECKING:
    from typing import Self

    class ContextModel:
        """What is used of it: Prefect is large, and not there to check types."""

        def __init__(self, **_: object) -> None: ...
        def __enter__(self) -> Self: ...
        def __exit__(self, *_: object) -> None: ...
        @classmethod
        def get(cls) -> Self | None:
            """Return what is bound here."""

else:
    from prefect.context import ContextModel


class Plan(ContextModel):
    """The plan's name."""

    __var__: ClassVar[ContextVar[Any]] = ContextVar("plan")
    plan_name: str


def bound(value: str) -> Plan:
    """Bind the plan's name for a block."""
    return Plan(plan_name=value)


def get() -> str | None:
    """Return the plan's name."""
    plan = Plan.get()
    return None if plan is None else plan.plan_name


CANDIDATE = Candidate(
    title="Prefect",
    distribution="prefect",
    block=bound,
    get=get,
    raw_set=lambda value: Plan.__var__.set(bound(value)),
    instance=bound,
)
