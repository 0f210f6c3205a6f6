"""The token stack: which blocks are open in this Context, and how each is left.

The stack is a linked list of `Entry`, one for each block, innermost first. Its head is
the value of a ContextVar, so a child task inherits the list along with its copy of the
Context: there are no locks, and the code never asks which task or thread runs it
(:pep:`567`, R12). An entry may stay on the list for a while after its block was left.

A block is left by its *handle*: the object whose ``__exit__`` is called, which is the
context itself or, for a decorated call, a private object. Leaving the innermost block
usually resets two tokens, and most programs need nothing else. `Binding` contains that
path. The rest of this module is about what is unusual:

- a block is left while blocks above it are still open: the nearest of them that binds
  the same variable, its *heir*, takes over what the block would have restored (R4);
- a block is left in a Context other than the one that entered it: resetting its token
  fails, and at most the current Context changes (R5);
- a block can no longer be left, because its handle is gone. It is *abandoned*, and the
  next enter or exit *settles* it, restoring what its exit would have restored (R11);
- other code runs in the middle of an enter or exit (R13). Python runs signal handlers,
  finalisers and other threads between two instructions, in practice after a call, and
  trace functions between two lines. So what is done is on one line with a check of all
  that it relies on; where that has changed, the exit starts again.

``docs/explanation/stack.md`` has diagrams of the first three. A variable that is set
with ``ContextVar.set``, rather than by a block, is set *raw*.
"""

from __future__ import annotations

import operator
import weakref

from collections import defaultdict
from contextvars import ContextVar, Token
from enum import Enum
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from typing_extensions import override

from ._variables import MISSING, default, set_or_default


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    AnyPart: TypeAlias = "Entry | PartOfMany"  # which have the slots of a `Part`


class State(Enum):
    """What an entry holds in place of a token."""

    ENTERING = "entering"
    """There is no token yet, or the enter was interrupted before it was stored."""
    SAME = "same"
    """The variable held the value already, so it was not set (R2)."""
    LEFT = "left"
    """The block has been left."""


ENTERING: Final = State.ENTERING
SAME: Final = State.SAME
LEFT: Final = State.LEFT

EMPTY: Final = MISSING
"""The end of the stack, and so the ``old_value`` of the first entry's token."""

abandoned_epoch = object()
"""Replaced each time a handle dies with a block still open, anywhere in the process.

An object rather than a counter: without a lock, two threads could lose an increment.
"""

stack: Final[ContextVar[Any]] = ContextVar("aura_context_stack", default=EMPTY)


class Part:
    """What a block did to one variable, and how to undo it."""

    __slots__ = ()

    var: ContextVar[Any]
    value: Any
    """The value that the block binds."""
    before: Any
    """What the variable held before the block, or `MISSING`; a `State` if unknown."""
    var_token: Token[Any] | State
    """Resets the variable; a `State` if there is nothing to reset."""


class PartOfMany(Part):
    """What a block that binds several variables did to one of them."""

    __slots__ = ("before", "value", "var", "var_token")

    def __init__(
        self,
        var: ContextVar[Any],
        value: object,
        before: object,
        token: Token[Any] | State,
    ) -> None:
        self.var = var
        self.value = value
        self.before = before
        self.var_token = token


