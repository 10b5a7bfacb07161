"""GLUE's tasks, read from the files as they are published.

Source: Wang et al. 2018, https://arxiv.org/abs/1804.07461.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from withheld.data.unicode import table_text
from withheld.errors import InputError, nearest
from withheld.wording import plural

MOST_ERRORS = 20
TORN = 0.001
"""Share of lines that may break off in a file that is published so."""


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name, title: "sst2", "SST-2".
        columns: names of the text columns that are known, one or two.
        label: names of the label column.
        classes: of the labels, in the order of their numbers; empty for a score.
        metrics: the first is the one of the BERT table.
        submission: files of the GLUE server, by the part they answer.
        plain: columns of files without a header: (texts..., label), and how many columns these have.
        symmetric: whether its two texts have no order.
        torn: whether the file as published has lines that break off; they are left out, and named.
    """

    name: str
    title: str
    columns: tuple[tuple[str, ...], ...]
    label: tuple[str, ...]
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    submission: dict[str, str]
    plain: tuple[tuple[int, ...], int] | None = None
    symmetric: bool = False
    torn: bool = False

    @property
    def pair(self) -> bool:
        """Whether it asks about two texts."""
        return len(self.columns) == 2


BINARY = ("0", "1")
TASKS = {
    task.name: task
    for task in (
        Task(
            "mnli", "MNLI", (("sentence1", "premise"), ("sentence2", "hypothesis")), ("gold_label", "label"),
            ("entailment", "neutral", "contradiction"), ("accuracy",),
            {"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
        ),
        Task("qqp", "QQP", (("question1",), ("question2",)), ("is_duplicate", "label"), BINARY, ("f1", "accuracy"),
             {"test": "QQP.tsv"}, symmetric=True, torn=True),
        Task("qnli", "QNLI", (("question",), ("sentence",)), ("label",), ("entailment", "not_entailment"),
             ("accuracy",), {"test": "QNLI.tsv"}),
        Task("sst2", "SST-2", (("sentence",),), ("label",), BINARY, ("accuracy",), {"test": "SST-2.tsv"}),
        Task("cola", "CoLA", (("sentence",),), ("label",), BINARY, ("matthews",), {"test": "CoLA.tsv"},
             ((3, 1), 4)),
        Task("stsb", "STS-B", (("sentence1",), ("sentence2",)), ("score", "label"), (), ("spearman", "pearson"),
             {"test": "STS-B.tsv"}, ((0, 1, 2), 3), symmetric=True),
        Task("mrpc", "MRPC", (("#1 string", "sentence1"), ("#2 string", "sentence2")), ("quality", "label"), BINARY,
             ("f1", "accuracy"), {"test": "MRPC.tsv"}, symmetric=True),
        Task("rte", "RTE", (("sentence1",), ("sentence2",)), ("label",), ("entailment", "not_entailment"),
             ("accuracy",), {"test": "RTE.tsv"}),
    )
}  # fmt: skip
FILES = {
    "train": ("train.tsv", "train.csv", "msr_paraphrase_train.txt", "stsb-en-train.csv", "sts-train.csv"),
    "dev": ("dev.tsv", "validation.tsv", "dev.csv", "stsb-en-dev.csv", "msr_paraphrase_test.txt"),
    "dev_matched": ("dev_matched.tsv",),
    "dev_mismatched": ("dev_mismatched.tsv",),
    "test": ("test.tsv", "test.csv", "stsb-en-test.csv"),
    "test_matched": ("test_matched.tsv",),
    "test_mismatched": ("test_mismatched.tsv",),
}


@dataclass
class Examples:
    """Rows of one part.

    Attributes:
        first, second: the texts; `second` is empty for single texts.
        label: (N,) int64 classes, or float64 scores; None for the server's test rows.
        index: (N,) of the file, for submissions.
    """

    first: list[str]
    second: list[str]
    label: NDArray | None
    index: list[str]

    def __len__(self) -> int:
        return len(self.first)

    def subset(self, at: NDArray[np.int64]) -> Examples:
        """Some rows."""
        return Examples(
            [self.first[i] for i in at], [self.second[i] for i in at] if self.second else [],
            None if self.label is None else self.label[at], [self.index[i] for i in at],
        )  # fmt: skip


@dataclass
class Sets:
    """A task's parts by name, and what there is to know about them."""

    task: Task
    parts: dict[str, Examples]
    notes: list[str] = field(default_factory=list)

    @property
    def checked(self) -> list[str]:
        """Names of the parts that scores are measured on."""
        return [name for name in ("dev", "dev_matched", "dev_mismatched") if name in self.parts]


def find_tasks(folder: str | Path) -> dict[str, Path]:
    """The tasks whose folders lie in a GLUE folder, or that it is itself the folder of.

    Raises:
        InputError: where there are none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"--glue {folder}: there is no such folder; give the one that holds SST-2, CoLA ...")
    plain = lambda name: name.lower().replace("-", "").replace("_", "")  # noqa: E731
    found = {}
    for inner in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        name = plain(inner.name)
        if name in TASKS and any(inner.joinpath(file).is_file() for file in FILES["train"]):
            found[name] = inner
    if not found:
        raise InputError(
            f"--glue {folder}: no task in it; looked for folders {', '.join(t.title for t in TASKS.values())} with a train.tsv"
        )
    return {name: found[name] for name in TASKS if name in found}


def chosen_tasks(found: dict[str, Path], asked: str | None) -> dict[str, Path]:
    """The tasks asked for, "sst2,cola".

    Raises:
        InputError: for one that there is not.
    """
    if not asked:
        return found
    names = [part.strip().lower().replace("-", "") for part in asked.split(",") if part.strip()]
    for name in names:
        if name not in TASKS:
            raise InputError(f"--tasks {name}: {nearest(name, TASKS)}")
        if name not in found:
            raise InputError(f"--tasks {name}: its files are not there; found {', '.join(found)}")
    return {name: found[name] for name in names}


def read_task(folder: Path, task: Task) -> Sets:
    """All parts of a task.

    Raises:
        InputError: with every line that is wrong, at most 20; where train or dev is missing.
    """
    parts: dict[str, Examples] = {}
    notes: list[str] = []
    for part, names in FILES.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            continue
        parts[part] = _read(path, task, part, notes)
        if part == "dev" and path.name.startswith("msr_"):
            notes.append("MRPC: the corpus's own test part serves as dev, as it comes without GLUE's list of dev rows")
    for needed in ("train", "dev_matched" if task.name == "mnli" else "dev"):
        if needed not in parts:
            raise InputError(f"{folder}: {task.title} has no {needed} file; looked for {', '.join(FILES[needed])}")
    return Sets(task, parts, notes)


def _read(path: Path, task: Task, part: str, notes: list[str]) -> Examples:
    rows = _rows(path)
    texts_at, label_at, index_at, start, width = _columns(rows[0], task, path, part)
    errors: list[str] = []
    kept = Examples([], [], None, [])
    labels: list[float] = []
    undecided, torn = 0, []
    for line, row in rows[start:]:
        where = f"{path.name}:{line}"
        if len(row) != width and not (len(row) > max(*texts_at, label_at or 0) and task.name == "mnli"):
            if task.torn and len(row) < width:
                torn.append(where)
            else:
                errors.append(f"{where}: {plural(len(row), 'column')} where {width} are expected")
            continue
        value = row[label_at].strip() if label_at is not None else ""
        if task.name == "mnli" and value == "-":
            undecided += 1
            continue
        number = _number(value, task) if label_at is not None else 0.0
        if number is None:
            told = "a score" if not task.classes else f"one of {', '.join(task.classes)}"
            errors.append(f"{where}: the label {value!r} is not {told}")
            continue
        kept.first.append(row[texts_at[0]].strip())
        if task.pair:
            kept.second.append(row[texts_at[1]].strip())
        kept.index.append(row[index_at] if index_at is not None else str(len(kept.index)))
        labels.append(number)
    if errors:
        shown = "\n".join(f"  {error}" for error in errors[:MOST_ERRORS])
        more = f"\n  and {len(errors) - MOST_ERRORS:,} more" if len(errors) > MOST_ERRORS else ""
        raise InputError(
            f"{path}: {plural(len(errors), 'line is', 'lines are')} wrong; mend or delete such lines, then run again\n{shown}{more}"
        )
    if not kept.first:
        raise InputError(f"{path} has no rows")
    if undecided:
        notes.append(
            f"{path.name}: {plural(undecided, 'row without a gold label was', 'rows without a gold label were')} left out"
        )
    if len(torn) > TORN * len(rows):
        raise InputError(
            f"{path}: {plural(len(torn), 'line has', 'lines have')} fewer than {width} columns, the first "
            f"{torn[0]}; get the file again"
        )
    if torn:
        broken = plural(len(torn), "line that breaks off was", "lines that break off were")
        notes.append(f"{broken} left out: {', '.join(torn[:5])}{' ...' * (len(torn) > 5)}")
    if label_at is not None:
        kept.label = np.array(labels, np.int64 if task.classes else np.float64)
    return kept


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    text = table_text(path.read_bytes(), str(path))
    if path.suffix == ".csv":
        reader = csv.reader(io.StringIO(text, newline=""))  # str.splitlines knows ends of lines that texts hold
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    else:  # tab separated; quotes quote nothing
        lines = text.split("\n")
        rows = [(n, line.rstrip("\r").split("\t")) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InputError(f"{path} is empty")
    return rows


def _columns(
    first: tuple[int, list[str]], task: Task, path: Path, part: str
) -> tuple[tuple[int, ...], int | None, int | None, int, int]:
    """Places of the texts, the label and the index, the first row of data, and how many columns there are."""
    header = [cell.strip().lower() for cell in first[1]]
    texts = [next((header.index(n) for n in names if n in header), None) for names in task.columns]
    label = next((header.index(n) for n in task.label if n in header), None)
    index = next((header.index(n) for n in ("index", "id", "pairid") if n in header), None)
    if all(at is not None for at in texts):
        if label is None and not part.startswith("test"):
            raise InputError(
                f"{path}:{first[0]}: no column {' or '.join(task.label)}; the columns are {', '.join(header)}"
            )
        return tuple(at for at in texts if at is not None), label, index, 1, len(header)
    if task.plain is not None and len(header) == task.plain[1]:
        *at, label_at = task.plain[0]
        return tuple(at), label_at, None, 0, task.plain[1]
    missing = " or ".join(next(names for names, at in zip(task.columns, texts, strict=True) if at is None))
    raise InputError(f"{path}:{first[0]}: no column {missing} of {task.title}; the columns are {', '.join(header)}")


def _number(value: str, task: Task) -> float | None:
    if task.classes:
        return float(task.classes.index(value)) if value in task.classes else None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number <= 5 else None
