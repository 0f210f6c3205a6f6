"""An integration imports its own library at most, and the core imports none."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import aura_context.integrations


LIBRARIES = {"celery", "loguru", "opentelemetry", "pytest", "sentry_sdk", "structlog"}

MODULES = ["aura_context", "aura_context.integrations"] + [
    module.name
    for module in pkgutil.iter_modules(
        aura_context.integrations.__path__, "aura_context.integrations."
    )
]


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
