"""A table of something measured, with its closing sentence: one line of results.jsonl, which the report draws."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from withheld.evaluate.results import add_results
from withheld.provenance import commit_of_code, now


@dataclass
class Measured:
    """What was measured.

    Attributes:
        what: "clips" or "tracking"; a report shows the last one of each.
        title: over the table. columns: its heads. rows: a name and its cells each, as printed.
        sentence: the closing one. notes: what was left out, and how things were measured.
        numbers: row -> measure -> value, for machines.
    """

    what: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    sentence: str
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)

    def add_to(self, results: Path, **about: Any) -> None:
        """Appends a line to results.jsonl.

        Args:
            about: what else there is to know, such as data, seed and command.

        Raises:
            CannotWrite: where that fails.
        """
        add_results(results, {"kind": "measured", **asdict(self), **about, "commit": commit_of_code(), "time": now()})
