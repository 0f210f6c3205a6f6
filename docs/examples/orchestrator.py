"""A small plan runner: many plans run at once, and each reads its own settings.

Run it as ``python orchestrator.py [--verbose] [FOLDER]``. The folder holds a TOML file
for each plan. It may hold a ``global.toml``, whose settings override the plans' own.
The environment, as in ``AURA_CURRENCY=CHF``, overrides both. Without a folder, the
plans beside this file run.

No step is told which plan it works for. `ConfigService`, in the program beside this
one, reads the plan from `current_plan_name`, and so does the log. Each answer is then
compared with the plan's own file.

The exit status is 0; 1 if an answer belonged to another plan, or if a plan was still
set at the end; 2 if the plans cannot be read.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tomllib
import zlib

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aura_context import active_contexts, current_plan_name, plan_context
from aura_context.integrations.logging import ContextFilter
from config_service import GLOBAL, ConfigService, MissingSettingError


Settings = Mapping[str, str]

log = logging.getLogger("orchestrator")


class StepFailedError(Exception):
    """A step could not be done, which ends its plan and no other."""


class Plan(NamedTuple):
    """What a plan file says."""

    name: str
    settings: Settings
    steps: Sequence[str]


@dataclass
class Run:
    """One plan on its way, and how its questions were answered."""

    plan: Plan
    plans: Mapping[str, Plan]
    shared: Settings
    service: ConfigService
    settled: asyncio.Queue[str]
    rows: list[int] = field(default_factory=list[int])
    state: str = "running"
    still_set: bool = False
    taken: int = 0
    right: int = 0
    wrong: int = 0

    def ask(self, key: str, plan: Plan | None = None) -> str:
        """Ask the service, and hold its answer against the plan's own file."""
        plan = plan or self.plan
        try:
            value = self.service.get(key)
        except MissingSettingError:
            self.check(key, None, plan)
            raise
        self.check(key, value, plan)
        return value

    def check(self, key: str, value: str | None, plan: Plan) -> None:
        """Count an answer as right or wrong; a chance hit for another plan is wrong."""
        truth = os.environ.get(f"AURA_{key.upper()}")
        if truth is None:
            truth = {**plan.settings, **self.shared}.get(key)
        answered = current_plan_name.get()
        if (answered, value) == (plan.name, truth):
            self.right += 1
        else:
            self.wrong += 1
            log.error("%s: asked for %s, got %r of %s", key, plan.name, value, answered)

    def rate(self) -> int:
        """Ask for the rate as the plan that keeps the rates, which may be another."""
        name = self.ask("rates_of")
        if name not in self.plans:
            msg = f"there is no plan {name!r} to keep the rates"
            raise LookupError(msg)
        with plan_context(name):
            return int(self.ask("rate", self.plans[name]))


async def fetch(run: Run) -> None:
    """Fetch rows page by page; between two pages the other plans run."""
    for page in range(int(run.ask("pages"))):
        await asyncio.sleep(0)
        source = run.ask("source")
        run.rows.append(zlib.crc32(f"{source}?page={page}".encode()) % 1000)
        log.debug("page %d of %r", page, source)


