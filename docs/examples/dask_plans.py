"""Work for several plans on a cluster of Dask; here it is on this machine.

The exit status is 0 if every job was run as its own plan's.
"""

from __future__ import annotations

import sys

from typing import Any

import distributed

from aura_context import ContextExecutor, PlanContext, carry, plan_context


def total(amounts: list[int]) -> str:
    """Add up; who it is for is nobody's argument."""
    return f"{PlanContext.current()}: {sum(amounts)}"


def work(client: Any) -> list[str]:
    """Hand over jobs of two plans, in three ways."""
    with plan_context("nightly"):
        submitted = client.submit(carry(total), [1, 2, 3])
        mapped = client.map(carry(total), [[10], [20]])
    executor = ContextExecutor(client.get_executor())
    with plan_context("hourly"):
        executed = executor.submit(total, [4, 5])
    bare = client.submit(total, [])  # not carried: the worker is clean
    return [
        submitted.result(),
        *client.gather(mapped),
        executed.result(),
        bare.result(),
    ]


def main() -> int:
    """Print what the jobs say, and return the exit status."""
    dask: Any = distributed  # which has no types to speak of
    with (
        dask.LocalCluster(n_workers=2, processes=True, dashboard_address=":0") as it,
        dask.Client(it) as client,
    ):
        lines = work(client)
    print(*lines, sep="\n")
    plans = [line.partition(":")[0] for line in lines]
    return int(plans != ["nightly", "nightly", "nightly", "hourly", "None"])


if __name__ == "__main__":
    sys.exit(main())
