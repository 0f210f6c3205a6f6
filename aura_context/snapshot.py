"""Taking what is bound here somewhere else: to a thread, a process, another machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, Self, TypeVar

from typing_extensions import override

from ._context import BaseContext, VarContext
from ._variables import UNSET, declared_classes, declaring_class, default


if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator
    from contextvars import ContextVar
    from types import TracebackType

    from ._steps import Held


__all__ = ["Snapshot", "carry"]

F = TypeVar("F", bound="Callable[..., Any]")
P = ParamSpec("P")
R = TypeVar("R")


class Snapshot(BaseContext, Mapping[type[VarContext[Any]], Any]):
    """What was bound somewhere, to be bound again elsewhere.

    A mapping from the class that declares a variable to the variable's value, and a
    context: inside its block the declared variables are exactly as captured. Those
    that it holds are bound, and every other has its default. So ``Snapshot()``, which
    is empty, is the clean start for a long-lived worker.

    It never changes, and pickles wherever its values do: classes by reference.

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

    .. versionadded:: 0.1.0
    """

    __slots__ = ("_contexts", "_values")

    _values: Final[dict[type[VarContext[Any]], Any]]
    _contexts: Final[dict[ContextVar[Any], VarContext[Any]]]
    """What is entered for each variable: made once, as the stack holds them weakly."""

    def __init__(self, *contexts: VarContext[Any]) -> None:
        values: dict[type[VarContext[Any]], Any] = {}
        for context in contexts:
            # What a type promises is not yet so.
            if not isinstance(context, VarContext):  # pyright: ignore[reportUnnecessaryIsInstance]
                msg = f"a Snapshot is made of contexts, got {context!r}"
                raise TypeError(msg)
            cls = declaring_class(context.var)
            if cls is None:
                msg = f"{context!r} binds what no class declares since it was made"
                raise TypeError(msg)
            if not cls.carried:
                msg = f"{cls.__qualname__} has carried = False: {context!r} has to stay"
                raise TypeError(msg)
            if cls in values:
                msg = f"{context!r} binds what {cls.__qualname__} has bound already"
                raise ValueError(msg)
            values[cls] = context.value
        self._values = values
        self._contexts = {}

    @classmethod
    def capture(cls) -> Self:
        """Take what is bound here, raw values included, and as it is.

        Only variables that a `VarContext` class declares, and only where they are
        set; those of a class with ``carried = False`` stay.

        Example:
            >>> from aura_context import plan_context
            >>> with plan_context("nightly"):
            ...     Snapshot.capture()
            Snapshot({PlanContext: 'nightly'})

        .. versionadded:: 0.1.0
        """
        return cls._holding(
            {
                owner: value
                for owner in declared_classes()
                if owner.carried and (value := owner.var.get(UNSET)) is not UNSET
            }
        )

    @classmethod
    def _holding(cls, values: dict[type[VarContext[Any]], Any]) -> Self:
        """Return a snapshot that holds these values, whatever they are."""
        snapshot = cls()
        snapshot._values.update(values)
        return snapshot

    def __getitem__(self, cls: type[VarContext[Any]]) -> Any:
        return self._values[cls]

    def __iter__(self) -> Iterator[type[VarContext[Any]]]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @override
    def items(self) -> ItemsView[type[VarContext[Any]], Any]:
        return self._values.items()

    def __repr__(self) -> str:
        pairs = (f"{cls.__qualname__}: {value!r}" for cls, value in self.items())
        return f"{type(self).__qualname__}({{{', '.join(pairs)}}})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._holding, (self._values,)

    @override
    def __enter__(self) -> Self:
        """Bind all that is declared, to what was captured or to its default.

        .. versionadded:: 0.1.0
        """
        self._entered = True
        for part in self._bound():
            part.__enter__()
        return self

    @override
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        """Restore all, and let any exception pass; same as a `VarContext`'s.

        Raises:
            NotEnteredError: If this snapshot has never been entered.

        Warns:
            ForeignExitWarning: If the block was not entered in this Context.
        """
        parts = reversed([*self._contexts.values()])
        left = [part.__exit__(exc_type, exc, traceback) for part in parts]
        if None in left:
            return None
        self._left_elsewhere()
        return False

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function inside the block, as ``Context.run`` would.

        Decorate a function that is async or a generator instead: calling it does
        not yet run its body.

        Example:
            >>> from aura_context import current_plan_name, plan_context
            >>> Snapshot(plan_context("nightly")).run(current_plan_name.get)
            'nightly'

        .. versionadded:: 0.1.0
        """
        with self:
            return function(*args, **kwargs)

    def _bound(self) -> list[VarContext[Any]]:
        """Return what to enter, one for each variable that is declared by now."""
        values = {cls.var: value for cls, value in self._values.items()}
        for cls in declared_classes():
            var = cls.var
            if var not in self._contexts:
                value = values[var] if var in values else default(var)
                part = _Part(cls, value)
                # Or will be, before anybody leaves the snapshot that has it.
                part._entered = True  # noqa: SLF001 - it is of this very module
                self._contexts.setdefault(var, part)
        return [*self._contexts.values()]

    @override
    def _bindings(self) -> Held:
        return [(part, part.value) for part in self._bound()]


class _Part(VarContext[Any]):
    """Binds one variable for a snapshot.

    The declaring class itself might take other arguments, or refuse a raw value; an
    instance made past its ``__init__`` would be half an object, for all to see in
    `active_contexts`.
    """

    def __init__(self, cls: type[VarContext[Any]], value: object) -> None:
        self.var = cls.var  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue] - any class's
        self.value = value
        self._class = cls
        self.current = cls.current  # type: ignore[method-assign] # any class's, too
        self.require = cls.require  # type: ignore[method-assign] # likewise

    @override
    def __repr__(self) -> str:
        return f"{self._class.__qualname__}({self.value!r})"

    @override
    def _left_elsewhere(self) -> None:
        if not hasattr(self, "_entered"):
            super()._left_elsewhere()
        # Else the snapshot tells, of all its parts at once.

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._class, self.value)


def carry(function: F) -> F:
    """Capture what is bound here, now, and run the function under it, wherever.

    The one primitive for all: hand the result to a thread, an executor, a callback, a
    process or a task queue. It can be called any number of times, also at once, and
    pickles wherever the function and the values do.

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

    .. versionadded:: 0.1.0
    """
    carried: Any = _Carried(Snapshot.capture(), function)
    result: F = carried
    return result


class _Carried(Generic[P, R]):
    """A function under a snapshot; an object, because a closure does not pickle."""

    def __init__(self, snapshot: Snapshot, function: Callable[P, R]) -> None:
        # First, as it copies attributes of any name.
        update_wrapper(self, function)
        self._parts = snapshot, function
        self._run = snapshot(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        snapshot, function = self._parts
        if not hasattr(function, "__get__"):
            return self
        return type(self)(snapshot, function.__get__(instance, owner))

    def __getattr__(self, name: str) -> Any:
        # `inspect` tells the kind of a function by attributes such as __code__.
        return getattr(self._run, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts
