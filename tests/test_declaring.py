"""Rule N4: declaring a class, again, late, in a function or with a decorator."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import types
import weakref

from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from aura_context import (
    ContextError,
    ForeignExitWarning,
    PlanContext,
    Snapshot,
    VarContext,
    _variables,
    active_contexts,
    carry,
    plan_context,
)

from .contexts import (
    UNSET,
    TenantContext,
    current_tenant,
    fresh,
    held,
    leave,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MODULE = """\
from contextvars import ContextVar
from aura_context import VarContext

run_id = ContextVar("run_id", default=0)

class RunContext(VarContext):
    var = run_id
"""


@pytest.fixture
def reload() -> Iterator[Callable[[], Any]]:
    """Return what executes a module again, as a hot reload does."""
    module = types.ModuleType("reloaded")

    def execute() -> Any:
        exec(MODULE, vars(module))  # noqa: S102 - our own
        return types.SimpleNamespace(**vars(module))

    sys.modules["reloaded"] = module
    yield execute
    del sys.modules["reloaded"]


class TestN4DefinedAgain:
    def test_what_older_code_captures_stays_carried(
        self, reload: Callable[[], Any]
    ) -> None:
        older = reload()
        with older.RunContext(7):
            before = carry(older.run_id.get)
        newer = reload()
        with older.RunContext(8):
            after = carry(older.run_id.get)
        with older.RunContext(1), newer.RunContext(2):
            both = Snapshot.capture()

            def read() -> object:
                return older.run_id.get(), newer.run_id.get()

            pair = carry(read)
        assert (before(), after(), pair()) == (7, 8, (1, 2))
        assert dict(both) == {older.RunContext: 1, newer.RunContext: 2}

    def test_twice(self, reload: Callable[[], Any]) -> None:
        versions = [reload() for _ in range(3)]

        def read() -> list[int]:
            return [version.run_id.get() for version in versions]

        def capture() -> Callable[[], list[int]]:
            for number, version in enumerate(versions, 1):
                version.run_id.set(number)
                assert version.RunContext.is_bound()
            with Snapshot():
                assert read() == [0, 0, 0]
            assert read() == [1, 2, 3]
            return carry(read)

        carried = fresh(capture)
        assert (carried(), read()) == ([1, 2, 3], [0, 0, 0])

    def test_an_older_snapshot_holds_and_binds_what_it_did(
        self, reload: Callable[[], Any]
    ) -> None:
        older = reload()
        snapshot = Snapshot(older.RunContext(7))
        newer = reload()
        assert dict(snapshot) == {older.RunContext: 7}
        with newer.RunContext(1), snapshot:
            assert (older.run_id.get(), newer.run_id.get()) == (7, 0)
            captured = {older.RunContext: 7, newer.RunContext: 0}
            assert dict(Snapshot.capture()) == captured
        assert dict(Snapshot(older.RunContext(8))) == {older.RunContext: 8}

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_of_an_older_snapshot_binds_what_it_did(
        self, reload: Callable[[], Any], copied: Callable[[Any], Any]
    ) -> None:
        """Only where it is pickled does a value move to the newer class."""
        older = reload()
        snapshot = Snapshot(older.RunContext(7))
        newer = reload()
        assert dict(copied(snapshot)) == {older.RunContext: 7}
        carried = copied(snapshot.run(carry, older.run_id.get))
        assert (carried(), newer.run_id.get()) == (7, 0)

    def test_a_block_that_is_open_meanwhile(self, reload: Callable[[], Any]) -> None:
        older = reload()
        with older.RunContext(1) as block:
            newer = reload()
            with newer.RunContext(2) as other:
                assert active_contexts() == (block, other)
            assert older.run_id.get() == 1
        assert (held(older.run_id), held(newer.run_id)) == (UNSET, UNSET)

    def test_an_older_class_that_is_gone(self, reload: Callable[[], Any]) -> None:
        older = reload()
        snapshot = Snapshot(older.RunContext(7))
        gone, run_id = weakref.ref(older.RunContext), older.run_id
        reload()
        del older
        gc.collect()
        assert gone() is not None  # the snapshot holds it
        assert snapshot.run(run_id.get) == 7
        del snapshot
        gc.collect()
        assert gone() is None
        run_id.set(1)
        assert 1 not in Snapshot.capture().values()

    def test_with_the_same_variable(self) -> None:
        """A notebook's cell that declares the class, and another the variable."""

        def cell(var: ContextVar[int]) -> type[VarContext[int]]:
            namespace = {"var": var, "__module__": "__main__"}
            return type("Notebook", (VarContext,), namespace)

        one: ContextVar[int] = ContextVar("one", default=0)
        older = cell(one)
        snapshot = Snapshot(older(1))
        newer = cell(one)
        with older(1), newer(2):
            assert one.get() == older.current() == newer.current() == 2
            assert dict(Snapshot.capture()) == {newer: 2}
        assert snapshot.run(one.get) == 1
        assert dict(Snapshot(older(3))) == {newer: 3}
        with pytest.raises(ValueError, match="binds the same variable"):
            Snapshot(older(1), newer(2))
        with pytest.raises(TypeError, match="Notebook declares already"):
            type("Other", (VarContext,), {"var": one})

    def test_the_variable_of_an_older_class_that_is_gone_is_free(self) -> None:
        def cell(var: ContextVar[int]) -> None:
            type("Notebook", (VarContext,), {"var": var, "__module__": "__main__"})

        one: ContextVar[int] = ContextVar("one", default=0)
        for _ in range(2):
            cell(one)
            gc.collect()
        other: Any = type("Other", (VarContext,), {"var": one})
        with other(1):
            assert one.get() == 1

    def test_the_newer_class_goes_first(self) -> None:
        """A reload that fails half-way: the older class still declares the variable."""

        def cell(var: ContextVar[int]) -> type[VarContext[int]]:
            return type("Notebook", (VarContext,), {"var": var})

        one: ContextVar[int] = ContextVar("one", default=0)
        older = cell(one)
        with older(1):
            for _ in range(3):
                cell(one)
                gc.collect()
            assert dict(Snapshot.capture()) == {older: 1}
            with Snapshot():
                assert one.get() == 0
        gone = weakref.ref(older)
        del older
        gc.collect()
        assert gone() is None
        one.set(1)
        assert 1 not in Snapshot.capture().values()

    def test_many_times_keeps_no_trace_of_those_between(self) -> None:
        one: ContextVar[int] = ContextVar("one", default=0)
        kept = [type("Notebook", (VarContext,), {"var": one}) for _ in range(20)]
        del kept[1:-1]
        gc.collect()
        known = _variables._declarations[one]  # pyright: ignore[reportPrivateUsage] - nothing public tells
        assert len(known.classes) == len(kept)

    def test_a_subclass_of_the_older_class_shares_the_variable(self) -> None:
        """Code that has imported the older class subclasses it after the reload."""
        one: ContextVar[int] = ContextVar("one", default=0)
        older: Any = type("Cell", (VarContext,), {"var": one})
        newer: Any = type("Cell", (VarContext,), {"var": one})
        subclass: Any = type("Sub", (older,), {})
        with subclass(1):
            assert dict(Snapshot.capture()) == {newer: 1}
        assert Snapshot(subclass(2)).run(newer.current) == 2
        with pytest.raises(TypeError, match=r"with Cell: set carried there, for both$"):
            type("Sub", (older,), {"carried": False})

    def test_another_class_of_the_same_name_is_refused(self) -> None:
        one: ContextVar[int] = ContextVar("one", default=0)
        namespace = {"var": one, "__qualname__": "Billing.Context"}
        kept = type("Context", (VarContext,), namespace)
        with pytest.raises(TypeError, match=r"Billing\.Context declares already"):
            type(
                "Context", (VarContext,), {"var": one, "__qualname__": "Audit.Context"}
            )
        assert type("Context", (VarContext,), namespace) is not kept


