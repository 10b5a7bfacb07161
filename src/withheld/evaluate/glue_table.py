"""The table of the BERT paper with our rows in it: published rows are of the test server, ours of the dev parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from withheld.data.few import interval

COLUMNS = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
TITLES = {
    "mnli": "MNLI-(m/mm)", "qqp": "QQP", "qnli": "QNLI", "sst2": "SST-2", "cola": "CoLA", "stsb": "STS-B",
    "mrpc": "MRPC", "rte": "RTE",
}  # fmt: skip
TEST, DEV = "test server", "dev"


@dataclass
class GlueRow:
    """One system.

    Attributes:
        name: of the system. where: TEST or DEV.
        values: task -> a value for every seed, of the metric of the BERT table in percent.
        second: the same of MNLI's mismatched part.
        average: as published; ours is taken only where every task is there.
        items: task -> half the 95 % interval that the sample of dev rows gives to the difference from the same from scratch.
    """

    name: str
    where: str
    values: dict[str, list[float]]
    second: dict[str, list[float]] = field(default_factory=dict)
    average: float | None = None
    items: dict[str, float] = field(default_factory=dict)

    def cell(self, task: str) -> str:
        """The median over seeds, and from where to where they go."""
        if task not in self.values:
            return "-"
        shown = _shown(self.values[task])
        return f"{shown}/{_shown(self.second[task])}" if task in self.second else shown

    def mean(self) -> str:
        """The average over columns, MNLI's two parts counted apart, as the published averages have it."""
        if self.average is not None:
            return f"{self.average:.1f}"
        if any(task not in self.values for task in COLUMNS):
            return "-"
        medians = [np.median(self.values[task]) for task in COLUMNS]
        medians += [np.median(values) for values in self.second.values()]
        return f"{np.mean(medians):.1f}"


def _shown(values: list[float]) -> str:
    middle = f"{np.median(values):.1f}"
    return middle if len(values) < 2 else f"{middle} ({min(values):.1f}-{max(values):.1f})"


def _published(name: str, mnli: tuple[float, float], rest: tuple[float, ...], average: float) -> GlueRow:
    values = dict(zip(COLUMNS, [[mnli[0]], *([value] for value in rest)], strict=True))
    return GlueRow(name, TEST, values, {"mnli": [mnli[1]]}, average)


PUBLISHED = (
    _published("Pre-OpenAI SOTA", (80.6, 80.1), (66.1, 82.3, 93.2, 35.0, 81.0, 86.0, 61.7), 74.0),
    _published("BiLSTM+ELMo+Attn", (76.4, 76.1), (64.8, 79.8, 90.4, 36.0, 73.3, 84.9, 56.8), 71.0),
    _published("OpenAI GPT", (82.1, 81.4), (70.3, 87.4, 91.3, 45.4, 80.0, 82.3, 56.0), 75.1),
    _published("BERT base", (84.6, 83.4), (71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4), 79.6),
    _published("BERT large", (86.7, 85.9), (72.1, 92.7, 94.9, 60.5, 86.5, 89.3, 70.1), 82.1),
    _published("BERT tiny, 2 x 128", (70.2, 70.3), (62.2, 81.5, 83.2, 0.0, 73.6, 81.1, 57.2), 64.2),
    _published("BERT mini, 4 x 256", (74.8, 74.3), (66.4, 84.1, 85.9, 0.0, 73.3, 81.1, 57.9), 65.8),
    _published("BERT small, 4 x 512", (77.6, 77.0), (68.1, 86.4, 89.7, 27.8, 77.0, 83.4, 61.8), 71.2),
    _published("BERT medium, 8 x 512", (80.0, 79.1), (69.6, 87.7, 89.6, 38.0, 78.4, 86.6, 62.2), 73.5),
)
"""Devlin et al. 2018 (second version, Table 1), and Turc et al. 2019 as google-research/bert tells; QQP and MRPC: F1,
STS-B: Spearman, CoLA: Matthews, else accuracy. The small BERTs' average counts tasks that are not in this table."""


def lines_of(rows: list[GlueRow]) -> tuple[list[str], list[list[str]]]:
    """Header and cells, the published rows first."""
    header = ["system", "on", *(TITLES[task] for task in COLUMNS), "average"]
    cells = [[row.name, row.where, *(row.cell(task) for task in COLUMNS), row.mean()] for row in (*PUBLISHED, *rows)]
    return header, cells


def verdict_of(rows: list[GlueRow]) -> dict[str, str]:
    """What pretraining was worth, task by task: the first row against the second, the same network from scratch, seed by seed.

    Intervals are over seeds and, where `items` tells, over the sample of dev rows, in quadrature.

    Args:
        rows: as `glue` gives them; of the last, tf-idf, it is said where it is as good.

    Returns:
        The sentence, and its outcome: better, mixed, worse or unclear.
    """
    subject, scratch, words = rows[0], rows[1], rows[-1]
    gains: list[str] = []
    open_: list[str] = []
    losses: list[str] = []
    for task, values in subject.values.items():
        gaps = np.subtract(values, scratch.values[task])
        mean, half = float(gaps.mean()), math.hypot(interval(gaps.tolist()), subject.items.get(task, 0.0))
        told = f"{TITLES[task]} ({mean:+z.1f} points, 95 % CI {mean - half:z.1f} to {mean + half:z.1f})"
        if not half >= 0:
            open_.append(f"{TITLES[task]} ({mean:+z.1f} points, one seed)")
        else:
            (gains if mean > half else losses if mean < -half else open_).append(told)
    over = "training the same network from scratch"
    parts = [f"pretraining is worth something over {over} on {joined(gains)}"] if gains else []
    if open_:
        parts.append(
            f"{'it' if parts else 'pretraining'} is not certainly better than {'that' if parts else over} on {joined(open_)}"
        )
    if losses:
        parts.append(
            f"{'it' if parts else 'pretraining'} is worse than {'that' if parts else over} on {joined(losses)}"
        )
    simpler = [
        f"{TITLES[task]} ({np.median(words.values[task]):.1f} against {np.median(values):.1f})"
        for task, values in subject.values.items()
        if task in words.values and np.median(words.values[task]) >= np.median(values)
    ]
    if simpler:
        parts.append(f"tf-idf with a linear model is as good or better on {joined(simpler)}")
    text = "; ".join(parts)
    outcome = (
        ("mixed" if simpler or losses else "better")
        if gains
        else "worse"
        if losses or all("CI" in t for t in open_)
        else "unclear"
    )
    return {"sentence": text[:1].upper() + text[1:], "outcome": outcome}


def joined(words: list[str]) -> str:
    """ "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def markdown(rows: list[GlueRow]) -> str:
    """The table for a page."""
    header, cells = lines_of(rows)
    body = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in body)
