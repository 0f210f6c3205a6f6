"""Blocks that bind every declared variable, and stacks that leave blocks behind."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from typing_extensions import override

from . import _stack
from ._stack import (
    EMPTY,
    ENTERING,
    LEFT,
    SAME,
    Entry,
    Handle,
    PartOfMany,
    note_abandoned,
    push,
    same,
    stack,
    walk,
)
from ._variables import (
    MISSING,
    declared_classes,
    declared_variables,
    default,
    set_or_default,
)


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._stack import AnyPart


class GroupEntry(Entry):
    """A block that binds every declared variable: a Snapshot's (S2).

    A variable that the Snapshot does not hold, and that was not set before, gets a part
    only if one is needed. So a Snapshot costs little more if many classes are declared.
    """

    __slots__ = ("bound", "declared")

    bound: dict[ContextVar[Any], PartOfMany]
    declared: tuple[ContextVar[Any], ...]

    def bind(self, values: Mapping[ContextVar[Any], Any]) -> None:
        """Set the variables, and keep how to undo that."""
        for var, value in values.items():
            self._bind(var, value, var.get(MISSING))
        for var in self.declared:
            if (before := var.get(MISSING)) is not MISSING and var not in values:
                self._bind(var, default(var), before)

    def _bind(self, var: ContextVar[Any], value: object, before: object) -> None:
        self.bound[var] = part = PartOfMany(var, value, before, ENTERING)
        if same(before, value):
            part.value, part.var_token = before, SAME
        else:
            part.var_token = var.set(value)

    def reset(self) -> bool:
        """Undo what the block did; return False if only `Entry.leave` can do that."""
        for part in self.bound.values():
            token = part.var_token
            if token is SAME:
                if part.var.get(MISSING) is not part.before:  # set raw in the block
                    return False
            elif self.covered or part.var.reset(token):  # type: ignore[func-returns-value,arg-type] # pyright: ignore[reportArgumentType] - a state is refused
                return False
            else:
                part.var_token = LEFT
        for var in self.declared:
            if var.get(MISSING) is not MISSING and var not in self.bound:  # likewise
                return False
        return True

    @override
    def part(self, var: ContextVar[Any]) -> AnyPart | None:
        if var not in self.bound and var in self.declared:  # not set before, or not yet
            self.bound[var] = PartOfMany(var, MISSING, MISSING, self.var_token)
        return self.bound.get(var)

    @override
    def parts(self) -> Iterable[AnyPart]:
        is_top = stack.get() is self
        for var in self.declared:
            if not is_top or var.get(MISSING) is not MISSING:
                self.part(var)
        return [*self.bound.values()]

    @override
    def close(self) -> bool:
        is_open = super().close()
        for part in self.bound.values():
            part.var_token = LEFT
        self.bound, self.declared = {}, ()
        return is_open

    @override
    def twin(self, handle: Handle) -> Entry:
        twin = GroupEntry(handle, note_abandoned)
        twin.bound, twin.declared = self.bound, self.declared
        self.bound = {}
        return twin


class Bindings(Handle):
    """Binds every declared variable for one block (S2)."""

    __slots__ = ()

    _by_var: dict[ContextVar[Any], Any]
    """What is bound; other declared variables get their default."""

    def __enter__(self) -> Self:
        """Bind all values."""
        entry = GroupEntry(self, note_abandoned)
        entry.stack_token = entry.var_token = ENTERING
        entry.covered = False
        entry.bound, entry.declared = {}, declared_variables()
        push(entry)
        entry.bind(self._by_var)
        entry.var_token = SAME
        if entry.covered:
            entry.finish_enter(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        """Restore what each variable held before, and let any exception pass."""
        entry: GroupEntry = stack.get()
        if (
            entry is EMPTY
            or entry() is not self
            or entry.checked is not _stack.abandoned_epoch
            or entry.var_token is ENTERING
        ):
            return self.leave_unusually()
        try:
            if not entry.reset():
                return self.leave_unusually()
            if entry.covered or stack.reset(entry.stack_token):  # type: ignore[func-returns-value,arg-type] # pyright: ignore[reportArgumentType] - likewise
                return self.leave_unusually()
        except (ValueError, RuntimeError, TypeError):  # see `Binding`
            return self.leave_unusually()
        for part in entry.bound.values():
            if part.var_token is not LEFT and part.before is not part.value:
                set_or_default(part.var, part.before)  # a block below was left (R13)
        entry.close()
        if (below := entry.below) is not EMPTY:
            below.covered = below.var_token is ENTERING  # see `Binding`
        return None


class Shadow(Entry):
    """Stands for another Context's block on a stack from which some are taken (S6)."""

    __slots__ = ("block",)

    block: Entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    @override
    def parts(self) -> Iterable[AnyPart]:
        return self.block.parts()


def stay_behind() -> None:
    """Take what is not carried out of this Context, a copy: values and blocks (S6)."""
    staying = {cls.var for cls in declared_classes() if not cls.carried}
    for var in staying:
        if var.get(MISSING) is not MISSING:
            set_or_default(var, MISSING)
    entries = [(entry, entry()) for entry in walk(stack.get())]
    top = EMPTY
    for entry, handle in reversed(entries):
        if handle is not None and getattr(entry, "var", None) not in staying:
            shadow = Shadow(handle)
            # Never of another shadow: jobs may start jobs without end.
            shadow.block = entry.block if isinstance(entry, Shadow) else entry
            shadow.below = top
            top = shadow
    if len(entries) != len([*walk(top)]):
        stack.set(top)
