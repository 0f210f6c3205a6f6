"""aura_context."""

from __future__ import annotations

from aura_context import current_plan_name, plan_context

from . import Candidate


CANDIDATE = Candidate(
    title="`aura_context`",
    distribution=None,
    block=plan_context,
    get=current_plan_name.get,
    raw_set=current_plan_name.set,
    instance=plan_context,
    async_block=plan_context,
    decorator=plan_context,
)
