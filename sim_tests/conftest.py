"""Fixtures that every test may ask for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import toolchain

PROJECT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` gives every test another seed; the default makes runs repeatable."""
    parser.addoption("--seed", type=int, default=0, help="varies the seed of every random test")


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder that holds pyproject.toml."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real networks and data beside the project."""
    folder = PROJECT.parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip(f"needs the real networks of {folder}, which is not there")
    return folder


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of the test's own; pytest shows the printed line when the test fails."""
    variation = request.config.getoption("--seed")
    assert isinstance(variation, int), "pytest_addoption gives it type=int"
    chosen = zlib.crc32(request.node.nodeid.encode()) ^ variation
    print(f"seed {chosen} (pytest --seed {variation})")
    return chosen


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A random generator started with the test's seed."""
    return np.random.default_rng(seed)


@pytest.fixture
def tools() -> Iterator[None]:
    """Every tool on the PATH of this process, for libraries that look there themselves."""
    with toolchain.activated_tools():
        yield


@pytest.fixture(scope="session")
def tool_environment() -> dict[str, str]:
    """Environment in which a child process finds every tool."""
    return toolchain.tool_environment()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip co-simulation, loudly, where a tool that it needs is missing."""
    needed = [item for item in items if item.get_closest_marker("cosim")]
    if not needed:
        return
    missing = [
        f"{tool.name} ({tool.install})"
        for tool in toolchain.find_tools()
        if "sim" in tool.commands and tool.path is None
    ]
    if not missing:
        return
    for item in needed:
        item.add_marker(pytest.mark.skip(reason=f"co-simulation needs {', '.join(missing)}"))
