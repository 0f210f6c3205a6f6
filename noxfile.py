"""What is checked, and how: each session runs in an environment of its own."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import sys

from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import nox


if TYPE_CHECKING:
    from collections.abc import Iterable


nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
# Without this, nox takes a missing Python for an error where CI is set.
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "typing", "lint", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")

PROGRAM = """
from aura_context import current_plan_name, plan_context
with plan_context("nightly"):
    assert current_plan_name.get() == "nightly"
assert current_plan_name.get() is None
"""

# A newer nox adds the free-threaded ones to them; they have a session of their own.
PYTHONS = [
    each for each in nox.project.python_versions(PYPROJECT) if not each.endswith("t")
]
FREE_THREADED = [f"{each}t" for each in PYTHONS if each >= "3.13"]

# In as many processes as there are cores; conftest.py says what stays together.
PARALLEL = ("-n", "auto", "--maxprocesses", "8")

# The tests that need no integration's library.
CORE = (
    "tests",
    "--ignore=tests/integrations",
    "--ignore=tests/test_comparison.py",
    "--ignore=tests/test_docstrings.py",
    "--ignore=tests/test_packaging.py",
    "--ignore=tests/test_public.py",
    "--ignore=tests/test_signatures.py",
)

# Keeps the checkout off sys.path, in child processes as well.
INSTALLED = {"PYTHONSAFEPATH": "1"}


def install(session: nox.Session, *groups: str, pins: Iterable[str] = ()) -> None:
    """Install the package as its users do, as a wheel, and these groups.

    Where PACKAGE names a wheel that is built already, it is that one.
    """
    package = os.environ.get("PACKAGE", ".")
    session.install(package, *nox.project.dependency_groups(PYPROJECT, *groups), *pins)


def run_tests(session: nox.Session, *args: str) -> None:
    """Run pytest on what is installed, with the checkout out of the way."""
    session.run("python", "-m", "pytest", *args, *session.posargs, env=INSTALLED)


def run_covered(session: nox.Session, *args: str) -> None:
    """Run the tests as well, and write down what they cover."""
    # A file for each process of each session. Nothing old is ever combined.
    file = Path(f".coverage.{session.name}").absolute()
    for old in file.parent.glob(f"{file.name}.*"):
        old.unlink()
    session.run(
        *("coverage", "run", "-m", "pytest", *args, *session.posargs),
        env={**INSTALLED, "COVERAGE_FILE": str(file)},
    )


def tests(session: nox.Session) -> None:
    """Run the tests; `tests` on the Python that runs nox, `tests-3.12` on that one."""
    python = session.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    session.log(
        f"Python {python}: install what the tests need (half a minute, in silence), "
        "then run them all (a minute)"
    )
    install(session, "tests")
    run_tests(session, *PARALLEL)


nox.session(tests)
for version in PYTHONS:
    nox.session(name=f"tests-{version}", python=version)(tests)


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """Run the tests that need no integration; `prove` tries many more histories."""
    install(session, "core")
    run_tests(session, *CORE, *PARALLEL)


@nox.session
def shuffled(session: nox.Session) -> None:
    """Run the tests in random order; `-- -p randomly --randomly-seed=N` repeats one."""
    install(session, "tests", "shuffled")
    run_tests(session, *PARALLEL)


@nox.session(python=FREE_THREADED)
def freethreaded(session: nox.Session) -> None:
    """Run the core's tests, and a stress program, on free-threaded Pythons."""
    # Newer ones of this have code of Rust, for which there is no wheel on 3.13t.
    session.install("--only-binary=hypothesis", "hypothesis")
    install(session, "bare")
    # In processes of their own. Once a thread has been started, CPython 3.13 keeps each
    # class for ever, and a Snapshot looks at each that is declared.
    alone = ["tests/test_declaring.py", "tests/test_strikes.py"]
    for file in alone:
        run_tests(session, file)
    run_tests(session, *CORE, *(f"--ignore={file}" for file in alone))
    session.run("python", "tests/programs/stress.py", "20", env=INSTALLED)


@nox.session(python=[each for each in PYTHONS if each >= "3.14"])
def cover(session: nox.Session) -> None:
    """Run the tests, and write down what they cover, for `coverage`.

    Older Pythons can do so only with a trace function, and some tests set their own.
    """
    install(session, "tests", "coverage")
    run_covered(session, *PARALLEL)


# The group to install, the one to pin, and what to run.
LOWEST = {
    "core": ("core", None, ("tests", "--ignore=tests/integrations", *PARALLEL)),
    "integrations": ("tests", "frameworks", ("tests/integrations", *PARALLEL)),
    "sites": (
        "engines",
        "sites",
        ("tests/engines/test_frameworks.py", "tests/engines/test_servers.py"),
    ),
}


@nox.session(python=PYTHONS[0])
@nox.parametrize("part", [*LOWEST])
def lowest(session: nox.Session, part: str) -> None:
    """Run the tests on the oldest Python and the oldest releases that we allow."""
    group, pinned, args = LOWEST[part]
    project = PYPROJECT["project"]
    asked = [*chain.from_iterable(project["optional-dependencies"].values())]
    if pinned is None:
        # What the other tests need wants a newer typing-extensions than we do.
        asked += project["dependencies"]
    else:
        asked += nox.project.dependency_groups(PYPROJECT, pinned)
    install(session, group, pins=[each.replace(">=", "==") for each in asked])
    run_tests(session, *args)


@nox.session
@nox.parametrize("extra", [*PYPROJECT["project"]["optional-dependencies"]])
def extras(session: nox.Session, extra: str) -> None:
    """Import an integration where nothing but its extra is installed."""
    session.install(f".[{extra}]")
    session.run("python", "-I", "-c", f"import aura_context.integrations.{extra}")


@nox.session
def engines(session: nox.Session) -> None:
    """Run the tests on real clusters, brokers and workers, which they start and stop.

    Those of Celery want a redis-server, and are skipped where there is none.
    """
    install(session, "engines")
    run_covered(session, "tests/engines")


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine what `cover` and `engines` have written down, and report."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "coverage"))
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def typing(session: nox.Session) -> None:
    """Check all types with two checkers, those in `tests/typing` with two more.

    The public ones are checked for completeness too.
    """
    install(session, "typing")
    session.run("mypy")
    # By itself it would look for what is installed in .venv, if there is one.
    python = ("--pythonpath", str(Path(session.bin, "python")))
    session.run("basedpyright", *python)
    verify = ("--verifytypes", "aura_context", "--ignoreexternal")
    session.run("basedpyright", *python, *verify)
    compare_errors(session, "ty", "check", "--output-format", "concise")
    compare_errors(session, "pyrefly", "check", "--output-format", "min-text")


def compare_errors(session: nox.Session, *command: str) -> None:
    """Check that a checker finds the errors that are marked for mypy, and no others."""
    marked = {
        f"{path.as_posix()}:{number}"
        for path in Path("tests", "typing").glob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if "# type: ignore" in line
    }
    output = str(session.run(*command, silent=True, success_codes=[0, 1]))
    found = set(re.findall(r"tests/typing/\w+\.py:\d+", output))
    if found != marked:
        lines = ", ".join(sorted(found ^ marked))
        session.error(f"{command[0]} and mypy disagree about {lines}:\n{output}")


