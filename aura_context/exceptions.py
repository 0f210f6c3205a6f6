"""The errors that this package raises, and the warning that it gives."""

from __future__ import annotations


__all__ = ["ContextError", "ForeignExitWarning", "NotBoundError"]


class ContextError(RuntimeError):
    """The base of all errors of this package."""


class NotBoundError(ContextError, LookupError):
    """A value was required, but nothing is bound."""


class ForeignExitWarning(ResourceWarning):
    """An exit found no block that it could leave in the Context it ran in.

    The block was entered in another Context, or left already, or never entered.
    :pep:`567` lets no Context write into another, so the exit has changed at most the
    Context it ran in. Python hides this warning by default, as it does every
    :class:`ResourceWarning`; ``python -X dev`` shows it, and so does the pytest plugin.
    """
