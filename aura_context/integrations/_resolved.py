"""What a middleware's resolve may return."""

from __future__ import annotations

from typing import Any, TypeAlias

from aura_context import Snapshot, VarContext

from ._named import described


Resolved: TypeAlias = VarContext[Any] | Snapshot | None
"""What a middleware's `resolve` returns: what to bind, or None for nothing."""


def checked(resolved: object) -> VarContext[Any] | Snapshot:
    """Return the context to enter, which for None binds nothing.

    Raises:
        TypeError: If that is no context.
    """
    if resolved is None:
        return Snapshot()
    if isinstance(resolved, VarContext | Snapshot):
        return resolved  # pyright: ignore[reportUnknownVariableType] - of any value
    msg = (
        "resolve must return a context, such as plan_context('nightly'), a Snapshot, "
        f"or None for nothing; got {described(resolved)}"
    )
    raise TypeError(msg)
