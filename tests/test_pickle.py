"""Rule S4: Snapshots and carried functions pickle, by reference and by value."""

from __future__ import annotations

import copy
import copyreg
import os
import pickle
import subprocess
import sys
import threading
import types

from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle  # pyright: ignore[reportMissingTypeStubs] - it has none
import pytest

import aura_context

from aura_context import (
    ForeignExitWarning,
    PlanContext,
    Snapshot,
    VarContext,
    carry,
    current_plan_name,
    plan_context,
)

from .contexts import RunContext, TenantContext, current_tenant
from .test_snapshot import SecretContext, pickled, plain


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TestS4Pickle:
    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
    @pytest.mark.parametrize("entered", [False, True])
    def test_a_copy_is_equal_and_has_no_block(
        self, duplicate: Callable[[Snapshot], Snapshot], entered: bool
    ) -> None:
        snapshot = Snapshot(plan_context("计划"), RunContext(7))
        if entered:
            with snapshot:
                twin = duplicate(snapshot)
        else:
            twin = duplicate(snapshot)
        assert type(twin) is Snapshot
        assert twin == snapshot
        with pytest.warns(ForeignExitWarning):
            twin.__exit__(None, None, None)
        with twin:
            assert current_plan_name.get() == "计划"

    def test_classes_go_by_reference_and_nothing_else_does(self) -> None:
        with plan_context("plan"), SecretContext("secret"):
            data = pickle.dumps(Snapshot.capture())
        assert b"PlanContext" in data
        assert b"secret" not in data
        assert b"SecretContext" not in data

    def test_a_subclass(self) -> None:
        twin = pickled(NamedSnapshot(plan_context("p")))
        assert type(twin) is NamedSnapshot
        assert dict(twin) == {PlanContext: "p"}
        assert repr(twin) == "NamedSnapshot({PlanContext: 'p'})"

    def test_what_cannot_be_pickled_fails_with_pickles_own_error(self) -> None:
        class Local(VarContext[int]):
            var = ContextVar("local", default=0)

        with Local(1):
            captured = Snapshot.capture()
        for thing in (captured, captured.run, captured(plain), carry(lambda: None)):
            with pytest.raises(
                (AttributeError, pickle.PicklingError), match=r"<locals>|not the same"
            ):
                pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(Snapshot(TenantContext(threading.Lock())))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    def test_a_class_that_the_other_process_has_not_used(self) -> None:
        """Its variable is declared no later than a Snapshot holds it."""
        with LateContext(7):
            data = pickle.dumps(carry(captured))
        program = "import pickle, sys; print(pickle.load(sys.stdin.buffer)())"
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program],
            input=data,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
            env=with_path(),
        )
        assert done.stdout.decode().strip() == "{'LateContext': 7}"


class LateContext(VarContext[int]):
    """Gets its variable after the class statement."""


LateContext.var = ContextVar("late", default=0)


def captured() -> dict[str, Any]:
    """Return what a Snapshot holds here."""
    return {cls.__qualname__: value for cls, value in Snapshot.capture().items()}


