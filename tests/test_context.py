"""Rules N4 and N5: contexts of one's own."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from aura_context import (
    ForeignExitWarning,
    NotBoundError,
    NotEnteredError,
    PlanContext,
    VarContext,
    active_contexts,
    current_plan_name,
    plan_context,
)

from .contexts import TenantContext, current_tenant, leave


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
        with pytest.raises(TypeError, match="must be a ContextVar, got"):
            type("Wrong", (VarContext,), {"var": var})

    def test_a_variable_has_one_class(self) -> None:
        with pytest.raises(TypeError, match="PlanContext binds already"):

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
        make(one)
        make(two)
        with pytest.raises(TypeError, match="Made binds already"):
            type("Other", (VarContext,), {"var": one})

    def test_dataclasses(self) -> None:
        @dataclass(frozen=True)
        class Frozen(VarContext[str]):
            var = ContextVar("frozen", default="")
            value: str
            extra: int = 0

        @dataclass(slots=True)
        class Slotted(VarContext[str]):
            var = ContextVar("slotted", default="")
            value: str
            extra: int = 0

        @dataclass(frozen=True, slots=True)
        class Both(VarContext[str]):
            var = ContextVar("both", default="")
            value: str
            extra: int = 0

        for context in (Frozen("x", 1), Slotted("x", 1), Both("x", 1)):
            assert copy.copy(context) == copy.deepcopy(context) == context
            with context:
                assert type(context).current() == "x"
            assert type(context).current() == ""
            with pytest.warns(ForeignExitWarning):  # it has been entered, after all
                leave(context)

    def test_the_same_class_again_takes_the_place_of_the_old(self) -> None:
        def cell(var: ContextVar[int]) -> type[VarContext[int]]:
            namespace = {"var": var, "__module__": "__main__"}
            return type("Notebook", (VarContext,), namespace)

        one: ContextVar[int] = ContextVar("one", default=0)
        two: ContextVar[int] = ContextVar("two", default=0)
        old, new = cell(one), cell(one)
        with old(1), new(2):
            assert one.get() == 2
        cell(two)  # and lets go of the variable that the old one had
        type("AnyOther", (VarContext,), {"var": one})
        with pytest.raises(TypeError, match="Notebook binds already"):
            type("Other", (VarContext,), {"var": two})


class TestN5Instances:
    def test_repr(self) -> None:
        assert repr(plan_context("p")) == "PlanContext('p')"
        assert repr(RegionContext("eu")) == "RegionContext('eu')"

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
    def test_a_copy_has_the_attributes_and_is_not_entered(
        self, duplicate: Any, entered: bool
    ) -> None:
        context = SlottedContext("eu", 7)
        if entered:
            with context:
                twin = duplicate(context)
                assert active_contexts() == (context,)
        else:
            twin = duplicate(context)
        assert type(twin) is SlottedContext
        assert (twin.value, twin.tags, twin.zone) == ("eu", ["slotted"], 7)
        with pytest.raises(NotEnteredError):
            leave(twin)
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


class TestActiveContexts:
    def test_outermost_first(self) -> None:
        assert active_contexts() == ()
        with plan_context("a") as a, TenantContext("t") as t, a:
            assert active_contexts() == (a, t, a)
        assert active_contexts() == ()
