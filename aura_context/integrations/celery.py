"""The plan in Celery's tasks: sent with the message, bound where the task runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from celery import Celery, current_task, signals
from celery.local import Proxy

from aura_context import PlanContext, Snapshot
from aura_context._stack import leave_leftovers

from ._named import Contexts, sendable
from .messages import dump, load


__all__ = ["install", "uninstall"]

# One header of text, because that is what any serializer and any broker can carry.
_HEADER: Final = "aura_context"

# Kept on the application, so that it does not outlive it.
_CARRIER: Final = "_aura_context_carrier"

# Kept on the request of a run: two runs never share one.
_RUN: Final = "_aura_context_run"

# The header of a message without values.
_CLEAN: Final = "{}"


def install(app: Celery, contexts: Contexts | None = None) -> None:
    """Send what is bound with each task that this app publishes; bind it in the worker.

    Call this where the app is created, because the workers need it too. In a worker,
    values are bound from Celery's ``task_prerun`` to its ``task_postrun``: around the
    task, its callbacks, and the following steps of a chain. Inside, every variable that
    was not sent has its default, whatever the worker was started under. A message
    without values runs clean.

    The values that are bound at the call are sent, even if a task forwards the headers
    of its own message. Only a retry keeps what its task was first published with.

    A second call replaces the mapping.

    Args:
        app: The Celery application. Other applications are not affected.
        contexts: What to send and to accept: a mapping from name to context class.
            Without it, the plan is sent as ``plan_name``, and nothing else.
            `messages.dump` writes the values, and its errors are raised in the caller.
            `messages.load` reads them in the worker.

    Raises:
        TypeError: If the mapping holds anything but context classes that are carried,
            by name.
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
    """
    chosen = sendable({"plan_name": PlanContext} if contexts is None else contexts)
    app = _itself(app)
    if carrier := _carrier(app):
        carrier.contexts = chosen
        return
    carrier = _Carrier(app, chosen)
    setattr(app, _CARRIER, carrier)
    # Not before_task_publish, the signal: it knows of no app, and what its receiver
    # raises is logged while the message leaves without its plan.
    app.send_task = carrier.send_task  # type: ignore[method-assign]  # of this app alone
    # To connect the same functions again changes nothing.
    signals.task_prerun.connect(_begin)
    signals.task_postrun.connect(_end)


def uninstall(app: Celery) -> None:
    """Undo all calls of `install`; do nothing if there were none."""
    app = _itself(app)
    carrier = _carrier(app)
    if carrier is None:
        return
    delattr(app, _CARRIER)
    # If other code has wrapped this `send_task` since, it stays and passes calls on.
    if app.send_task == carrier.send_task:
        app.send_task = carrier.inner  # type: ignore[method-assign]  # likewise


class _Run(NamedTuple):
    """A run of a task: the header that it came with, and the block around it."""

    header: Any
    block: Any


class _Carrier:
    """Writes what is bound into messages, and reads it back."""

    def __init__(self, app: Celery, contexts: Contexts) -> None:
        self.app = app
        self.contexts = contexts
        self.inner: Any = app.send_task

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Publish with the header, instead of one that the caller has forwarded."""
        if _carrier(self.app) is self:
            running: Any = current_task  # a proxy, of None where no task runs
            header = running and _header_of_first(
                running.request, options.get("task_id"), options.get("retries", 0)
            )
            if not header:
                header = dump(self.contexts)
            headers = dict(options.get("headers") or {})
            options["headers"] = {**headers, _HEADER: header}
        return self.inner(*args, **options)

    def header(self, request: Any) -> Any:
        """Return the header that a run came with."""
        delivery: dict[str, Any] = request.delivery_info or {}
        if delivery.get("is_eager"):  # not request.is_eager, which a message can set
            return dump(self.contexts)
        headers: dict[str, Any] = request.headers or {}
        return headers.get(_HEADER) or _CLEAN


def _header_of_first(running: Any, task_id: object, retries: int) -> Any:
    """Return the running task's header if it is this that retries it, or None.

    That is how Celery publishes a retry: from within, under the same id. So does
    `Task.replace`, but that counts no retry.
    """
    run: object = getattr(running, _RUN, None)
    # A message can set any attribute of a request.
    if isinstance(run, _Run) and running.id == task_id and retries > running.retries:
        return run.header
    return None


def _begin(task: Any, **_signal: Any) -> None:
    """Bind what came with the message, and nothing else."""
    carrier = _carrier(task.app)
    if carrier is None:
        return
    request = task.request
    if not isinstance(request.headers, Mapping):
        request.headers = None  # which is Celery's own word for no headers
    header, block = _CLEAN, Snapshot()
    try:
        header = carrier.header(request)
        block = load(header, carrier.contexts)
    finally:  # Celery logs what a receiver raises, and runs the task
        # Only such a handle leaves its block (R3), as that of a decorated call.
        setattr(request, _RUN, _Run(header, Snapshot.call_class(block).__enter__()))


def _end(task: Any, **_signal: Any) -> None:
    """Leave what was bound, in the thread and Context that bound it."""
    run: object = task.request.__dict__.pop(_RUN, None)
    if isinstance(run, _Run):
        leave_leftovers(run.block)
        run.block.__exit__(None, None, None)


def _carrier(app: Any) -> _Carrier | None:
    """Return what `install` has put on the app."""
    return getattr(app, _CARRIER, None)


def _itself(app: Any) -> Any:
    """Return the app that a proxy such as `celery.current_app` stands for."""
    proxy: Any = app
    return proxy._get_current_object() if isinstance(app, Proxy) else app  # noqa: SLF001 - there is no other way
