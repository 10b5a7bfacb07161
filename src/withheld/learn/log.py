"""log.jsonl: one line of JSON for every step."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from withheld.learn.checkpoint import writing


class Log:
    """log.jsonl, a line a step; on resume, damaged lines and those of steps that will be done again are dropped first."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        with writing(path):
            kept = []
            if start and path.is_file():
                for line in path.read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        told = json.loads(line)
                        step, _ = int(told["step"]), float(told["loss"])
                        if step <= start:
                            kept.append(line + "\n")
            aside = path.with_name(path.name + ".tmp")
            aside.write_text("".join(kept), encoding="utf-8")
            os.replace(aside, path)
            self.file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line, flushed."""
        with writing(self.path):
            self.file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """No more lines; writes what a full disk has refused before."""
        with writing(self.path):
            self.file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