@nox.session
def lint(session: nox.Session) -> None:
    """Lint the code, the script and the workflows, and check the format."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("shellcheck", ".ci/run")
    session.run("pre-commit", "validate-config", ".pre-commit-config.yaml")
    workflows = [str(path) for path in sorted(Path(".github/workflows").iterdir())]
    schemas = {
        "vendor.dependabot": [".github/dependabot.yml"],
        "vendor.github-workflows": workflows,
        "custom.github-workflows-require-timeout": workflows,
    }
    for schema, files in schemas.items():
        session.run("check-jsonschema", "--builtin-schema", schema, *files)
    session.run("zizmor", "--offline", "--persona=pedantic", ".")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, "docs")
    session.run(
        *("sphinx-build", "-W", "-n", "--keep-going", "--fresh-env"),
        *("-b", "html", "docs", "docs/_build/html"),
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, from it the wheel, and check both; `sdist` then uses them."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "build"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    files = [str(path) for path in sorted(Path("dist").iterdir())]
    session.run("twine", "check", "--strict", *files)
    session.run("check-wheel-contents", "dist")
    with TemporaryDirectory() as direct:
        session.run("python", "-m", "build", "--wheel", "--outdir", direct)
        (wheel,) = Path("dist").glob("*.whl")
        if not filecmp.cmp(wheel, Path(direct, wheel.name), shallow=False):
            session.error("the sdist and the checkout build different wheels")
    session.notify("sdist")


@nox.session(requires=["build"], reuse_venv=False)
def sdist(session: nox.Session) -> None:
    """Use the wheel where nothing else is; then test it with what the sdist holds."""
    (wheel,) = Path("dist").glob("*.whl")
    (archive,) = Path("dist").glob("*.tar.gz")
    session.install(str(wheel))
    session.run("python", "-I", "-c", PROGRAM)
    with TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder)
        with session.chdir(Path(folder, archive.name.removesuffix(".tar.gz"))):
            pyproject = nox.project.load_toml("pyproject.toml")
            session.install(*nox.project.dependency_groups(pyproject, "core"))
            run_tests(session, *CORE, *PARALLEL)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the plan runner of the documentation; it fails if any plan leaks."""
    install(session)
    session.run("python", "docs/examples/orchestrator.py", *session.posargs)


@nox.session
def compare(session: nox.Session) -> None:
    """Check that the comparison says what comes out; `-- --write` writes it anew."""
    install(session, "compare")
    session.run(
        *("python", "docs/comparison/compare.py", *(session.posargs or ["--check"])),
        # Prefect counts its users, and makes a folder in their home.
        env={"DO_NOT_TRACK": "1", "PREFECT_HOME": session.create_tmp()},
    )


@nox.session
def prove(session: nox.Session) -> None:
    """Try to break the package for three minutes, and write the page that says so.

    `-- --minutes N` takes another time. `-- --check` fails if a figure that has to be 0
    is not; it leaves out the other libraries, and writes nothing.
    """
    check = "--check" in session.posargs
    install(session, "prove", *([] if check else ["compare"]))
    # Prefect counts its users, and makes a folder in their home.
    env = {"DO_NOT_TRACK": "1", "PREFECT_HOME": session.create_tmp()}
    session.run("python", "proof/prove.py", *session.posargs, env=env)


@nox.session(python="3.14")
@nox.parametrize("part", ["core", "integrations"])
def mutate(session: nox.Session, part: str) -> None:
    """Change the code in many small ways, and list the changes that no test notices.

    It takes an hour or more. A later run tries only functions that have changed since.
    `-- "aura_context._steps*"` tries those of one module.
    """
    # Not on 3.11, which crashes by itself if it collects inside of ContextVar.set.
    session.install(*nox.project.dependency_groups(PYPROJECT, "mutate"))
    folder = str(Path(session.create_tmp()).absolute())
    session.run("python", "proof/mutants.py", part, folder, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; `-- --check` fails if a target is missed, `-- --write` writes the page.

    `-- --quick` shows in a minute that each program runs: at small sizes, without the
    libraries that it is compared with. What it measures is rough.
    """
    quick = "--quick" in session.posargs
    install(session, *([] if quick else ["bench"]))
    # Prefect counts its users, and makes a folder in their home.
    env = {"DO_NOT_TRACK": "1", "PREFECT_HOME": session.create_tmp()}
    for program in ("blocks", "scale", "carrying", "importing"):
        session.run("python", f"benchmarks/{program}.py", *session.posargs, env=env)
