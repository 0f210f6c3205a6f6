"""The plan that code runs for: the context this package is named after."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, cast

from typing_extensions import override

from ._context import VarContext


__all__ = ["PlanContext", "current_plan_name", "plan_context"]


# At module level, because a ContextVar is never collected from the Contexts that
# hold it: https://docs.python.org/3/library/contextvars.html#contextvars.ContextVar
current_plan_name: Final[ContextVar[str | None]] = ContextVar(
    "current_plan_name", default=None
)
"""The name of the plan that the running code works for, or None.

A plain :class:`contextvars.ContextVar`, in :pep:`567`'s sense: reading it costs
what reading any of them costs.

.. versionadded:: 0.1.0
"""


class PlanContext(VarContext[str | None]):
    """Binds `current_plan_name` for a block, in ``with`` and ``async with`` alike.

    Args:
        plan_name: The name of the plan; None means "no plan".

    Raises:
        TypeError: If the name is neither a str nor None.
        ValueError: If the name is empty, only white space, or holds a character
            that is not printable (:meth:`str.isprintable`): it would forge log
            lines.

    Example:
        >>> with PlanContext("nightly") as context:
        ...     context.plan_name, current_plan_name.get()
        ('nightly', 'nightly')
        >>> current_plan_name.get() is None
        True

    .. versionadded:: 0.1.0
    """

    __slots__ = ()

    var = current_plan_name

    def __init__(self, plan_name: str | None) -> None:
        if plan_name is not None and not (
            isinstance(plan_name, str)  # pyright: ignore[reportUnnecessaryIsInstance] - not all callers check types
            and plan_name.isprintable()
            and plan_name.strip()
        ):
            raise _refusal(plan_name)
        self.value = plan_name

    @property
    def plan_name(self) -> str | None:
        """The name that this context binds; the same as `value`."""
        return self.value

    @override
    @classmethod
    def require(cls) -> str:
        """Return the name of the plan that is bound here.

        Raises:
            NotBoundError: If no plan is.

        Example:
            >>> with plan_context("nightly"):
            ...     PlanContext.require()
            'nightly'

        .. versionadded:: 0.1.0
        """
        # super() refuses None, the variable's default.
        return cast("str", super().require())


def plan_context(plan_name: str | None) -> PlanContext:
    """Return a new `PlanContext`: takes and raises the same.

    Example:
        >>> import asyncio
        >>> async def work():
        ...     async with plan_context("nightly"):
        ...         return current_plan_name.get()
        >>> asyncio.run(work())
        'nightly'

    .. versionadded:: 0.1.0
    """
    return PlanContext(plan_name)


def _refusal(plan_name: object) -> TypeError | ValueError:
    """Return the error that says what is wrong with the name."""
    if not isinstance(plan_name, str):
        return TypeError(
            f"plan_name must be a str, or None for no plan; got {plan_name!r} "
            f"of type {type(plan_name).__qualname__}"
        )
    return ValueError(
        "plan_name must have something to read in it, and only printable "
        f"characters; got {plan_name!r}. For no plan, give None"
    )
