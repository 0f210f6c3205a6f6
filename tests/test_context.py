"""Rules N4 and N5: contexts that users declare."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

from contextlib import nullcontext
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from aura_context import (
    ForeignExitWarning,
    NotBoundError,
    PlanContext,
    VarContext,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import UNSET, TenantContext, copied, current_tenant, held, leave


region: ContextVar[str] = ContextVar("region", default="nowhere")


class RegionContext(VarContext[str]):
    """Has a default of its own, and attributes too."""

    var = region

    def __init__(self, value: str, tags: list[str] | None = None) -> None:
        super().__init__(value)
        self.tags = tags or []


def pickled(context: VarContext[Any]) -> Any:
    return pickle.loads(pickle.dumps(context))  # noqa: S301 - our own


class SlottedContext(RegionContext):
    """Has slots beside the attributes."""

    __slots__ = ("zone",)

    def __init__(self, value: str, zone: int) -> None:
        super().__init__(value, ["slotted"])
        self.zone = zone


class TestN4Declaring:
    def test_binds_its_own_variable(self) -> None:
        with TenantContext("acme") as context:
            assert current_tenant.get() == TenantContext.current() == "acme"
            assert context.value == "acme"
            assert current_plan_name.get() is None
        assert TenantContext.current() is None

    def test_require_refuses_the_variables_own_default(self) -> None:
        with RegionContext("eu"):
            assert RegionContext.require() == "eu"
        with (
            RegionContext("".join(["no", "where"])),
            pytest.raises(NotBoundError, match=r"region .* RegionContext"),
        ):
            RegionContext.require()

    def test_a_subclass_shares_the_variable(self) -> None:
        class Special(TenantContext):
            pass

        class Restated(TenantContext):
            var = current_tenant

        with Special("special"):
            assert TenantContext.require() == "special"
            with Restated("restated"):
                assert Special.require() == "restated"

    def test_without_a_variable_there_is_no_instance(self) -> None:
        class Abstract(VarContext[int]):
            pass

        for cls in (VarContext, Abstract):
            with pytest.raises(TypeError, match=r"write var = ContextVar\("):
                cls(1)

    def test_the_variable_needs_a_default(self) -> None:
        bare: ContextVar[int] = ContextVar("bare")
        with pytest.raises(TypeError, match=r"no default.*write var = ContextVar\("):

            class Bare(VarContext[int]):  # pyright: ignore[reportUnusedClass] - its statement fails
                var = bare

    @pytest.mark.parametrize("var", [None, 3, "tenant", ContextVar])
    def test_the_variable_must_be_one(self, var: Any) -> None:
        given = f"must be a ContextVar, got an object of type {type(var).__name__}:"
        with pytest.raises(TypeError, match=given):
            type("Wrong", (VarContext,), {"var": var})

    def test_a_variable_has_one_class(self) -> None:
        with pytest.raises(TypeError, match="PlanContext declares already"):

            class Second(VarContext[str | None]):  # pyright: ignore[reportUnusedClass] - its statement fails
                var = current_plan_name

    def test_a_variable_from_a_mixin_counts(self) -> None:
        class Mixin:
            var: ContextVar[int] = ContextVar("mixed in")

        with pytest.raises(TypeError, match="no default"):
            type("Mixed", (Mixin, VarContext), {})

    def test_a_function_may_make_many_of_one_name(self) -> None:
        def make(var: ContextVar[int]) -> type[VarContext[int]]:
            class Made(VarContext[int]):
                pass

            return type(
                "Made", (Made,), {"var": var, "__qualname__": Made.__qualname__}
            )

        one: ContextVar[int] = ContextVar("one", default=0)
        two: ContextVar[int] = ContextVar("two", default=0)
        kept = make(one), make(two)
        with pytest.raises(TypeError, match="Made declares already"):
            type("Other", (VarContext,), {"var": one})
        assert [cls.var for cls in kept] == [one, two]


class TestN5Instances:
    def test_repr(self) -> None:
        assert repr(plan_context("p")) == "PlanContext('p')"
        assert repr(RegionContext("eu")) == "RegionContext('eu')"

    def test_repr_before_there_is_a_value(self) -> None:
        """A debugger shows it even where an `__init__` has forgotten the base."""

        class Forgetful(TenantContext):
            def __init__(self) -> None:
                pass

        assert repr(Forgetful()).startswith(Forgetful.__qualname__)

    def test_weak_references(self) -> None:
        context = RegionContext("eu")
        reference = weakref.ref(context)
        with context:
            pass
        assert reference() is context
        del context
        gc.collect()
        assert reference() is None

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
    @pytest.mark.parametrize("entered", [False, True])
    def test_a_copy_has_the_attributes_and_no_block(
        self, duplicate: Any, entered: bool
    ) -> None:
        context = SlottedContext("eu", 7)
        with context if entered else nullcontext():
            twin = duplicate(context)
            listed = active_contexts()
            with pytest.warns(ForeignExitWarning):
                leave(twin)
            assert active_contexts() == listed == (context,) * entered
        assert type(twin) is SlottedContext
        assert (twin.value, twin.tags, twin.zone) == ("eu", ["slotted"], 7)
        with twin:
            assert region.get() == "eu"
        with pytest.warns(ForeignExitWarning):
            leave(twin)

    def test_a_copy_of_what_has_no_value_yet(self) -> None:
        blank = TenantContext.__new__(TenantContext)
        assert not hasattr(copy.copy(blank), "value")

    def test_a_copy_has_the_state_as_object_would_give_it(self) -> None:
        """Past properties and descriptors, and by a mixin's own methods."""

        class Computed(RegionContext):
            def __init__(self, value: str) -> None:
                self.text = value

            @property
            def value(self) -> str:
                return self.text

            @value.setter
            def value(self, value: str) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - what is tested
                raise AttributeError(value)

        class Doubling(RegionContext):
            @property
            def times(self) -> int:
                return int(vars(self)["times"])

            @times.setter
            def times(self, times: int) -> None:
                vars(self)["times"] = 2 * times

        class Mixin:
            def __getstate__(self) -> object:
                return ["state"]

            def __setstate__(self, state: list[str]) -> None:
                self.restored = state

        class Mixed(RegionContext, Mixin):
            pass

        computed, doubling = copy.copy(Computed("eu")), Doubling("eu")
        doubling.times = 3
        assert (computed.value, copy.copy(doubling).times) == ("eu", 6)
        assert copy.copy(Mixed("eu")).restored == ["state"]

    def test_a_plan_context_pickles(self) -> None:
        twin = pickled(plan_context("计划"))
        assert type(twin) is PlanContext
        assert twin.plan_name == "计划"


