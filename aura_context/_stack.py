"""The token stack: which blocks are open in this Context, and how to leave them.

Every subtle rule of entering and leaving lives here, once. The stack is a
linked list in a ContextVar, so a child task inherits it with its copy of the
Context, and no lock nor task identity is needed (:pep:`567`).
"""

from __future__ import annotations

import weakref

from abc import abstractmethod
from contextvars import ContextVar
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from ._variables import UNSET, default


if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Token
    from types import TracebackType


mark = object()
"""Renewed whenever a block is abandoned, wherever in the process. Not a count, as
two threads without a lock could lose one of two increments.
"""

tidied = object()
"""Renewed whenever `settle` has gone through a stack, and may have changed it: an enter
that finds it renewed at its end may have gone by what is no longer so.
"""


class Entry(weakref.ref["Enterable"]):
    """One open block: a weak reference to its context, and the way back.

    Weak, because a context that is gone can leave no block: an entry whose
    context has died while it was open is *abandoned* and does not count.
    """

    __slots__ = ("below", "found", "seen", "token", "undo", "value", "var")

    var: ContextVar[Any]
    value: Any
    found: Any
    """What the variable held before, or `UNSET`."""
    undo: Token[Any] | None
    """Takes the variable back to `found`; None where nothing had to be set."""
    token: Token[Entry | None] | None
    """Takes the stack back, in the Context that entered; None once left."""
    below: Entry | None
    seen: object
    """`mark` as it was when nothing from here down was abandoned: while the two are
    the same, the usual path need not look.
    """


class Step(Entry):
    """The outermost block of a generator's step; see `_steps`."""

    __slots__ = ()


class StepEnded(BaseException):
    """Never raised: as if with it, a step leaves its block.

    It may have been dropped in the middle and end elsewhere, of which nobody is warned.
    """


stack: Final[ContextVar[Entry | None]] = ContextVar("aura_context_stack", default=None)


def same(one: object, other: object) -> bool:
    """Whether setting a variable from one to the other would change nothing."""
    return one is other or (type(one) is str is type(other) and one == other)


class Enterable:
    """What can be entered: opens a block that binds its variable to its value.

    The usual path is written out in the two methods, as calls would cost 6 to 9 %.
    """

    __slots__ = ("__weakref__", "_entered")

    var: ClassVar[ContextVar[Any]]
    value: Any
    _entered: bool
    """Whether it has ever been entered; not set where it has not."""

    def __enter__(self) -> Self:
        """Bind the value.

        Example:
            >>> from aura_context import plan_context
            >>> with plan_context("nightly") as context:
            ...     context.value
            'nightly'

        .. versionadded:: 0.1.0
        """
        try:
            self._entered = True
        except (AttributeError, TypeError):  # frozen, as a dataclass may be
            object.__setattr__(self, "_entered", True)
        entry = Entry(self, _note_abandoned)
        entry.undo = entry.token = None
        # First, as they may be properties, and use the library.
        entry.var = var = self.var
        value = self.value
        entry.seen = seen = mark
        before = tidied
        top = stack.get()
        if top is not None and (top.seen is not seen or top.token is None):
            top = settle(top)
            before = tidied
        entry.below = top
        entry.found = found = var.get(UNSET)
        # KeyboardInterrupt can strike between any two steps: what has been pushed can
        # be found and put right (R11), so the variable is set last. Here is `same`.
        if found is value or (type(found) is str is type(value) and found == value):
            entry.value = found
            entry.token = stack.set(entry)
        else:
            entry.value = value
            entry.token = stack.set(entry)
            entry.undo = var.set(value)
        # Changed meanwhile, as by a finaliser: garbage is collected anywhere.
        if tidied is not before or (top is not None and top.token is None):
            return self._enter_again(entry)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        """Restore what the variable held before, and let any exception pass.

        Returns:
            False if this context has no block to leave here. Nothing that is true, as
            that would swallow the exception.

        Raises:
            NotEnteredError: If this context has never been entered.

        Warns:
            ForeignExitWarning: If the block was not entered in this Context.
        """
        entry = stack.get()
        if (
            entry is None
            or entry() is not self
            or entry.seen is not mark
            or (token := entry.token) is None
        ):
            return self._leave_unusually(exc_type)
        undo = entry.undo
        try:
            if undo is not None:
                entry.var.reset(undo)
                stack.reset(token)
            else:
                value = entry.var.get(UNSET)
                stack.reset(token)
                if value is not entry.found:  # set raw in the block
                    _set(entry.var, entry.found)
        except (ValueError, RuntimeError):  # of another Context, or used already
            pass
        else:
            entry.token = entry.undo = entry.value = entry.found = None
            if (below := entry.below) is not None and below.token is None:
                _close(entry)
            return None
        return self._leave_unusually(exc_type)

    def _enter_again(self, entry: Entry) -> Self:
        """Take back an enter that may have gone by what is no longer so; then enter."""
        undo = entry.undo
        # What was retired meanwhile is put back, but for "unset", which needs a token.
        if undo is not None and (entry.token or undo.old_value is undo.MISSING):
            entry.var.reset(undo)
        # Else the next enter would have to settle, and send others back in its turn.
        if entry.token and stack.get() is entry:
            stack.set(entry.below)
        _close(entry)
        Enterable.__enter__(self)
        return self

    def _leave_unusually(self, exc_type: object) -> Literal[False] | None:
        """Leave where the usual path does not lead, or tell that nothing is here."""
        if leave_any(self):
            return None
        if exc_type is not StepEnded:
            self._left_elsewhere()
        return False

    @abstractmethod
    def _left_elsewhere(self) -> None:
        """Tell of an exit that found no block to leave here."""


