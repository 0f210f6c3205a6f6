"""The tutorial, followed as its reader does: save each file, run each command."""

from __future__ import annotations

import re
import subprocess

from pathlib import Path

from .examples import run


PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"

BLOCK = re.compile(
    r"""(?xms)
    ^```\{code-block\}\ python\n :caption:\ (?P<file>\S+)\n
        (?: :[^\n]+\n )* \n (?P<text>.*?) ^```$
    | ^```console\n \$\ python\ (?P<program>\S+)\n (?P<output>.*?) ^```$
    """
)


def test_programs_print_what_the_page_shows(tmp_path: Path) -> None:
    shown: list[str] = []
    printed: list[str] = []
    for block in BLOCK.finditer(PAGE.read_text("utf-8")):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"], "utf-8")
        else:
            shown.append(block["output"])
            # As in a terminal, which shows the log among the lines.
            done = run(block["program"], cwd=tmp_path, stderr=subprocess.STDOUT)
            printed.append(done.stdout)
    assert printed == shown


def test_no_block_is_left_out() -> None:
    page = PAGE.read_text("utf-8")
    languages = re.findall(r"^```(\S.*)$", page, re.MULTILINE)
    followed = [*BLOCK.finditer(page)]
    assert len(followed) > 10
    assert len(followed) + 1 == len(languages)  # all but how to install
    assert languages.count("sh") == 1