class TestS4DefinedAgain:
    """A value travels under the newest class of its name."""

    @staticmethod
    def classes(snapshot: Snapshot) -> list[type[Any]]:
        """Return the classes that the pickled Snapshot names."""
        _, (values,) = cast("Any", snapshot.__reduce__())
        return list(values)

    def test_the_one_that_was_defined_last_though_its_variable_is_older(self) -> None:
        one: ContextVar[int] = ContextVar("one", default=0)
        two: ContextVar[int] = ContextVar("two", default=0)
        kept: list[Any] = [
            type("Cell", (VarContext,), {"var": var}) for var in (one, two, one)
        ]
        assert self.classes(Snapshot(kept[1](1))) == kept[2:]

    def test_an_older_one_beside_others(self) -> None:
        one: ContextVar[int] = ContextVar("one", default=0)
        two: ContextVar[int] = ContextVar("two", default=0)
        older: list[Any] = [
            type("Cell", (VarContext,), {"var": var}) for var in (one, two)
        ]
        snapshot = Snapshot(older[1](2), older[0](1), TenantContext("t"))
        newest = type("Cell", (VarContext,), {"var": one})
        _, (values,) = cast("Any", snapshot.__reduce__())
        # Both older ones travel under the newest name. What the newer has bound counts.
        assert values == {newest: 2, TenantContext: "t"}

    def test_not_another_of_the_same_function(self) -> None:
        def make() -> Any:
            class Local(VarContext[int]):
                var = ContextVar("local", default=0)

            return Local

        older, newer = make(), make()
        assert self.classes(Snapshot(older(1))) == [older]
        assert self.classes(Snapshot(newer(1))) == [newer]

    def test_itself_if_the_newer_one_has_another_path(self) -> None:
        """A decorator that makes a new class has not given it its full name yet."""
        one: ContextVar[int] = ContextVar("one", default=0)
        older: Any = type("Cell", (VarContext,), {"var": one, "__qualname__": "A.Cell"})
        snapshot = Snapshot(older(1))
        newer = type("Cell", (VarContext,), {"var": one})
        assert self.classes(snapshot) == [older]
        assert self.classes(Snapshot(older(1))) == [newer]


