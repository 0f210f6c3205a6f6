"""The candidates: one module each, in which stands what one writes with it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

Block: TypeAlias = "Callable[[str], AbstractContextManager[Any]]"

NAMES = ("aura", "by_hand", "structlog", "loguru", "opentelemetry", "prefect")


@dataclass(frozen=True)
class Candidate:
    """What the programs use, in its best documented use; None is "not offered"."""

    title: str
    distribution: str | None
    """Whose version is named; None for what comes with Python, and for us."""
    block: Block
    """Makes what a `with` statement takes, to bind this value."""
    get: Callable[[], str | None]
    """Reads what is bound here, None for nothing, as a user of it does."""
    raw_set: Callable[[str], object] | None = None
    """Binds without a block."""
    instance: Block | None = None
    """Makes a context manager of the candidate's own, that one can keep."""
    async_block: Callable[[str], AbstractAsyncContextManager[Any]] | None = None
    """Makes what `async with` takes."""
    decorator: Callable[[str], Callable[[Any], Any]] | None = None
    """Makes a decorator."""


def load(name: str) -> Candidate:
    """Import one candidate; the others need not be installed."""
    candidate: Candidate = import_module(f"candidates.{name}").CANDIDATE
    return candidate
