"""Rule I3: many requests at once, for an application that forgets to leave blocks.

With ``-rP`` pytest shows what was measured.
"""

from __future__ import annotations

import sys

from typing import TYPE_CHECKING

import pytest

from .conftest import HERE, ask, free_port, look_into, serving
from .sites import expected


if TYPE_CHECKING:
    from pathlib import Path


REQUESTS, ROUNDS = 500, 3
THREADS = 20
PLANS = [f"plan-{number % 50}" for number in range(REQUESTS)]

ASGI, WSGI = "sites:asgi_app", "sites:wsgi_app"
WAITRESS = f"--threads {THREADS} --connection-limit 1000"
GUNICORN = f"gunicorn {WSGI} --no-control-socket --bind"

# Each with how many of the requests wait for each other.
SERVERS = {
    "uvicorn": (REQUESTS, f"uvicorn {ASGI} --no-access-log --port {{port}}"),
    "hypercorn": (REQUESTS, f"hypercorn {ASGI} --backlog 1000 --bind {{address}}"),
    "granian": (REQUESTS, f"granian {ASGI} --interface asgi --port {{port}}"),
    "waitress": (THREADS, f"waitress {WAITRESS} --listen {{address}} {WSGI}"),
    "gunicorn-sync": (1, f"{GUNICORN} {{address}}"),
    "gunicorn-gthread": (THREADS, f"{GUNICORN} {{address}} --threads {THREADS}"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_500_at_once_for_50_plans(name: str, tmp_path: Path) -> None:
    at_once, line = SERVERS[name]
    port = free_port()
    arguments = line.format(port=port, address=f"127.0.0.1:{port}").split()
    environ = {"PYTHONPATH": str(HERE), "AT_ONCE": str(at_once)}
    wrong: list[tuple[str, str]] = []
    left: list[int] = []
    used: list[float] = []
    with serving([sys.executable, "-m", *arguments], port, tmp_path / "log", environ):
        before = look_into(port)
        for _ in range(ROUNDS):
            answers = ask(port, [f"/{plan}/" for plan in PLANS])
            after = look_into(port)
            wrong += [
                (answer, plan)
                for answer, plan in zip(answers, PLANS, strict=True)
                if answer != expected(plan)
            ]
            left.append(after["left"])
            used.append((after["seconds"] - before["seconds"]) / REQUESTS)
            before = after
    # The time is shown and not tested: other programs on the machine change it.
    sys.stdout.write(
        f"{name}: {REQUESTS * ROUNDS} requests, reads wrong {len(wrong)}, blocks left "
        f"{left[-1]}, {1e6 * used[-1]:.0f} us each, end over beginning "
        f"{used[-1] / used[0]:.2f}\n"
    )
    assert wrong == []
    assert left == [0] * ROUNDS
