"""Imports inside the package go down only, and integrations use public names."""

from __future__ import annotations

import ast
import pickle

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import aura_context


if TYPE_CHECKING:
    from collections.abc import Iterator


PACKAGE = Path(aura_context.__file__).parent

# From the ground up: a module imports only from floors below its own.
FLOORS = [
    {"exceptions", "_text", "_variables"},
    {"_stack"},
    {"_groups"},
    {"_steps"},
    {"_functions"},
    {"_context"},
    {"plan", "snapshot"},
    {"executors"},
    {"__init__"},
    {"integrations"},
]

# What is private and yet used by an integration, and the reason.
EXCEPTIONS = {
    ("_shown", "_text.is_readable"): "logs show as it is what a plan's name may hold",
    ("asgi", "_stack.leave_leftovers"): "a request leaves nothing behind",
    ("celery", "_stack.leave_leftovers"): "a task leaves nothing behind",
    ("wsgi", "_stack.leave_leftovers"): "a request leaves nothing behind",
    ("pytest", "_stack"): "the plugin leaves what a test has left open",
    ("pytest", "_variables"): "the plugin compares every declared variable",
}


class Import(NamedTuple):
    """One name that one module of the package takes from another."""

    module: str
    name: str


def module_of(file: Path) -> str:
    """Return the module's name as the floors have it."""
    path = file.relative_to(PACKAGE)
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imports(source: str, package: str) -> Iterator[Import]:
    """Iterate over what is imported from this package, also for types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from absolute(alias.name, "")
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) + 1 - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield from absolute(module, alias.name)


def absolute(module: str, name: str) -> Iterator[Import]:
    """Take a submodule of the package for the module itself."""
    first, _, rest = module.partition(".")
    if first != "aura_context":
        return
    known = {module_of(file) for file in PACKAGE.rglob("*.py")}
    if rest:
        yield Import(rest.split(".")[0], name)
    elif name in known:
        yield Import(name, "")
    else:
        yield Import("__init__", name)


def floor(module: str) -> int:
    """Return the number of the module's floor."""
    return next(number for number, names in enumerate(FLOORS) if module in names)


def goes_up(module: str, source: str, package: str = "aura_context") -> list[Import]:
    """Return those imports that do not go down, integrations among each other aside."""
    return [
        each
        for each in imports(source, package)
        if floor(each.module) >= floor(module) and each.module != "integrations"
    ] + [
        each
        for each in imports(source, package)
        if each.module == "integrations" and module != "integrations"
    ]


def private(source: str) -> set[str]:
    """Return what an integration uses of the core that is not public."""
    return {
        ".".join(filter(None, each))
        for each in imports(source, "aura_context.integrations")
        if each.module not in {"__init__", "integrations"}
    }


CORE = sorted(PACKAGE.glob("*.py"))
INTEGRATIONS = sorted(PACKAGE.glob("integrations/*.py"))


class TestFloors:
    def test_every_module_has_one(self) -> None:
        found = {module_of(file) for file in PACKAGE.rglob("*.py")}
        assert sorted(found) == sorted(name for names in FLOORS for name in names)

    @pytest.mark.parametrize("file", CORE + INTEGRATIONS, ids=lambda file: file.stem)
    def test_no_import_goes_up(self, file: Path) -> None:
        package = ".".join(["aura_context", *file.relative_to(PACKAGE).parts[:-1]])
        assert goes_up(module_of(file), file.read_text("utf-8"), package) == []

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("_stack", "from ._context import VarContext"),
            ("_stack", "from . import _functions"),
            ("_stack", "def f():\n    from ._steps import Step"),
            ("_stack", "import aura_context._steps"),
            ("plan", "from .snapshot import Snapshot"),  # beside it, not below
            ("executors", "from . import carry"),
            ("executors", "from aura_context import carry"),
            ("executors", "from .integrations import Resolved"),
            ("__init__", "from .integrations.asgi import ContextMiddleware"),
        ],
    )
    def test_one_that_does_is_found(self, module: str, source: str) -> None:
        assert len(goes_up(module, source)) == 1


class TestIntegrations:
    def test_use_public_names_with_these_exceptions(self) -> None:
        used = {
            (file.stem, name)
            for file in INTEGRATIONS
            for name in private(file.read_text("utf-8"))
        }
        assert used == set(EXCEPTIONS)

    @pytest.mark.parametrize(
        "source",
        [
            "from aura_context._stack import stack",
            "from aura_context import _stack",
            "from .._stack import stack",
            "from aura_context.plan import plan_context",
        ],
    )
    def test_a_private_name_is_found(self, source: str) -> None:
        assert len(private(source)) == 1


class TestPublicModule:
    @pytest.mark.parametrize(
        "name", sorted(set(aura_context.__all__) - {"current_plan_name"})
    )
    def test_is_the_package_and_pickles_by_it(self, name: str) -> None:
        public = getattr(aura_context, name)
        assert public.__module__ == "aura_context"
        pickled = pickle.dumps(public)
        assert b"aura_context." not in pickled  # no module below
        copy = pickle.loads(pickled)  # noqa: S301 - our own
        # plan_context is a partial, and those pickle by what they call.
        assert getattr(copy, "func", copy) is getattr(public, "func", public)

    def test_an_error_shows_it(self) -> None:
        with pytest.raises(aura_context.NotBoundError) as error:
            aura_context.PlanContext.require()
        assert f"{error.type.__module__}.{error.type.__qualname__}" == (
            "aura_context.NotBoundError"
        )
