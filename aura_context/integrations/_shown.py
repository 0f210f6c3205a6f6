"""What the integrations show of what is bound: only what was named, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from aura_context import PlanContext, VarContext
from aura_context._stack import same
from aura_context._variables import default


if TYPE_CHECKING:
    from contextvars import ContextVar


Contexts: TypeAlias = Mapping[str, type[VarContext[Any]]]

NOTHING = "-"
"""What stands where nothing is bound, but something has to stand."""


class Shown:
    """Which variables are shown, and under which names."""

    def __init__(self, contexts: Contexts | None, plan_name: str) -> None:
        if contexts is None:  # an empty mapping shows nothing, not the plan
            contexts = {plan_name: PlanContext}
        # What a type promises is not yet so, here and below.
        if not isinstance(contexts, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"contexts maps names to context classes, got {contexts!r}"
            raise TypeError(msg)
        self.variables: dict[str, tuple[ContextVar[Any], Any]] = {}
        # Item by item, as that is how what dictConfig hands on resolves ext://...
        for name in contexts:
            cls = contexts[name]
            if not (isinstance(name, str) and name):  # pyright: ignore[reportUnnecessaryIsInstance]
                msg = f"contexts maps names to context classes, got the name {name!r}"
                raise TypeError(msg)
            if not (isinstance(cls, type) and issubclass(cls, VarContext)):  # pyright: ignore[reportUnnecessaryIsInstance]
                msg = f"{name!r} must name a VarContext class, got {cls!r}"
                raise TypeError(msg)
            if not hasattr(cls, "var"):
                msg = f"{name!r} names {cls.__qualname__}, which binds no variable"
                raise TypeError(msg)
            self.variables[name] = cls.var, default(cls.var)

    def bound(self) -> dict[str, str | float]:
        """Return what is bound here, by name; what has its default is not."""
        return {
            name: plain(value)
            for name, (var, unbound) in self.variables.items()
            if not same(value := var.get(), unbound)
        }

    def all(self) -> dict[str, str | float]:
        """Same as `bound`, with a dash for each variable that is not."""
        return {**dict.fromkeys(self.variables, NOTHING), **self.bound()}


def plain(value: Any) -> str | float:
    """Return the value as a number or a line of text.

    So nothing that changes later or does not pickle gets into a record, and nothing
    that was bound raw (a line break in it, say) forges one.
    """
    if type(value) in {bool, float, int}:
        number: float = value
        return number
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - who logs must not suffer for it
        text = f"<{type(value).__qualname__}: {type(error).__qualname__} in its str()>"
    return text if text.isprintable() else repr(text)
