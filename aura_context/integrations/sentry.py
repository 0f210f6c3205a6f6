"""The plan in Sentry's errors and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._named import Contexts  # noqa: TC001 - get_type_hints() evaluates it
from ._shown import Shown


if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint


__all__ = ["ContextEventProcessor"]


class ContextEventProcessor:
    """An event processor that adds what is bound where the event is captured, as tags.

    A transaction is captured where it ends. A tag that the event has already is kept.
    If nothing is bound, nothing is added.

    Args:
        contexts: What to show: a mapping from the tag to the context class. Without
            it, the plan is shown as ``plan_name``, and nothing else.

    Raises:
        TypeError: If the mapping holds anything but context classes, by name.

    Example:
        >>> from aura_context import plan_context
        >>> with plan_context("nightly"):
        ...     ContextEventProcessor()({"message": "late"}, {})
        {'message': 'late', 'tags': {'plan_name': 'nightly'}}
    """

    def __init__(self, contexts: Contexts | None = None) -> None:
        self._shown = Shown(contexts, "plan_name")

    def __call__(self, event: Event, hint: Hint) -> Event:  # noqa: ARG002 - the SDK gives it
        """Add to the event and return it, as the SDK asks."""
        bound = {name: str(value) for name, value in self._shown.bound().items()}
        if bound:
            # An event may have pairs in place of a mapping.
            own: Any = event.get("tags") or {}
            event["tags"] = {**bound, **dict(own)}
        return event
