"""Take bound values somewhere else: to a thread, a process, another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import update_wrapper
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

from . import _functions, _groups, _stack
from ._context import BaseContext, VarContext
from ._variables import (
    MISSING,
    declare,
    declared_classes,
    declaring_class,
    newest,
)


__all__ = ["Snapshot", "active_contexts", "carry"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


class _Call(_stack.Private, _groups.Bindings):
    """The handle of one call. It binds what its snapshot binds."""

    __slots__ = ("_by_var",)

    def __init__(self, context: Snapshot) -> None:
        self.context = context
        self._by_var = context._by_var  # noqa: SLF001 - of this module


class Snapshot(_groups.Bindings, BaseContext, Mapping[type[VarContext[Any]], Any]):
    """The values that were bound in one place, to be bound in another.

    A Snapshot is an immutable mapping from the class that declares a variable to the
    variable's value. It is also a context: inside its block the declared variables are
    exactly as captured. Those that it holds are bound, and every other has its default.
    So ``Snapshot()``, which is empty, is the clean start for a long-lived worker.

    It pickles if its values do; classes are pickled by reference.

    Args:
        *contexts: What to hold, one context for each variable.

    Raises:
        TypeError: If one of them is no `VarContext`, or its class is not carried.
        ValueError: If two of them bind the same variable.

    Example:
        >>> from aura_context import PlanContext, current_plan_name, plan_context
        >>> snapshot = Snapshot(plan_context("nightly"))
        >>> snapshot
        Snapshot({PlanContext: 'nightly'})
        >>> snapshot[PlanContext]
        'nightly'
        >>> with snapshot:
        ...     current_plan_name.get()
        'nightly'
    """

    __slots__ = ("_by_var", "_values")

    call_class = _Call

    _values: Final[dict[type[VarContext[Any]], Any]]

    def __init__(self, *contexts: VarContext[Any]) -> None:
        self._values = {}
        self._by_var = {}
        for context in contexts:
            # Not all callers check types.
            if not isinstance(context, VarContext):  # pyright: ignore[reportUnnecessaryIsInstance]
                msg = (
                    "a Snapshot is made of contexts, such as plan_context('name'); "
                    f"got {_functions.describe(context)}"
                )
                raise TypeError(msg)
            cls = _declared(type(context))
            if not cls.carried:
                msg = (
                    f"{cls.__qualname__} has carried = False: "
                    f"{context.describe()} has to stay"
                )
                raise TypeError(msg)
            if cls in self._values:
                msg = (
                    f"{context.describe()} binds the same variable as another "
                    f"{cls.__qualname__}: pass one of them"
                )
                raise ValueError(msg)
            try:
                value = context.value
            except AttributeError:
                context.explain_missing()
                raise
            self._hold(cls, value)

    @classmethod
    def capture(cls) -> Self:
        """Return a Snapshot of what is bound here, raw values included, as they are.

        It holds the variables that `VarContext` classes declare, if they are set. It
        does not hold those of a class with ``carried = False``.

        Example:
            >>> from aura_context import plan_context
            >>> with plan_context("nightly"):
            ...     Snapshot.capture()
            Snapshot({PlanContext: 'nightly'})
        """
        snapshot = cls()
        for owner in declared_classes():
            value = owner.var.get(MISSING)
            if value is not MISSING and owner.carried:
                snapshot._hold(owner, value)
        return snapshot

    @classmethod
    def _holding(cls, values: Mapping[type[VarContext[Any]], Any]) -> Self:
        """Return a snapshot that holds these values; unpickling calls this."""
        snapshot = cls()
        for owner, value in values.items():
            # A class that arrives by value got its variable after its creation (S4).
            snapshot._hold(_declared(owner), value)
        return snapshot

    def _hold(self, cls: type[VarContext[Any]], value: object) -> None:
        """Add a value while the snapshot is being made."""
        self._values[cls] = value
        self._by_var[cls.var] = value

    def __getitem__(self, cls: type[VarContext[Any]]) -> Any:
        return self._values[cls]

    def __iter__(self) -> Iterator[type[VarContext[Any]]]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        pairs = (f"{cls.__qualname__}: {value!r}" for cls, value in self.items())
        return f"{type(self).__qualname__}({{{', '.join(pairs)}}})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Those that are declared now come last: the value of the newest counts.
        known = [cls for cls in declared_classes() if cls in self._values]
        values = {newest(cls): self._values[cls] for cls in [*self._values, *known]}
        return self._holding, (values,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Not as it pickles: what it holds stays with the classes that have bound it.
        return self._holding(deepcopy(self._values, memo))

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function inside a block, as ``Context.run`` would.

        If that returns a coroutine or generator, decorate the function instead:
        calling it does not yet run its body.

        Example:
            >>> from aura_context import current_plan_name, plan_context
            >>> Snapshot(plan_context("nightly")).run(current_plan_name.get)
            'nightly'
        """
        with self if self.overrides("__enter__", "__exit__") else _Call(self):
            return function(*args, **kwargs)


def _declared(cls: type[VarContext[Any]]) -> type[VarContext[Any]]:
    """Return the class that declares the variable; declare it now if none does."""
    owner = declaring_class(cls.var)
    if owner is None:
        declare(cls)
    return owner or cls


def active_contexts() -> tuple[VarContext[Any] | Snapshot, ...]:
    """Return the contexts whose blocks are open here, outermost first.

    A child task lists what it inherited with its copy of the Context and is still
    open.

    Example:
        >>> from aura_context import plan_context
        >>> with plan_context("outer"), plan_context("inner"):
        ...     active_contexts()
        (PlanContext('outer'), PlanContext('inner'))
    """
    return tuple(_stack.open_contexts())[::-1]


def carry(function: F) -> F:
    """Capture what is bound here, now; return a function that runs under it anywhere.

    Pass the result to a thread, an executor, a callback, a process or a task queue. It
    can be called any number of times, also concurrently, and it pickles if the function
    and the values do.

    Args:
        function: A plain, async, generator or async generator function, or a method.

    Returns:
        A callable of the same kind, type and signature.

    Raises:
        TypeError: If that is a class or cannot be called.

    Example:
        >>> import threading
        >>> from aura_context import current_plan_name, plan_context
        >>> def work():
        ...     print(current_plan_name.get())
        >>> with plan_context("nightly"):
        ...     thread = threading.Thread(target=carry(work))
        >>> thread.start()
        nightly
        >>> thread.join()
    """
    carried: Any = _Carried(Snapshot.capture(), function)
    result: F = carried
    return result


class _Carried(Generic[P, R]):
    """A function under a snapshot; an object, because a closure does not pickle."""

    def __init__(self, snapshot: Snapshot, function: Callable[P, R]) -> None:
        run = snapshot(function)
        # First, as it copies attributes of any name.
        update_wrapper(self, function)
        self._parts = snapshot, function
        self._run = run
        # Frameworks ask `__call__` for annotations and kind: here it is the function's.
        self.__dict__["__call__"] = run

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(*args, **kwargs)

    def __repr__(self) -> str:
        return f"carry({_functions.describe(self._parts[1])})"

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        snapshot, function = self._parts
        if not hasattr(function, "__get__"):
            return self
        return type(self)(snapshot, function.__get__(instance, owner))

    def __getattr__(self, name: str) -> Any:
        # `inspect` recognises the kind of a function by attributes such as __code__.
        return getattr(self._run, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts
