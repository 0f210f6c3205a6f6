"""Change the code in many small ways, and list the changes that no test notices.

    python proof/mutants.py {core,integrations} FOLDER [NAME ...]

Each change, a *mutant*, is made by mutmut in a copy of the checkout in FOLDER, which
then runs the tests that run the changed function. A later run in the same folder tries
only what has changed since. NAME is a mutant, or a pattern of mutants.

mutmut wraps each function, and picks the tests by what they run in its own process. So
what its run does not notice is tried again in the code itself: there the tests that
strike at each line work, and those that start programs. The exit status is 1 if a
mutant is left that ``equivalent.toml`` does not explain.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

from argparse import ArgumentParser
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from tables import Table


ROOT = Path(__file__).parents[1]
EQUIVALENT = ROOT / "proof" / "equivalent.toml"
INTEGRATIONS = "aura_context/integrations/*"
LIMIT = 300
"""After so many seconds a test run counts as hanging, which is noticed."""

# The tests of the core, without those that do not run its code.
CORE = [
    "tests",
    *(
        f"--ignore=tests/{name}"
        for name in (
            "engines",
            "integrations",
            "test_comparison.py",
            "test_docstrings.py",
            "test_imports.py",
            "test_isolation.py",
            "test_links.py",
            "test_packaging.py",
            "test_public.py",
            "test_signatures.py",
            "test_tutorial.py",
        )
    ),
]
STRIKES = "tests/test_strikes.py"
TESTS = {"core": CORE, "integrations": ["tests/integrations"]}
FILES = {
    "core": {"do_not_mutate": [INTEGRATIONS]},
    "integrations": {"only_mutate": [INTEGRATIONS]},
}
FOREIGN_EXIT = "tests/test_stack.py::TestR5ForeignExit::"
CHILDREN = "tests/test_children.py::"
OPEN_BLOCKS = f"{CHILDREN}TestR8Children::test_a_hundred_thousand_open_blocks"
SKIPPED = [
    # The wrapper seems to have left the block.
    "tests/test_messages.py::TestN6Warnings::test_where_warnings_are_errors",
    f"{FOREIGN_EXIT}test_hidden_by_default_and_pointing_at_the_block",
    f"{FOREIGN_EXIT}test_pointing_at_what_closes_an_exit_stack",
    f"{FOREIGN_EXIT}test_where_nothing_but_the_package_runs",
    f"{FOREIGN_EXIT}test_with_tracemalloc_it_says_where_the_context_was_made",
    # A server does not recognise the wrapper as a coroutine function.
    "tests/integrations/test_asgi.py::TestServed",
    # These are slow, and run most functions.
    f"{CHILDREN}TestAsyncR8Children::test_a_chain_of_tasks_does_not_grow",
    f"{CHILDREN}TestR8Children::test_a_chain_of_generations_does_not_grow",
    f"{OPEN_BLOCKS}_are_dropped_without_recursion",
    "tests/test_plan.py::TestN1Refusals::test_every_name_is_bound_as_it_is_or_refused",
    "tests/test_text.py::TestN1Readable::test_asks_each_character_there_is",
]
SETTINGS = {
    "source_paths": ["aura_context"],
    "also_copy": ["conftest.py", "docs", "README.md", "README.zh-CN.md"],
    # A process that has run tests has threads and greenlets, and cannot be forked.
    "process_isolation": "forkserver",
    "debug": True,  # without it, the output of a failed first run is lost
    "timeout_multiplier": 4,
    "timeout_constant": 8,
    "pytest_add_cli_args": [
        "-pno:cacheprovider",
        "--hypothesis-seed=0",  # the same examples for each mutant
        *(f"--deselect={test}" for test in SKIPPED),
    ],
}
# The programs that the tests start are changed too. While mutmut looks which test runs
# what, they are not, because it cannot follow them.
UNCHANGED = """
import os
if os.environ.get("MUTANT_UNDER_TEST") == "stats":
    os.environ["MUTANT_UNDER_TEST"] = ""
