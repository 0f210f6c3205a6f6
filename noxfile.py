"""What is checked, and how: each session runs in an environment of its own."""

from __future__ import annotations

import filecmp
import os
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
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
# Without this, nox takes a missing Python for an error where CI is set.
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "coverage", "typing", "lint", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")

PROGRAM = """
from aura_context import current_plan_name, plan_context
with plan_context("nightly"):
    assert current_plan_name.get() == "nightly"
assert current_plan_name.get() is None
"""

# The Python that runs nox is always among those tested and always found, so that
# at least one session of the tests runs, whatever the machine has.
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = [*dict.fromkeys([*nox.project.python_versions(PYPROJECT), RUNNING])]
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.base_prefix, "bin")), os.environ["PATH"]]
)

# What runs in Pyodide: the tests of the core, and pages that start no thread.
PYODIDE_RUNS = [
    "tests/test_context.py",
    "tests/test_docstrings.py",
    "tests/test_functions.py",
    "tests/test_model.py",
    "tests/test_newer_pythons.py",
    "tests/test_plan.py",
    "tests/test_public.py",
    "tests/test_snapshot.py",
    "tests/test_stack.py",
    "README.md",
    "docs/index.md",
    "docs/explanation/newer-pythons.md",
    "docs/explanation/stack.md",
]


def install(session: nox.Session, *groups: str, pins: Iterable[str] = ()) -> None:
    """Install the package as its users do, as a wheel, and these groups."""
    session.install(".", *nox.project.dependency_groups(PYPROJECT, *groups), *pins)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed wheel, with the checkout out of the way."""
    install(session, "tests")
    session.run(
        *("coverage", "run", "-m", "pytest", *session.posargs),
        env={
            # One file for each Python, written anew: nothing old is ever combined.
            "COVERAGE_FILE": f".coverage.{session.name}",
            # Keeps the checkout off sys.path, in child processes as well.
            "PYTHONSAFEPATH": "1",
        },
    )


@nox.session(python=PYTHONS[0])
@nox.parametrize("part", ["core", "integrations"])
def lowest(session: nox.Session, part: str) -> None:
    """Run the tests on the oldest Python and the oldest releases that we allow."""
    project = PYPROJECT["project"]
    asked = chain.from_iterable(project["optional-dependencies"].values())
    group, paths = "tests", ["tests/integrations"]
    if part == "core":
        # What the other tests need wants a newer typing-extensions than we do.
        asked = chain(project["dependencies"], asked)
        group, paths = "core", ["tests", "--ignore=tests/integrations"]
    install(session, group, pins=[each.replace(">=", "==") for each in asked])
    session.run(
        *("python", "-m", "pytest", *paths, *session.posargs),
        env={"PYTHONSAFEPATH": "1"},
    )


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
    session.run(
        *("coverage", "run", "-m", "pytest", "tests/engines", *session.posargs),
        env={
            "COVERAGE_FILE": f".coverage.{session.name}",
            "PYTHONSAFEPATH": "1",
        },
    )


@nox.session
def pyodide(session: nox.Session) -> None:
    """Run the core's tests on CPython 3.14: Pyodide, in Node.

    What needs threads, which are not there, is skipped and counted. Pyodide comes from
    npm, and all else from pip, as wheels of pure Python.
    """
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    if missing:
        session.skip(f"nothing to run Pyodide with: no {' and no '.join(missing)}")
    folder = Path(session.create_tmp()).resolve()
    npm = ("npm", "install", "--engine-strict", "--no-audit", "--no-fund")
    session.run(*npm, "--prefix", str(folder), "pyodide@314", external=True)
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    session.install(
        *("--target", str(site), "--no-compile", "--only-binary", ":all:"),
        *("--python-version", "3.14", "--platform", "any"),
        *(".", *nox.project.dependency_groups(PYPROJECT, "pyodide")),
    )
    session.run(
        *("node", "tests/pyodide.mjs", str(folder), "-p", "no:cacheprovider"),
        # Those of integrations want libraries which are not there.
        *("-k", "not integrations"),
        *(session.posargs or PYODIDE_RUNS),
        external=True,
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine what the tests have covered on each Python, and report."""
    session.install("coverage")
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def typing(session: nox.Session) -> None:
    """Check all types with two checkers, and the public ones for completeness."""
    install(session, "typing")
    session.run("mypy")
    # By itself it would look for what is installed in .venv, if there is one.
    python = ("--pythonpath", str(Path(session.bin, "python")))
    session.run("basedpyright", *python)
    verify = ("--verifytypes", "aura_context", "--ignoreexternal")
    session.run("basedpyright", *python, *verify)


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
            session.install(*nox.project.dependency_groups(pyproject, "tests"))
            session.run(
                *("python", "-m", "pytest", *session.posargs),
                env={"PYTHONSAFEPATH": "1"},
            )


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
def bench(session: nox.Session) -> None:
    """Measure; `-- --check` fails if a target is missed, `-- --write` writes the page.

    `-- --check --quick` is for a machine that does other things too: a minute at most,
    without the libraries that it is compared with, and with more tolerance.
    """
    quick = "--quick" in session.posargs
    install(session, *([] if quick else ["bench"]))
    # Prefect counts its users, and makes a folder in their home.
    env = {"DO_NOT_TRACK": "1", "PREFECT_HOME": session.create_tmp()}
    session.run("python", "benchmarks/blocks.py", *session.posargs, env=env)
    if not quick:
        session.run("python", "benchmarks/scale.py", *session.posargs)
        session.run("python", "benchmarks/carrying.py")
        session.run("python", "benchmarks/importing.py")
