"""The plan that code runs for: the context this package is named after."""

from __future__ import annotations

import sys

from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from ._context import VarContext
from ._text import is_readable


__all__ = ["PlanContext", "current_plan_name", "plan_context"]


# At module level, because a ContextVar is never collected from the Contexts that
# hold it: https://docs.python.org/3/library/contextvars.html#contextvars.ContextVar
current_plan_name: Final[ContextVar[str | None]] = ContextVar(
    "current_plan_name", default=None
)
"""The name of the plan that the running code works for, or None.

A plain :class:`contextvars.ContextVar`, in :pep:`567`'s sense: reading it costs
what reading any of them costs.
"""


class PlanContext(VarContext[str | None]):
    """Binds `current_plan_name` for a block, in ``with`` and ``async with`` alike.

    Args:
        plan_name: The name of the plan; None means "no plan".

    Raises:
        TypeError: If the name is neither a str nor None.
        ValueError: If there is nothing to see in the name, or if it holds a control
            character, a line or paragraph separator, a lone surrogate or a
            bidirectional control: they forge or reorder log lines.

    Example:
        >>> with PlanContext("nightly") as context:
        ...     context.plan_name, current_plan_name.get()
        ('nightly', 'nightly')
        >>> current_plan_name.get() is None
        True
    """

    __slots__ = ("value",)

    var = current_plan_name

    value: str | None

    def __init__(self, plan_name: str | None) -> None:
        # Nearly every name passes these: `_check` is slower.
        if not (
            type(plan_name) is str and plan_name.isprintable() and plan_name.strip()
        ):
            _check(plan_name)
        self.value = plan_name

    @property
    def plan_name(self) -> str | None:
        """The name that this context binds; the same as `value`."""
        return self.value

    @override
    def describe(self) -> str:
        """Return what messages show: a plan's name is no secret (N6)."""
        return super().__repr__()


def plan_context(plan_name: str | None) -> PlanContext:
    """Return a new `PlanContext`; takes and raises the same.

    Example:
        >>> import asyncio
        >>> async def work():
        ...     async with plan_context("nightly"):
        ...         return current_plan_name.get()
        >>> asyncio.run(work())
        'nightly'
    """
    return PlanContext(plan_name)


# Unless asked for more, tracemalloc remembers a single frame. That has to be the
# caller's for a warning to say where the context was made (R5).
if not TYPE_CHECKING and "tracemalloc" in getattr(sys, "_xoptions", ()):
    plan_context = partial(PlanContext)


def _check(plan_name: object) -> None:
    """Raise the error that says what is wrong with the name, if anything is (N1)."""
    if plan_name is None:
        return
    if not isinstance(plan_name, str):
        shown = "an object"
        with suppress(Exception):  # a repr can fail, as that of a very large int
            shown = repr(plan_name)
        msg = (
            f"plan_name must be a str, or None for no plan; got {shown} "
            f"of type {type(plan_name).__qualname__}"
        )
        if callable(plan_name) or isinstance(plan_name, classmethod):
            msg += '. To decorate a function, write @plan_context("name")'
        raise TypeError(msg)
    if not is_readable(plan_name):
        msg = (
            "plan_name must have something to see in it, and no control character, "
            "line separator, lone surrogate or bidirectional control; "
            f"got {plan_name!r}. For no plan, pass None"
        )
        raise ValueError(msg)
