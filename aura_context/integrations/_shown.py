"""The values that integrations show: only what was named, as numbers or text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aura_context import PlanContext
from aura_context._text import is_readable

from ._named import named


if TYPE_CHECKING:
    from ._named import Contexts


NOTHING = "-"
"""Shown if nothing is bound, but a value is needed."""


class Shown:
    """Which variables are shown, and under which names."""

    def __init__(self, contexts: Contexts | None, plan_name: str) -> None:
        # An empty mapping shows nothing, not the plan.
        self.contexts = named(
            {plan_name: PlanContext} if contexts is None else contexts
        )

    def bound(self) -> dict[str, str | float]:
        """Return what is bound here, by name, without variables that have a default."""
        return {
            name: plain(cls.var.get())
            for name, cls in self.contexts.items()
            if cls.is_bound()
        }

    def all(self) -> dict[str, str | float]:
        """Return the same, with a dash for each variable that is not bound."""
        return {**dict.fromkeys(self.contexts, NOTHING), **self.bound()}


def plain(value: Any) -> str | float:
    """Return the value as a number or a line of text.

    A record then holds nothing that changes later or does not pickle, and no raw value
    forges a line. Text that could be a plan's name (rule N1) stays as it is; other text
    becomes its ``repr``.
    """
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - logging must not fail
        if type(value) is int:  # of more digits than Python writes
            return f"<int of {value.bit_length()} bits>"
        return f"<{type(value).__qualname__}: {type(error).__qualname__} in its str()>"
    if type(value) in {bool, float, int}:
        number: float = value
        return number
    return text if is_readable(text) else repr(text)


def of_64_bits(value: str | float) -> str | float:
    """Return the value, as text if it is an int too large for JSON or OTLP."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return str(value)
    return value
