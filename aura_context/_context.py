"""VarContext, the class that users subclass: thin dunders over the stack."""

from __future__ import annotations

import inspect
import warnings

from abc import abstractmethod
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, cast

from . import _functions, _stack
from ._variables import declare
from .exceptions import ForeignExitWarning, NotBoundError, NotEnteredError


if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from types import TracebackType

    from ._steps import Held


__all__ = ["VarContext", "active_contexts"]

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")


class BaseContext(_stack.Enterable):
    """What all contexts share, whatever they bind.

    The async pair delegates to the sync one, as nothing here has to wait.
    """

    __slots__ = ()

    @abstractmethod
    def _bindings(self) -> Held:
        """Return what is bound around the steps of a generator."""

    async def __aenter__(self) -> Self:
        """Same as `__enter__`, and never suspends."""
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        """Same as `__exit__`, and never suspends."""
        # An override may return something, which `with` would heed.
        return self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind, to run under this context.

        The value is bound while the function's own code runs, and only then. A
        coroutine is bound from its first step to its last; a generator, async or
        not, anew at each step, so that its consumer never sees the value.

        Args:
            function: A plain, async, generator or async generator function, or a
                method of these kinds. All its calls share this context.

        Returns:
            A function of the same kind, type and signature.

        Raises:
            TypeError: If that is a class or cannot be called; or if this class
                overrides how to enter and leave in a way that cannot be honoured:
                ``__aenter__`` or ``__aexit__`` for anything but ``async def``,
                ``__enter__`` or ``__exit__`` for a generator function.

        Example:
            >>> from aura_context import current_plan_name, plan_context
            >>> @plan_context("nightly")
            ... def rows():
            ...     yield current_plan_name.get()
            >>> [(row, current_plan_name.get()) for row in rows()]
            [('nightly', None)]

        .. versionadded:: 0.1.0
        """
        base = next(cls for cls in type(self).__mro__ if BaseContext in cls.__bases__)
        decorated: F = _functions.decorate(self, function, base, self._bindings)
        return decorated

    def _left_elsewhere(self) -> None:
        """Tell of an exit that found no block to leave in this Context."""
        if not hasattr(self, "_entered"):
            msg = (
                f"{self!r} was left but has never been entered; "
                "did you mean `with`, or forget `await`?"
            )
            raise NotEnteredError(msg)
        _ForeignExit(self)  # dropped at once, as nobody keeps it


class VarContext(BaseContext, Generic[T]):
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

    __slots__ = ("value",)

    var: ClassVar[ContextVar[Any]]
    """The variable that the class binds. It needs a default."""

    carried: ClassVar[bool] = True
    """Whether a Snapshot takes the value along; set it to False for what must stay."""

    value: T
    """What this context binds."""

    _default: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "var"):
            cls._default = declare(cls)

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

    def __setstate__(self, state: Any) -> None:
        # As `object` does it, but past a `__setattr__` that refuses: one may be frozen.
        inherited = getattr(super(), "__setstate__", None)
        if inherited is not None:  # of a mixin, whose __getstate__ made the state
            inherited(state)
            return
        pair = state if isinstance(state, tuple) else (state, None)  # pyright: ignore[reportUnknownVariableType] - of any kind
        attributes, slots = cast("tuple[Any, Any]", pair)
        if attributes:
            vars(self).update(attributes)
        for name in slots or ():
            # A property may hide the slot of `value`.
            if isinstance(getattr(type(self), name, None), MemberDescriptorType):
                object.__setattr__(self, name, slots[name])

    def _bindings(self) -> Held:
        """Return what is bound around the steps of a generator."""
        return [(self, self.value)]

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
