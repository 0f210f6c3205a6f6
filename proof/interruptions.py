"""Something strikes at every instruction or line of an enter and exit.

The first table counts the points that ``tests/test_strikes.py`` tries, each by itself.
The second is one program with every candidate: KeyboardInterrupt strikes in a block,
and the next block has to put things right.
"""

from __future__ import annotations

import gc
import sys

from collections import Counter
from contextlib import suppress
from contextvars import Context
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from candidates import NAMES, load
from tables import Table, Zero, share


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from candidates import Candidate

TESTS = Path(__file__).parents[1] / "tests" / "test_strikes.py"
TITLES = {
    "TestR11KeyboardInterrupt": "KeyboardInterrupt, at every instruction",
    "TestR13Finalisers": "a finaliser that uses or leaves blocks, at each call or line",
    "TestR13KeptOpen": "code that keeps a block open, at every call and line",
    "TestR13Settling": "code that uses blocks while others are settled, at every line",
    "TestR13AnyBlocks": "random blocks that come and go, at every call and line",
    "TestR5Strikes": "exits in another Context, at every instruction and line",
    "TestR13Hooks": "profile and trace functions, the collector, signals",
}
FILES = {
    "aura": tuple(f"aura_context/{name}.py" for name in ("_stack", "_context", "plan")),
    "by_hand": ("candidates/by_hand.py",),
    "structlog": ("structlog/contextvars.py",),
    "opentelemetry": (
        "candidates/opentelemetry.py",
        "opentelemetry/context/__init__.py",
        "opentelemetry/context/contextvars_context.py",
    ),
    "prefect": ("prefect/context.py",),
}
"""What a candidate runs to enter and leave, besides contextlib."""
MOST = 3_000
"""Steps after which a program that is always wrong ends."""


class Counting:
    """A plugin of pytest's that counts points rather than tests."""

    def __init__(self) -> None:
        self.title = ""
        self.points: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    def pytest_collection_finish(self, session: Any) -> None:
        """Put what counts in place of the module's own."""
        module = session.items[0].module
        use_blocks = module.TestR13Hooks.use_blocks

        def counted(test: object) -> None:
            self.points[self.title] += 1
            use_blocks(test)

        module.TestR13Hooks.use_blocks = counted
        module.strikes = self.strikes

    def pytest_runtest_setup(self, item: Any) -> None:
        self.title = TITLES[item.cls.__name__]

    def strikes(self, body: Callable[[int], bool]) -> int:
        """Run it for one step after the other; a wrong one is no reason to stop."""
        step, struck = 0, True
        while struck and step < MOST:
            step += 1
            try:
                struck = Context().run(body, step)
            except Exception:  # noqa: BLE001 - whatever it is, it is wrong
                self.wrong[self.title] += 1
        self.points[self.title] += step
        return step

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.wrong[self.title] += report.failed


class Strike:
    """Raises KeyboardInterrupt at one instruction of these files."""

    def __init__(self, step: int, files: tuple[str, ...]) -> None:
        self.left = step
        self.files = files

    def count(self, code: CodeType, _: object = None) -> None:
        if code.co_filename.endswith(self.files):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    if sys.version_info >= (3, 12):

        def __enter__(self) -> None:
            monitoring = sys.monitoring
            event = monitoring.events.INSTRUCTION
            monitoring.use_tool_id(4, "strike")
            monitoring.register_callback(4, event, self.count)
            monitoring.set_events(4, event)

        def __exit__(self, *_: object) -> None:
            sys.monitoring.set_events(4, 0)
            sys.monitoring.free_tool_id(4)

    else:

        def __enter__(self) -> None:
            sys.settrace(self.trace)

        def __exit__(self, *_: object) -> None:
            sys.settrace(None)

        def trace(self, frame: FrameType, event: str, _: object) -> Any:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event == "opcode":
                self.count(frame.f_code)
            return self.trace


def interrupted(candidate: Candidate, files: tuple[str, ...]) -> tuple[int, int]:
    """Return how many points there are, and after how many the plan stays set."""

    def body(strike: Strike) -> bool:
        with suppress(KeyboardInterrupt), strike, candidate.block("struck"):
            pass
        gc.collect(0)  # the traceback has held what the block is left by
        with candidate.block("next"):
            pass
        return candidate.get() is not None

    left = 0
    for step in count(1):
        strike = Strike(step, files)
        left += Context().run(body, strike)
        if strike.left > 0:
            return step - 1, left
    raise AssertionError


def measure(seconds: float, *, peers: bool) -> list[Table]:
    del seconds
    counting = Counting()
    tests = [f"{TESTS}::{name}" for name in TITLES]
    pytest.main(["-q", "-pno:cacheprovider", "-pno:xdist", *tests], plugins=[counting])
    ours = {
        title: (counting.points[title], Zero(counting.wrong[title]))
        for title in TITLES.values()
    }
    rows: dict[str, Any] = {}
    for name in NAMES if peers else ["aura"]:
        candidate = load(name)
        if name == "loguru":  # a lock that is taken at one of the points stays so
            rows[candidate.title] = "-", "waits for ever"
            continue
        points, left = interrupted(candidate, ("/contextlib.py", *FILES[name]))
        is_ours = name == "aura"
        rows[candidate.title] = points, Zero(left) if is_ours else share(left, points)
    return [
        Table("Interruptions", ("points tried", "wrong"), ours),
        Table(
            "KeyboardInterrupt, then one more block",
            ("points tried", "plan left set"),
            rows,
        ),
    ]
