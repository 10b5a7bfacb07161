"""What every test may ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "promises"))
from tally import Tally

ROOT = Path(__file__).resolve().parents[1]

# Read when these libraries are imported, so set before any test is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--promises", metavar="FILE", help="write there what was counted of docs/reliability.md's promises"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--promises") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Tally(Path(config.getoption("--promises"))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties += [("promise", list(mark.args)) for mark in item.iter_markers("promise")]


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, int, int, str], None]:
    """Says how many of how many kept a promise: `tally("R1", 5, 5, "kills resumed bit-identical")`."""
    return lambda number, good, of, what: record_property("tally", [number, good, of, what])


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's prepared cache."""
    os.environ["WITHHELD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors are slower on many threads, and pytest-xdist already keeps the cores busy."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files, where this machine has them: WITHHELD_TEST_DATA, or shared/data beside the checkout."""
    named = os.environ.get("WITHHELD_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set WITHHELD_TEST_DATA to the folder that holds it")
    return folder
