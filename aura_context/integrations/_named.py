"""Contexts by name: which ones an integration shows, sends or accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from aura_context import VarContext


Contexts: TypeAlias = Mapping[str, type[VarContext[Any]]]
"""What an integration shows, sends or accepts: a context class for each name."""


def named(contexts: Contexts) -> dict[str, type[VarContext[Any]]]:
    """Return a copy of the mapping.

    Raises:
        TypeError: If it holds anything but classes that bind a variable, by name.
    """
    refuse_no_mapping(contexts)
    copy: dict[str, type[VarContext[Any]]] = {}
    # Item by item, because that is how the mapping of a dictConfig resolves ext://...
    for name in contexts:
        cls = contexts[name]
        if not (isinstance(name, str) and name):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"contexts maps names to context classes, got the name {shown(name)}"
            raise TypeError(msg)
        if not (isinstance(cls, type) and issubclass(cls, VarContext)):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"{name!r} must name a VarContext class, got {described(cls)}"
            raise TypeError(msg)
        if not hasattr(cls, "var"):
            msg = f"{name!r} names {cls.__qualname__}, which binds no variable"
            raise TypeError(msg)
        copy[name] = cls
    return copy


def refuse_no_mapping(contexts: Contexts) -> None:
    """Raise a TypeError if that is no mapping."""
    # Types promise all this, but not all callers check types.
    if not isinstance(contexts, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"contexts maps names to context classes, got {described(contexts)}"
        raise TypeError(msg)


def sendable(contexts: Contexts) -> dict[str, type[VarContext[Any]]]:
    """Return the same, for values that leave the process and become a Snapshot.

    Raises:
        TypeError: As `named`, or if a class is not carried.
        ValueError: If two names share a variable.
    """
    copy = named(contexts)
    names: dict[object, str] = {}
    for name, cls in copy.items():
        if not cls.carried:
            msg = f"{name!r} names {cls.__qualname__}, which has carried = False"
            raise TypeError(msg)
        if (other := names.setdefault(cls.var, name)) != name:
            msg = f"{other!r} and {name!r} share a variable: give it one name"
            raise ValueError(msg)
    return copy


def shown(name: object) -> str:
    """Return what was given as a name; a context there may hold a secret (N6)."""
    if isinstance(name, VarContext):
        return described(name)  # pyright: ignore[reportUnknownArgumentType] - of any value
    return repr(name)


def described(given: object) -> str:
    """Describe what was given, for an error, without its value (rule N6)."""
    if isinstance(given, type):
        return repr(given)
    if isinstance(given, VarContext):
        return given.describe()
    return f"an object of type {type(given).__qualname__}"
