from __future__ import annotations

import sys
import sysconfig

import pytest

from hypothesis import settings

import aura_context

from .contexts import needs


# A busy machine is no failure, so there are no deadlines. `--hypothesis-profile`
# chooses the other one.
settings.register_profile("quick", deadline=None, print_blob=True, max_examples=25)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=200)
settings.load_profile("quick")


def pytest_report_header() -> str:
    """Say which package is tested: the installed one, or the checkout's."""
    return f"aura_context: {aura_context.__file__}"


def pytest_sessionfinish() -> None:
    """Fail if an import has turned the GIL of a free-threaded Python on."""
    is_on = getattr(sys, "_is_gil_enabled", lambda: True)
    if sysconfig.get_config_var("Py_GIL_DISABLED") and is_on():
        pytest.exit("the GIL is on at the end", pytest.ExitCode.TESTS_FAILED)


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(
            ("asyncio", {"use_uvloop": True}), id="uvloop", marks=needs("uvloop")
        ),
        pytest.param("trio", id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test that is marked with anyio on each of these."""
    return request.param
