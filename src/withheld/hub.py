"""Whether the model hub can be asked at all: without a network its client tries again for a minute."""

from __future__ import annotations

import functools
import os
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

WAIT = 3.0
"""Seconds that the name of the hub's host may take to be found."""


@functools.cache
def reachable() -> bool:
    """Whether the hub's host has an address here; True where a proxy asks in our place. Looked up once in a process."""
    where = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if urllib.request.getproxies():
        return True
    found = threading.Event()

    def look() -> None:
        try:
            socket.getaddrinfo(where.hostname, where.port or 443)
            found.set()
        except OSError:
            pass

    thread = threading.Thread(target=look, daemon=True)  # a resolver without a network may hang
    thread.start()
    thread.join(WAIT)
    return found.is_set()


class Named(NamedTuple):
    """A data set as the user names it, and the column that holds its items where that is said; None for the default."""

    name: str
    config: str | None
    column: str | None

    @property
    def saved(self) -> bool:
        """Whether `datasets` has saved it on this machine."""
        return any((Path(self.name) / file).is_file() for file in ("state.json", "dataset_dict.json"))


def named_set(text: str) -> Named:
    """Of "hf:NAME", "hf:NAME:CONFIG", "hf:NAME:CONFIG:COLUMN" or "hf:NAME::COLUMN"; of a saved one "hf:FOLDER:COLUMN", too."""
    name, config, column, *_ = (*text.removeprefix("hf:").split(":", 2), "", "")
    found = Named(name, config or None, column or None)
    return Named(name, None, config) if found.saved and config and not column else found


def hub_settings(where: str | Path) -> dict[str, Any]:
    """How transformers is asked for a folder or a hub's id: the cache alone where the hub cannot be reached."""
    return {"local_files_only": Path(where).exists() or not reachable()}


def may_be_known(name: str) -> bool:
    """Whether transformers might open a name: the hub can be asked, or its cache holds a model of that name. Imports no torch."""
    if reachable():
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False


def why(error: BaseException) -> str:
    """The first line of what transformers says, and that the hub could not be reached where that is so."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:200] if lines else type(error).__name__
    return reason if reachable() else f"{reason} (the hub cannot be reached from here, so only its cache was looked at)"