def transform(run: Run) -> None:
    """Convert the rows, in one go."""
    rate = run.rate()
    run.rows = [row * rate // 100 for row in run.rows]
    log.debug("%d rows at %d%%, now in %r", len(run.rows), rate, run.ask("currency"))


def verify(run: Run) -> None:
    """Refuse to go on over budget."""
    if (total := sum(run.rows)) > (budget := int(run.ask("budget"))):
        msg = f"{total} is over the budget of {budget}"
        raise ValueError(msg)


def report(run: Run) -> None:
    """Sum up. This may be slow, as a disk or a printer is, so it runs in a thread."""
    rate, total = run.rate(), sum(run.rows)
    log.info("%r: %d %r at %d%%", run.ask("title"), total, run.ask("currency"), rate)


async def listen(run: Run) -> None:
    """Wait for messages that never come, until the runner shuts down."""
    log.info("listening to %r", run.ask("topic"))
    run.settled.put_nowait(run.plan.name)
    try:
        await asyncio.Event().wait()
    finally:
        log.info("closing %r", run.ask("topic"))


KINDS: Mapping[str, Callable[[Run], Coroutine[None, None, None] | None]] = {
    "fetch": fetch,
    "transform": transform,
    "verify": verify,
    "report": lambda run: asyncio.to_thread(report, run),  # with a copy of our Context
    "listen": listen,
}


async def follow(run: Run) -> None:
    """Take the plan's steps, one after the other."""
    for step in run.plan.steps:
        log.debug("%s begins", step)
        try:
            if (work := KINDS[step](run)) is not None:
                await work
        except (LookupError, ValueError) as error:
            run.state = "failed"
            log.warning("%s failed: %s", step, error)
            raise StepFailedError from error
        except asyncio.CancelledError:
            run.state = "cancelled"
            log.warning("%s was cancelled", step)
            raise
        run.taken += 1
        show_progress(f"{step} of {run.plan.name} is done")
    run.state = "done"


async def run_plan(run: Run, everyone: asyncio.Barrier) -> None:
    """Run one plan inside its block, then see that nothing of it stays set."""
    try:
        with suppress(StepFailedError):
            async with plan_context(run.plan.name):
                log.debug("entered")
                # No plan takes a step before all are inside their blocks.
                await everyone.wait()
                await follow(run)
    finally:
        run.still_set = is_plan_set()
        run.settled.put_nowait(run.plan.name)


async def run_all(
    plans: Mapping[str, Plan], shared: Settings, service: ConfigService
) -> list[Run]:
    """Run all plans at once; when only listeners are left, shut those down."""
    settled: asyncio.Queue[str] = asyncio.Queue()
    runs = [Run(plan, plans, shared, service, settled) for plan in plans.values()]
    everyone = asyncio.Barrier(len(runs))
    tasks = [asyncio.create_task(run_plan(run, everyone)) for run in runs]
    for _ in tasks:
        await settled.get()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()  # raises what is no step's failure but a bug
    return runs


def is_plan_set() -> bool:
    """Whether a plan is set here, by a block or raw."""
    return current_plan_name.get() is not None or active_contexts() != ()


def read_folder(folder: Path) -> tuple[dict[str, Plan], Settings]:
    """Read the plans of a folder, by name, and the settings that all of them share.

    Raises:
        ValueError: If that cannot be done; the message is one line and names the file.
    """
    plans: dict[str, Plan] = {}
    shared: Settings = {}
    path = folder
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".toml":
                with path.open("rb") as file:
                    document = tomllib.load(file)
                if path.name == GLOBAL:
                    shared = read_settings(document)
                else:
                    plan = read_plan(document, taken=plans)
                    plans[plan.name] = plan
    except (OSError, RecursionError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"{str(path)!r}: {reason}"
        raise ValueError(msg) from error
    if not plans:
        msg = f"{str(folder)!r}: there is no plan in this folder"
        raise ValueError(msg)
    return plans, shared


def read_plan(document: Mapping[str, Any], taken: Mapping[str, Plan]) -> Plan:
    """Return the plan that a file describes."""
    plan_context(name := entry(document, "name", str))  # refuses an illegal name
    if name in taken:
        msg = f"there is a plan {name!r} already"
        raise ValueError(msg)
    steps = entry(document, "steps", list)
    for step in steps:
        if step not in [*KINDS]:
            msg = f"unknown step {step!r}: not one of {', '.join(KINDS)}"
            raise ValueError(msg)
    return Plan(name, read_settings(document), steps)


def read_settings(document: Mapping[str, Any]) -> Settings:
    """Return the settings of a file, as text like the environment's."""
    settings = entry(document, "settings", dict)
    for key, value in settings.items():
        if isinstance(value, dict | list):
            msg = f"setting {key!r} must be a single value"
            raise TypeError(msg)
    return {key: str(value) for key, value in settings.items()}


def entry(document: Mapping[str, Any], key: str, kind: type) -> Any:
    """Return an entry of a file, which has to be there and of this kind."""
    if not isinstance(value := document.get(key), kind):
        msg = f"{key!r} must be a {kind.__name__}, got {value!r:.60}"
        raise TypeError(msg)
    return value


def show_progress(text: str) -> None:
    """Show on a terminal how far the run is; the next line of output covers it."""
    if sys.stderr.isatty():
        print(f"{text:<40}", end="\r", file=sys.stderr, flush=True)


def show(runs: Sequence[Run]) -> None:
    """Print the table."""
    width = max(len(run.plan.name) for run in runs)
    print(f"{'plan':<{width}}  state      steps  right  wrong")
    for run in runs:
        steps = f"{run.taken}/{len(run.plan.steps)}"
        name = f"{run.plan.name:<{width}}"
        print(f"{name}  {run.state:<9}  {steps:>5}  {run.right:>5}  {run.wrong:>5}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plans of a folder, print how they did, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run all plans of a folder at once.")
    plans_here = Path(__file__).parent / "plans"
    parser.add_argument("folder", nargs="?", type=Path, default=plans_here)
    parser.add_argument("--verbose", action="store_true", help="log each page and step")
    asked = parser.parse_args(arguments)
    try:
        plans, shared = read_folder(asked.folder)
        service = ConfigService(asked.folder)
    except ValueError as error:
        print(f"orchestrator: {error}", file=sys.stderr)
        return 2

    handler = logging.StreamHandler()
    handler.addFilter(ContextFilter())
    width = max(map(len, plans))
    line = f"%(aura_plan_name)-{width}s | %(message)s"
    handler.setFormatter(logging.Formatter(line))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.DEBUG if asked.verbose else logging.INFO)

    print(
        f"{len(plans)} plans run at once. No step is told which plan it works for:\n"
        "the configuration and the log read it from current_plan_name.\n",
        flush=True,
    )
    runs = asyncio.run(run_all(plans, shared, service))
    print(file=sys.stderr, flush=True)
    show(runs)
    right, wrong = sum(run.right for run in runs), sum(run.wrong for run in runs)
    still_set = [run.plan.name for run in runs if run.still_set]
    if is_plan_set():
        still_set.append("the program")
    print(
        f"\n{right + wrong} settings read while the plans took turns, in tasks and in "
        f"threads:\n{right} right, {wrong} wrong. "
        f"Plans still set at the end: {', '.join(still_set) or 'none'}."
    )
    return 1 if wrong or still_set else 0


if __name__ == "__main__":
    sys.exit(main())
