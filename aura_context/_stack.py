"""The token stack: which blocks are open in this Context, and how each is left.

The stack is a linked list of `Entry`, one for each block, innermost first. Its head is
the value of a ContextVar, so a child task inherits the list along with its copy of the
Context: there are no locks, and the code never asks which task or thread runs it
(:pep:`567`, R12).

Leaving the innermost block resets two tokens, and most programs never do anything else.
`Binding` spells that path out. The rest of this module is about what is unusual:

- a block is left while blocks above it are still open: the nearest of them that binds
  the same variable, its *heir*, takes over what the block would have restored (R4);
- a block is left in another Context than the one that entered it: the token says so,
  and at most this Context changes (R5);
- a block can no longer be left, because its handle is gone: it is settled (R11);
- other code runs in the middle of an enter or exit (R13).

``docs/explanation/stack.md`` draws the first three.
"""

from __future__ import annotations

import weakref

from collections import defaultdict
from contextvars import ContextVar, Token
from enum import Enum
from itertools import pairwise
from operator import call
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from typing_extensions import override

from ._variables import MISSING, default, set_or_default


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import TypeAlias

    AnyPart: TypeAlias = "Entry | PartOfMany"


class State(Enum):
    """What an entry holds in place of a token."""

    ENTERING = "entering"
    """There is no token yet, or a signal struck before it was stored."""
    SAME = "same"
    """The variable held the value already, so it was not set (R2)."""
    LEFT = "left"
    """The block is left."""


ENTERING: Final = State.ENTERING
SAME: Final = State.SAME
LEFT: Final = State.LEFT

EMPTY: Final = MISSING
"""The end of the stack: the ``old_value`` of the token that sets the first entry."""

abandoned_epoch = object()
"""Replaced each time a handle dies while its block is open, anywhere in the process.

An object rather than a counter: without a lock, two threads could lose an increment.
"""

stack: Final[ContextVar[Any]] = ContextVar("aura_context_stack", default=EMPTY)


class Part:
    """What a block did to one variable, and how to undo it."""

    __slots__ = ()

    var: ContextVar[Any]
    value: Any
    """What the block binds."""
    before: Any
    """What the variable held before the block, or `MISSING`."""
    var_token: Token[Any] | State
    """Resets the variable."""

    def restore(self, heir: AnyPart | None) -> None:
        """Undo what the block did to the variable, or leave that to the heir (R4)."""
        var, token, before = self.var, self.var_token, self.before
        if heir is None:
            try:
                if isinstance(token, Token):
                    var.reset(token)
                    return
            except RuntimeError:  # KeyboardInterrupt struck just after an exit's reset
                pass
            if before is not ENTERING and var.get(MISSING) is not before:
                set_or_default(var, before)
            return
        value = var.get(MISSING)
        try:
            if isinstance(token, Token):
                heir.var_token = renew(var, token, value)
            elif heir.before is not before:  # set raw between the two blocks
                set_or_default(var, before)
                heir.var_token = set_or_default(var, value)
        except RuntimeError:  # as above; the heir was entered after the reset
            return
        heir.before = before


class PartOfMany(Part):
    """What a block that binds several variables did to one of them."""

    __slots__ = ("before", "value", "var", "var_token")

    def __init__(
        self, var: ContextVar[Any], value: object, before: object, token: State
    ) -> None:
        self.var = var
        self.value = value
        self.before = before
        self.var_token = token


