"""VarContext, the class that users subclass: thin dunders over the stack."""

from __future__ import annotations

import inspect
import warnings

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from . import _stack
from .exceptions import ForeignExitWarning, NotBoundError, NotEnteredError


if TYPE_CHECKING:
    from types import TracebackType


__all__ = ["VarContext", "active_contexts"]

T = TypeVar("T")


class VarContext(Generic[T]):
    """Binds a ContextVar to a value for a block, in ``with`` and ``async with`` alike.

    Subclass it and name the variable. One instance can be entered any number of
    times, one inside the other and by any number of tasks and threads at once:
    what belongs to a block is kept in the Context (:pep:`567`), not here.

    Args:
        value: What the variable is to hold inside the block.

    Raises:
        TypeError: If the class names no variable.

    Example:
        >>> from contextvars import ContextVar
        >>> current_tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
        >>> class TenantContext(VarContext[str | None]):
        ...     var = current_tenant
        >>> with TenantContext("acme"):
        ...     TenantContext.current()
        'acme'
        >>> TenantContext.current() is None
        True

    .. versionadded:: 0.1.0
    """

    __slots__ = ("__weakref__", "_entered", "value")

    var: ClassVar[ContextVar[Any]]
    """The variable that the class binds. It needs a default."""

    value: T
    """What this context binds."""

    _default: ClassVar[Any]
    _entered: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "var"):
            cls._default = _declare(cls)

    def __init__(self, value: T) -> None:
        if not hasattr(type(self), "var"):
            name = type(self).__qualname__
            msg = (
                f"{name} binds no variable: subclass VarContext and write "
                "var = ContextVar('name', default=None) in its body"
            )
            raise TypeError(msg)
        self.value = value

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({self.value!r})"

    def __getstate__(self) -> object:
        # A copy has been entered nowhere. Slots come in a dictionary of their own.
        state = super().__getstate__()
        if isinstance(state, tuple):
            cast("tuple[Any, dict[str, Any]]", state)[1].pop("_entered", None)
        return state  # pyright: ignore[reportUnknownVariableType] - of any kind

    def __enter__(self) -> Self:
        """Bind the value.

        Example:
            >>> from aura_context import plan_context
            >>> with plan_context("nightly") as context:
            ...     context.value
            'nightly'

        .. versionadded:: 0.1.0
        """
        try:
            self._entered = True
        except AttributeError:  # frozen, as a dataclass may be
            object.__setattr__(self, "_entered", True)
        _stack.enter(self, self.var, self.value)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore what the variable held before, and let any exception pass.

        Raises:
            NotEnteredError: If this context has never been entered.

        Warns:
            ForeignExitWarning: If the block was not entered in this Context.
        """
        if not _stack.leave(self):
            self._left_elsewhere()

    async def __aenter__(self) -> Self:
        """Same as `__enter__`, and never suspends."""
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Same as `__exit__`, and never suspends."""
        # An override may return something, which `with` would heed.
        return self.__exit__(exc_type, exc, traceback)

    @classmethod
    def current(cls) -> T:
        """Return the value that is bound here, whoever bound it.

        Example:
            >>> from aura_context import PlanContext, plan_context
            >>> with plan_context("nightly"):
            ...     PlanContext.current()
            'nightly'

        .. versionadded:: 0.1.0
        """
        value: T = cls.var.get()
        return value

    @classmethod
    def require(cls) -> T:
        """Same as `current`, but refuse the variable's default.

        Raises:
            NotBoundError: If the variable has its default here.

        Example:
            >>> from aura_context import NotBoundError, PlanContext
            >>> try:
            ...     PlanContext.require()
            ... except NotBoundError as error:
            ...     print(error)
            current_plan_name is not bound here: enter a PlanContext around this code

        .. versionadded:: 0.1.0
        """
        value: T = cls.var.get()
        if _stack.same(value, cls._default):
            msg = (
                f"{cls.var.name} is not bound here: "
                f"enter a {cls.__qualname__} around this code"
            )
            raise NotBoundError(msg)
        return value

    def _left_elsewhere(self) -> None:
        """Tell of an exit that found no block to leave in this Context."""
        if not hasattr(self, "_entered"):
            msg = (
                f"{self!r} was left but has never been entered; "
                "did you mean `with`, or forget `await`?"
            )
            raise NotEnteredError(msg)
        _ForeignExit(self)  # dropped at once, as nobody keeps it


class _ForeignExit:
    """Warns when it is dropped.

    Because no error may lead into the block (R5), be it that warnings are errors or
    that a value's repr is broken: what a finaliser raises goes to
    `sys.unraisablehook`, and nothing else in Python leads there.
    """

    def __init__(self, context: object) -> None:
        self.context = context

    def __del__(self) -> None:
        frame, level = inspect.currentframe(), 0
        while frame and frame.f_globals.get("__package__") == __package__:
            frame, level = frame.f_back, level + 1
        warnings.warn(
            f"{self.context!r} was left where it has no open block, so nothing was "
            "changed. It was left twice, or in another Context than the one that "
            "entered it: did a generator that holds it across a yield end elsewhere?",
            ForeignExitWarning,
            stacklevel=level + 1,
        )


def active_contexts() -> tuple[VarContext[Any], ...]:
    """Return the contexts whose blocks are open here, outermost first.

    A child task lists what it inherited with its copy of the Context and is still
    open.

    Example:
        >>> from aura_context import plan_context
        >>> with plan_context("outer"), plan_context("inner"):
        ...     active_contexts()
        (PlanContext('outer'), PlanContext('inner'))

    .. versionadded:: 0.1.0
    """
    return tuple(_stack.open_contexts())[::-1]


_declared: dict[ContextVar[Any], type[VarContext[Any]]] = {}
"""Every variable that a class binds, in the order of declaration."""


def _declare(cls: type[VarContext[Any]]) -> Any:
    """Note that the class binds its variable, and return what that defaults to."""
    var = cls.var
    remedy = f"write var = ContextVar({cls.__name__!r}, default=None)"
    # What a type promises is not yet so.
    if not isinstance(var, ContextVar):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"{cls.__qualname__}.var must be a ContextVar, got {var!r}: {remedy}"
        raise TypeError(msg)
    try:
        default = _stack.default(var)
    except LookupError:
        msg = (
            f"{cls.__qualname__}.var has no default, without which 'nothing bound' "
            f"cannot be expressed; got {var!r}: {remedy}"
        )
        raise TypeError(msg) from None
    owner = _declared.get(var, cls)
    if owner is not cls and issubclass(cls, owner):
        return default
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
        for other, known in [*_declared.items()]:
            if other is not var and _path(known) == _path(cls):
                del _declared[other]
    return default


def _path(cls: type) -> tuple[str, str]:
    """Return where the class can be imported from."""
    return cls.__module__, cls.__qualname__
