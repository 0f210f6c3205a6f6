"""The errors that this package raises, and the warning that it gives."""

from __future__ import annotations


__all__ = [
    "ContextError",
    "ForeignExitWarning",
    "NotBoundError",
    "NotEnteredError",
]


class ContextError(RuntimeError):
    """The base of all errors of this package.

    .. versionadded:: 0.1.0
    """


class NotEnteredError(ContextError):
    """A context was left that had never been entered.

    .. versionadded:: 0.1.0
    """


class NotBoundError(ContextError, LookupError):
    """A value was required where the variable has its default.

    .. versionadded:: 0.1.0
    """


class ForeignExitWarning(ResourceWarning):
    """A block was left in another Context than the one that entered it.

    The exit changed nothing there: :pep:`567` lets no Context write into
    another. Python hides this warning by default, as it does every
    :class:`ResourceWarning`; ``python -X dev`` and pytest show it.

    .. versionadded:: 0.1.0
    """
