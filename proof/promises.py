"""What the document promised that all this began with, and the tests that show it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tables import Table, Zero


TESTS = Path(__file__).parents[1] / "tests"
PROMISES = {
    "Inside the block, the variable reads as its plan, in code far away too": (
        "test_plan.py::TestCurrentPlanName",
    ),
    "Afterwards it has exactly the state from before, by token": (
        "test_stack.py::TestR1Restore::test_value_inside_and_exactly_restored",
        "test_stack.py::TestAsyncR1Restore::test_value_inside_and_exactly_restored",
    ),
    "So it is on `return`, `break`, `continue`, an exception and a cancellation": (
        "test_stack.py::TestR1Restore::test_on_return_break_continue_and_exception",
        "test_stack.py::TestAsyncR1Restore::test_on_exception",
        "test_stack.py::TestAsyncR1Restore::test_on_cancellation",
        "test_stack.py::TestR7Exceptions",
    ),
    "To set it changes nothing in other tasks": (
        "test_stack.py::TestAsyncR1Restore::test_tasks_do_not_see_each_other",
        "test_stack.py::TestAsyncR3OneInstance",
    ),
    "If it has that value already, it is neither set nor reset": (
        "test_stack.py::TestR2SameValue",
        "test_stack.py::TestAsyncR2SameValue",
    ),
    "Blocks nest, and one may stand in another of the same plan": (
        "test_stack.py::TestR3OneInstance::test_again_and_nested_in_itself",
        "test_context.py::TestActiveContexts",
    ),
    "A shared service finds the settings of the plan that asks": (
        "test_examples.py::TestConfigService",
    ),
    "Resources are kept apart by plan": ("test_examples.py::TestPerPlanResources",),
    "One block around a plan serves all that it calls and awaits": (
        "test_orchestrator.py::TestShippedPlans",
        "test_orchestrator.py::TestInterleaving",
    ),
    "Each line of the log bears its plan": ("test_orchestrator.py::TestLog",),
}


class Counting:
    """A plugin of pytest's that counts the tests of each promise."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        for promise, names in PROMISES.items():
            # After a name comes a parameter, or a test of the class.
            if any(
                f"{name}{end}" in f"{report.nodeid}[" for name in names for end in "[:"
            ):
                self.passed[promise] += report.when == "call" and report.passed
                self.failed[promise] += report.failed


def measure(seconds: float, *, peers: bool) -> list[Table]:
    del seconds, peers
    counting = Counting()
    names = dict.fromkeys(name for names in PROMISES.values() for name in names)
    tests = [f"{TESTS}/{name}" for name in names]
    pytest.main(["-q", "-pno:cacheprovider", "-pno:xdist", *tests], plugins=[counting])
    rows = {
        promise: (
            counting.passed[promise],
            Zero(counting.failed[promise] or not counting.passed[promise]),
        )
        for promise in PROMISES
    }
    return [Table("What was promised first", ("tests", "failed"), rows)]
