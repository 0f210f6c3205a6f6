"""What the distribution ships, and what each of its modules shows."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

import aura_context


if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


ROOT = Path(__file__).parent.parent

MODULES = [
    "aura_context",
    *(
        module.name
        for module in pkgutil.walk_packages(aura_context.__path__, "aura_context.")
        if "._" not in module.name
    ),
]


def names_made_in(module: ModuleType) -> Iterator[str]:
    """Iterate over the names that a module's own code makes.

    In a package's face these are the names that it takes from its own modules.
    """
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign(targets=targets):
                yield from (each.id for each in targets if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.ImportFrom(level=1) if hasattr(module, "__path__"):
                yield from (alias.asname or alias.name for alias in node.names)
            case _:
                pass


class TestAll:
    @pytest.mark.parametrize("name", MODULES)
    def test_names_all_that_is_public_and_nothing_else(self, name: str) -> None:
        module = importlib.import_module(name)
        public = {
            made
            for made in names_made_in(module)
            if not made.startswith("_")
            and not isinstance(getattr(module, made), TypeVar | ParamSpec)
        }
        assert set(module.__all__) == public

    @pytest.mark.parametrize("name", MODULES)
    def test_names_exist_and_nothing_is_named_twice(self, name: str) -> None:
        module = importlib.import_module(name)
        assert all(hasattr(module, each) for each in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)


class TestDistribution:
    @pytest.fixture
    def distribution(self) -> metadata.Distribution:
        found = metadata.distribution("aura-context")
        if '"editable": true' in (found.read_text("direct_url.json") or ""):
            pytest.skip("an editable install has no copy of the package")
        return found

    def test_what_is_imported_is_what_is_installed(
        self, distribution: metadata.Distribution
    ) -> None:
        installed = distribution.locate_file("aura_context/__init__.py")
        assert Path(aura_context.__file__).samefile(str(installed))

    def test_version(self) -> None:
        pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        assert metadata.version("aura-context") == pyproject["project"]["version"]

    def test_the_only_dependency_is_typing_extensions(self) -> None:
        required = metadata.requires("aura-context") or []
        always = [each for each in required if "extra ==" not in each]
        names = [re.split(r"[^\w-]", each)[0] for each in always]
        assert names == ["typing-extensions"]

    def test_ships_the_package_alone_with_its_types(
        self, distribution: metadata.Distribution
    ) -> None:
        names = {file.as_posix() for file in distribution.files or []}
        assert "aura_context/py.typed" in names
        shipped = {name.split("/")[0] for name in names if not name.startswith(".")}
        assert {top.partition("-")[0] for top in shipped} == {"aura_context"}


class TestPages:
    def test_the_reference_has_every_name_of_integrations_too(self) -> None:
        reference = (ROOT / "docs/reference.md").read_text("utf-8")
        module, shown = "", set[str]()
        for kind, name in re.findall(r"(?m)^\.\. (\w+):: ([\w.]+)", reference):
            if kind == "currentmodule":
                module = name
            else:
                shown.add(f"{module}.{name}")
        # One of the core's floors has all their names.
        floors = [
            each
            for each in MODULES
            if each == "aura_context" or each.startswith("aura_context.integrations")
        ]
        assert shown == {
            f"{each}.{name}"
            for each in floors
            for name in importlib.import_module(each).__all__
            if each != "aura_context.integrations.pytest"  # called by pytest alone
        }

    def test_rules_that_are_named_exist(self) -> None:
        rules = (ROOT / "docs/rules.md").read_text("utf-8")
        known = set(re.findall(r"(?m)^### ([NRFSI]\d+)$", rules))
        sources = [
            *(ROOT / "aura_context").rglob("*.py"),
            *(ROOT / "tests").rglob("*.py"),
        ]
        text = "".join(source.read_text("utf-8") for source in sources)
        named = set(re.findall(r"\(([NRFSI]\d+)\)", text))
        assert {"R5", "R11"} <= named <= known

    def test_the_changelog_tells_of_this_version(self) -> None:
        changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
        assert f"\n## {metadata.version('aura-context')} " in changelog
