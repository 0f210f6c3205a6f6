"""The page about notebooks, cell by cell, in IPython, as each Jupyter kernel has it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from typing import TYPE_CHECKING

from .conftest import EXAMPLES


if TYPE_CHECKING:
    from pathlib import Path


PAGE = EXAMPLES.parent / "how-to" / "notebooks.md"

SHELL = """\
import json, sys, warnings
from IPython.core.interactiveshell import InteractiveShell
from aura_context import ForeignExitWarning

warnings.simplefilter("error", ForeignExitWarning)
shell = InteractiveShell.instance()
for cell in json.load(sys.stdin):
    shell.run_cell(cell).raise_error()
"""


def run(cells: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the cells in a shell of their own, which keeps its history there."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", SHELL],
        input=json.dumps(cells),
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "IPYTHONDIR": str(folder)},
        check=False,
        timeout=60,
    )


def test_the_page(tmp_path: Path) -> None:
    cells = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text("utf-8"))
    assert any(re.match("await ", cell) for cell in cells)
    done = run(cells, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cell_that_fails_or_warns_is_seen(tmp_path: Path) -> None:
    assert run(["1 / 0"], tmp_path).returncode == 1
    cell = """\
from aura_context import plan_context
plan_context("never entered").__exit__(None, None, None)
"""
    assert "ForeignExitWarning" in run([cell], tmp_path).stderr