class Entry(Part, weakref.ref["Handle"]):
    """A block that binds one variable.

    It is a weak reference to its handle, the object whose ``__exit__`` leaves the
    block. Weak, because a block without a handle cannot be left any more: it is
    *abandoned*, and does not count (R11).
    """

    __slots__ = (
        "before", "below", "checked", "covered", "kin", "stack_token", "value", "var",
        "var_token",
    )  # fmt: skip

    stack_token: Token[Any] | State
    """Proves which Context entered the block: ``reset`` accepts it there only."""
    below: Any
    """The next entry, or `EMPTY`."""
    checked: object
    """The `abandoned_epoch` at which nothing from here down was abandoned."""
    covered: bool
    """Whether a block may have been entered on top of this one (R13)."""
    kin: object
    """Shared with other blocks that are known to be of the same Context."""

    # Frameworks copy back whatever compares as different in two Contexts, and weak
    # references compare as what they refer to.
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
        """Whether this Context entered the block, rather than one that it copies."""
        token = self.stack_token
        if not isinstance(token, Token):
            return token is ENTERING
        try:
            self.stack_token = renew(stack, token, stack.get())
        except (ValueError, RuntimeError):  # another Context's, or left by its thread
            return False
        return True

    def above(self) -> list[Entry]:
        """Return the open blocks above, innermost first."""
        entries: list[Entry] = []
        entry = stack.get()
        while entry is not self:
            if entry.stack_token is not LEFT:
                entries.append(entry)
            entry = entry.below
        return entries

    def own(self, above: list[Entry]) -> list[Entry]:
        """Return those of the blocks above that this Context entered, as it did this.

        A token is slow to ask, so the answer is kept: blocks of one Context get the
        same `kin`. That is a fact about the blocks, true in whichever Context.
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

    def now(self, part: AnyPart) -> Any:
        """Return what the variable holds in this block, raw sets included."""
        heir = _heir(self.own(self.above()), part.var)
        return part.var.get(MISSING) if heir is None else heir.before

    def leave(self) -> None:
        """Leave this block, which this Context entered, wherever on the stack it is."""
        above = self.above()
        own = self.own(above)
        if len(own) < len(above):
            self._drop_copied(own)
        for part in self.parts():
            part.restore(_heir([*own], part.var, leaving=part))
        if not own and (popped := stack.set(self.below).old_value) is not self:
            stack.set(popped)  # entered in the middle of this exit (R13)
        self.close()

    def leave_here_only(self) -> None:
        """Leave a block that another Context entered, in this Context alone (R5)."""
        for part in self.parts():
            before = part.before
            if self.stack_token is LEFT:  # its own thread has just left it
                return
            if part.var.get(MISSING) is not before:
                set_or_default(part.var, before)
        stack.set(self.below)

    def _drop_copied(self, own: list[Entry]) -> None:
        """Take what was copied from other Contexts off the stack above this block.

        Each own block above then adjoins the next. Its token has to be renewed, since
        that resets the stack to what it was, copied blocks included (R4).
        """
        top = own[0] if own else self
        for upper, lower in pairwise([*own, self]):
            upper.below = lower
            stack.set(lower)
            upper.stack_token = stack.set(top)
        stack.set(top)

    def close(self) -> None:
        """Mark the block as left, and drop whatever would keep its Context alive.

        A child's copy of the stack may hold on to this entry long afterwards (R8).
        """
        self.stack_token = self.var_token = self.value = self.before = LEFT
        below = self.below
        while below is not EMPTY and below.stack_token is LEFT:
            below = below.below
        self.below = below

    def finish_enter(self, handle: Handle) -> None:
        """Finish an enter in the middle of which other code used the library (R13).

        What that code keeps open may lie below this entry or above it, and what it left
        may have restored the variable. So the block is entered on top of all that.
        """
        if isinstance(self.stack_token, Token):
            self.below = self.stack_token.old_value
        above = [] if self.stack_token is LEFT else self.above()
        for part in self.parts():
            var, token, now = part.var, part.var_token, part.var.get(MISSING)
            heir = _heir([*above], var)
            is_bound = now is part.value
            if isinstance(token, Token):
                found, part.before = part.before, token.old_value
                if heir is None:  # otherwise a block below was left since
                    is_bound = is_bound or found is part.before
                elif heir.before is part.value is heir.value:  # it was entered since
                    is_bound = False
            if not is_bound:
                if heir is not None and isinstance(token, Token):
                    heir.var_token, heir.before = token, part.before
                part.before = now
                part.var_token = set_or_default(var, part.value)
        if above or self.stack_token is LEFT:
            moved = self.twin(handle)
            moved.var_token, moved.stack_token = self.var_token, ENTERING
            moved.checked, moved.covered = self.checked, False
            moved.below = stack.get()
            moved.stack_token = stack.set(moved)
            self.close()
        self.covered = False

    def twin(self, handle: Handle) -> Entry:
        """Return another entry that binds the same."""
        twin = Entry(handle, note_abandoned)
        twin.var, twin.value, twin.before = self.var, self.value, self.before
        return twin


class Handle:
    """What leaves a block by its identity: a context, or the handle of one call."""

    __slots__ = ("__weakref__",)

    def listed(self) -> Any:
        """Return what `active_contexts` lists for the block."""
        return self

    def warn_foreign_exit(self) -> None:
        """Warn that an exit has found no block that it could leave (R5)."""

    def explain_missing(self) -> None:
        """Raise an error that says what to write, if there is nothing to bind."""

    def leave_unusually(self) -> Literal[False] | None:
        """Leave a block that is not the innermost, or another Context's, or none."""
        if leave(self) or _leave_suspended(self):
            return None
        self.warn_foreign_exit()
        return False


