"""Say who this code is running for.

Example:
    >>> from aura_context import current_plan_name, plan_context
    >>> with plan_context("nightly"):
    ...     current_plan_name.get()
    'nightly'
"""

from inspect import get_annotations as _get_annotations

from ._context import VarContext
from .exceptions import ContextError, ForeignExitWarning, NotBoundError
from .executors import ContextExecutor, ContextThreadPoolExecutor
from .plan import PlanContext, current_plan_name, plan_context
from .snapshot import Snapshot, active_contexts, carry


__all__ = [
    "ContextError",
    "ContextExecutor",
    "ContextThreadPoolExecutor",
    "ForeignExitWarning",
    "NotBoundError",
    "PlanContext",
    "Snapshot",
    "VarContext",
    "active_contexts",
    "carry",
    "current_plan_name",
    "plan_context",
]

# Pickles and tracebacks name the package, so they survive a move between its modules.
# A ContextVar has no such attribute.
for _name in set(__all__) - {"current_plan_name"}:
    _public = globals()[_name]
    if isinstance(_public, type):
        # Before `typing.get_type_hints` looks here for the names that they use.
        _public.__annotations__ = _get_annotations(_public, eval_str=True)
        # It would be a line of this file (3.13 and later; not all versions drop it).
        if "__firstlineno__" in vars(_public):
            delattr(_public, "__firstlineno__")
    _public.__module__ = __name__
