"""The model hub is asked only where it can answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from withheld import hub
from withheld.errors import InputError
from withheld.networks.open import open_trunk


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    hub.reachable.cache_clear()
    yield
    hub.reachable.cache_clear()


@pytest.mark.usefixtures("no_network")
def test_an_unknown_id_without_a_network_is_told_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached from here"):
        open_trunk("somebody/some-vit", size=32, channels=3)
    assert time.monotonic() - begun < 10, "the client's own retries take a minute"


@pytest.mark.usefixtures("no_network")
def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(30))
    monkeypatch.setattr(hub, "WAIT", 0.2)
    begun = time.monotonic()
    assert not hub.reachable()
    assert time.monotonic() - begun < 5


def test_folders_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: pytest.fail("a folder is not asked for on the network"))
    assert hub.hub_settings(tmp_path) == {"local_files_only": True}


@pytest.mark.usefixtures("no_network")
def test_a_proxy_asks_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:3128"})
    assert hub.hub_settings("somebody/some-vit") == {"local_files_only": False}
