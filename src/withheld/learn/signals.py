"""Ctrl-C and SIGTERM are obeyed between two steps, after a checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECOND_CTRL_C = 0.5  # seconds after the first


@contextmanager
def watch_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying; a second Ctrl-C is obeyed at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    first = 0.0

    def remember(number: int, frame: Any) -> None:
        nonlocal first
        # torchrun passes on a Ctrl-C that the terminal has sent to its processes already: at once is not twice.
        if number == signal.SIGINT and caught and time.monotonic() - first > SECOND_CTRL_C:
            raise KeyboardInterrupt
        if not caught:
            first = time.monotonic()
        caught.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
