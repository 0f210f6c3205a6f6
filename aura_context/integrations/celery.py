"""The plan in Celery's tasks: sent with the message, bound where the task runs."""

from __future__ import annotations

import json
import logging

from typing import TYPE_CHECKING, Any, Final, cast

from celery import signals
from celery.local import Proxy

from aura_context import PlanContext, Snapshot
from aura_context._stack import same
from aura_context._variables import default

from ._shown import Shown


if TYPE_CHECKING:
    from celery import Celery

    from aura_context import VarContext

    from ._shown import Contexts


__all__ = ["install", "uninstall"]

_log = logging.getLogger(__name__)

# One header of text, because that is what any serializer and any broker can carry.
_HEADER: Final = "aura_context"

# What a run of a task has open, kept on its request: two runs never share one.
_BLOCK: Final = "_aura_context_block"

_PLAIN: Final = (str, int, float, type(None))


def install(app: Celery, contexts: Contexts | None = None) -> None:
    """Send what is bound with each task that this app publishes, and bind it there.

    Call it where the app is made, as the workers need it too. In a worker, values are
    bound from Celery's ``task_prerun`` to its ``task_postrun``: around the task, its
    callbacks, and the steps of a chain that follow it. Inside, every context that was
    not sent has its default, whatever the worker was started under. A retry keeps what
    its task was published with. A message that brings nothing runs clean.

    Installing again replaces the mapping.

    Args:
        app: The Celery application. Others in this process are left alone.
        contexts: What to send and what to accept: a mapping from name to context
            class. Without it that is the plan, as ``plan_name``, and nothing else.
            Values travel as JSON and have to be text, numbers, booleans or None;
            publishing any other is a `TypeError` in the caller. The worker gives
            them to the class, and drops what the class refuses, with a warning in the
            log.

    Raises:
        TypeError: If the mapping has something else in it, or a class that is not
            carried.
        ValueError: If two names share a variable.

    Example:
        >>> from celery import Celery
        >>> from aura_context import current_plan_name, plan_context
        >>> app = Celery("doctest", set_as_current=False)
        >>> app.conf.task_always_eager = True
        >>> install(app)
        >>> @app.task
        ... def work():
        ...     return current_plan_name.get()
        >>> with plan_context("nightly"):
        ...     work.delay().get()
        'nightly'
        >>> uninstall(app)

    .. versionadded:: 0.1.0
    """
    chosen = _checked(contexts)
    app = _itself(app)
    if app in _installed:
        _installed[app].contexts = chosen
        return
    _installed[app] = carrier = _Carrier(app, chosen)
    # Not before_task_publish, the signal: it knows of no app, and what its receiver
    # raises is logged while the message leaves without its plan.
    app.send_task = carrier.send_task  # type: ignore[method-assign]  # of this app alone
    # To connect the same functions again changes nothing.
    signals.task_prerun.connect(_begin)
    signals.task_postrun.connect(_end)


def uninstall(app: Celery) -> None:
    """Undo `install`, however often that was called; do nothing if it never was.

    .. versionadded:: 0.1.0
    """
    app = _itself(app)
    carrier = _installed.pop(app, None)
    # Where somebody has wrapped ours since, it stays and hands everything on.
    if carrier and app.send_task == carrier.send_task:
        app.send_task = carrier.inner  # type: ignore[method-assign]  # likewise


class _Carrier:
    """Writes what is bound into messages, and reads it back."""

    def __init__(self, app: Celery, contexts: Contexts) -> None:
        self.app = app
        self.contexts = contexts
        self.inner: Any = app.send_task

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Publish, with the header; a retry brings that of its first message."""
        headers: dict[str, Any] = options.get("headers") or {}
        if _HEADER not in headers and _installed.get(self.app) is self:
            options["headers"] = {**headers, _HEADER: self.written()}
        return self.inner(*args, **options)

    def written(self) -> str:
        """Return what is bound here, as text."""
        values: dict[str, Any] = {}
        for name, cls in self.contexts.items():
            value = cls.current()
            if same(value, default(cls.var)):
                continue
            if not isinstance(value, _PLAIN):
                msg = (
                    f"{name}: Celery takes text, numbers, booleans and None along, "
                    f"got {value!r} of {type(value).__qualname__}"
                )
                raise TypeError(msg)
            values[name] = value
        return json.dumps(values, allow_nan=False)

    def read(self, text: str) -> list[VarContext[Any]]:
        """Return the contexts that a header names, as far as they can be made."""
        try:
            values = dict(json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            _log.warning("a message's %s header is dropped: %.200r", _HEADER, error)
            return []
        contexts: list[VarContext[Any]] = []
        for name, cls in self.contexts.items():
            if name not in values:
                continue
            try:
                contexts.append(_made(cls, values[name]))
            except Exception as error:  # noqa: BLE001 - however a class refuses
                _log.warning("a message's %s is dropped: %.200r", name, error)
        return contexts

    def block(self, request: Any) -> Snapshot:
        """Return what to bind for a run, and note it for the run's retries."""
        headers: dict[str, Any] = request.headers or {}
        text = headers.get(_HEADER)
        if text is None:  # never published, or by somebody else
            text = self.written() if request.is_eager else "{}"
        request.headers = {**headers, _HEADER: text}
        return Snapshot(*self.read(text))


_installed: dict[Celery, _Carrier] = {}


def _begin(task: Any, **_signal: Any) -> None:
    """Bind what came with the message, and nothing else."""
    carrier = _installed.get(task.app)
    if carrier is None:
        return
    block = Snapshot()
    try:
        block = carrier.block(task.request)
    finally:  # Celery logs what a receiver raises, and runs the task
        setattr(task.request, _BLOCK, block.__enter__())


def _end(task: Any, **_signal: Any) -> None:
    """Leave what was bound, in the thread and Context that bound it."""
    attributes = cast("dict[str, Any]", vars(task.request))
    block = attributes.pop(_BLOCK, None)
    if block is not None:
        block.__exit__(None, None, None)


def _itself(app: Any) -> Any:
    """Return the app that a proxy such as `celery.current_app` stands for."""
    proxy: Any = app
    return proxy._get_current_object() if isinstance(app, Proxy) else app  # noqa: SLF001 - there is no other way


def _checked(contexts: Contexts | None) -> Contexts:
    variables = Shown(
        contexts, "plan_name"
    ).variables  # refuses what is no such mapping
    chosen = {"plan_name": PlanContext} if contexts is None else dict(contexts)
    for name, cls in chosen.items():
        if not cls.carried:
            msg = f"{name!r} names {cls.__qualname__}, which has carried = False"
            raise TypeError(msg)
    if len({var for var, _ in variables.values()}) < len(chosen):
        msg = f"each variable goes by one name, got {chosen!r}"
        raise ValueError(msg)
    return chosen


def _made(cls: type[VarContext[Any]], value: Any) -> VarContext[Any]:
    """Return the context for a value that anyone may have sent."""
    if not isinstance(value, _PLAIN):
        msg = f"must be text, a number, a boolean or None, got {value!r}"
        raise TypeError(msg)
    return cls(value)