"""


class Change(NamedTuple):
    """What a mutant changes."""

    function: str
    was: str
    now: str


def prepare(folder: Path, part: str) -> Path:
    """Write the checkout into the folder, as mutmut wants it."""
    copy = folder / "copy"
    for name in ("aura_context", "docs", "tests"):
        shutil.rmtree(copy / name, ignore_errors=True)
        shutil.copytree(ROOT / name, copy / name)
    for name in ("conftest.py", "README.md", "README.zh-CN.md"):
        shutil.copy(ROOT / name, copy)
    for module in copy.glob("aura_context/**/*.py"):
        # mutmut skips decorated functions; this decorator does nothing at run time.
        code = re.sub(r"(?m)^ *@override\n", "", module.read_text("utf-8"))
        module.write_text(code, "utf-8")
    # A trace function would strike the wrappers as well.
    tests = [*TESTS[part], f"--ignore={STRIKES}"]
    settings = {
        **SETTINGS,
        **FILES[part],
        "pytest_add_cli_args_test_selection": tests,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    text = "\n".join([project, "[tool.mutmut]", *lines, ""])
    (copy / "pyproject.toml").write_text(text, "utf-8")
    (copy / "sitecustomize.py").write_text(UNCHANGED, "utf-8")
    (copy / "mutants").mkdir(exist_ok=True)
    return copy


def run(
    copy: Path, *command: str, path: str = "", shown: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a module of Python in the copy, with the code of this path."""
    environ = {
        **os.environ,
        "PYTHONHASHSEED": "0",  # mutmut keeps tests in sets
        "PYTHONPATH": f"{copy / path}{os.pathsep}{copy}",
    }
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", *command],
        cwd=copy,
        env=environ,
        stdout=None if shown else subprocess.PIPE,
        encoding="utf-8",
        check=False,
        timeout=None if shown else LIMIT,
    )


def results(copy: Path, names: list[str]) -> dict[str, str]:
    """Return what came out for each mutant, in mutmut's words."""
    printed = run(copy, "mutmut", "results", "--all", "true").stdout
    found = re.findall(r"(?m)^ *(\S+): (.+)$", printed)
    chosen = names or ["*"]
    return {
        mutant: word
        for mutant, word in found
        if any(fnmatch(mutant, name) for name in chosen)
    }


def change(copy: Path, mutant: str) -> Change:
    """Return what a mutant changes."""
    diff = run(copy, "mutmut", "show", mutant).stdout
    was, now = (
        " ".join(
            line.partition("  # ")[0].strip()
            for line in re.findall(rf"(?m)^[{sign}](?![{sign}]{{2}} )(.*)$", diff)
        )
        for sign in "-+"
    )
    # aura_context._steps.x__resume__mutmut_2, ....x\u01c1Snapshot\u01c1_hold__mutmut_1
    module, _, name = mutant.rpartition("__mutmut_")[0].rpartition(".")
    name = name.removeprefix("x_").removeprefix("x\u01c1").replace("\u01c1", ".")
    return Change(f"{module.removeprefix('aura_context.')}.{name}", was, now)


def fails(copy: Path, part: str) -> bool:
    """Whether a test fails with the code as it is in the copy."""
    first = [STRIKES] if part == "core" else []
    options = ["-x", "-q", "-pno:cacheprovider", "-nauto", "--hypothesis-seed=0"]
    try:
        return run(copy, "pytest", *options, *first, *TESTS[part]).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def is_noticed(copy: Path, part: str, mutant: str) -> bool:
    """Whether a test fails if the change is made in the code itself."""
    path = copy / Path(*mutant.split(".")[:-1]).with_suffix(".py")
    code = path.read_text("utf-8")
    run(copy, "mutmut", "apply", mutant)
    try:
        return fails(copy, part)
    finally:
        path.write_text(code, "utf-8")


def main() -> int:
    """Run mutmut, try again what is left, and print what came out."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=TESTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    copy = prepare(asked.folder, asked.part)
    done = run(copy, "mutmut", "run", *asked.names, path="mutants", shown=True)
    if done.returncode:
        return done.returncode
    if fails(copy, asked.part):
        sys.exit("the tests fail in the copy, though nothing is changed there")
    harmless = {
        Change(each["function"], each["was"], now)
        for each in tomllib.loads(EQUIVALENT.read_text("utf-8"))["equivalent"]
        for now in each["now"]
    }
    rows: dict[str, Counter[str]] = {}
    for mutant, word in results(copy, asked.names).items():
        row = rows.setdefault(mutant.rsplit(".", 2)[-2], Counter())
        outcome = "noticed"
        # mutmut takes tests that could not begin for a timeout, too.
        if word != "killed":
            made = change(copy, mutant)
            if made in harmless:
                outcome = "without effect"
            elif not is_noticed(copy, asked.part, mutant):
                outcome = "not noticed"
                print(f"NOT NOTICED: {mutant}: {made}", flush=True)
        row.update(["changes", outcome])
    rows["all"] = sum(rows.values(), Counter[str]())
    columns = ("changes", "noticed", "without effect", "not noticed")
    cells = {name: [row[each] for each in columns] for name, row in rows.items()}
    print(Table("Changes of the code", columns, cells).markdown())
    return 1 if rows["all"]["not noticed"] else 0


if __name__ == "__main__":
    sys.exit(main())
