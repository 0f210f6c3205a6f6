"""The configuration of ruff that the how-to guide for frameworks shows."""

from __future__ import annotations

import re
import subprocess
import sys

from pathlib import Path


PAGE = Path(__file__).parents[2] / "docs/how-to/existing-framework.md"

BANNED = """\
import aura_context
import concurrent.futures as futures

from concurrent.futures import ThreadPoolExecutor  # banned
from aura_context import current_plan_name as plan

token = plan.set("nightly")  # banned
plan.reset(token)  # banned
aura_context.current_plan_name.set("nightly")  # banned
pool = futures.ThreadPoolExecutor(2)  # banned
"""

ALLOWED = """\
from concurrent.futures import ProcessPoolExecutor

from aura_context import ContextThreadPoolExecutor, current_plan_name, plan_context

with plan_context("nightly"), ContextThreadPoolExecutor(2) as pool:
    pool.submit(current_plan_name.get)
ProcessPoolExecutor().shutdown()
"""


def found(folder: Path, source: str) -> list[int]:
    """Return the lines that ruff refuses by what the page says to configure."""
    (shown,) = re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE.read_text("utf-8"))
    (folder / "pyproject.toml").write_text(shown, "utf-8")
    (folder / "module.py").write_text(source, "utf-8")
    done = subprocess.run(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "ruff", "check", "--no-cache"),
            *("--output-format", "concise", "module.py"),
        ],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return [int(line) for line in re.findall(r":(\d+):\d+: TID251 ", done.stdout)]


def test_what_is_banned_is_found(tmp_path: Path) -> None:
    lines = enumerate(BANNED.splitlines(), 1)
    marked = [number for number, line in lines if line.endswith("# banned")]
    assert found(tmp_path, BANNED) == marked


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    assert found(tmp_path, ALLOWED) == []