class TestN4Gone:
    """A class that is gone leaves nothing behind."""

    @staticmethod
    def declare() -> type[VarContext[int]]:
        class Local(VarContext[int]):
            var = ContextVar("local", default=0)

        return Local

    @staticmethod
    def bind(owner: type[VarContext[int]]) -> None:
        with owner(1), owner(2):
            pass

    @staticmethod
    def capture(owner: type[VarContext[int]]) -> None:
        with owner(1):
            snapshot = Snapshot.capture()
        with snapshot:
            Snapshot.capture()
        assert snapshot.run(owner.current) == 1

    @staticmethod
    def decorate(owner: type[VarContext[int]]) -> None:
        @owner(1)
        def rows() -> Iterator[int]:
            with owner(2):
                yield owner.current()
                yield owner.current()

        assert list(rows()) == [2, 2]

    @staticmethod
    def carry(owner: type[VarContext[int]]) -> None:
        with owner(1):
            carried = carry(owner.current)
        assert carried() == 1

    @staticmethod
    def subclass(owner: type[VarContext[int]]) -> None:
        class Special(owner):  # type: ignore[misc, valid-type]
            pass

        with Special(1):
            assert owner.current() == 1

    @staticmethod
    def leave_open(owner: type[VarContext[int]]) -> None:
        Context().run(owner(1).__enter__)

    @pytest.mark.parametrize(
        "use",
        [None, "bind", "capture", "decorate", "carry", "subclass", "leave_open"],
    )
    def test_a_class_in_a_function_is_collected(self, use: str | None) -> None:
        def declare_and_use() -> weakref.ref[type[Any]]:
            cls = self.declare()
            if use:
                getattr(self, use)(cls)
            return weakref.ref(cls)

        gc.collect()  # what other tests have declared
        before = _variables.declared_variables()
        gone = declare_and_use()
        gc.collect()
        assert gone() is None
        assert _variables.declared_variables() == before

    def test_many_leave_nothing(self) -> None:
        gc.collect()
        before = _variables.declared_classes()
        for _ in range(500):
            self.bind(self.declare())
        gc.collect()
        assert _variables.declared_classes() == before
        assert list(_variables.declared_variables()) == [cls.var for cls in before]

    def test_a_context_keeps_its_class(self) -> None:
        context = self.declare()(1)
        gc.collect()
        with context:
            assert list(Snapshot.capture().values()) == [1]


