"""Loading and running the programs of the documentation, as several tests do."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def load(name: str) -> ModuleType:
    """Import a program anew."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(
    program: str | Path,
    *arguments: str | Path,
    cwd: Path | None = None,
    stderr: int = subprocess.PIPE,
    changes: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program as a user does, with these settings; a warning is an error."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AURA_")}
    # With it, which the tests may have, no program finds the one beside it.
    kept.pop("PYTHONSAFEPATH", None)
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        cwd=cwd,
        env={**kept, **(changes or {})},
        check=False,
        timeout=60,
    )
