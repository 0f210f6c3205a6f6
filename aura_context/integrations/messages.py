"""Write what is bound as one line of text that any message queue can carry; read it."""

from __future__ import annotations

import json
import logging

from contextlib import suppress
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from aura_context import PlanContext, Snapshot

from ._named import Contexts, described, sendable


if TYPE_CHECKING:
    from collections.abc import Callable

    from aura_context import VarContext


__all__ = ["dump", "load"]

_log = logging.getLogger(__name__)

# Far beyond what names and numbers need, and well within what brokers take as a header.
_VALUE_CHARACTERS, _CHARACTERS = 4096, 8192


def dump(contexts: Contexts) -> str:
    """Write what is bound here as one line of JSON, in ASCII.

    Put the line into a header, a label or an argument of the message. A variable that
    has its default is not written.

    Args:
        contexts: The context class to write for each name.

    Raises:
        TypeError: If a value is not text, a number, a boolean or None; or if a class
            binds nothing or is not carried.
        ValueError: If a value is NaN or infinite, or longer than 4,096 characters; if
            the line is longer than 8,192, of which a character outside ASCII takes six
            or twelve; or if two names share a variable.

    Example:
        >>> from aura_context import PlanContext, plan_context
        >>> with plan_context("nightly"):
        ...     dump({"plan_name": PlanContext})
        '{"plan_name": "nightly"}'
    """
    values: dict[str, Any] = {}
    for name, cls in sendable(contexts).items():
        if cls.is_bound():
            values[name] = value = cls.var.get()
            if problem := _problem(value):
                msg = f"{name}: {problem}"
                raise type(problem)(msg)
    text = json.dumps(values)
    if len(text) > _CHARACTERS:
        msg = (
            f"a message takes {_CHARACTERS} characters of context, got {len(text)}: "
            f"send shorter values for {', '.join(values)}"
        )
        raise ValueError(msg)
    return text


def load(text: str | bytes | None, accept: Contexts) -> Snapshot:
    """Read what `dump` wrote, or what an attacker wrote instead.

    No text raises an error. Values whose names are not accepted are ignored. Values
    that are malformed, too long or refused by their class are dropped one by one. A
    text that is malformed or longer than 8,192 characters is dropped as a whole. The
    logger ``aura_context.integrations.messages`` warns about what is dropped.

    Args:
        text: The text, or its bytes in UTF-8. None, if the message has no such text,
            gives the empty Snapshot, in which every variable has its default.
        accept: The context class to read for each name. There is no default, because
            only you know which names to trust.

    Raises:
        TypeError: If a class binds nothing or is not carried.
        ValueError: If two names share a variable.

    Example:
        >>> from aura_context import PlanContext
        >>> load('{"plan_name": "nightly"}', accept={"plan_name": PlanContext})
        Snapshot({PlanContext: 'nightly'})
        >>> load(None, accept={"plan_name": PlanContext})
        Snapshot({})
    """
    accepted = sendable(accept)
    values: dict[str, Any] = {}
    if text is not None:
        try:
            values = _read(text)
        except (TypeError, ValueError, RecursionError) as error:
            _log.warning("a message's context is dropped: %s", error)
    contexts: list[VarContext[Any]] = []
    for name, cls in accepted.items():
        if name not in values:
            continue
        if problem := _problem(values[name]):
            _log.warning("a message's %s is dropped: %s", name, problem)
            continue
        try:
            contexts.append(cls(values[name]))
        # However a class refuses, a message must not stop a worker.
        except Exception as error:  # noqa: BLE001
            # What a class says may quote a secret (rule N6); a plan's name is none.
            told = error if issubclass(cls, PlanContext) else type(error)
            _log.warning("a message's %s is dropped: %.200r", name, told)
    return Snapshot(*contexts)


def _read(text: str | bytes) -> dict[str, Any]:
    """Return the values by name, or raise if the text is malformed or too long."""
    if isinstance(text, bytes):
        text = text.decode()
    # A header can be anything that its sender likes.
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"it must be text, got {described(text)}"
        raise TypeError(msg)
    if len(text) > _CHARACTERS:
        msg = f"it has {len(text)} characters, the limit is {_CHARACTERS}"
        raise ValueError(msg)
    values = json.loads(text, parse_int=_number(int), parse_float=_number(float))
    if not isinstance(values, dict):
        msg = f"it must be a JSON object, got {described(values)}"
        raise TypeError(msg)
    return values  # pyright: ignore[reportUnknownVariableType] - of any kind


def _number(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Return what reads a number; one that is too long is infinite, so refused."""

    def read(digits: str) -> float:
        if len(digits) <= _VALUE_CHARACTERS:
            with suppress(ValueError):  # sys.set_int_max_str_digits() may forbid it
                return kind(digits)
        return inf

    return read


def _problem(value: object) -> TypeError | ValueError | None:
    """Return what keeps the value from travelling, in words that do not show it."""
    if not isinstance(value, str | int | float | None):
        return TypeError(
            f"a message takes text, numbers, booleans and None, got {described(value)}"
        )
    if isinstance(value, float) and not isfinite(value):
        return ValueError("a message takes no number that is infinite or NaN")
    try:
        length = len(value if isinstance(value, str) else json.dumps(value))
    except ValueError as error:  # of an int with too many digits for Python
        return ValueError(str(error))
    if length > _VALUE_CHARACTERS:
        return ValueError(
            f"a message takes {_VALUE_CHARACTERS} characters a value, got {length}"
        )
    return None
