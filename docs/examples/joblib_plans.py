"""Work for several plans with joblib, whose jobs run in processes of their own.

The exit status is 0 if every job was run as its own plan's.
"""

from __future__ import annotations

import sys

from joblib import Parallel, delayed

from aura_context import PlanContext, carry, plan_context


def scaled(amount: int) -> str:
    """Multiply; who it is for is nobody's argument."""
    return f"{PlanContext.current()}: {amount * 10}"


def main() -> int:
    """Print what the jobs say, and return the exit status."""
    with plan_context("nightly"):
        nightly = carry(scaled)  # captures here, once for all its jobs
        jobs = [delayed(nightly)(amount) for amount in (1, 2)]
    with plan_context("hourly"):
        jobs += [delayed(carry(scaled))(3)]
    jobs += [delayed(scaled)(4)]  # not carried: the worker is clean
    lines = Parallel(n_jobs=2)(jobs)
    print(*lines, sep="\n")
    return int(lines != ["nightly: 10", "nightly: 20", "hourly: 30", "None: 40"])


if __name__ == "__main__":
    sys.exit(main())
