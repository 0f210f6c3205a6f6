"""Jobs for RQ and Huey, each around the line of the page; their workers import this."""

from __future__ import annotations

import os

from importlib import import_module
from typing import Any

from rq import Queue, get_current_job

from aura_context import PlanContext, current_plan_name
from aura_context.integrations.messages import load


CONTEXTS = {"plan_name": PlanContext}
URL = os.environ["REDIS_URL"]

REDIS: Any = import_module("redis")
HUEY: Any = import_module("huey")  # has no types

queue = Queue(connection=REDIS.Redis.from_url(URL))
huey = HUEY.RedisHuey(url=URL)


def rq_job() -> list[str | None]:
    job: Any = get_current_job()
    with load(job.meta.get("aura_context"), accept=CONTEXTS):
        if job.retries_left:
            raise ConnectionError
        inside = current_plan_name.get()
    return [inside, current_plan_name.get()]


def run_by_huey(task: Any, aura_context: str | None = None) -> list[str | None]:
    with load(aura_context, accept=CONTEXTS):
        if task.retries:
            raise ConnectionError
        inside = current_plan_name.get()
    return [inside, current_plan_name.get()]


huey_job = huey.task(retries=1, context=True)(run_by_huey)