def open_contexts() -> Iterator[Any]:
    """Iterate over the contexts whose blocks are open here, innermost first."""
    return (context for _, context in _open(stack.get()))


def _note_abandoned(entry: Entry) -> None:
    """Renew the mark, as a context has died while a block of it was open."""
    global mark  # noqa: PLW0603 - one for the process
    # A signal may have struck before it had one.
    if getattr(entry, "token", None) is not None:
        mark = object()


def walk(entry: Entry | None) -> Iterator[Entry]:
    """Iterate downwards over the entries that nobody has left."""
    while entry is not None:
        if entry.token is not None:
            yield entry
        entry = entry.below


def _open(top: Entry | None) -> Iterator[tuple[Entry, Any]]:
    """Iterate downwards over what can still be left, with the contexts that can."""
    for entry in walk(top):
        context = entry()
        if context is not None and not _is_interrupted(entry):
            yield entry, context


def leave_any(context: object) -> bool:
    """Leave this context's innermost block, wherever in the stack it is.

    False, and no word of it, if there is none in this Context.
    """
    top = stack.get()
    entry = next((entry for entry, each in _open(top) if each is context), None)
    if entry is None or not belongs_here(entry):
        return False
    # First the abandoned ones, so that only blocks that count inherit below.
    settle(top)
    remove(entry)
    return True


def remove(entry: Entry) -> None:
    """Leave the block, which was entered here, wherever in the stack it is."""
    _restore(entry)
    if stack.get() is entry:
        stack.set(entry.below)
    _close(entry)


def settle(top: Entry | None) -> Entry | None:
    """Retire what was abandoned in this Context; return the innermost open entry."""
    global tidied  # noqa: PLW0603 - one for the process
    tidied = object()
    seen = mark
    walked: list[Entry] = []
    for entry in walk(top):
        if entry() is not None and not _is_interrupted(entry):
            walked.append(entry)
        elif belongs_here(entry):
            if current(entry) is entry.value:  # else it was set raw since
                _restore(entry)
            _close(entry)
        else:  # it is for another Context to retire, and so is all below it
            break
    else:
        for entry in walked:
            entry.seen = seen
    innermost = next((entry for entry, _ in _open(top)), None)
    if innermost is not top:
        stack.set(innermost)
    return innermost


def _is_interrupted(entry: Entry) -> bool:
    """Whether a signal struck before the variable was set, or its token kept."""
    return entry.undo is None and entry.found is not entry.value


def belongs_here(entry: Entry) -> bool:
    """Whether the block was entered in this very Context, not in one it copies.

    Only a token knows, and it can be asked once: so the stack is put back as it
    was, with a new token.
    """
    top = stack.get()
    token = entry.token
    if token is None:  # left meanwhile, by a thread that runs the other Context
        return False
    try:
        stack.reset(token)
    except (ValueError, RuntimeError):
        return False
    entry.token = stack.set(top)
    return True


def _heir(entry: Entry) -> Entry | None:
    """Return the nearest open entry above that binds the same variable."""
    above = takewhile(lambda other: other is not entry, walk(stack.get()))
    heirs = [other for other in above if other.var is entry.var]
    return heirs[-1] if heirs else None


def current(entry: Entry) -> Any:
    """Return what the variable holds in the block, or `UNSET`, raw sets included."""
    heir = _heir(entry)
    return entry.var.get(UNSET) if heir is None else heir.found


def _restore(entry: Entry) -> None:
    """Take the variable back to before the block, or leave that to the heir."""
    var = entry.var
    value = var.get(UNSET)
    heir = _heir(entry)
    if heir is not None and heir.undo is not None:
        try:
            var.reset(heir.undo)
        except RuntimeError:  # a signal struck after this line of its own exit
            _close(heir)
            _restore(entry)
            return
    try:
        if entry.undo is not None:
            var.reset(entry.undo)
        elif var.get(UNSET) is not entry.found:
            _set(var, entry.found)
    except RuntimeError:  # likewise: the variable is back already
        return
    if heir is not None:
        heir.undo = _set(var, value)
        heir.found = entry.found


def _set(var: ContextVar[Any], value: object) -> Token[Any]:
    """Set the variable; nothing can unset it, but its default reads the same."""
    return var.set(default(var) if value is UNSET else value)


def _close(entry: Entry) -> None:
    """Mark as left, and let go of all that would keep a Context alive.

    A child's copy of the stack may hold this entry for long after.
    """
    entry.token = entry.undo = entry.value = entry.found = None
    below = entry.below
    while below is not None and below.token is None:
        below = below.below
    entry.below = below
