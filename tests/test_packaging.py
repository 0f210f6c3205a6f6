"""Each integration that needs a library has an extra of its name, and no other has."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys

from importlib import metadata

import pytest

from aura_context import integrations


# Protocols, a header, a text, and Python's own.
NEED_NONE = {"asgi", "baggage", "logging", "messages", "wsgi"}

# What is imported under another name than its extra has.
IMPORTED = {"sentry": "sentry_sdk"}

PUBLIC = {
    module.name
    for module in pkgutil.iter_modules(integrations.__path__)
    if not module.name.startswith("_")
}

EXTRAS = set(metadata.metadata("aura-context").get_all("Provides-Extra") or ())


def required(extra: str) -> list[str]:
    """Return the names of what an extra brings."""
    found = [
        re.match(rf"([\w-]+).*extra == ['\"]{extra}['\"]", requirement)
        for requirement in metadata.requires("aura-context") or []
    ]
    return [match[1] for match in found if match]


def imported(name: str) -> set[str]:
    """Return the packages that an integration names in an import, wherever it does."""
    module = importlib.import_module(f"aura_context.integrations.{name}")
    packages: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Import(names=names):
                packages |= {alias.name.split(".")[0] for alias in names}
            case ast.ImportFrom(module=str(source), level=0):
                packages.add(source.split(".")[0])
            case _:
                pass
    return packages


def test_one_for_each_integration_with_a_library() -> None:
    assert EXTRAS == PUBLIC - NEED_NONE


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_extra_brings_its_library_and_nothing_else(extra: str) -> None:
    (distribution,) = required(extra)
    assert distribution in metadata.packages_distributions()[IMPORTED.get(extra, extra)]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_an_integration_names_no_other_library(name: str) -> None:
    ours = {"aura_context", "typing_extensions"}
    own = {IMPORTED.get(extra, extra) for extra in EXTRAS & {name}}
    assert imported(name) - ours - sys.stdlib_module_names <= own
