"""docs/reliability.md is what the last counts say, and knows every promise."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from tally import Tally  # noqa: E402

from promises import COUNTED, NOT_HERE, PAGE, PROMISES, counted, page, readme  # noqa: E402

needs_counts = pytest.mark.skipif(not COUNTED.is_file(), reason="nothing was counted yet: make promises")


def marked() -> set[str]:
    """The numbers that tests carry."""
    found: set[str] = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        found |= set(re.findall(r'@pytest\.mark\.promise\("(\w+)"', path.read_text(encoding="utf-8")))
    return found


def test_every_promise_has_a_test_or_a_reason() -> None:
    assert marked() <= set(PROMISES)
    assert marked() | set(NOT_HERE) == set(PROMISES)


@needs_counts
def test_the_page_is_made_of_the_counts() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(counted()), "run: python benchmarks/promises.py"


@needs_counts
def test_what_was_counted_was_kept() -> None:
    assert {line["number"] for line in counted()["lines"]} <= set(PROMISES)
    assert not [line for line in counted()["lines"] if line["good"] != line["of"]]


@needs_counts
def test_the_tests_that_were_counted_are_still_there() -> None:
    for line in counted()["lines"]:
        for test in line["tests"]:
            path, *names = test.split("::")
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"def {re.escape(names[-1])}\(", text), f"{test} is gone: make promises"


@needs_counts
def test_the_short_table_is_a_table() -> None:
    rows = readme(counted()).splitlines()
    assert len(rows) > 2
    assert all(row.startswith("| ") and row.endswith(" |") for row in rows)


def test_counts_of_other_tests_are_kept(tmp_path: Path) -> None:
    class Report:
        when, outcome, skipped, failed, passed, longrepr = "call", "passed", False, False, True, None

        def __init__(self, test: str, properties: list[tuple[str, object]]) -> None:
            self.nodeid, self.user_properties = test, properties

    path = tmp_path / "p.json"
    for test, good in (("a.py::one[1]", 3), ("b.py::two", 4)):
        tally = Tally(path)
        tally.pytest_runtest_logreport(Report(test, [("promise", ["R1"]), ("tally", ["R1", good, good, "kills"])]))
        tally.pytest_runtest_logreport(Report(test + "x", [("promise", ["R2", "words"])]))
        tally.pytest_sessionfinish()
    found = json.loads(path.read_text())["lines"]
    assert [(line["number"], line["good"], line["of"]) for line in found] == [
        ("R1", 3, 3),
        ("R1", 4, 4),
        ("R2", 1, 1),
        ("R2", 1, 1),
    ]
    assert COUNTED.name == "promises.json"


@pytest.mark.parametrize("number", sorted(PROMISES))
def test_promises_are_sentences(number: str) -> None:
    assert PROMISES[number][0].isupper()
