"""The tutorial, followed as its reader does: save each file, run each command."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from pathlib import Path


PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"

BLOCK = re.compile(
    r"""(?xms)
    ^```\{code-block\}\ python\n :caption:\ (?P<file>\S+)\n
        (?: :[^\n]+\n )* \n (?P<text>.*?) ^```$
    | ^```console\n \$\ python\ (?P<program>\S+)\n (?P<output>.*?) ^```$
    """
)


def run(folder: Path, program: str) -> str:
    """Return all that a terminal would show; a warning is an error."""
    # Under PYTHONSAFEPATH, which the tests may have, a program finds no module
    # beside it; a reader has no such thing set.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "error", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environ,
        check=False,
        timeout=60,
    )
    return done.stdout


def test_programs_print_what_the_page_shows(tmp_path: Path) -> None:
    shown: list[str] = []
    printed: list[str] = []
    for block in BLOCK.finditer(PAGE.read_text("utf-8")):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"], "utf-8")
        else:
            shown.append(block["output"])
            printed.append(run(tmp_path, block["program"]))
    assert printed == shown


def test_no_block_is_left_out() -> None:
    page = PAGE.read_text("utf-8")
    languages = re.findall(r"^```(\S.*)$", page, re.MULTILINE)
    followed = [*BLOCK.finditer(page)]
    assert len(followed) > 10
    assert len(followed) + 1 == len(languages)  # all but how to install
    assert languages.count("sh") == 1
