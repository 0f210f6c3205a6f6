"""The program in ``docs/examples``: it runs, and it would tell if it ran wrong."""

from __future__ import annotations

import os
import sys
import tomllib

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aura_context import current_plan_name, plan_context

from .examples import EXAMPLES, load, run


if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType
    from typing import Self


PLANS = EXAMPLES / "plans"


class Row(NamedTuple):
    """A line of the table."""

    plan: str
    state: str
    steps: str
    right: int
    wrong: int


class Outcome(NamedTuple):
    """What a run of the program gave."""

    status: int
    out: str
    err: str

    @property
    def table(self) -> dict[str, Row]:
        """The rows, by plan."""
        lines = self.out.split("\n\n")[1].splitlines()
        assert lines[0].split() == ["plan", "state", "steps", "right", "wrong"]
        rows: dict[str, Row] = {}
        for line in lines[1:]:
            plan, state, steps, right, wrong = line.split()
            rows[plan] = Row(plan, state, steps, int(right), int(wrong))
        return rows

    @property
    def verdict(self) -> str:
        """The line below the table."""
        return self.out.splitlines()[-1]

    @property
    def log(self) -> list[tuple[str, str]]:
        """The lines of the log: the plan that each bears, and the message."""
        records: list[tuple[str, str]] = []
        for line in self.err.splitlines()[:-1]:  # an empty line comes last
            plan, bar, message = line.partition(" | ")
            assert bar, f"a line without its plan: {line!r}"
            records.append((plan.rstrip(), message))
        return records


def run_plans(*arguments: str | Path, cwd: Path, **changes: str) -> Outcome:
    """Run the program as a user does."""
    done = run(EXAMPLES / "orchestrator.py", *arguments, cwd=cwd, changes=changes)
    return Outcome(done.returncode, done.stdout, done.stderr)