class TestN4Late:
    """A variable that is assigned after the class statement is checked too."""

    def test_is_declared_when_the_class_is_first_used(self) -> None:
        class Late(VarContext[int]):
            pass

        late: ContextVar[int] = ContextVar("late", default=0)
        Late.var = late
        with Late(1):
            assert Late.require() == 1
            assert dict(Snapshot.capture()) == {Late: 1}
            assert Late.is_bound()

    def test_without_a_default_it_is_refused(self) -> None:
        class Late(VarContext[int]):
            pass

        Late.var = ContextVar("late")
        for _ in range(2):
            with pytest.raises(TypeError, match=r"no default.*write var = ContextVar"):
                Late(1)

    def test_no_variable_is_refused(self) -> None:
        class Late(VarContext[int]):
            pass

        not_one: Any = "late"
        Late.var = not_one
        with pytest.raises(TypeError, match="must be a ContextVar, got"):
            Late(1)

    def test_that_of_another_class_is_refused(self) -> None:
        class Late(VarContext[str | None]):
            pass

        Late.var = current_tenant
        with pytest.raises(TypeError, match="TenantContext declares already"):
            Late("t")

    @pytest.mark.parametrize("kind", ["dataclass", "attrs", "plain"])
    def test_where_init_does_not_call_the_base(self, kind: str) -> None:
        """Unless the class is declared, no Snapshot takes its value along."""

        class Late(VarContext[int]):
            value: int

            if kind == "plain":

                def __init__(self, value: int) -> None:
                    self.value = value

        decorators: dict[str, Callable[[Any], Any]] = {
            "dataclass": dataclass(frozen=True),
            "attrs": attrs.frozen,
        }
        late: Any = decorators[kind](Late) if kind in decorators else Late
        with pytest.raises(TypeError, match="binds no variable"):
            late(1)
        late.var = ContextVar("late")
        with pytest.raises(TypeError, match="no default"):
            late(1)
        late.var = ContextVar("late", default=0)
        with late(1):
            carried = carry(late.current)
        assert carried() == 1

    def test_is_declared_once_however_often_it_is_used(self) -> None:
        class Late(VarContext[int]):
            pass

        Late.var = ContextVar("late", default=0)
        Late(1)
        later: Any = type(
            "Later", (VarContext,), {"var": ContextVar("later", default=0)}
        )
        before = _variables.declared_variables()
        Late(2)
        assert _variables.declared_variables() == before
        assert later.var in before

    def test_another_base_gets_the_arguments(self) -> None:
        class Base:
            __slots__ = ()

            def __new__(cls, *args: Any, **options: Any) -> Any:
                got.append((cls, args, options))
                return super().__new__(cls)

        class Late(VarContext[int], Base):
            def __init__(self, value: int, *, extra: int) -> None:
                super().__init__(value + extra)

        got: list[object] = []
        Late.var = ContextVar("late", default=0)
        assert Late(1, extra=2).value == 3
        assert got == [(Late, (1,), {"extra": 2})]


