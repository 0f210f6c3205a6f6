"""What the tests with a server share."""

from __future__ import annotations

import logging
import queue

from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Callable, Generator


PATIENCE = 30.0
"""Seconds after which what should happen at once is taken for never."""


def returning(resolved: Any) -> Callable[[object], Any]:
    return lambda _: resolved


@contextmanager
def listening(name: str) -> Generator[None]:
    """Check that nothing goes to this log that is a warning or worse."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = QueueHandler(records)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    assert [records.get().getMessage() for _ in range(records.qsize())] == []
