"""Rule S4 on joblib, whose loky runs jobs in processes of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

from typing import TYPE_CHECKING, Any

import pytest

from joblib import Parallel, delayed

from aura_context import ContextExecutor, Snapshot, carry, plan_context

from .conftest import EXAMPLES, children, wait_for_the_end
from .jobs import JobError, RegionContext, SecretContext, leave_behind, look


if TYPE_CHECKING:
    from collections.abc import Iterator


# It has no types.
get_reusable_executor: Any = importlib.import_module(
    "joblib.externals.loky"
).get_reusable_executor


@pytest.fixture(scope="module", autouse=True)
def loky() -> Iterator[None]:
    before = children()
    yield
    get_reusable_executor().shutdown(wait=True)
    wait_for_the_end(before)


def parallel(jobs: Any) -> list[Any]:
    run: Any = Parallel(n_jobs=2, backend="loky")
    return [*run(jobs)]


class TestParallel:
    def test_carried_and_bare(self) -> None:
        with plan_context("p"), RegionContext("eu"), SecretContext("secret"):
            job = carry(look)
            found = parallel(delayed(job)(number) for number in range(8))
            bare = parallel([delayed(look)(0)])
        assert [each[:4] for each in found] == [
            (number, "p", "eu", None) for number in range(8)
        ]
        assert os.getpid() not in {each[4] for each in found}
        assert bare[0][:4] == (0, None, None, None)

    def test_each_job_of_a_plan_of_its_own(self) -> None:
        jobs: list[Any] = []
        for number in range(20):
            with plan_context(f"p{number}"):
                jobs += [delayed(carry(look))(number), delayed(look)(number)]
        assert [each[:2] for each in parallel(jobs)] == [
            (number, name) for number in range(20) for name in (f"p{number}", None)
        ]

    def test_body_that_raises_and_leaves_things_behind(self) -> None:
        with plan_context("p"):
            job = carry(leave_behind)
            with pytest.raises(JobError, match="left behind"):
                parallel(delayed(job)(number) for number in range(2))
        found = parallel(delayed(look)(number) for number in range(8))
        assert {each[1:4] for each in found} == {(None, None, None)}

    def test_what_only_cloudpickle_can_send(self) -> None:
        with plan_context("p"):
            job = carry(lambda: look()[1])
        assert parallel([delayed(job)()]) == ["p"]


class TestExecutor:
    def test_submit_and_map(self) -> None:
        executor = ContextExecutor(get_reusable_executor(max_workers=2))
        with plan_context("p"):
            future, found = executor.submit(look, 1), executor.map(look, range(4))
        assert future.result(60)[:2] == (1, "p")
        assert [each[:2] for each in found] == [(number, "p") for number in range(4)]
        assert executor.submit(Snapshot.capture).result(60) == {}


class TestProgram:
    def test_of_the_how_to(self) -> None:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-W", "error", EXAMPLES / "joblib_plans.py"],
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "nightly: 10",
            "nightly: 20",
            "hourly: 30",
            "None: 40",
        ]
