"""What R1-R5, R8 and R11 say that each Context holds after any history of blocks.

``tests/test_model.py`` and ``proof/histories.py`` compare it with what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .contexts import UNSET


if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Context


def same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, str) and one == other)


@dataclass(eq=False)
class Part:
    """What a block binds a variable to, and what that held before."""

    value: object
    before: object


@dataclass(eq=False)
class Block:
    """One block: who entered it, and what it did to each variable."""

    context: object | None
    """What leaves it; None where that is gone."""
    number: int
    owner: Model
    parts: dict[Any, Part] = field(default_factory=dict)
    left: bool = False

    @property
    def open(self) -> bool:
        return not self.left and self.context is not None


@dataclass(eq=False)
class Model:
    """What the rules say that one Context holds."""

    real: Context
    now: dict[Any, object]
    """By variable: a ContextVar, or what else a test calls one."""
    defaults: Mapping[Any, object]
    everywhere: list[Model]
    blocks: list[Block]
    """All that were ever opened, in any Context."""
    stack: list[Block] = field(default_factory=list)
    """Its own blocks, and those of other Contexts: inherited, or copied over it."""

    @property
    def active(self) -> list[Block]:
        return [block for block in self.stack if block.open]

    @property
    def own(self) -> list[Block]:
        return [each for each in self.stack if each.owner is self and not each.left]

    def copy(self) -> Model:
        real, now, stack = self.real.copy(), dict(self.now), [*self.stack]
        return Model(real, now, self.defaults, self.everywhere, self.blocks, stack)

    def merge(self, copy: Model) -> None:
        """Take over what a copy holds, as frameworks do that run code in one."""
        for var, value in copy.now.items():
            if value is not UNSET and value != self.now[var]:
                self.now[var] = value
        self.stack = [*copy.stack]

    def enter(self, context: object, number: int, values: Mapping[Any, object]) -> None:
        self.settle()
        block = Block(context, number, self)
        for var, value in values.items():
            before = self.now[var]
            # The variable is left alone if it has the value already.
            self.now[var] = before if same(before, value) else value
            block.parts[var] = Part(self.now[var], before)
        self.stack.append(block)
        self.blocks.append(block)

    def leave(self, number: int) -> bool:
        """Leave the innermost block of that number; return whether it is an own one."""
        blocks = [block for block in self.active if block.number == number]
        if not blocks:
            return False
        self.settle()
        block = blocks[-1]
        if block.owner is self:
            self.drop_copied(block)
            self.restore(block)
            return True
        if self.active[-1] is block:  # in this Context alone
            for var, part in block.parts.items():
                unset = part.before is UNSET
                self.now[var] = self.defaults[var] if unset else part.before
            self.stack.remove(block)
        return False

    def drop_copied(self, block: Block) -> None:
        """Drop what other Contexts' values, copied over this one, have put on top."""
        above = self.stack[self.stack.index(block) + 1 :]
        for number, copied in enumerate(above):
            if copied.owner is self:
                continue
            upper = [each for each in above[number:] if each in self.own]
            for model in self.everywhere:
                # An own block above takes along the Contexts that have inherited it.
                if model is self or (upper and upper[0] in model.stack):
                    model.stack = [each for each in model.stack if each is not copied]

    def settle(self) -> None:
        for block in reversed(self.own):
            if block.context is None:
                for var, part in block.parts.items():
                    heir = self.heir(block, var)
                    now = heir.before if heir else self.now[var]
                    if now is part.value:  # otherwise it was set raw since
                        self.restore_part(block, var)
                block.left = True
        while self.stack and not self.stack[-1].open:
            del self.stack[-1]  # another Context's, to be settled there

    def restore(self, block: Block) -> None:
        for var in block.parts:
            self.restore_part(block, var)
        block.left = True

    def restore_part(self, block: Block, var: Any) -> None:
        before = block.parts[var].before
        if heir := self.heir(block, var):
            heir.before = before
        else:
            self.now[var] = before

    def heir(self, block: Block, var: Any) -> Part | None:
        above = self.own[self.own.index(block) + 1 :]
        return next((each.parts[var] for each in above if var in each.parts), None)