class Private(Handle):
    """The handle of one call of a decorated function, generator or ``snapshot.run()``.

    Such a call leaves no other block of the context that it shares with others (R3),
    and its block is abandoned as soon as the frame that holds the handle is gone (R11).
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

    Both methods spell the usual path out, because calls would cost 6 to 9 %.
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
            # First, because a property may use this library itself (R13).
            entry.var = var = self.var
            entry.value = value = self.value
        except AttributeError:
            self.explain_missing()
            raise
        else:  # on CPython 3.14, local variables are slower after a try than inside it
            entry.checked = checked = abandoned_epoch
            top = stack.get()
            if top is not EMPTY:
                if top.checked is not checked or top.stack_token is LEFT:
                    top = settle(top)
                    entry.checked = checked if top is EMPTY else top.checked
                if top is not EMPTY:
                    top.covered = True
            entry.below = top
            # Push before setting: KeyboardInterrupt can strike between any two
            # instructions, and only a block on the stack can be found and undone (R11).
            entry.stack_token = token = stack.set(entry)
            entry.before = before = var.get(MISSING)
            if before is value or (
                type(before) is str is type(value) and before == value
            ):
                entry.value = before
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
            # Each `reset` follows its check in the same line, because code that runs in
            # the middle of this exit may keep a block open on top (R13).
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
            # Another Context's token, a used one (KeyboardInterrupt struck), or none.
            return self.leave_unusually()
        entry.stack_token = entry.var_token = entry.value = entry.before = LEFT
        if (below := entry.below) is not EMPTY:
            below.covered = False
            if below.stack_token is LEFT:
                entry.close()
        return None


def push(entry: Entry) -> None:
    """Put a block on top of the stack, as `Binding.__enter__` spells out."""
    entry.checked = checked = abandoned_epoch
    top = stack.get()
    if top is not EMPTY and (top.checked is not checked or top.stack_token is LEFT):
        top = settle(top)
        entry.checked = checked if top is EMPTY else top.checked
    if top is not EMPTY:
        top.covered = True
    entry.below = top
    entry.stack_token = token = stack.set(entry)
    if token.old_value is not top:  # another block was entered in the middle (R13)
        entry.covered = True


def leave(handle: object) -> bool:
    """Leave the handle's innermost block, wherever on the stack it is (R4, R5).

    Return False, without a warning, if this Context has not entered that block.
    """
    top = stack.get()
    entry = find(handle, top)
    if entry is None:
        return False
    belongs_here = entry.belongs_here()
    if top.checked is not abandoned_epoch:
        # First, so that no abandoned block becomes an heir, or counts as one above.
        settle(top)
    if belongs_here:
        entry.leave()
    elif next(walk(stack.get()), None) is entry:
        entry.leave_here_only()
    return belongs_here


def leave_leftovers(handle: object) -> None:
    """Leave all blocks above the handle's innermost one.

    For the borders only: once a request or task is over, so is every block that it
    forgot to leave. No override of ``__exit__`` runs, and nothing warns.
    """
    entry = find(handle, stack.get())
    if entry is not None and entry.belongs_here():
        for other in entry.own(entry.above()):
            other.leave()


def settle(top: Any) -> Any:
    """Put right what was abandoned in this Context; return the innermost open entry.

    A single walk downwards, which collects the possible heirs of each variable, serves
    any number of abandoned blocks (R11).
    """
    epoch = abandoned_epoch
    entries: list[Entry] = []
    above: defaultdict[ContextVar[Any], list[Entry]] = defaultdict(list)
    for entry in walk(top):
        if entry() is not None:
            entries.append(entry)
            for part in entry.parts():
                above[part.var].append(entry)
        elif entry.belongs_here():
            for part in entry.parts():
                heir = _heir(above[part.var], part.var, leaving=part)
                now = part.var.get(MISSING) if heir is None else heir.before
                if now is part.value:  # otherwise it was set raw since
                    part.restore(heir)
            entry.close()
        else:  # another Context's to settle: what is above cannot count as checked
            entries.clear()
    for entry in entries:
        entry.checked = epoch
    innermost = next((entry for entry in walk(top) if entry() is not None), EMPTY)
    if innermost is not top:
        stack.set(innermost)
    return innermost


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
    """Whether setting a variable from one to the other would change nothing (R2)."""
    return one is other or (type(one) is str is type(other) and one == other)


def renew(var: ContextVar[Any], token: Token[Any], value: object) -> Token[Any]:
    """Set the variable to the value; return a token that undoes as much as the old one.

    A token works once, and only in the Context that made it. `map` makes both calls
    without returning to Python's loop, so neither a signal nor a finaliser comes in
    between (R13).

    Raises:
        ValueError: If another Context made the token.
        RuntimeError: If it has been used.
    """
    if value is MISSING:
        value = default(var)
    return [*map(call, (var.reset, var.set), (token, value))][1]  # type: ignore[arg-type, return-value] # pyright: ignore[reportArgumentType, reportReturnType] - of two types


def note_abandoned(entry: Entry) -> None:
    """Start a new epoch if a handle has died while its block was open."""
    global abandoned_epoch  # noqa: PLW0603 - one for the process
    # A signal may have struck before the entry had any state.
    if getattr(entry, "stack_token", LEFT) is not LEFT:
        abandoned_epoch = object()


def find(handle: object, top: Any) -> Entry | None:
    """Return the handle's innermost block; one that is being entered comes last."""
    entering: Entry | None = None
    for entry in walk(top):
        if entry() is handle:
            if entry.var_token is not ENTERING:
                return entry
            entering = entering or entry
    return entering


