"""Tasks for the tests of Celery; a worker imports this, and so do the tests."""

from __future__ import annotations

import os

from contextvars import ContextVar
from typing import Any

import redis

from celery import Celery, signals

from aura_context import PlanContext, VarContext, current_plan_name, plan_context
from aura_context.integrations.celery import install


current_region: ContextVar[str | None] = ContextVar("current_region", default=None)
current_tenant: ContextVar[str | None] = ContextVar("current_tenant", default=None)

BROKERS: Any = redis.Redis  # has no types to speak of

KEPT: list[PlanContext] = []


class RegionContext(VarContext[str | None]):
    """A context that is sent."""

    var = current_region


class TenantContext(VarContext[str | None]):
    """A context that is not."""

    var = current_tenant


app = Celery("celery_tasks", set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="many",
    worker_prefetch_multiplier=1,
    result_expires=600,
)


@signals.task_prerun.connect
def _before(task: Any, **_signal: Any) -> None:
    """Connected first, so it sees what the worker is like between two tasks."""
    task.request.between = [current_plan_name.get(), current_tenant.get()]


install(app, {"plan_name": PlanContext, "region": RegionContext})


def seen() -> list[str | None]:
    """Return what is bound."""
    return [current_plan_name.get(), current_region.get(), current_tenant.get()]


@app.task(name="look", shared=False, bind=True)
def look(task: Any, *_previous: Any) -> dict[str, Any]:
    """Tell what is bound, in which process, and what was bound before the task."""
    return {"seen": seen(), "between": task.request.between, "pid": os.getpid()}


@app.task(name="then", shared=False)
def then(previous: list[Any]) -> list[Any]:
    """Go on in a chain, or after a group."""
    return [*previous, seen()]


@app.task(name="first", shared=False)
def first(_previous: Any = None) -> list[Any]:
    """Begin a chain, or be one of a group."""
    return [seen()]


@app.task(name="meet", shared=False)
def meet(name: str, other: str) -> list[Any]:
    """Wait until the other runs as well, so that both run at once."""
    found = [seen()]
    with BROKERS.from_url(app.conf.broker_url) as broker:
        broker.lpush(f"meet {name}", "here")
        assert broker.blpop([f"meet {other}"], timeout=30)
    return [*found, seen()]


@app.task(name="flaky", shared=False, bind=True, max_retries=3)
def flaky(task: Any, path: list[Any]) -> list[Any]:
    """Retry twice, from inside another block."""
    path = [*path, seen()]
    with plan_context("inside"):
        if task.request.retries < 2:
            raise task.retry(args=[path], countdown=0)
    return path


@app.task(name="boom", shared=False)
def boom() -> None:
    """Raise, with everything left behind that can be."""
    current_tenant.set("left behind")
    KEPT.append(plan_context("left open").__enter__())
    raise ValueError(str(seen()))


@app.task(name="fail", shared=False)
def fail() -> None:
    """Raise, and leave nothing behind."""
    raise ValueError


@app.task(name="note", shared=False)
def note(*_args: Any, key: str) -> None:
    """Write down what is bound where an error callback runs."""
    with BROKERS.from_url(app.conf.broker_url) as broker:
        broker.lpush(key, repr(seen()))
