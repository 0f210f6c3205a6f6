"""What type checkers are told; they read this file, and nothing runs it.

A deliberate error carries an ignore with its code for each checker, and both call an
ignore without effect an error: so the checkers have to see it. ty and pyrefly are asked
for the same errors in the same lines.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, assert_type

from aura_context import (
    PlanContext,
    Snapshot,
    VarContext,
    active_contexts,
    current_plan_name,
    plan_context,
)


@dataclass
class Tenant:
    name: str


current_tenant: ContextVar[Tenant | None] = ContextVar("tenant", default=None)
current_depth: ContextVar[int] = ContextVar("depth", default=0)


class TenantContext(VarContext[Tenant | None]):
    var = current_tenant

    def greeting(self) -> str:
        return "" if self.value is None else self.value.name


class GuestContext(TenantContext):
    """Shares its base's variable."""


class DepthContext(VarContext[int]):
    var = current_depth


def plan() -> None:
    assert_type(current_plan_name, ContextVar[str | None])
    assert_type(current_plan_name.get(), str | None)
    assert_type(plan_context("p"), PlanContext)
    assert_type(plan_context(None), PlanContext)
    assert_type(PlanContext("p").plan_name, str | None)
    assert_type(PlanContext("p").value, str | None)
    assert_type(PlanContext.current(), str | None)
    assert_type(PlanContext.require(), str)

    plan_context(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    plan_context()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    PlanContext(b"p")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    PlanContext("p").plan_name = "q"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def own_contexts() -> None:
    assert_type(TenantContext(Tenant("t")).value, Tenant | None)
    assert_type(TenantContext.current(), Tenant | None)
    assert_type(TenantContext.require(), Tenant)
    assert_type(GuestContext.current(), Tenant | None)
    assert_type(DepthContext(1).value, int)
    assert_type(DepthContext.current(), int)
    assert_type(DepthContext.require(), int)
    assert_type(active_contexts(), tuple[VarContext[Any] | Snapshot, ...])

    TenantContext("t")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    DepthContext(None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    DepthContext()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def sync_blocks() -> None:
    with plan_context("p") as context:
        assert_type(context, PlanContext)
    with TenantContext(None) as tenant, GuestContext(None) as guest:
        assert_type(tenant, TenantContext)
        assert_type(guest, GuestContext)
        assert_type(guest.greeting(), str)


async def async_blocks() -> None:
    async with plan_context("p") as context:
        assert_type(context, PlanContext)
    async with TenantContext(None) as tenant, GuestContext(None) as guest:
        assert_type(tenant, TenantContext)
        assert_type(guest, GuestContext)


def blocks_let_exceptions_pass() -> int:
    # A block that could swallow its body's exception would leave a way out of here
    # without a value.
    with plan_context("p"):
        return 1


async def async_blocks_let_exceptions_pass() -> int:
    async with plan_context("p"):
        return 1


def takes_any(context: VarContext[int]) -> int:
    return context.value


takes_any(DepthContext(1))
takes_any(TenantContext(None))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
