"""Say who this code is running for.

Example:
    >>> from aura_context import current_plan_name, plan_context
    >>> with plan_context("nightly"):
    ...     current_plan_name.get()
    'nightly'
"""

from ._context import VarContext, active_contexts
from .exceptions import (
    ContextError,
    ForeignExitWarning,
    NotBoundError,
    NotEnteredError,
)
from .executors import ContextExecutor, ContextThreadPoolExecutor
from .plan import PlanContext, current_plan_name, plan_context
from .snapshot import Snapshot, carry


__all__ = [
    "ContextError",
    "ContextExecutor",
    "ContextThreadPoolExecutor",
    "ForeignExitWarning",
    "NotBoundError",
    "NotEnteredError",
    "PlanContext",
    "Snapshot",
    "VarContext",
    "active_contexts",
    "carry",
    "current_plan_name",
    "plan_context",
]
