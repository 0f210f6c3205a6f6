from __future__ import annotations

import pytest

from hypothesis import settings

import aura_context


# A busy machine is no failure.
settings.register_profile("patient", deadline=None, print_blob=True)
settings.load_profile("patient")


def pytest_report_header() -> str:
    """Say which package is tested: the installed one, or the checkout's."""
    return f"aura_context: {aura_context.__file__}"


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param("trio", id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test that is marked with anyio on each of these."""
    return request.param