class TestN5Values:
    """Nothing that belongs to one block is kept on the context."""

    def test_entering_writes_nothing(self) -> None:
        class Watched(TenantContext):
            def __setattr__(self, name: str, value: object) -> None:
                written.append(name)
                super().__setattr__(name, value)

            def __delattr__(self, name: str) -> None:
                written.append(name)
                super().__delattr__(name)

        written: list[str] = []
        context = Watched("t")
        assert written == ["value"]
        before = dict(vars(context))
        with context, context:
            assert vars(context) == before
        context(current_tenant.get)()
        copied(context.__enter__)
        with pytest.warns(ForeignExitWarning):
            leave(context)
        assert written == ["value"]
        assert vars(context) == before

    def test_a_frozen_one(self) -> None:
        class Frozen(TenantContext):
            def __init__(self, tenant: str) -> None:
                object.__setattr__(self, "value", tenant)

            def __setattr__(self, name: str, value: object) -> None:
                raise AttributeError(name)

            __delattr__ = __setattr__  # type: ignore[assignment] # pyright: ignore[reportAssignmentType] - never called

        context = Frozen("t")
        for each in (context, copy.copy(context), copy.deepcopy(context)):
            with each, each:
                assert current_tenant.get() == "t"
            assert held(current_tenant) == UNSET
            with pytest.warns(ForeignExitWarning):
                leave(each)

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles_with_every_protocol(self, protocol: int) -> None:
        data = pickle.dumps(SlottedContext("eu", 7), protocol)
        twin = pickle.loads(data)  # noqa: S301 - our own
        assert (twin.value, twin.tags, twin.zone) == ("eu", ["slotted"], 7)

    def test_slots_alone(self) -> None:
        class Slotted(VarContext[int]):
            __slots__ = ("value",)
            var = ContextVar("slotted", default=0)

        context = Slotted(1)
        assert not hasattr(context, "__dict__")
        for each in (context, copy.copy(context), copy.deepcopy(context)):
            with each:
                assert Slotted.current() == 1

    def test_equality_is_the_subclasss_own(self) -> None:
        class Equal(TenantContext):
            def __eq__(self, other: object) -> bool:
                return isinstance(other, Equal)

            __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType] - unhashable, as a list is

        one, two = Equal("1"), Equal("2")
        one.__enter__()
        with two:
            leave(one)
            assert current_tenant.get() == "2"
            assert [id(each) for each in active_contexts()] == [id(two)]
        assert held(current_tenant) == UNSET


class TestActiveContexts:
    def test_outermost_first(self) -> None:
        assert active_contexts() == ()
        with plan_context("a") as a, TenantContext("t") as t, a:
            assert active_contexts() == (a, t, a)
        assert active_contexts() == ()

    def test_in_a_child(self) -> None:
        with plan_context("a") as a:
            child = copy_context()
            with plan_context("b") as b:
                assert child.run(active_contexts) == (a,)
                assert active_contexts() == (a, b)
        assert child.run(active_contexts) == ()  # it is left, and the value stays (R8)
        assert child.run(current_plan_name.get) == "a"

    def test_a_decorated_call_is_listed_as_the_context_that_decorates(self) -> None:
        context = plan_context("p")
        with plan_context("outer") as outer:
            listed = context(active_contexts)()
        assert [id(each) for each in listed] == [id(outer), id(context)]
