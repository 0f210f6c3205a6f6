"""Rules S4 and S5 on Dask, with workers that are processes."""

from __future__ import annotations

import os
import subprocess
import sys

from contextlib import ExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import distributed
import pytest

from aura_context import (
    ContextExecutor,
    PlanContext,
    Snapshot,
    carry,
    plan_context,
)

from .conftest import EXAMPLES, children, wait_for_the_end
from .jobs import JobError, RegionContext, SecretContext, leave_behind, look, nested


if TYPE_CHECKING:
    from collections.abc import Iterator


DASK: Any = distributed  # has no types to speak of


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    before = children()
    with plan_context("of the cluster"):  # which must not colour what is done there
        cluster = DASK.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            host="127.0.0.1",
        )
    # The client resets a variable when it closes, so both are in one Context: the first
    # and the last test that ask for it have others.
    context, client = copy_context(), ExitStack()
    with cluster:
        yield context.run(client.enter_context, DASK.Client(cluster))
        context.run(client.close)
    wait_for_the_end(before)


class TestSubmit:
    def test_carried_and_bare(self, client: Any) -> None:
        with plan_context("p"), RegionContext("eu"), SecretContext("secret"):
            carried = client.submit(carry(look), 1)
            bare = client.submit(look, 1)
        found = carried.result(timeout=60)
        assert found[:4] == (1, "p", "eu", None)
        assert found[4] != os.getpid()
        assert bare.result(timeout=60)[:4] == (1, None, None, None)

    def test_the_same_job_for_two_plans(self, client: Any) -> None:
        """Dask names a job by what it is, so that none is done twice."""
        futures: list[Any] = []
        for name in ("a", "b", "a"):
            with plan_context(name):
                futures.append(client.submit(carry(look), 1))
        assert [f.result(timeout=60)[1] for f in futures] == ["a", "b", "a"]

    def test_map(self, client: Any) -> None:
        with plan_context("p"):
            futures = client.map(carry(look), range(8))
        found = client.gather(futures)
        assert [each[:2] for each in found] == [(number, "p") for number in range(8)]

    def test_task_that_submits_tasks(self, client: Any) -> None:
        with plan_context("p"), RegionContext("eu"):
            found = client.submit(carry(nested), 1).result(timeout=60)
        assert [each[1:3] for each in found] == [
            ("p", "eu"),
            ("p", "eu"),
            ("inner", "eu"),
            (None, None),
        ]

    def test_what_only_cloudpickle_can_send(self, client: Any) -> None:
        with plan_context("p"):
            job = carry(lambda: [PlanContext.current()])
        assert client.submit(job).result(timeout=60) == ["p"]

    def test_body_that_raises_and_leaves_things_behind(self, client: Any) -> None:
        with plan_context("p"):
            failed = client.map(carry(leave_behind), range(4), pure=False)
        for future in failed:
            with pytest.raises(JobError, match="left behind"):
                future.result(timeout=60)
        found = client.gather(client.map(look, range(8), pure=False))
        assert {each[1:4] for each in found} == {(None, None, None)}


class TestExecutor:
    def test_submit_and_map(self, client: Any) -> None:
        executor = ContextExecutor(client.get_executor())
        with plan_context("p"):
            future, found = executor.submit(look, 1), executor.map(look, range(4))
        with plan_context("q"):
            other = executor.submit(look, 1)
        assert future.result(60)[:2] == (1, "p")
        assert other.result(60)[:2] == (1, "q")
        assert [each[:2] for each in found] == [(number, "p") for number in range(4)]
        assert executor.submit(Snapshot.capture).result(60) == {}


class TestProgram:
    def test_of_the_how_to(self) -> None:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, EXAMPLES / "dask_plans.py"],
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "nightly: 6",
            "nightly: 10",
            "nightly: 20",
            "hourly: 9",
            "None: 0",
        ]
