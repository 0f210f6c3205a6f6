"""Try to break the package for some minutes, and write down what was found.

    python proof/prove.py [--minutes N] [--check]

With ``--check`` the exit status is 1 if a figure that has to be 0 is not; the other
libraries are left out, and nothing is written. Without it, the tables go into
``docs/explanation/reliability.md``, where there is a place for this version of Python.
"""

from __future__ import annotations

import datetime as dt
import platform
import sys

from argparse import ArgumentParser
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from tables import Table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
PEERS = "structlog", "loguru", "opentelemetry-api", "prefect"

# The share of each in the time. The first ones take what they take, and the last one
# has what is left, but a quarter at least.
PARTS = {
    "promises": 0.0,
    "interruptions": 0.0,
    "memory": 0.2,
    "servers": 0.2,
    "hostile": 0.1,
    "histories": 0.25,
}


def measure(part: str, seconds: float, *, peers: bool) -> list[Table]:
    """Run one part, in a process of its own."""
    tables: list[Table] = import_module(part).measure(seconds, peers=peers)
    return tables


def measure_all(seconds: float, *, peers: bool) -> dict[str, list[Table]]:
    """Run the parts one after the other: what they measure is time, too."""
    end = monotonic() + seconds
    tables: dict[str, list[Table]] = {}
    for part, share in PARTS.items():
        start, given = monotonic(), seconds * share
        if part == "histories":
            given = max(given, end - start)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            tables[part] = pool.submit(measure, part, given, peers=peers).result()
        print(f"{part}: {monotonic() - start:.0f} s\n", flush=True)
    return tables


def filled(text: str, content: str) -> str:
    """Return the page with this content in the place for this version of Python."""
    python = (
        f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
    )
    begin = f"<!-- {python}: written by proof/prove.py -->"
    end = f"<!-- end of {python} -->"
    head, begin_found, rest = text.partition(begin)
    _, end_found, tail = rest.partition(end)
    if not begin_found or not end_found:
        sys.exit(f"{PAGE} has no place for {python}: {begin}, {end}")
    return f"{head}{begin}\n\n{content}\n{end}{tail}"


def main() -> int:
    """Run all; print the tables, and write or check them."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if not asked.check:
        filled(PAGE.read_text("utf-8"), "")  # fails now rather than in some minutes
    # At the end, so that what is installed is tried and not the checkout.
    sys.path += [str(ROOT), str(ROOT / "docs" / "comparison")]
    parts = measure_all(asked.minutes * 60, peers=not asked.check)
    tables = [table for name in reversed(parts) for table in parts[name]]
    today = dt.datetime.now(dt.UTC).date()
    machine = f"CPython {platform.python_version()} on {platform.system()}"
    when = f"{machine}, on {today}, in {asked.minutes:g} minutes.\n"
    content = "\n".join([*(table.markdown() for table in tables), when])
    print(content)
    if not asked.check:
        peers = ", ".join(f"{name} {version(name)}" for name in PEERS)
        content = f"{content}Compared with {peers}.\n"
        PAGE.write_text(filled(PAGE.read_text("utf-8"), content), "utf-8")
    wrong = [line for table in tables for line in table.wrong()]
    for line in wrong:
        print(f"NOT 0: {line}")
    return 1 if asked.check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
