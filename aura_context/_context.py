"""What all contexts share, and VarContext, which users subclass."""

from __future__ import annotations

import inspect
import sys
import warnings

from collections.abc import Callable
from contextvars import ContextVar
from types import MemberDescriptorType, TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Self,
    TypeVar,
    overload,
)

from . import _functions, _stack
from ._variables import declare, default, is_declared
from .exceptions import ContextError, ForeignExitWarning, NotBoundError


__all__ = ["VarContext"]

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class BaseContext(_stack.Handle):
    """What all contexts share, whatever they bind.

    The async pair delegates to the sync one, because nothing here has to wait (R10).
    """

    __slots__ = ()

    call_class: ClassVar[type[Any]]
    """The class of the handle of one call of a decorated function."""

    if TYPE_CHECKING:

        def __enter__(self) -> Self: ...

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
        ) -> Literal[False] | None: ...

    async def __aenter__(self) -> Self:
        """Enter the context as `__enter__` does, without suspending (R9)."""
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        """Leave the block as `__exit__` does, without suspending (R9)."""
        # An override may return a true value to swallow the exception, as in `with`.
        return self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind, to run under this context.

        The value is bound while the function's own code runs, and only then. A
        coroutine is bound from its first step to its last. A generator, async or not,
        is bound anew at each step, so its consumer never sees the value. If a plain
        function returns a coroutine or generator that has not begun, that is bound too.

        Args:
            function: A plain, async, generator or async generator function, or a
                method of these kinds. Each call has a block of its own.

        Returns:
            A function of the same kind, type and signature.

        Raises:
            TypeError: If that is a class or cannot be called, or if this class
                overrides methods that would not be called: ``__aenter__`` or
                ``__aexit__`` for anything but ``async def``, ``__enter__`` or
                ``__exit__`` for a generator function.

        Example:
            >>> from aura_context import current_plan_name, plan_context
            >>> @plan_context("nightly")
            ... def rows():
            ...     yield current_plan_name.get()
            >>> [(row, current_plan_name.get()) for row in rows()]
            [('nightly', None)]
        """
        decorated: F = _functions.decorate(self, function)
        return decorated

    def overrides(self, *names: str) -> bool:
        """Whether a subclass overrides one of these methods."""
        cls = type(self)
        base = next(each for each in cls.__mro__ if BaseContext in each.__bases__)
        return any(getattr(cls, name) is not getattr(base, name) for name in names)

    def describe(self) -> str:
        """Return what messages show: no value, because it may be a secret (N6)."""
        return f"{type(self).__qualname__}(...)"

    def warn_foreign_exit(self) -> None:
        """Warn that an exit has left no block of this Context (R5)."""
        _ForeignExit(self)  # warns when it is dropped, which is now


class Call(_stack.Private, _stack.Binding):
    """The handle of one call: binds what its context binds."""

    __slots__ = ("value", "var")

    def __init__(self, context: VarContext[Any]) -> None:
        self.context = context
        try:
            self.var = context.var  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue] - that of any class
            self.value = context.value
        except AttributeError:
            context.explain_missing()
            raise


class VarContext(_stack.Binding, BaseContext, Generic[T]):
    """Binds a ContextVar to a value for a block, in ``with`` and ``async with`` alike.

    Subclass it and name the variable. One instance can be entered any number of times,
    nested in itself, and by any number of tasks and threads at once, because the state
    of a block is kept in the Context (:pep:`567`), not on the instance.

    Args:
        value: What the variable holds inside the block.

    Raises:
        TypeError: If the class names no variable, or one without a default.

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
    """

    # No slot for `value`: it would need help to unpickle in a frozen subclass, and some
    # of those write past it into the instance's dict (N5).
    __slots__ = ()

    var: ClassVar[ContextVar[Any]]
    """The variable that the class binds. It needs a default."""

    carried: ClassVar[bool] = True
    """Whether a Snapshot takes the value along. Set it to False if it must not."""

    value: T
    """What this context binds."""

    call_class = Call

    _is_declared: ClassVar[bool]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "var"):
            declare(cls)
        elif "__new__" not in vars(cls):
            # An assignment would be the __new__ of this class to a type checker.
            setattr(cls, "__new__", staticmethod(_new))  # noqa: B010

    def __init__(self, value: T) -> None:
        cls = type(self)
        if not (hasattr(cls, "_is_declared") and is_declared(cls.var)):
            cls._declare_late()
        self.value = value  # type: ignore[misc] # where the subclass keeps it

    def __repr__(self) -> str:
        value = repr(self.value) if hasattr(self, "value") else ""
        return f"{type(self).__qualname__}({value})"

    @classmethod
    def current(cls) -> T:
        """Return the value that is bound here, by a block or raw.

        Example:
            >>> from aura_context import PlanContext, plan_context
            >>> with plan_context("nightly"):
            ...     PlanContext.current()
            'nightly'
        """
        value: T = cls.var.get()
        return value

    @overload
    @classmethod
    def require(cls: type[VarContext[R | None]]) -> R: ...

    @overload
    @classmethod
    def require(cls: type[VarContext[R]]) -> R: ...

    @classmethod
    def require(cls) -> Any:
        """Return the value that is bound here; refuse the default and None.

        Raises:
            NotBoundError: If the variable has its default here, or is None.

        Example:
            >>> from aura_context import NotBoundError, PlanContext
            >>> try:
            ...     PlanContext.require()
            ... except NotBoundError as error:
            ...     print(error)
            current_plan_name is not bound here: enter a PlanContext around this code
        """
        value = cls.var.get()
        if value is None or _stack.same(value, default(cls.var)):
            msg = (
                f"{cls.var.name} is not bound here: "
                f"enter a {cls.__qualname__} around this code"
            )
            raise NotBoundError(msg)
        return value

    @classmethod
    def is_bound(cls) -> bool:
        """Return whether the variable holds anything but its default here.

        Example:
            >>> from aura_context import PlanContext, plan_context
            >>> with plan_context("nightly"):
            ...     PlanContext.is_bound()
            True
            >>> PlanContext.is_bound()
            False
        """
        return not _stack.same(cls.var.get(), default(cls.var))

    @classmethod
    def _declare_late(cls) -> None:
        """Declare a variable that was assigned after the class statement (N4)."""
        if not hasattr(cls, "var"):
            msg = (
                f"{cls.__qualname__} binds no variable: subclass VarContext and write "
                "var = ContextVar('name', default=None) in its body"
            )
            raise TypeError(msg)
        declare(cls)

    def explain_missing(self) -> None:
        """Raise an error that says what to write, if there is nothing to bind (N4)."""
        cls = type(self)
        if not hasattr(cls, "var"):
            cls._declare_late()
        if isinstance(getattr(cls, "value", None), MemberDescriptorType | None):
            # Any other, such as a property, has an error of its own.
            msg = (
                f"this {cls.__qualname__} has no value to bind: call "
                "super().__init__(value) in its __init__, or set self.value (in a "
                "dataclass: name a field value, or set it in __post_init__)"
            )
            raise ContextError(msg) from None


def _new(cls: type[VarContext[Any]], *args: Any, **kwargs: Any) -> Any:
    """Make an instance of a class whose variable is assigned later, if at all (N4).

    Its ``__init__`` may be a dataclass's, which does not call that of the base.
    """
    if not hasattr(cls, "_is_declared"):
        cls._declare_late()  # pyright: ignore[reportPrivateUsage] - of this module
    new = super(VarContext, cls).__new__
    return new(cls) if new is object.__new__ else new(cls, *args, **kwargs)


def _package(names: dict[str, Any]) -> object:
    """Return the package, or top-level module, that a frame's names belong to."""
    return names.get("__package__") or names.get("__name__")


class _ForeignExit:
    """Warns when it is dropped.

    Warnings may be errors, and no error may reach the block (R5). Only what a finaliser
    raises goes to `sys.unraisablehook` instead.
    """

    def __init__(self, context: BaseContext) -> None:
        self.context = context

    def __del__(self) -> None:
        if sys.is_finalizing():  # there is nothing left to import or to warn with
            return
        import tracemalloc  # noqa: PLC0415 - costs more than all of this package

        # A line of contextlib says as little about who has left the block as one of
        # this package.
        frame, level = inspect.currentframe(), 1
        while frame and _package(frame.f_globals) in {__package__, "contextlib"}:
            frame, level = frame.f_back, level + 1
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "the end"
        warnings.warn(
            f"{self.context.describe()} was left where it has no open block: at "
            f"{where}, the Context has not entered it, or has left it already. Enter "
            "and leave a block in the same task or thread. If a generator holds it "
            "across a yield and ends elsewhere, decorate the generator instead",
            ForeignExitWarning,
            stacklevel=level,
            # A recorded warning keeps its source alive, so the block would not count
            # as abandoned. Without tracemalloc the source would add nothing.
            source=self.context if tracemalloc.is_tracing() else None,
        )
