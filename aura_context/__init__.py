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
from .plan import PlanContext, current_plan_name, plan_context


__all__ = [
    "ContextError",
    "ForeignExitWarning",
    "NotBoundError",
    "NotEnteredError",
    "PlanContext",
    "VarContext",
    "active_contexts",
    "current_plan_name",
    "plan_context",
]