def with_path() -> dict[str, str]:
    """Return an environment in which a program can import what is imported here."""
    library = str(Path(aura_context.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([library, *sys.path])}


class NamedSnapshot(Snapshot):
    """A subclass, at module level because it is pickled by reference."""


class TestS4DeclaredVariables:
    """A variable travels by the class that declares it; any other is refused."""

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_is_the_one_of_its_class(self, pickler: Any) -> None:
        for var in (current_plan_name, current_tenant):
            assert pickle.loads(pickler.dumps(var)) is var  # noqa: S301 - our own
            assert copy.copy(var) is copy.deepcopy(var) is var

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_any_other_is_refused_as_before(self, pickler: Any) -> None:
        other: ContextVar[int] = ContextVar("other", default=0)
        messages: list[str] = []
        for reducer in (copyreg.dispatch_table[ContextVar], None):
            with pytest.MonkeyPatch.context() as patch:
                if reducer is None:
                    patch.delitem(copyreg.dispatch_table, ContextVar)
                with pytest.raises(TypeError, match="cannot pickle") as error:
                    pickler.dumps(other)
            messages.append(str(error.value))
        assert messages[0] == messages[1]

    def test_that_of_a_class_in_a_function_is_refused_by_pickle(self) -> None:
        class Local(VarContext[int]):
            var = ContextVar("local", default=0)

        with pytest.raises((AttributeError, pickle.PicklingError), match="<locals>"):
            pickle.dumps(Local.var)


MODULE = """\
from contextvars import ContextVar
from aura_context import VarContext

run_id = ContextVar("run_id", default=0)

class RunContext(VarContext):
    var = run_id
"""


class TestS4DefinedAgain:
    @pytest.fixture
    def versions(self) -> Iterator[list[Any]]:
        """Execute a module twice, as a hot reload does; return both versions."""
        module = types.ModuleType("versions")
        sys.modules["versions"] = module
        found: list[Any] = []
        for _ in range(2):
            exec(MODULE, vars(module))  # noqa: S102 - our own
            found.append(types.SimpleNamespace(**vars(module)))
        yield found
        del sys.modules["versions"]

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_travels_under_the_newer_class(
        self, versions: list[Any], pickler: Any
    ) -> None:
        older, newer = versions
        with older.RunContext(7), plan_context("p"):
            snapshot = Snapshot.capture()
        twin = pickle.loads(pickler.dumps(snapshot))  # noqa: S301 - our own
        assert dict(twin) == {newer.RunContext: 7, PlanContext: "p"}
        with twin:
            assert (older.run_id.get(), newer.run_id.get()) == (0, 7)

    @pytest.mark.parametrize("first", [0, 1])
    def test_of_two_the_newer_ones_value(self, versions: list[Any], first: int) -> None:
        contexts = [version.RunContext(n) for n, version in enumerate(versions, 1)]
        by_hand = Snapshot(contexts[first], contexts[1 - first])
        with contexts[first], contexts[1 - first]:
            captured = Snapshot.capture()
        for snapshot in (by_hand, captured):
            assert len(snapshot) == 2
            assert dict(pickled(snapshot)) == {versions[1].RunContext: 2}


WORKER = """\
import pickle, sys
for line in sys.stdin:
    function = pickle.loads(bytes.fromhex(line))
    print(function())
"""

PROLOGUE = """\
import os, pickle, subprocess, sys
from contextvars import ContextVar
import cloudpickle
from aura_context import (
    PlanContext, Snapshot, VarContext, carry, current_plan_name, plan_context,
)

run_id = ContextVar("run_id", default=0)

class RunContext(VarContext):
    var = run_id

class SpecialContext(RunContext):
    pass

def send(*functions, worker=sys.argv[1]):
    lines = "\\n".join(cloudpickle.dumps(each).hex() for each in functions)
    done = subprocess.run(
        [sys.executable, "-W", "error", worker], input=lines,
        capture_output=True, text=True,
    )
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()

def look():
    return current_plan_name.get(), run_id.get(), RunContext.current()
"""

SCRIPTS = {
    "a function that names the variable": """\
with plan_context("p"), RunContext(7):
    carried = carry(look)
assert send(carried) == ["('p', 7, 7)"]
""",
    "a job that never names the class": """\
def plan():
    return current_plan_name.get()

with plan_context("p"), RunContext(7):
    carried = carry(plan)
assert send(carried) == ["p"]
""",
    "a subclass": """\
with SpecialContext(7):
    carried = carry(lambda: (run_id.get(), SpecialContext.current()))
assert send(carried) == ["(7, 7)"]
""",
    "one variable for each class and worker": """\
def same():
    import __main__
    seen = vars(__main__).setdefault("seen", [])
    seen += [run_id, RunContext.var]
    return len({*map(id, seen)}), run_id.get()

with RunContext(7):
    first = carry(same)
with RunContext(8):
    second = carry(same)
assert send(first, second, same) == ["(1, 7)", "(1, 8)", "(1, 0)"]
""",
    "a function that enters a block": """\
def enter():
    with RunContext(7), plan_context("inside"):
        inside = look(), RunContext.is_bound()
    return *inside, look(), RunContext.is_bound()

expected = "(('inside', 7, 7), True, (None, 0, 0), False)"
assert send(enter, carry(enter)) == [expected, expected]
""",
    "a snapshot binds in the worker": """\
with plan_context("p"), RunContext(7):
    snapshot = Snapshot.capture()
assert send(lambda: (snapshot[RunContext], snapshot.run(run_id.get))) == ["(7, 7)"]
""",
    "the classes capture in the worker": """\
def again():
    with RunContext(9):
        carried = carry(run_id.get)
    return carried(), len(Snapshot.capture())

with RunContext(7):
    carried = carry(again)
assert send(carried) == ["(9, 1)"]
""",
    "in this process it is the same": """\
with plan_context("p"), RunContext(7):
    carried = carry(look)
for _ in range(2):
    twin = pickle.loads(cloudpickle.dumps(carried))
    assert twin() == ("p", 7, 7)
    assert pickle.loads(cloudpickle.dumps(twin))() == ("p", 7, 7)
assert pickle.loads(cloudpickle.dumps(run_id)) is run_id
assert pickle.loads(cloudpickle.dumps(RunContext)) is RunContext
""",
    "another variable is refused": """\
other = ContextVar("other", default=0)
try:
    cloudpickle.dumps(carry(lambda: other.get()))
except TypeError as error:
    assert "cannot pickle" in str(error), error
else:
    raise AssertionError
""",
    "a class defined again travels under the newer one": """\
older = RunContext
class RunContext(VarContext):
    var = ContextVar("run_id", default=0)

with older(7):
    carried = carry(lambda: RunContext.current())
assert send(carried) == ["7"]
with older(7), RunContext(8):
    carried = carry(lambda: RunContext.current())
assert send(carried) == ["8"]
""",
    "a subclass with a variable of its own": """\
class JobContext(RunContext):
    var = ContextVar("job_id", default=0)

with RunContext(7), JobContext(8):
    carried = carry(lambda: (RunContext.current(), JobContext.current()))
assert send(carried) == ["(7, 8)"]
""",
    "a default that is told by identity": """\
class ThingContext(VarContext):
    var = ContextVar("thing", default=(1, None))

def thing():
    return ThingContext.current(), ThingContext.is_bound()

with ThingContext("t"):
    carried = carry(thing)
assert send(carried, thing) == ["('t', True)", "((1, None), False)"]
""",
    "a generator": """\
def rows():
    yield run_id.get()

with RunContext(7):
    carried = carry(rows)
assert send(lambda: list(carried())) == ["[7]"]
""",
    "what is not carried": """\
class SecretContext(VarContext):
    var = ContextVar("secret", default="none")
    carried = False

def secret():
    return SecretContext.current(), len(Snapshot.capture())

with SecretContext("s3cret"), RunContext(7):
    data = cloudpickle.dumps(carry(secret))
    assert b"s3cret" not in data
    assert send(carry(secret)) == ["('none', 1)"]
""",
}


class TestS4Scripts:
    """Under cloudpickle, in scripts that define classes, as Dask and Ray run them."""

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_script(self, tmp_path: Path, name: str) -> None:
        worker, script = tmp_path / "worker.py", tmp_path / "script.py"
        worker.write_text(WORKER)
        script.write_text(PROLOGUE + SCRIPTS[name])
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-W", "error", script, worker],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=with_path(),
        )
        assert (done.returncode, done.stderr) == (0, "")
