"""The blocks of a decorated generator: open in each step, suspended between (F2)."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from . import _stack
from ._groups import Bindings
from ._stack import (
    Binding,
    Entry,
    Private,
    Suspended,
    leave,
    leave_leftovers,
    settle,
    stack,
    walk,
)
from ._variables import MISSING, set_or_default


if TYPE_CHECKING:
    from collections.abc import Sequence


def new_handle(context: Any) -> Any:
    """Return the handle of a generator, which opens a block for each of its steps."""
    handle = context.call_class(context)
    handle.is_step = True
    return handle


def begin(handle: Any, suspended: Sequence[Suspended]) -> Entry:
    """Open a generator's own block and those its body holds; return the former.

    If one of them cannot be opened, none stays open.
    """
    handle.__enter__()
    entry: Entry = stack.get()
    if entry() is not handle:  # something was kept open in the middle (R13)
        entry = next(each for each in walk(entry) if each() is handle)
    try:
        for block in suspended:
            if not block.is_left:
                _resume(block, handle)
    except BaseException:
        leave_leftovers(handle)
        leave(handle)
        raise
    return entry


def end(handle: Any, entry: Entry) -> Sequence[Suspended]:
    """Leave what `begin` opened and what the body holds, and return what to resume.

    There is nothing to leave if the step ends in another Context, because the generator
    was dropped in the middle of it (R5); if the garbage collector has found the handle
    in a cycle, so that the block is abandoned (R11); or if a framework has copied a
    stack without the block over this one.
    """
    if (
        stack.get() is entry
        and isinstance(handle, Binding)
        and entry.var.get(MISSING) is entry.value
    ):
        handle.__exit__(None, None, None)  # it holds nothing, as usual
        return ()
    if entry() is None or not entry.belongs_here():
        return ()
    if entry not in walk(stack.get()):
        return ()
    blocks = [_suspend(each) for each in _of_step(entry) if each.belongs_here()]
    return [block for block in reversed(blocks) if block is not None]


def _resume(block: Suspended, own: Any) -> None:
    """Open a block again, as the body had it."""
    handle = block.handle
    if handle is not own:
        cls: Any = Bindings if isinstance(handle, Bindings) else Binding
        cls.__enter__(handle)  # not an override, which has run already
    for var, value in block.raw.items():
        set_or_default(var, value)


def _suspend(entry: Entry) -> Suspended | None:
    """Leave a block until the next step; return None if it is abandoned, or is left."""
    handle = entry()
    now = {part.var: (part, entry.now(part.var)) for part in entry.parts()}
    raw = {var: value for var, (part, value) in now.items() if value is not part.value}
    if not entry.leave() or handle is None:
        return None
    block = Suspended(handle)
    block.handle, block.raw, block.is_left = handle, raw, False
    return block


def _of_step(entry: Entry) -> list[Entry]:
    """Return the blocks that belong to a step, innermost first.

    Above them may be blocks of other steps, in tasks that share this Context.
    """
    top = stack.get()
    innermost = top if top.checked is _stack.abandoned_epoch else settle()
    blocks: list[Entry] = []
    for each in takewhile(lambda each: each is not entry, walk(innermost)):
        blocks.append(each)
        handle = each()
        if isinstance(handle, Private) and hasattr(handle, "is_step"):
            blocks.clear()
    return [*blocks, entry]