def _heir(
    above: list[Entry], var: ContextVar[Any], leaving: AnyPart | None = None
) -> AnyPart | None:
    """Return what the nearest of the blocks above does to the variable.

    The nearest comes last. Those that do nothing to the variable are dropped.
    """
    while above:
        entry = above[-1]
        part = entry.part(var)
        if part is not None and entry.belongs_here():
            token = part.var_token
            if token is SAME:
                return part
            if isinstance(token, Token):
                try:
                    part.var_token = renew(var, token, var.get(MISSING))
                except RuntimeError:  # used: its exit is under way or was interrupted
                    pass
                else:
                    return part
            if leaving is not None:
                # The same goes for its enter: it may have read what is restored (R13).
                entry.covered = True
                part.before = leaving.before
        above.pop()
    return None


class Suspended(weakref.ref[Handle]):
    """A block that a decorated generator holds, between two of its steps (F2).

    A weak reference, so that an exit of its handle finds it; and a strong one as well,
    because the garbage collector clears weak references before it closes a generator.
    """

    __slots__ = ("handle", "is_left", "raw")

    handle: Any
    raw: Mapping[ContextVar[Any], Any]
    """What was set raw in the block."""
    is_left: bool


def _leave_suspended(handle: Handle) -> bool:
    """Leave the handle's block if it is suspended, and the only one the handle has."""
    blocks: list[Entry | Suspended] = []
    for ref in weakref.getweakrefs(handle):
        if isinstance(ref, Entry):
            if ref.stack_token is not LEFT:
                blocks.append(ref)
        elif isinstance(ref, Suspended) and not ref.is_left:
            blocks.append(ref)
    if len(blocks) != 1 or not isinstance(blocks[0], Suspended):
        return False
    blocks[0].is_left = True
    return True
