"""Lets pytest run every snippet of the READMEs and of the documentation.

It is here and not in ``tests/`` because pytest asks a conftest only about the files
beside and below it.
"""

from __future__ import annotations

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README*.md", "docs/*.md", "docs/**/*.md"],
    # Its files import each other, so tests/test_tutorial.py runs them as programs.
    excludes=["docs/tutorial.md"],
).pytest()
