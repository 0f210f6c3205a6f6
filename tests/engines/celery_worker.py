"""Starts a worker inside a block, which must not colour its tasks."""

from __future__ import annotations

import sys

from celery_tasks import TenantContext, app  # type: ignore[import-not-found]

from aura_context import plan_context


with plan_context("of the worker"), TenantContext("of the worker"):
    app.worker_main(
        ["worker", "--loglevel", "INFO", "--pool", "prefork", *sys.argv[1:]]
    )