class Entry(Part, weakref.ref["Handle"]):
    """A block that binds one variable.

    It is a weak reference to its handle. Weak, because a block whose handle is gone
    cannot be left any more, and must not count as open (R11).
    """

    __slots__ = (
        "before", "below", "checked", "covered", "kin", "stack_token", "value", "var",
        "var_token",
    )  # fmt: skip

    stack_token: Token[Any] | State
    """From the push. ``reset`` accepts it only in the Context that entered."""
    below: Any
    """The next entry, or `EMPTY`."""
    checked: object
    """The last `abandoned_epoch` at which nothing from here down was abandoned."""
    covered: bool
    """Whether a block may be on top of this one, or was during its enter (R13)."""
    kin: object
    """Shared by blocks that are known to be of one Context; unset until needed."""

    # Frameworks copy back values that differ between two Contexts, and weak references
    # compare equal if their referents do.
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def part(self, var: ContextVar[Any]) -> AnyPart | None:
        """Return what the block did to this variable, if it binds it."""
        return self if self.var is var else None

    def parts(self) -> Iterable[AnyPart]:
        """Return what the block did to each variable that it binds."""
        return (self,)

    def belongs_here(self) -> bool:
        """Whether this Context entered the block, and did not inherit it by copying.

        Only ``reset`` can tell, and it uses up the token, so a new one replaces it.
        """
        token = self.stack_token
        if not isinstance(token, Token):
            return token is ENTERING
        try:
            self.stack_token = renew(stack, token)
        except (ValueError, RuntimeError):
            # Another Context's token, or a used one: code that ran in the middle may
            # have renewed it (R13), and another thread may have left the block.
            return self.stack_token is not token and self.belongs_here()
        return True

    def above(self) -> list[Entry]:
        """Return the open blocks above, innermost first."""
        entries: list[Entry] = []
        entry = stack.get()
        while entry is not self and entry is not EMPTY:
            if entry.stack_token is not LEFT:
                entries.append(entry)
            entry = entry.below
        return entries

    def own(self, above: list[Entry]) -> list[Entry]:
        """Return those of the blocks above that belong to this block's Context.

        Checking a token is slow, so the answer is kept: blocks of one Context share a
        `kin`, and do so in every Context.
        """
        if not hasattr(self, "kin"):
            self.kin = object()
        entries: list[Entry] = []
        for entry in above:
            if getattr(entry, "kin", None) is not self.kin:
                if not entry.belongs_here():
                    continue
                entry.kin = self.kin
            entries.append(entry)
        return entries

    def now(self, var: ContextVar[Any]) -> Any:
        """Return what the variable holds in this block, raw sets included."""
        heir, _ = _heir(self.own(self.above()), var)
        return var.get(MISSING) if heir is None else heir.before

    def leave(self) -> bool:
        """Leave this block, which this Context entered, wherever on the stack it is.

        If code that runs in the middle changes what this relies on, it starts again.
        Return False if that code has left this very block (R13).
        """
        top, token = stack.get(), self.stack_token
        if token is LEFT:
            return False
        above = self.above()
        own = self.own(above)
        if len(own) < len(above):
            if stack.get() is top:
                self._drop_copied(own)
            return self.leave()
        if not all(
            _leave_part(part, *_heir([*own], part.var), top) for part in self.parts()
        ):
            return self.leave()
        if not own:
            _pop(self, self.below)
        return self.close()

    def leave_here_only(self) -> None:
        """Leave a block that another Context entered, in this Context alone (R5)."""
        for part in self.parts():
            before = part.before
            if self.stack_token is LEFT:  # another thread has just left it
                return
            if before is not ENTERING and part.var.get(MISSING) is not before:
                set_or_default(part.var, before)
        stack.set(self.below)

    def _drop_copied(self, own: list[Entry]) -> None:
        """Take the blocks above that other Contexts entered off the stack (R4).

        Each own block is then linked to the next. It gets a new token, because the old
        one would bring the copied blocks back.
        """
        top = own[0] if own else self
        for upper, lower in pairwise([*own, self]):
            upper.below = lower
            stack.set(lower)
            upper.stack_token = stack.set(top)
        stack.set(top)

    def close(self) -> bool:
        """Mark the block as left, and drop whatever would keep its Context alive.

        A child's copy of the stack may hold on to this entry long afterwards (R8).
        Return whether the block was still open.
        """
        is_open, self.stack_token = self.stack_token is not LEFT, LEFT
        self.var_token = self.value = self.before = LEFT
        below = self.below
        while below is not EMPTY and below.stack_token is LEFT:
            below = below.below
        self.below = below
        return is_open

    def finish_enter(self, handle: Handle) -> None:
        """Finish an enter, if other code has entered or left blocks meanwhile (R13).

        Blocks that are still open may lie below this entry or above it, and blocks that
        were left may have changed the variable. If any is open above, a twin of this
        entry replaces it on top.
        """
        if self.stack_token is LEFT:  # other code has left it already
            return
        if isinstance(self.stack_token, Token):
            self.below = self.stack_token.old_value
        if self.below is not EMPTY:
            self.checked = self.below.checked
        above = self.above()
        for part in self.parts():
            var, token, now = part.var, part.var_token, part.var.get(MISSING)
            (heir, _), (last, _) = _heir([*above], var), _heir(above[::-1], var)
            found = part.before
            part.before = token.old_value if isinstance(token, Token) else part.value
            # If what is newer binds the same, a token is older, or it would be `SAME`.
            newest = last.value if last else found
            is_older = newest is part.value is not part.before
            if now is not part.value or is_older or token is ENTERING:
                if (
                    heir is not None
                    and isinstance(token, Token)
                    and heir.before is part.value is not found
                ):
                    heir.var_token, heir.before = token, part.before
                part.before = now
                part.var_token = set_or_default(var, part.value)
        if above:
            moved = self.twin(handle)
            moved.stack_token, moved.covered = ENTERING, False
            moved.var_token = self.var_token
            moved.below = top = stack.get()
            moved.checked = top.checked
            moved.stack_token = stack.set(moved)
            self.close()
        self.covered = False

    def twin(self, handle: Handle) -> Entry:
        """Return a new entry, not on the stack yet, that binds the same."""
        twin = Entry(handle, note_abandoned)
        twin.var, twin.value, twin.before = self.var, self.value, self.before
        return twin