class Program:
    """The program, imported: what runs here can be tampered with."""

    def __init__(
        self,
        module: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.module = module
        self.monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, folder: Path) -> Outcome:
        status = self.module.main(["--verbose", str(folder)])
        printed = self._capsys.readouterr()
        return Outcome(status, printed.out, printed.err)

    def replace(self, **names: object) -> None:
        for name, thing in names.items():
            self.monkeypatch.setattr(self.module, name, thing)

    def use_one_plan_for_the_process(self) -> None:
        self.monkeypatch.setattr(ProcessGlobal, "plan_set", None)
        self.replace(plan_context=ProcessGlobal, current_plan_name=ProcessGlobal)
        self.monkeypatch.setattr("config_service.PlanContext", ProcessGlobal)


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    for name in [name for name in os.environ if name.startswith("AURA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    module = load("orchestrator")
    return Program(module, monkeypatch, capsys)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run of the shipped plans, from a directory that has nothing to do with them."""
    return run_plans("--verbose", cwd=tmp_path_factory.mktemp("elsewhere"))


def shipped_plans() -> dict[str, dict[str, Any]]:
    files = [path for path in PLANS.glob("*.toml") if path.name != "global.toml"]
    plans = [tomllib.loads(path.read_text("utf-8")) for path in files]
    return {plan["name"]: plan for plan in plans}


def write(folder: Path, **files: str) -> Path:
    for stem, text in files.items():
        (folder / f"{stem}.toml").write_text(text, "utf-8")
    return folder


def plan_file(name: str, *steps: str, **settings: str) -> str:
    lines = [f"name = {name!r}", f"steps = {[*steps]}", "[settings]"]
    return "\n".join(lines + [f"{key} = {value!r}" for key, value in settings.items()])


def fetching(name: str) -> str:
    return plan_file(name, "fetch", source=name, pages="3")


class TestShippedPlans:
    def test_no_answer_is_another_plans(self, shipped: Outcome) -> None:
        assert shipped.status == 0, shipped
        right = sum(row.right for row in shipped.table.values())
        ending = f"{right} right, 0 wrong. Plans still set at the end: none."
        assert shipped.verdict == ending
        assert {row.wrong for row in shipped.table.values()} == {0}

    def test_every_plan_asked_and_is_in_the_table(self, shipped: Outcome) -> None:
        assert len(shipped.table) >= 5
        assert shipped.table.keys() == shipped_plans().keys()
        assert all(row.right > 0 for row in shipped.table.values())

    def test_one_fails_and_one_is_cancelled_on_purpose(self, shipped: Outcome) -> None:
        states = {row.plan: row.state for row in shipped.table.values()}
        assert states.pop("payroll") == "failed"
        assert states.pop("order-feed") == "cancelled"
        assert set(states.values()) == {"done"}

    def test_steps_taken_are_told(self, shipped: Outcome) -> None:
        for name, plan in shipped_plans().items():
            row = shipped.table[name]
            taken, _, planned = row.steps.partition("/")
            assert int(planned) == len(plan["steps"])
            assert (taken == planned) is (row.state == "done")

    def test_every_run_prints_the_same_table(
        self, shipped: Outcome, program: Program
    ) -> None:
        assert program(PLANS).out == shipped.out
        assert program.module.main([]) == 0  # the same folder, by default


class TestInterleaving:
    def test_all_are_inside_their_blocks_before_any_takes_a_step(
        self, shipped: Outcome
    ) -> None:
        entered = [plan for plan, message in shipped.log if message == "entered"]
        assert set(entered) == shipped_plans().keys()
        assert [plan for plan, _ in shipped.log[: len(entered)]] == entered

    def test_others_work_between_two_steps_of_a_plan(self, shipped: Outcome) -> None:
        pages = [plan for plan, message in shipped.log if message.startswith("page ")]
        first = pages.index("daily-sales")
        last = len(pages) - 1 - pages[::-1].index("daily-sales")
        assert len({*pages[first:last]}) > 2


class TestLog:
    def test_each_line_bears_its_plan(self, shipped: Outcome) -> None:
        # These settings are different in every plan, and no setting of another
        # kind: so whose message it is can be read from the message itself.
        owners = {
            repr(plan["settings"][key]): name
            for name, plan in shipped_plans().items()
            for key in ("source", "title", "topic")
            if key in plan["settings"]
        }
        told = [
            (plan, owner)
            for plan, message in shipped.log
            for value, owner in owners.items()
            if value in message
        ]
        assert {owner for _, owner in told} == shipped_plans().keys()
        assert all(plan == owner for plan, owner in told)

    def test_it_fits_on_a_screen_unless_asked_for_more(
        self, shipped: Outcome, tmp_path: Path
    ) -> None:
        brief = run_plans(cwd=tmp_path)
        assert brief.out == shipped.out
        assert len((brief.out + brief.err).splitlines()) <= 24
        assert set(brief.log) < set(shipped.log)
        assert not any(message.startswith("page ") for _, message in brief.log)

    def test_a_terminal_shows_progress(
        self, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write(tmp_path, a=fetching("a"))
        assert "\r" not in program(folder).err
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        assert "fetch of a is done" in program(folder).err

    def test_a_step_bears_its_plan_in_a_thread(self, shipped: Outcome) -> None:
        assert ("treasury", "'Cash in hand': 1542 'EUR' at 92%") in shipped.log

    def test_a_failure_and_a_cancellation_are_told_in_the_plan(
        self, shipped: Outcome
    ) -> None:
        reason = "verify failed: 1638 is over the budget of 100"
        assert ("payroll", reason) in shipped.log
        assert shipped.log[-2:] == [
            ("order-feed", "closing 'orders/new'"),
            ("order-feed", "listen was cancelled"),
        ]


class TestPrecedence:
    def test_so_it_is_in_the_program(self, shipped: Outcome, tmp_path: Path) -> None:
        assert any("now in 'EUR'" in message for _, message in shipped.log)  # global
        changed = run_plans(cwd=tmp_path, AURA_CURRENCY="CHF", AURA_TITLE="Any")
        assert (changed.status, changed.out) == (0, shipped.out)
        messages = {message for _, message in changed.log}
        assert "'Any': 1542 'CHF' at 92%" in messages
        assert not any("EUR" in message for message in messages)


class NoContext:
    """A plan_context that does nothing."""

    def __init__(self, plan_name: str) -> None:
        self.plan_name = plan_name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_exc_info: object) -> None:
        self.__exit__()


class ProcessGlobal(NoContext):
    """A plan_context for the whole process, as if there were no tasks."""

    plan_set: str | None = None

    def __enter__(self) -> Self:
        self.before, ProcessGlobal.plan_set = ProcessGlobal.plan_set, self.plan_name
        return self

    def __exit__(self, *_exc_info: object) -> None:
        ProcessGlobal.plan_set = self.before

    @classmethod
    def current(cls) -> str | None:
        return cls.plan_set

    get = current


class Unrestored(NoContext):
    """A plan_context that forgets to restore."""

    def __enter__(self) -> Self:
        current_plan_name.set(self.plan_name)
        return self


class TestWrongAnswers:
    """The check can fail: each of these breaks the isolation in another way."""

    def test_no_isolation_at_all(self, program: Program) -> None:
        program.replace(plan_context=NoContext)
        outcome = program(PLANS)
        assert outcome.status == 1
        assert all(row.wrong and not row.right for row in outcome.table.values())

    def test_one_plan_for_the_whole_process(
        self, program: Program, tmp_path: Path
    ) -> None:
        program.use_one_plan_for_the_process()
        names = ("a", "b", "c")
        folder = write(tmp_path, **{name: fetching(name) for name in names})
        outcome = program(folder)
        assert outcome.status == 1
        # The last one in is the one for which all are answered.
        assert outcome.table["a"].wrong
        assert outcome.table["b"].wrong
        assert " 0 wrong" not in outcome.verdict
        assert "source: asked for a, got 'c' of c" in outcome.err

    def test_answers_that_happen_to_be_equal_are_wrong_all_the_same(
        self, program: Program, tmp_path: Path
    ) -> None:
        program.use_one_plan_for_the_process()
        plans = {n: plan_file(n, "fetch", source="same", pages="2") for n in "ab"}
        assert program(write(tmp_path, **plans)).table["a"].wrong

    def test_an_inner_block_that_is_not_restored(self, program: Program) -> None:
        program.replace(plan_context=Unrestored)
        outcome = program(PLANS)
        assert outcome.status == 1
        # Wrong from where the treasury was asked for its rate.
        assert outcome.table["daily-sales"].right
        assert outcome.table["daily-sales"].wrong

    def test_the_right_plan_and_another_value(self, program: Program) -> None:
        get = program.module.ConfigService.get

        def shifted(service: object, key: str) -> str:
            return "99" if key == "rate" else get(service, key)

        program.monkeypatch.setattr(program.module.ConfigService, "get", shifted)
        outcome = program(PLANS)
        assert outcome.status == 1
        assert outcome.table["daily-sales"].wrong == 2
        assert outcome.table["order-feed"].wrong == 0


class TestStillSet:
    def test_in_a_plans_own_task(self, program: Program, tmp_path: Path) -> None:
        program.replace(plan_context=Unrestored)
        outcome = program(write(tmp_path, a=fetching("a")))
        assert outcome.status == 1
        assert outcome.table["a"].wrong == 0
        assert outcome.verdict.endswith(" 0 wrong. Plans still set at the end: a.")

    def test_in_the_program(self, program: Program, tmp_path: Path) -> None:
        folder = write(tmp_path, a=fetching("a"))
        with plan_context("left"):
            outcome = program(folder)
        assert outcome.status == 1
        assert outcome.table["a"].wrong == 0
        assert outcome.verdict.endswith("at the end: a, the program.")
        assert program(folder).status == 0

    def test_a_block_left_open_that_sets_no_plan(
        self, program: Program, tmp_path: Path
    ) -> None:
        folder = write(tmp_path, a=fetching("a"))
        with plan_context(None):
            outcome = program(folder)
        assert outcome.status == 1
        assert outcome.verdict.endswith("at the end: a, the program.")

    def test_set_raw(self, program: Program, tmp_path: Path) -> None:
        folder = write(tmp_path, a=fetching("a"))
        token = current_plan_name.set("raw")
        try:
            assert program(folder).status == 1
        finally:
            current_plan_name.reset(token)


class TestPlansThatEndEarly:
    @pytest.mark.parametrize(
        ("steps", "settings", "reason"),
        [
            (
                ["fetch"],
                {},
                "fetch failed: 'pages' is not set; looked in the environment",
            ),
            (["fetch"], {"pages": "some"}, "fetch failed: invalid literal for int()"),
            (["transform"], {"rates_of": "b"}, "transform failed: there is no plan"),
            (["report"], {"rates_of": "a"}, "report failed: 'rate' is not set"),
            (["listen"], {}, "listen failed: 'topic' is not set"),
        ],
    )
    def test_a_failed_step_is_its_plans_affair(
        self,
        program: Program,
        tmp_path: Path,
        steps: list[str],
        settings: dict[str, str],
        reason: str,
    ) -> None:
        files = {"a": plan_file("a", *steps, **settings), "z": fetching("z")}
        outcome = program(write(tmp_path, **files))
        assert outcome.status == 0
        assert outcome.table["a"][1:3] == ("failed", "0/1")
        assert outcome.table["z"][1:3] == ("done", "1/1")
        told = [message for plan, message in outcome.log if plan == "a"]
        assert told[-1].startswith(reason)

    def test_listeners_alone_are_shut_down(
        self, program: Program, tmp_path: Path
    ) -> None:
        plans = {name: plan_file(name, "listen", topic="news") for name in "ab"}
        outcome = program(write(tmp_path, **plans))
        assert outcome.status == 0
        assert {row.state for row in outcome.table.values()} == {"cancelled"}
        assert {row.right for row in outcome.table.values()} == {2}

    def test_a_plan_without_steps(self, program: Program, tmp_path: Path) -> None:
        outcome = program(write(tmp_path, a=plan_file("a")))
        assert outcome.status == 0
        assert outcome.table["a"] == ("a", "done", "0/0", 0, 0)

    def test_a_bug_is_not_hidden(self, program: Program, tmp_path: Path) -> None:
        def buggy(_run: object) -> None:
            raise ZeroDivisionError

        program.monkeypatch.setitem(program.module.KINDS, "fetch", buggy)
        folder = write(tmp_path, a=fetching("a"), z=fetching("z"))
        with pytest.raises(ZeroDivisionError):
            program(folder)


BAD: dict[str, tuple[dict[str, str], str]] = {
    "no plans": ({}, "no plan in this folder"),
    "only global settings": ({"global": "[settings]"}, "no plan in this folder"),
    "not TOML": ({"x": "name ="}, "x.toml"),
    "nested too deeply": ({"x": "a = " + "[" * 100_000}, "x.toml"),
    "no name": ({"x": "steps = []\n[settings]"}, "'name' must be a str, got None"),
    "a name that is no text": ({"x": "name = 5"}, "'name' must be a str, got 5"),
    "an empty name": ({"x": 'name = ""'}, "plan_name must"),
    "a blank name": ({"x": 'name = "  "'}, "plan_name must"),
    "a name that forges a line": ({"x": r'name = "a\nb | c"'}, r"'a\nb | c'"),
    "no steps": ({"x": 'name = "a"\n[settings]'}, "'steps' must be a list"),
    "steps that are no list": ({"x": 'name = "a"\nsteps = "fetch"'}, "'steps' must"),
    "an unknown step": (
        {"x": 'name = "a"\nsteps = ["fly"]'},
        "unknown step 'fly': not one of fetch,",
    ),
    "a step that is a table": (
        {"x": 'name = "a"\nsteps = [{kind = "fetch"}]'},
        "unknown step {'kind': 'fetch'}",
    ),
    "no settings": ({"x": 'name = "a"\nsteps = []'}, "'settings' must be a dict"),
    "settings that are no table": (
        {"x": 'name = "a"\nsteps = []\nsettings = 3'},
        "'settings' must be a dict, got 3",
    ),
    "a setting that is a list": (
        {"x": 'name = "a"\nsteps = []\n[settings]\npages = [1, 2]'},
        "setting 'pages' must be a single value",
    ),
    "global settings of the wrong shape": (
        {"global": "currency = 'EUR'", "x": fetching("x")},
        "global.toml': 'settings' must be a dict",
    ),
    "one name twice": (
        {"x": fetching("a"), "y": fetching("a")},
        "y.toml': there is a plan 'a' already",
    ),
}


def assert_refused(outcome: Outcome, reason: str) -> None:
    """Exit status 2 and one line to say why."""
    assert outcome.status == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("orchestrator: ")
    assert reason in line


class TestBadInput:
    @pytest.mark.parametrize(("files", "reason"), BAD.values(), ids=BAD.keys())
    def test_one_line_and_status_2(
        self, program: Program, tmp_path: Path, files: dict[str, str], reason: str
    ) -> None:
        good = {"good": fetching("good")} if "x" in files else {}
        outcome = program(write(tmp_path, **files, **good))
        assert_refused(outcome, reason)
        assert tmp_path.name in outcome.err

    def test_a_missing_folder(self, program: Program, tmp_path: Path) -> None:
        assert_refused(program(tmp_path / "none"), "none': No such file or directory")

    def test_a_file_for_a_folder(self, program: Program, tmp_path: Path) -> None:
        write(tmp_path, x=fetching("x"))
        assert_refused(program(tmp_path / "x.toml"), "x.toml'")

    def test_a_file_that_cannot_be_read(self, program: Program, tmp_path: Path) -> None:
        (tmp_path / "x.toml").mkdir()
        assert_refused(program(tmp_path), "x.toml'")

    def test_a_file_that_is_no_text(self, program: Program, tmp_path: Path) -> None:
        (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
        assert_refused(program(tmp_path), "x.toml': 'utf-8' codec")

    def test_other_files_are_nobodys_business(
        self, program: Program, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("name =")
        assert program(write(tmp_path, a=fetching("a"))).status == 0

    @pytest.mark.parametrize(
        ("folder", "reason"), [("none", "none'"), (".", "x.toml'")]
    )
    def test_no_traceback_on_the_command_line(
        self, tmp_path: Path, folder: str, reason: str
    ) -> None:
        write(tmp_path, x="name =")
        assert_refused(run_plans(folder, cwd=tmp_path), reason)

    def test_another_folder_on_the_command_line(self, tmp_path: Path) -> None:
        outcome = run_plans(".", cwd=write(tmp_path, a=fetching("a")))
        assert outcome.status == 0
        assert outcome.table["a"] == ("a", "done", "1/1", 4, 0)
