"""The plan in the records of the standard library's logging."""

from __future__ import annotations

import logging

from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ._named import Contexts  # noqa: TC001 - get_type_hints() evaluates it
from ._shown import Shown


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["ContextFilter", "install", "uninstall"]

# What Formatter adds, and, where Python is too old to have it, taskName.
_TAKEN = {
    *dir(logging.LogRecord("", 0, "", 0, "", (), None)),
    *("asctime", "message", "taskName"),
}


class ContextFilter(logging.Filter):
    """Adds what is bound to each record; lets every record pass.

    Add it to handlers, because a logger's filters do not see the records of its
    children. The first handler of a record runs in the thread that logs. If that is a
    ``QueueHandler``, add the filter to it, not to the handlers behind the queue.

    Args:
        contexts: What to show: a mapping from the attribute's name to the context
            class. Without it, the plan is shown as ``aura_plan_name``, and nothing
            else.

    Raises:
        TypeError: If the mapping holds anything but context classes, by name.
        ValueError: If every LogRecord has an attribute of that name.

    Example:
        >>> import logging, sys
        >>> from aura_context import plan_context
        >>> handler = logging.StreamHandler(sys.stdout)
        >>> handler.addFilter(ContextFilter())
        >>> handler.setFormatter(logging.Formatter("%(aura_plan_name)s | %(message)s"))
        >>> log = logging.getLogger("doctest.filter")
        >>> log.addHandler(handler)
        >>> with plan_context("nightly"):
        ...     log.warning("running late")
        nightly | running late
        >>> log.removeHandler(handler)
    """

    def __init__(self, contexts: Contexts | None = None) -> None:
        super().__init__()
        self._shown = _shown(contexts)

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Add what the record does not have yet, and let it pass."""
        _complete(record, self._shown)
        return True


def install(contexts: Contexts | None = None) -> None:
    """Add what is bound to every record from now on, where the record is made.

    This sets the record factory, which makes all records, those of other packages
    included. The previous factory is kept and called. A second call adds to what is
    shown.

    Args:
        contexts: As in `ContextFilter`.

    Raises:
        TypeError: If the mapping holds anything but context classes, by name.
        ValueError: If every LogRecord has an attribute of that name.

    Example:
        >>> import logging
        >>> from aura_context import plan_context
        >>> install()
        >>> with plan_context("nightly"):
        ...     logging.makeLogRecord({}).aura_plan_name
        'nightly'
        >>> uninstall()
    """
    shown = _shown(contexts)
    if _Factory.installed is not None:
        shown.contexts = {**_Factory.installed.shown.contexts, **shown.contexts}
    uninstall()
    _Factory.installed = _Factory(logging.getLogRecordFactory(), shown)
    logging.setLogRecordFactory(_Factory.installed)


def uninstall() -> None:
    """Undo all calls of `install`; do nothing if there were none.

    A record factory that was set since stays. If it calls the installed one, that one
    now only calls the factory before it.
    """
    _Factory.installed = None
    factory: Any = logging.getLogRecordFactory()
    while isinstance(factory, _Factory):  # also one that was left below another
        factory = factory.inner
    logging.setLogRecordFactory(factory)


class _Factory:
    """Makes records with another factory, and completes them while installed."""

    installed: ClassVar[_Factory | None] = None

    def __init__(self, inner: Callable[..., logging.LogRecord], shown: Shown) -> None:
        self.inner = inner
        self.shown = shown

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.inner(*args, **kwargs)
        if self is _Factory.installed:
            _complete(record, self.shown)
        return record


def _shown(contexts: Contexts | None) -> Shown:
    """Return what to show, if the names are free."""
    shown = Shown(contexts, "aura_plan_name")
    if taken := sorted(_TAKEN.intersection(shown.contexts)):
        msg = f"a LogRecord has {', '.join(taken)} itself: choose another name"
        raise ValueError(msg)
    return shown


def _complete(record: logging.LogRecord, shown: Shown) -> None:
    """Add the attributes, except those that the record has already.

    Those are the application's own, or come from the thread that made the record.
    """
    attributes = vars(record)
    for name, value in shown.all().items():
        attributes.setdefault(name, value)