class TestN4NoValue:
    """A context whose value was never set has an error that says what to write."""

    def check(self, context: Any) -> None:
        before = _variables.declared_variables()
        remedy = (
            f"this {type(context).__qualname__} has no value to bind: call "
            "super().__init__(value) in its __init__, or set self.value (in a "
            "dataclass: name a field value, or set it in __post_init__)"
        )
        with pytest.raises(ContextError) as caught:
            context.__enter__()
        assert str(caught.value) == remedy
        assert _variables.declared_variables() == before
        with pytest.raises(ContextError, match=r"super\(\).__init__\(value\)"):
            context(held)()
        assert active_contexts() == ()
        cls = cast("Any", type(context))
        assert held(cls.var) == UNSET

    def test_an_init_that_forgets_the_base(self) -> None:
        class Forgetful(TenantContext):
            def __init__(self, tenant: str) -> None:
                self.tenant = tenant

        self.check(Forgetful("t"))

    def test_a_class_without_variable_that_makes_its_instances_itself(self) -> None:
        class Own(VarContext[int]):
            def __new__(cls) -> Any:
                return object.__new__(cls)

            def __init__(self) -> None:
                pass

        context = Own()
        with pytest.raises(TypeError, match="Own binds no variable"):
            context.__enter__()

    def test_it_has_a_repr(self) -> None:
        assert repr(PlanContext.__new__(PlanContext)) == "PlanContext()"

    def test_a_plan_context(self) -> None:
        class Forgetful(PlanContext):
            def __init__(self, name: str) -> None:
                self.name = name

        self.check(Forgetful("t"))

    def test_a_dataclass_with_fields_of_its_own(self) -> None:
        @dataclass
        class Fields(TenantContext):
            tenant: str

        @dataclass(frozen=True)
        class FrozenFields(TenantContext):
            tenant: str

        @attrs.define
        class Attributes(TenantContext):
            tenant: str

        for context in (Fields("t"), FrozenFields("t"), Attributes("t")):
            self.check(context)

    def test_a_dataclass_that_sets_it_afterwards(self) -> None:
        @dataclass
        class Fields(TenantContext):
            tenant: str
            value: str | None = field(init=False)

            def __post_init__(self) -> None:
                self.value = self.tenant.upper()

        with Fields("t"):
            assert current_tenant.get() == "T"

    def test_no_init_at_all(self) -> None:
        self.check(TenantContext.__new__(TenantContext))

    def test_a_class_without_variable(self) -> None:
        class NoVariable(VarContext[int]):
            def __init__(self) -> None:
                pass

        with pytest.raises(TypeError, match=r"NoVariable .*var = ContextVar"):
            NoVariable().__enter__()

    def test_in_a_snapshot(self) -> None:
        with pytest.raises(ContextError, match=r"super\(\).__init__\(value\)"):
            Snapshot(TenantContext.__new__(TenantContext))

    @pytest.mark.parametrize("error", [AttributeError, LookupError])
    def test_a_property_has_an_error_of_its_own(self, error: type[Exception]) -> None:
        message = "no request here"

        class Computed(TenantContext):
            def __init__(self) -> None:
                pass

            @property
            def value(self) -> str:
                raise error(message)

            @value.setter
            def value(self, value: str) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - what is tested
                raise NotImplementedError

        with plan_context("p") as outer:
            for enter in (Computed().__enter__, Computed()(held)):
                with pytest.raises(error, match=message):
                    enter()
            assert active_contexts() == (outer,)
        assert active_contexts() == ()


class TestN5Decorators:
    """Dataclasses and attrs classes, which make a class anew or freeze it."""

    @staticmethod
    def check(context: Any) -> None:
        cls = cast("Any", type(context))
        for twin in (copy.copy(context), copy.deepcopy(context)):
            assert type(twin) is cls
            assert twin == context
            assert (twin.value, twin.extra) == ("x", 1)
        with context as entered:
            assert entered is context
            assert cls.current() == "x"
            assert dict(Snapshot.capture()) == {cls: "x"}
        assert cls.current() == ""
        assert not cls.is_bound()
        assert context(cls.current)() == "x"
        with pytest.warns(ForeignExitWarning):
            leave(context)

    @pytest.mark.parametrize("frozen", [False, True])
    @pytest.mark.parametrize("slots", [False, True])
    def test_dataclasses(self, *, frozen: bool, slots: bool) -> None:
        @dataclass(frozen=frozen, slots=slots)  # type: ignore[literal-required] # each in turn
        class Data(VarContext[str]):
            var = ContextVar("data", default="")
            value: str
            extra: int = 0

        self.check(Data("x", 1))

    @pytest.mark.parametrize("frozen", [False, True])
    @pytest.mark.parametrize("slots", [False, True])
    def test_attrs(self, *, frozen: bool, slots: bool) -> None:
        @attrs.define(frozen=frozen, slots=slots, weakref_slot=False)  # type: ignore[literal-required] # each in turn
        class Attributes(VarContext[str]):
            var = ContextVar("attributes", default="")
            value: str
            extra: int = 0

        self.check(Attributes("x", 1))

    @pytest.mark.parametrize(
        "cls_name", ["FrozenData", "SlottedData", "FrozenAttributes"]
    )
    def test_pickled(self, cls_name: str) -> None:
        context = globals()[cls_name]("x", 1)
        twin = pickle.loads(pickle.dumps(context))  # noqa: S301 - our own
        assert twin == context
        self.check(twin)


# At module level, because they are pickled by reference.


@dataclass(frozen=True)
class FrozenData(VarContext[str]):
    var = ContextVar("frozen_data", default="")
    value: str
    extra: int = 0


@dataclass(frozen=True, slots=True)
class SlottedData(VarContext[str]):
    var = ContextVar("slotted_data", default="")
    value: str
    extra: int = 0


@attrs.frozen
class FrozenAttributes(VarContext[str]):
    var = ContextVar("frozen_attributes", default="")
    value: str
    extra: int = 0
