"""What the integrations show of what is bound: only what was named, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aura_context import PlanContext
from aura_context._text import is_readable

from ._named import named


if TYPE_CHECKING:
    from ._named import Contexts


NOTHING = "-"
"""What stands where nothing is bound, but something has to stand."""


class Shown:
    """Which variables are shown, and under which names."""

    def __init__(self, contexts: Contexts | None, plan_name: str) -> None:
        # An empty mapping shows nothing, not the plan.
        self.contexts = named(
            {plan_name: PlanContext} if contexts is None else contexts
        )

    def bound(self) -> dict[str, str | float]:
        """Return what is bound here, by name; what has its default is not."""
        return {
            name: plain(cls.var.get())
            for name, cls in self.contexts.items()
            if cls.is_bound()
        }

    def all(self) -> dict[str, str | float]:
        """Same as `bound`, with a dash for each variable that is not."""
        return {**dict.fromkeys(self.contexts, NOTHING), **self.bound()}


def plain(value: Any) -> str | float:
    """Return the value as a number or a line of text.

    So nothing that changes later or does not pickle gets into a record, and nothing
    that was bound raw (a line break in it, say) forges one. Text that a plan's name
    could be (rule N1) stands as it is, any other as its ``repr``.
    """
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - who logs must not suffer for it
        if type(value) is int:  # of more digits than Python writes
            return f"<int of {value.bit_length()} bits>"
        return f"<{type(value).__qualname__}: {type(error).__qualname__} in its str()>"
    if type(value) in {bool, float, int}:
        number: float = value
        return number
    return text if is_readable(text) else repr(text)


def of_64_bits(value: str | float) -> str | float:
    """Return the value, as text if it is an int that JSON or OTLP may not hold."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return str(value)
    return value
