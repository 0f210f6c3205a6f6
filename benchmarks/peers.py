"""What else binds a value for a block, each used as its documentation says.

They do not do the same: `decimal` and `numpy` bind settings of their own, structlog and
loguru bind what is logged, and few restore by token. The page on performance says more.
"""

from __future__ import annotations

import decimal

from contextvars import ContextVar
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sentry_sdk

from extracontext import ContextLocal  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs] - it has none
from loguru import logger
from opentelemetry import context as opentelemetry
from structlog.contextvars import bound_contextvars
from werkzeug.local import LocalStack


if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from turns import Loop

    class ContextModel(AbstractContextManager["ContextModel"]):
        """What is used of it: Prefect is large, and not there to check types."""

        def __init__(self, **_: object) -> None: ...
        def __exit__(self, *_: object) -> None: ...

else:
    from prefect.context import ContextModel


class PlanModel(ContextModel):
    """A context of Prefect's kind."""

    __var__: ClassVar[ContextVar[Any]] = ContextVar("plan_model")

    plan: str


local: Any = ContextLocal()
local_stack: LocalStack[str] = LocalStack()


def with_decimal(steps: int) -> None:
    """Bind a precision, in C."""
    for _ in repeat(None, steps):
        with decimal.localcontext(prec=20):
            pass


def with_numpy(steps: int) -> None:
    """Bind how errors are handled, in C."""
    for _ in repeat(None, steps):
        with np.errstate(all="ignore"):
            pass


def with_opentelemetry(steps: int) -> None:
    """Attach a value and detach it; this is no context manager."""
    for _ in repeat(None, steps):
        token = opentelemetry.attach(opentelemetry.set_value("plan", "plan"))
        try:
            pass
        finally:
            opentelemetry.detach(token)


def with_structlog(steps: int) -> None:
    """Bind what is to be logged."""
    for _ in repeat(None, steps):
        with bound_contextvars(plan="plan"):
            pass


def with_loguru(steps: int) -> None:
    """Bind what is to be logged."""
    for _ in repeat(None, steps):
        with logger.contextualize(plan="plan"):
            pass


def with_sentry(steps: int) -> None:
    """Tag what is reported."""
    for _ in repeat(None, steps):
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("plan", "plan")


def with_werkzeug(steps: int) -> None:
    """Push a value and pop it; this is no context manager."""
    for _ in repeat(None, steps):
        local_stack.push("plan")
        try:
            pass
        finally:
            local_stack.pop()


def with_extracontext(steps: int) -> None:
    """Set an attribute that lasts as long as the block."""
    for _ in repeat(None, steps):
        with local:
            local.plan = "plan"


def with_prefect(steps: int) -> None:
    """Bind a model of Pydantic's."""
    for _ in repeat(None, steps):
        with PlanModel(plan="plan"):
            pass


PEERS: Mapping[str, Loop] = {
    "decimal.localcontext(prec=20)": with_decimal,
    "numpy.errstate": with_numpy,
    "OpenTelemetry attach, detach": with_opentelemetry,
    "werkzeug LocalStack push, pop": with_werkzeug,
    "structlog bound_contextvars": with_structlog,
    "loguru contextualize": with_loguru,
    "Prefect ContextModel": with_prefect,
    "extracontext ContextLocal": with_extracontext,
    "sentry_sdk.new_scope": with_sentry,
}
