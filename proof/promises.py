"""What the document promised that all this began with, and the tests that show it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tables import Table, Zero


TESTS = Path(__file__).parents[1] / "tests"
PROMISES = {
    "Inside the block, all code below reads the plan from the variable": (
        "test_plan.py::TestCurrentPlanName",
    ),
    "After the block, the variable is exactly as before, by token": (
        "test_stack.py::TestR1Restore::test_value_inside_and_exactly_restored",
        "test_stack.py::TestAsyncR1Restore::test_value_inside_and_exactly_restored",
    ),
    "The same after `return`, `break`, `continue`, an exception and a cancellation": (
        "test_stack.py::TestR1Restore::test_on_return_break_continue_and_exception",
        "test_stack.py::TestAsyncR1Restore::test_on_exception",
        "test_stack.py::TestAsyncR1Restore::test_on_cancellation",
        "test_stack.py::TestR7Exceptions",
    ),
    "Setting it changes nothing in other tasks": (
        "test_stack.py::TestAsyncR1Restore::test_tasks_do_not_see_each_other",
        "test_stack.py::TestAsyncR3OneInstance",
    ),
    "If it has that value already, it is neither set nor reset": (
        "test_stack.py::TestR2SameValue",
        "test_stack.py::TestAsyncR2SameValue",
    ),
    "Blocks nest, also inside a block of the same plan": (
        "test_stack.py::TestR3OneInstance::test_again_and_nested_in_itself",
        "test_context.py::TestActiveContexts",
    ),
    "A shared service finds the settings of the plan that calls it": (
        "test_examples.py::TestConfigService",
    ),
    "Each plan has its own resources": ("test_examples.py::TestPerPlanResources",),
    "One block around a plan covers everything that it calls and awaits": (
        "test_orchestrator.py::TestShippedPlans",
        "test_orchestrator.py::TestInterleaving",
    ),
    "Each line of the log shows its plan": ("test_orchestrator.py::TestLog",),
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
