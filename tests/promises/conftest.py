"""One server of forked runs for all files that a process of pytest runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deaths import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("mortal"))
    yield found
    found.close()
