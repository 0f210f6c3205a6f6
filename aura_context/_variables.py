"""Which class declares which variable."""

from __future__ import annotations

import copyreg
import weakref

from contextvars import Context, ContextVar, Token
from functools import partial
from typing import TYPE_CHECKING, Any, Final


if TYPE_CHECKING:
    from collections.abc import Mapping


MISSING: Final[Any] = Token.MISSING
"""Stands for the value of a variable that is not set, as it does in Python's tokens."""


class Declaration:
    """What a declared variable reads as if it is not set, and which classes declare it.

    A class may be defined again, and the older one live on (N4). The references are
    weak, because a class that is gone must leave nothing behind.
    """

    __slots__ = ("classes", "default")

    def __init__(self, default: object) -> None:
        # Not kept on a class, with which it would travel as a copy (S4).
        self.default = default
        self.classes: list[weakref.ref[type[Any]]] = []  # the newest comes last

    def newest(self) -> type[Any] | None:
        """Return the class that was defined last."""
        classes = [cls for ref in self.classes.copy() if (cls := ref()) is not None]
        return classes[-1] if classes else None

    def has_base_of(self, cls: type[Any]) -> bool:
        """Return whether the class inherits from one of these."""
        return any(ref() in cls.__mro__[1:] for ref in self.classes.copy())


# Iterated over as a copy, because without the GIL, another thread may change it.
_declarations: dict[ContextVar[Any], Declaration] = {}


def is_declared(var: ContextVar[Any]) -> bool:
    """Return whether a class declares the variable."""
    return var in _declarations


def declaring_class(var: ContextVar[Any]) -> type[Any] | None:
    """Return the class that declares the variable; its subclasses share it."""
    declaration = _declarations.get(var)
    return declaration.newest() if declaration else None


def declared_classes() -> list[type[Any]]:
    """Return every class that declares a variable, in the order of declaration."""
    classes = [each.newest() for each in _declarations.copy().values()]
    return [cls for cls in classes if cls is not None]


def declared_variables() -> tuple[ContextVar[Any], ...]:
    """Return every declared variable, in the order of declaration."""
    return tuple(_declarations.copy())


def default(var: ContextVar[Any]) -> Any:
    """Return what the variable reads as if it is not set.

    Raises:
        LookupError: If it has no default.
    """
    declaration = _declarations.get(var)
    return declaration.default if declaration else Context().run(var.get)


def set_or_default(var: ContextVar[Any], value: object) -> Token[Any]:
    """Set the variable. Nothing can unset it, but its default reads the same."""
    return var.set(default(var) if value is MISSING else value)


def bind(values: Mapping[type[Any], Any]) -> None:
    """Set the variables of these classes raw, and every other to its default."""
    by_var = {cls.var: value for cls, value in values.items()}
    for var in dict.fromkeys([*by_var, *declared_variables()]):
        if var in by_var or var.get(MISSING) is not MISSING:
            set_or_default(var, by_var.get(var, MISSING))


def declare(cls: type[Any]) -> None:
    """Note that the class declares its variable, or shares that of a base.

    Raises:
        TypeError: If the class cannot bind it; the message says what to write.
    """
    var: ContextVar[Any] = cls.var
    remedy = f"write var = ContextVar({cls.__name__!r}, default=None)"
    # Not all callers check types.
    if not isinstance(var, ContextVar):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = (
            f"{cls.__qualname__}.var must be a ContextVar, got an object of type "
            f"{type(var).__qualname__}: {remedy}"
        )
        raise TypeError(msg)
    try:
        value = default(var)
    except LookupError:
        msg = (
            f"{cls.__qualname__}.var has no default, without which 'nothing bound' "
            f"cannot be expressed; got ContextVar({var.name!r}): {remedy}"
        )
        raise TypeError(msg) from None
    declaration = _declarations.get(var) or Declaration(value)
    owner = declaration.newest() or cls
    if declaration.has_base_of(cls):
        if cls.carried != owner.carried:
            msg = (
                f"{cls.__qualname__} shares its variable with {owner.__qualname__}: "
                "set carried there, for both"
            )
            raise TypeError(msg)
        cls._is_declared = True
        return
    # The same class again, from a reload or a decorator that makes a new class of it;
    # the latter may not have its full qualified name yet.
    if cls.__module__ != owner.__module__ or cls.__qualname__ not in {
        owner.__qualname__,
        owner.__name__,
    }:
        msg = (
            f"{cls.__qualname__}.var is ContextVar({var.name!r}), which "
            f"{owner.__qualname__} declares already: "
            f"subclass {owner.__qualname__}, or {remedy}"
        )
        raise TypeError(msg)
    declaration.classes.append(weakref.ref(cls, partial(_forget, var)))
    _declarations.pop(var, None)  # to come last: its class is the newest now
    _declarations[var] = declaration
    cls._is_declared = True


def _forget(var: ContextVar[Any], ref: weakref.ref[type[Any]]) -> None:
    """Drop a class that is gone, and its variable with the last of them."""
    declaration = _declarations[var]
    declaration.classes.remove(ref)
    if not declaration.classes:
        del _declarations[var]


def newest(cls: type[Any]) -> type[Any]:
    """Return the class that was last defined under the name of this one (S4)."""
    if "<locals>" in cls.__qualname__:  # a function makes different ones of one name
        return cls
    same_path = [each for each in declared_classes() if _path(each) == _path(cls)]
    return same_path[-1] if same_path else cls


def _path(cls: type[Any]) -> tuple[str, str]:
    """Return where the class can be imported from."""
    return cls.__module__, cls.__qualname__


def _reduce(var: ContextVar[Any]) -> Any:
    """Pickle a declared variable by its class; refuse others, as Python does (S4)."""
    cls = declaring_class(var)
    if cls is None:
        return object.__reduce_ex__(var, 2)
    return _variable_of, (cls, var.name, default(var))


def _variable_of(cls: type[Any], name: str, value: object) -> ContextVar[Any]:
    """Return the variable that the unpickled class declares.

    cloudpickle sends a class of ``__main__`` by value, and sets its attributes after it
    has made the class: until then there is no variable, so it is made here.
    """
    var: ContextVar[Any] | None = getattr(cls, "var", None)
    if var is None or declaring_class(var) is not cls:
        var = cls.var = ContextVar[Any](name, default=value)
        declare(cls)
    return var


copyreg.pickle(ContextVar, _reduce)
