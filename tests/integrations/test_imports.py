"""An integration imports its own library at most, and the core imports none."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys

from pathlib import Path

import pytest

import aura_context.integrations


LIBRARIES = {"celery", "loguru", "opentelemetry", "pytest", "sentry_sdk", "structlog"}

MODULES = ["aura_context", "aura_context.integrations"] + [
    module.name
    for module in pkgutil.iter_modules(
        aura_context.integrations.__path__, "aura_context.integrations."
    )
]

PRIVATE = {
    # Which text stands as it is in a log line, as a plan's name does (N1).
    "_shown.py": {"aura_context._text.is_readable"},
    # What a request or task forgot is left at its end (I3, I4).
    "asgi.py": {"aura_context._stack.leave_leftovers"},
    "celery.py": {"aura_context._stack.leave_leftovers"},
    "wsgi.py": {"aura_context._stack.leave_leftovers"},
    # What a test leaves is found in every class that is declared, and put back.
    "pytest.py": {"aura_context._stack", "aura_context._variables"},
}
"""What no user can import, and which integration does."""


def imported(module: str) -> set[str]:
    """Return what a process has imported that imports nothing but this."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_but_its_own_library(module: str) -> None:
    assert LIBRARIES & imported(module) <= {module.rpartition(".")[2]}


def test_the_core_knows_no_integration() -> None:
    core = imported("aura_context")
    assert not [name for name in core if name.startswith("aura_context.integrations")]


def test_public_names_are_enough() -> None:
    private: dict[str, set[str]] = {}
    for file in Path(aura_context.integrations.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and node.level == 0):
                continue
            for name in node.names:
                path = f"{node.module}.{name.name}"
                if path.startswith("aura_context") and "._" in path:
                    private.setdefault(file.name, set()).add(path)
    assert private == PRIVATE
