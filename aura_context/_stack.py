"""The token stack: which blocks are open in this Context, and how to leave them.

Every subtle rule of entering and leaving lives here, once. The stack is a
linked list in a ContextVar, so a child task inherits it with its copy of the
Context, and no lock nor task identity is needed (:pep:`567`).
"""

from __future__ import annotations

import weakref

from contextvars import ContextVar
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._variables import UNSET, default


if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Token


_mark = object()
"""Renewed whenever a block is abandoned, wherever in the process. Not a count, as
two threads without a lock could lose one of two increments.
"""


class Entry(weakref.ref[Any]):
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
    """`_mark` as it was when nothing from here down was abandoned: while the two are
    the same, the usual path need not look.
    """


_top: Final[ContextVar[Entry | None]] = ContextVar("aura_context_stack", default=None)


def same(one: object, other: object) -> bool:
    """Whether setting a variable from one to the other would change nothing."""
    return one is other or (type(one) is str is type(other) and one == other)


def enter(
    context: object, var: ContextVar[Any], value: object, kind: type[Entry] = Entry
) -> Entry:
    """Open a block of this context, in which the variable has the value."""
    seen = _mark
    top = _top.get()
    if top is not None and top.seen is not seen:
        top = _settle(top)
    found = var.get(UNSET)
    is_bound = found is value or same(found, value)
    entry = kind(context, _note_abandoned)
    entry.var = var
    entry.value = found if is_bound else value
    entry.found = found
    entry.undo = entry.token = None
    entry.below = top
    entry.seen = seen
    # KeyboardInterrupt can strike between any two steps: what has been pushed can
    # be found and put right (R11), so the variable is set last.
    entry.token = _top.set(entry)
    if not is_bound:
        entry.undo = var.set(value)
    return entry


def leave(context: object) -> bool:
    """Leave this context's innermost block here; False where it has none."""
    entry = _top.get()
    if (
        entry is None
        or entry() is not context
        or entry.seen is not _mark
        or (token := entry.token) is None
    ):
        return _leave_any(context)
    undo = entry.undo
    try:
        if undo is not None:
            entry.var.reset(undo)
            _top.reset(token)
        else:
            _top.reset(token)
            if entry.var.get(UNSET) is not entry.found:  # set raw in the block
                _set(entry.var, entry.found)
    except (ValueError, RuntimeError):  # of another Context, or used already
        return _leave_any(context)
    _close(entry)
    return True


Held: TypeAlias = list[tuple[Any, ContextVar[Any], Any]]
"""Blocks that a generator holds between its steps: context, variable and value. Not
weakly, as the garbage collector clears weak references before it closes a generator.
"""


class Step(Entry):
    """The outermost block of a generator's step."""

    __slots__ = ()


def put(held: Held) -> Entry:
    """Open the blocks that a generator holds, for a step; return the outermost."""
    outermost = enter(*held[0], Step)
    for block in held[1:]:
        enter(*block)
    return outermost


def lift(outermost: Entry) -> Held:
    """Leave the blocks that a generator holds after a step, and return them.

    Where a step ends in another Context, because it was dropped in the middle, there
    are none to leave (R5).
    """
    context, var = outermost(), outermost.var
    value = var.get(UNSET)
    if _top.get() is outermost and value is not UNSET:  # as usual: it holds no other
        return [(context, var, value)] if leave(context) else []
    held: Held = []
    if _belongs_here(outermost):
        for entry in _of_step(outermost):
            now = _now(entry)
            value = default(entry.var) if now is UNSET else now
            held.append((entry(), entry.var, value))
            _remove(entry)
    # One may have been abandoned, and collected, only just now.
    return [block for block in reversed(held) if block[0] is not None]


def _of_step(outermost: Entry) -> list[Entry]:
    """Return the blocks that belong to a step, innermost first.

    Above them is what belongs to other steps, in tasks that share this Context.
    """
    top: Any = _top.get()
    innermost = top if top.seen is _mark else _settle(top)
    blocks: list[Entry] = []
    for entry in takewhile(lambda each: each is not outermost, _walk(innermost)):
        blocks.append(entry)
        if isinstance(entry, Step):
            blocks.clear()
    return [*blocks, outermost]


def open_contexts() -> Iterator[Any]:
    """Iterate over the contexts whose blocks are open here, innermost first."""
    return (context for _, context in _open(_top.get()))


def _note_abandoned(entry: Entry) -> None:
    """Renew the mark, as a context has died while a block of it was open."""
    global _mark  # noqa: PLW0603 - one for the process
    if entry.token is not None:
        _mark = object()


def _walk(entry: Entry | None) -> Iterator[Entry]:
    """Iterate downwards over the entries that nobody has left."""
    while entry is not None:
        if entry.token is not None:
            yield entry
        entry = entry.below


def _open(top: Entry | None) -> Iterator[tuple[Entry, Any]]:
    """Iterate downwards over what can still be left, with the contexts that can."""
    for entry in _walk(top):
        context = entry()
        if context is not None and not _is_interrupted(entry):
            yield entry, context


def _leave_any(context: object) -> bool:
    """Leave wherever in the stack the block is."""
    top = _top.get()
    entry = next((entry for entry, each in _open(top) if each is context), None)
    if entry is None or not _belongs_here(entry):
        return False
    # First the abandoned ones, so that only blocks that count inherit below.
    _settle(top)
    _remove(entry)
    return True


def _remove(entry: Entry) -> None:
    """Leave the block, which was entered here, wherever in the stack it is."""
    _restore(entry)
    if _top.get() is entry:
        _top.set(entry.below)
    _close(entry)


def _settle(top: Entry | None) -> Entry | None:
    """Retire what was abandoned in this Context; return the innermost open entry."""
    seen = _mark
    walked: list[Entry] = []
    for entry in _walk(top):
        if entry() is not None and not _is_interrupted(entry):
            walked.append(entry)
        elif _belongs_here(entry):
            if _now(entry) is entry.value:  # else it was set raw since
                _restore(entry)
            _close(entry)
        else:  # it is for another Context to retire, and so is all below it
            break
    else:
        for entry in walked:
            entry.seen = seen
    innermost = next((entry for entry, _ in _open(top)), None)
    if innermost is not top:
        _top.set(innermost)
    return innermost


def _is_interrupted(entry: Entry) -> bool:
    """Whether a signal struck before the variable was set, or its token kept."""
    return entry.undo is None and entry.found is not entry.value


def _belongs_here(entry: Entry) -> bool:
    """Whether the block was entered in this very Context, not in one it copies.

    Only a token knows, and it can be asked once: so the stack is put back as it
    was, with a new token.
    """
    top = _top.get()
    token = entry.token
    if token is None:  # left meanwhile, by a thread that runs the other Context
        return False
    try:
        _top.reset(token)
    except (ValueError, RuntimeError):
        return False
    entry.token = _top.set(top)
    return True


def _heir(entry: Entry) -> Entry | None:
    """Return the nearest open entry above that binds the same variable."""
    above = takewhile(lambda other: other is not entry, _walk(_top.get()))
    heirs = [other for other in above if other.var is entry.var]
    return heirs[-1] if heirs else None


def _now(entry: Entry) -> Any:
    """Return what the variable holds in the block, or `UNSET`, raw sets included."""
    heir = _heir(entry)
    return entry.var.get(UNSET) if heir is None else heir.found


def _restore(entry: Entry) -> None:
    """Take the variable back to before the block, or leave that to the heir."""
    var = entry.var
    now = var.get(UNSET)
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
        heir.undo = _set(var, now)
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
