"""The plan in loguru's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._named import Contexts  # noqa: TC001 - get_type_hints() evaluates it
from ._shown import Shown


if TYPE_CHECKING:
    from loguru import Record  # known to type checkers only


__all__ = ["ContextPatcher"]


class ContextPatcher:
    """A patcher that adds what is bound where the message is logged.

    Values go into ``record["extra"]``. If nothing is bound, the value is ``"-"``, so
    that a format can rely on the key. An application's own value of that name is kept.

    Args:
        contexts: What to show: a mapping from the key to the context class. Without
            it, the plan is shown as ``plan_name``, and nothing else.

    Raises:
        TypeError: If the mapping holds anything but context classes, by name.

    Example:
        >>> from aura_context import plan_context
        >>> record = {"extra": {}}
        >>> with plan_context("nightly"):
        ...     ContextPatcher()(record)
        >>> record
        {'extra': {'plan_name': 'nightly'}}
    """

    def __init__(self, contexts: Contexts | None = None) -> None:
        self._shown = Shown(contexts, "plan_name")

    def __call__(self, record: Record) -> None:
        """Add to the record, as loguru asks."""
        for name, value in self._shown.all().items():
            record["extra"].setdefault(name, value)
