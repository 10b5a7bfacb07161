"""Collects what the tests counted of the promises, from all processes of pytest, into one JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import pytest


class Tally:
    """A pytest plugin: lines {number, what, good, of, tests} of the tests that ran; a later file keeps lines of other tests.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[str, str], dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test that has run, or could not."""
        if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
            return
        marks = [tuple(value) for key, value in report.user_properties if key == "promise"]
        counted = [value for key, value in report.user_properties if key == "tally"]
        test = report.nodeid.split("[", 1)[0]
        for number, good, of, what in counted:
            self._add(number, what, test, good if report.passed else 0, of)
        for number, *what in marks:
            if report.skipped:
                self._add(number, what[0] if what else _words(test), test, 0, 0, _reason(report))
            elif report.failed or not any(line[0] == number for line in counted):
                self._add(number, what[0] if what else _words(test), test, int(report.passed), 1)

    def _add(self, number: str, what: str, test: str, good: int, of: int, skipped: str = "") -> None:
        fresh = {"number": number, "what": what, "good": 0, "of": 0, "tests": [], "skipped": ""}
        line = self.lines.setdefault((number, what), fresh)
        line["good"], line["of"], line["skipped"] = line["good"] + good, line["of"] + of, line["skipped"] or skipped
        if test not in line["tests"]:
            line["tests"].append(test)

    def pytest_sessionfinish(self) -> None:
        """Writes the file: this run's lines, and those of tests that were not run now."""
        before = json.loads(self.path.read_text(encoding="utf-8"))["lines"] if self.path.is_file() else []
        ran = {test for line in self.lines.values() for test in line["tests"]}
        kept = [line for line in before if not ran & set(line["tests"])]
        today = {"date": date.today().isoformat(), "commit": _commit()}
        lines = [*kept, *({**line, **today} for line in self.lines.values())]
        lines.sort(key=lambda line: (line["number"][0], int(line["number"][1:]), line["what"]))
        machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"machine": machine, "lines": lines}, indent=1) + "\n", encoding="utf-8")


def _words(test: str) -> str:
    return test.split("::")[-1].removeprefix("test_").replace("_", " ")


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "skipped"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