class Handle:
    """The object that leaves a block: a context, or a private object of one call.

    Blocks are found by the identity of their handle.
    """

    __slots__ = ("__weakref__",)

    def listed(self) -> Any:
        """Return what `active_contexts` lists for the block."""
        return self

    def warn_foreign_exit(self) -> None:
        """Warn that an exit has left no block of this Context (R5)."""

    def explain_missing(self) -> None:
        """Raise an error that says what to write, if there is nothing to bind (N4)."""

    def leave_unusually(self) -> Literal[False] | None:
        """Do every exit that the usual path does not; return False after a warning."""
        if leave(self) or _leave_suspended(self):
            return None
        self.warn_foreign_exit()
        return False


class Private(Handle):
    """The handle of one call of a decorated function, generator or ``snapshot.run()``.

    One call never leaves another's block, though they share a context (R3). The block
    is abandoned as soon as the frame that holds the handle is gone (R11).
    """

    __slots__ = ("context", "is_step")

    context: Any
    is_step: bool
    """Set if the block is around a generator's step; see `_steps`."""

    @override
    def listed(self) -> Any:
        """Return the context, which all calls share."""
        return self.context


class Binding(Handle):
    """Binds one variable to one value for a block.

    Both methods contain the usual path, because function calls would cost 6 to 9 %.
    """

    __slots__ = ()

    var: ClassVar[ContextVar[Any]]
    value: Any

    def __enter__(self) -> Self:
        """Bind the value."""
        try:
            entry = Entry(self, note_abandoned)
            entry.stack_token = entry.var_token = entry.before = ENTERING
            entry.covered = False
            # Read first, because either may be a property that uses this library.
            entry.var = var = self.var
            entry.value = value = self.value
        except AttributeError:
            self.explain_missing()
            raise
        else:  # because on CPython 3.14, local variables are slower after a try
            entry.checked = checked = abandoned_epoch
            top = stack.get()
            if top is not EMPTY:
                if top.checked is not checked or top.stack_token is LEFT:
                    top = settle()
                    entry.checked = checked if top is EMPTY else top.checked
                if top is not EMPTY:
                    top.covered = True
            entry.below = top
            # Push before setting: KeyboardInterrupt may be raised in between, and only
            # a block on the stack can be found and undone (R11).
            entry.stack_token = token = stack.set(entry)
            entry.before = before = var.get(MISSING)
            if before is value or (
                type(before) is str is type(value) and before == value
            ):
                entry.value = before  # later compared by identity
                entry.var_token = SAME
            else:
                entry.var_token = var.set(value)
            if entry.covered or token.old_value is not top:
                entry.finish_enter(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        """Restore what the variable held before, and let any exception pass."""
        entry: Entry = stack.get()
        if (
            entry is EMPTY
            or entry() is not self
            or entry.checked is not abandoned_epoch
        ):
            return self.leave_unusually()
        try:
            # Other code may enter a block on top, and keep it open, between two lines
            # or after any call. None can between a check and its `reset` (R13).
            if (token := entry.var_token) is not SAME:
                if entry.covered or entry.var.reset(token):  # type: ignore[func-returns-value,arg-type] # pyright: ignore[reportArgumentType] - a state is refused
                    return self.leave_unusually()
                if entry.covered or stack.reset(entry.stack_token):  # type: ignore[func-returns-value,arg-type] # pyright: ignore[reportArgumentType] - likewise
                    return self.leave_unusually()
            else:
                value = entry.var.get(MISSING)
                if entry.covered or stack.reset(entry.stack_token):  # type: ignore[func-returns-value,arg-type] # pyright: ignore[reportArgumentType] - likewise
                    return self.leave_unusually()
                if value is not entry.before:  # set raw in the block
                    set_or_default(entry.var, entry.before)
        except (ValueError, RuntimeError, TypeError):
            # The token is another Context's, or was used, or there is none.
            return self.leave_unusually()
        entry.stack_token = entry.var_token = entry.value = entry.before = LEFT
        if (below := entry.below) is not EMPTY:
            below.covered = below.var_token is ENTERING  # then it has to look again
            if below.stack_token is LEFT:
                entry.close()
        return None


def push(entry: Entry) -> None:
    """Put a block on top of the stack, as `Binding.__enter__` does itself."""
    entry.checked = checked = abandoned_epoch
    top = stack.get()
    if top is not EMPTY and (top.checked is not checked or top.stack_token is LEFT):
        top = settle()
        entry.checked = checked if top is EMPTY else top.checked
    if top is not EMPTY:
        top.covered = True
    entry.below = top
    entry.stack_token = token = stack.set(entry)
    if token.old_value is not top:  # a block was entered or left meanwhile (R13)
        entry.covered = True


def leave(handle: object) -> bool:
    """Leave the handle's innermost block, wherever it is on the stack (R4, R5).

    Return whether there is one that this Context entered. If another Context did, and
    the block is the innermost here, it is left in this Context alone.
    """
    top = stack.get()
    entry = find(handle, top)
    if entry is None:
        return False
    belongs_here = entry.belongs_here()
    if top.checked is not abandoned_epoch:
        # Settle first, so that no abandoned block becomes an heir or counts as open.
        settle()
    if belongs_here:
        return entry.leave() or leave(handle)
    if entry.stack_token is LEFT:  # other code has left it meanwhile (R13)
        return leave(handle)
    if next(walk(stack.get()), None) is entry:
        entry.leave_here_only()
    return False


def leave_leftovers(handle: object) -> None:
    """Leave the blocks of this Context above the handle's innermost one.

    Used only where a request or task ends, because no block may outlive it. Overrides
    of ``__exit__`` do not run, and nothing warns.
    """
    entry = find(handle, stack.get())
    if entry is not None and entry.belongs_here():
        for other in entry.own(entry.above()):
            other.leave()


def settle() -> Any:
    """Settle this Context's abandoned blocks; return the innermost with a live handle.

    A single walk downwards collects the possible heirs of each variable, so it serves
    any number of abandoned blocks (R11).
    """
    top, epoch, is_entering = stack.get(), abandoned_epoch, False
    entries: list[Entry] = []
    above: defaultdict[ContextVar[Any], list[Entry]] = defaultdict(list)
    for entry in walk(top):
        if entry() is not None:
            entries.append(entry)
            is_entering = is_entering or entry.var_token is ENTERING
            for part in entry.parts():
                above[part.var].append(entry)
        elif entry.belongs_here():
            is_raw = False
            for part in entry.parts():
                heir, busy = _heir(above[part.var], part.var)
                now = part.var.get(MISSING) if heir is None else heir.before
                if now is not part.value:  # set raw since
                    is_raw = True
                elif not _leave_part(part, heir, busy, top):
                    return settle()
            if is_raw and (is_entering or stack.get() is not top):
                entries.clear()  # it waits: an enter may have set it meanwhile (R13)
            else:
                entry.close()
        else:  # only its own Context can settle it: those above stay unchecked
            entries.clear()
    for entry in entries:
        entry.checked = epoch
    innermost = next((entry for entry in walk(top) if entry() is not None), EMPTY)
    return _pop(top, innermost)


def _pop(top: Any, below: Any) -> Any:
    """Take the top off the stack, unless it is not the top any more; return what is.

    Blocks that were entered in the middle may be open above it (R13).
    """
    popped = stack.set(below).old_value
    if popped is top:
        return below
    stack.set(popped)
    return popped


def walk(entry: Any) -> Iterator[Entry]:
    """Iterate downwards over the blocks that have not been left."""
    while entry is not EMPTY:
        if entry.stack_token is not LEFT:
            yield entry
        entry = entry.below


def open_contexts() -> Iterator[Any]:
    """Iterate over the contexts whose blocks are open here, innermost first."""
    for entry in walk(stack.get()):
        handle = entry()
        if handle is not None and entry.var_token is not ENTERING:
            yield handle.listed()


def same(one: object, other: object) -> bool:
    """Whether setting a variable from one to the other changes nothing (R2)."""
    return one is other or (type(one) is str is type(other) and one == other)


def renew(var: ContextVar[Any], old: object) -> Token[Any]:
    """Set the variable to what it holds; return a token that restores what `old` would.

    That is a value, or a token, which works once and only in the Context that made it.
    `map` makes both calls in C, so that no signal handler or finaliser runs between
    them (R13).

    Raises:
        ValueError: If another Context made the token.
        RuntimeError: If it has been used.
    """
    back, value = var.reset if isinstance(old, Token) else var.set, var.get(MISSING)
    if old is MISSING:
        old = default(var)
    if value is MISSING:
        value = default(var)
    return [*map(operator.call, (back, var.set), (old, value))][1]  # type: ignore[return-value] # pyright: ignore[reportArgumentType, reportReturnType, reportUnknownArgumentType] - of two types


def note_abandoned(entry: Entry) -> None:
    """Start a new epoch if a handle has died with its block still open."""
    global abandoned_epoch  # noqa: PLW0603 - one for the process
    # The enter may have been interrupted before the entry had any state.
    if getattr(entry, "stack_token", LEFT) is not LEFT:
        abandoned_epoch = object()


def find(handle: object, top: Any) -> Entry | None:
    """Return the handle's innermost block; one being entered only as a last resort."""
    entering: Entry | None = None
    for entry in walk(top):
        if entry() is handle:
            if entry.var_token is not ENTERING:
                return entry
            if entering is None:
                entering = entry
    return entering


def _leave_part(
    part: AnyPart, heir: AnyPart | None, busy: list[tuple[Entry, AnyPart]], top: object
) -> bool:
    """Undo what a block did to one variable, so that it is not an heir any more.

    Return False if the blocks above have to be looked at again; see `undo`.
    """
    for entry, entering in busy:
        entry.covered, entering.before = True, part.before
    part.var_token = LEFT if undo(part, heir, top) else part.var_token
    return part.var_token is LEFT


def undo(part: AnyPart, heir: AnyPart | None, top: object) -> bool:
    """Undo what a block did to one variable, or leave that to the heir (R4).

    Return False if code that ran in the middle has entered or left blocks (R13).
    """
    var, token = part.var, part.var_token
    if token is LEFT or part.before is ENTERING:  # settled meanwhile, or not set yet
        return True
    try:
        if heir is not None:
            # Without a token, it may still have been set raw between the two blocks.
            if isinstance(token, Token) or heir.before is not part.before:
                old = token if isinstance(token, Token) else part.before
                heir.var_token, heir.before = _renewed(heir, old), part.before
            return heir.var_token is not LEFT and part.var_token is token
        if isinstance(token, Token):
            return stack.get() is top and not var.reset(token)  # type: ignore[func-returns-value]
    except RuntimeError:  # renewed meanwhile; or used, by an exit that was interrupted
        return part.var_token is token
    before = part.before
    if var.get(MISSING) is before:
        return part.var_token is token
    value = default(var) if before is MISSING else before
    return part.var_token is token and stack.get() is top and bool(var.set(value))


def _renewed(part: AnyPart, old: object) -> Token[Any] | State:
    """Return a token for the part that restores what `old` would; see `renew`."""
    return LEFT if part.var_token is LEFT else renew(part.var, old)


def _heir(
    above: list[Entry], var: ContextVar[Any]
) -> tuple[AnyPart | None, list[tuple[Entry, AnyPart]]]:
    """Return the part of the nearest block above that binds the variable.

    The nearest comes last. Blocks that cannot be heirs are dropped from the list, so
    that `settle` asks each of them only once.

    Return also the nearer ones whose enter is under way. They may have read what is
    about to be restored, so they have to look again (R13).
    """
    heir: AnyPart | None = None
    busy: list[tuple[Entry, AnyPart]] = []
    while above and heir is None:
        entry = above.pop()
        part = entry.part(var)
        if part is None or not entry.belongs_here():
            continue
        if part.var_token is ENTERING:
            busy.append((entry, part))
        elif _can_be_left(part):
            heir = part
            above.append(entry)
    above += [entry for entry, _ in reversed(busy)]
    return heir, busy


def _can_be_left(part: AnyPart) -> bool:
    """Whether the part is `SAME`, or its token works, in which case it is renewed."""
    token = part.var_token
    if not isinstance(token, Token):
        return token is SAME
    try:
        part.var_token = renew(part.var, token)
    except RuntimeError:  # used: its exit is under way, or was interrupted
        return part.var_token is not token and _can_be_left(part)  # as `belongs_here`
    return True


class Suspended(weakref.ref[Handle]):
    """A block that a decorated generator holds, between two of its steps (F2).

    It is a weak reference to its handle, so that an exit of the handle finds it.
    """

    __slots__ = ("handle", "is_left", "raw")

    handle: Any
    """Keeps the handle alive: the collector would clear this weak reference before it
    closes the generator."""
    raw: Mapping[ContextVar[Any], Any]
    """What was set raw in the block."""
    is_left: bool


def _leave_suspended(handle: Handle) -> bool:
    """Leave the handle's block if that is suspended, and its only one."""
    blocks = [
        ref
        for ref in weakref.getweakrefs(handle)
        if (isinstance(ref, Entry) and getattr(ref, "stack_token", LEFT) is not LEFT)
        or (isinstance(ref, Suspended) and not getattr(ref, "is_left", True))
    ]
    if len(blocks) != 1 or not isinstance(blocks[0], Suspended):
        return False
    blocks[0].is_left = True
    return True
