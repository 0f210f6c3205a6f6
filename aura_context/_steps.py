"""The blocks of a generator: opened for each of its steps, and lifted off between."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, TypeAlias

from . import _stack
from ._stack import (
    Enterable,
    Entry,
    Step,
    StepEnded,
    belongs_here,
    current,
    remove,
    settle,
    stack,
    walk,
)
from ._variables import UNSET, default


Held: TypeAlias = list[tuple[Enterable, Any]]
"""Blocks that a generator holds between its steps: context and value. Not weakly, as
the garbage collector clears weak references before it closes a generator.
"""


def put(held: Held) -> Any:
    """Open the blocks that a generator holds, for a step; return the outermost."""
    opened: list[Any] = []
    for context, value in held:
        Enterable.__enter__(context)
        opened.append(stack.get())
        if value is not context.value:  # the body has set it raw
            context.var.set(value)
    opened[0].__class__ = Step
    return opened[0]


def lift(outermost: Entry) -> Held:
    """Leave the blocks that a generator holds after a step, and return them.

    Where a step ends in another Context, because it was dropped in the middle, there
    are none to leave (R5).
    """
    context: Any = outermost()
    value = outermost.var.get(UNSET)
    if context is None:  # dropped in the middle, and abandoned with all it holds (R11)
        return []
    if stack.get() is outermost and value is not UNSET:  # as usual: it holds no other
        left = Enterable.__exit__(context, StepEnded, None, None)
        return [] if left is False else [(context, value)]
    held: Held = []
    if belongs_here(outermost):
        for entry in _of_step(outermost):
            value = current(entry)
            value = default(entry.var) if value is UNSET else value
            context = entry()
            if context is not None:  # abandoned, and collected, only just now
                held.append((context, value))
            remove(entry)
    return held[::-1]


def _of_step(outermost: Entry) -> list[Entry]:
    """Return the blocks that belong to a step, innermost first.

    Above them is what belongs to other steps, in tasks that share this Context.
    """
    top: Any = stack.get()
    innermost = top if top.seen is _stack.mark else settle(top)
    blocks: list[Entry] = []
    for entry in takewhile(lambda each: each is not outermost, walk(innermost)):
        blocks.append(entry)
        if isinstance(entry, Step):
            blocks.clear()
    return [*blocks, outermost]
