"""The plan in structlog's events."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from ._named import Contexts  # noqa: TC001 - get_type_hints() evaluates it
from ._shown import Shown, of_64_bits


__all__ = ["ContextProcessor"]


class ContextProcessor:
    """A processor that adds what is bound where the event is logged.

    An application's own value of that name is kept. If nothing is bound, nothing is
    added.

    Args:
        contexts: What to show: a mapping from the key to the context class. Without
            it, the plan is shown as ``plan_name``, and nothing else.

    Raises:
        TypeError: If the mapping holds anything but context classes, by name.

    Example:
        >>> from aura_context import plan_context
        >>> with plan_context("nightly"):
        ...     ContextProcessor()(None, "info", {"event": "begin"})
        {'event': 'begin', 'plan_name': 'nightly'}
    """

    def __init__(self, contexts: Contexts | None = None) -> None:
        self._shown = Shown(contexts, "plan_name")

    def __call__(
        self,
        logger: Any,  # noqa: ARG002 - structlog gives it
        method_name: str,  # noqa: ARG002 - likewise
        event_dict: MutableMapping[str, Any],
    ) -> MutableMapping[str, Any]:
        """Add to the event and return it, as structlog asks."""
        for name, value in self._shown.bound().items():
            event_dict.setdefault(name, of_64_bits(value))
        return event_dict
