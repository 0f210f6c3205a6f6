"""Which class binds which variable."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final


if TYPE_CHECKING:
    from collections.abc import Mapping


UNSET: Final = object()
"""What a variable holds where it has no value; its default is another matter."""

_declared: dict[ContextVar[Any], type[Any]] = {}


def declaring_class(var: ContextVar[Any]) -> type[Any] | None:
    """Return the class that declares the variable; its subclasses share it.

    None if that has since been defined again, with another variable.
    """
    return _declared.get(var)


def declared_classes() -> list[type[Any]]:
    """Return every class that declares a variable, in the order of declaration."""
    return [*_declared.values()]


def default(var: ContextVar[Any]) -> Any:
    """Return what the variable reads as where nobody has set it.

    Raises:
        LookupError: If it has no default.
    """
    return Context().run(var.get)


def bind(values: Mapping[type[Any], Any]) -> None:
    """Set the variables of these classes raw, and every other to its default."""
    by_var = {cls.var: value for cls, value in values.items()}
    for var in [*_declared]:
        if (value := by_var.get(var, UNSET)) is not UNSET:
            var.set(value)
        elif var.get(UNSET) is not UNSET:
            var.set(default(var))


def declare(cls: type[Any]) -> Any:
    """Note that the class binds its variable, and return what that defaults to.

    Raises:
        TypeError: If it cannot bind it; the message says what to write.
    """
    var: ContextVar[Any] = cls.var
    remedy = f"write var = ContextVar({cls.__name__!r}, default=None)"
    # What a type promises is not yet so.
    if not isinstance(var, ContextVar):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"{cls.__qualname__}.var must be a ContextVar, got {var!r}: {remedy}"
        raise TypeError(msg)
    try:
        value = default(var)
    except LookupError:
        msg = (
            f"{cls.__qualname__}.var has no default, without which 'nothing bound' "
            f"cannot be expressed; got {var!r}: {remedy}"
        )
        raise TypeError(msg) from None
    owner = _declared.get(var, cls)
    if owner is not cls and issubclass(cls, owner):
        if cls.carried is not owner.carried:
            msg = (
                f"{cls.__qualname__} shares its variable with {owner.__qualname__}: "
                "set carried there, for both"
            )
            raise TypeError(msg)
        return value
    # Defined again, as in a notebook, or by a decorator that makes the class anew:
    # then the qualified name may still be short.
    if (owner.__module__, owner.__name__) != (cls.__module__, cls.__name__):
        msg = (
            f"{cls.__qualname__}.var is {var!r}, which {owner.__qualname__} binds "
            f"already: subclass {owner.__qualname__}, or {remedy}"
        )
        raise TypeError(msg)
    _declared[var] = cls
    if "<locals>" not in cls.__qualname__:  # a function may make many of a name
        for known in declared_classes():
            if known is not cls and _path(known) == _path(cls):
                del _declared[known.var]
    return value


def _path(cls: type[Any]) -> tuple[str, str]:
    """Return where the class can be imported from."""
    return cls.__module__, cls.__qualname__
