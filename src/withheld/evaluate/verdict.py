"""Did it help? The rows of a verdict, measured within the time there is, and one closing sentence."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from withheld.aloud import Listen, aloud
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.evaluate import sentence as closing
from withheld.evaluate.classify_clips import clip_floors
from withheld.evaluate.compare import FLOOR, Row
from withheld.evaluate.features import as_encoder, collecting
from withheld.evaluate.floors import Floor, floors
from withheld.evaluate.judged import Judged, JudgedClips, JudgedTexts, judged
from withheld.evaluate.labelled import Labelled, duplicates_note, open_labelled, seen_note
from withheld.evaluate.layers import check_layers, measure_layers
from withheld.evaluate.measure import Measurement
from withheld.evaluate.public import check_rivals, measure_public, rivals
from withheld.evaluate.results import add_results
from withheld.evaluate.text_floors import measure_tfidf
from withheld.evaluate.thumbnails import first_words
from withheld.evaluate.tuned import Tuning
from withheld.evaluate.unlabelled import check_also, measure_m2, measure_unlabelled
from withheld.learn.gradient import Interrupted
from withheld.run import constant, method_names, open_run, pick_device
from withheld.types import Score
from withheld.wording import percent

WORST = 24


@dataclass
class Verdict:
    """What an evaluation found.

    Attributes:
        scores: one a row and label count.
        sentence: the closing one.
        outcome: "better", "worse" or "unclear": what the sentence says.
        left_out: what was not measured, and why.
        notes: what there is to know about the data and the rows.
        seconds: it took.
        details: data, classes, labels_per_class, errors (worst first), confusion (true by predicted).
    """

    scores: list[Score]
    sentence: str
    outcome: str
    left_out: list[str]
    notes: list[str]
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def table(self) -> list[dict[str, Any]]:
        """One dict a row: "method", and by labels per class a text such as "71.2 ± 1.3", "71.2" of one seed."""
        found: dict[str, dict[str, Any]] = {}
        for score in self.scores:
            row = found.setdefault(score.method, {"method": score.method})
            row[str(score.labels_per_class)] = percent(score.value, score.spread)
        return list(found.values())

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        """What a notebook shows: the table, the sentence, the notes."""
        counts = list(dict.fromkeys(str(score.labels_per_class) for score in self.scores))
        heads = ["accuracy, %", *(f"{count} per class" for count in counts)]
        rows = [[row["method"], *(row.get(count, "") for count in counts)] for row in self.table()]
        cells = [f"<tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>"]
        cells += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"<table>{''.join(cells)}</table><p><b>{escape(self.sentence)}</b></p><ul>{notes}</ul>"


def verdict(
    subject: Any, data: Any, *, labels_per_class: Sequence[int] = (1, 10, 100), seeds: int = 5, minutes: float = 10.0,
    against: Sequence[str] = (), also: Sequence[str] = (), layers: str | None = None, labels: Any = True,
    device: str = "auto", results: str | Path | None = None, command: str = "", listen: Listen | bool = True,
) -> Verdict:  # fmt: skip
    """Compares a pretrained encoder with training from scratch, with classical features and with public encoders.

    Every row learns from the same few labels and is tested on the same items; train and test parts of the data are
    honored, else every seed holds out another stratified 30 %. Nothing is ever chosen on tested items.

    Args:
        subject: a run folder, an encoder folder, a transformers id, an `Encoder`, or anything with a scikit-learn
            `transform` of (n, C, H, W) uint8 images (which gets the frozen rows only).
        data: labelled: class folders, labels.csv, IDX, hub data, (items, labels), a table or Dataset with a column of labels.
        labels_per_class: the label counts; those the data cannot afford are dropped, and it is said.
        seeds: how many draws of the labelled items.
        minutes: that it may take; what does not fit is left out, and it is said.
        against: encoders to compare with.
        also: rows on request: "m2" is M1 + M2 (Kingma et al. 2014), in 60 % of the time.
        layers: "all" probes every layer too.
        labels: True, or a csv with the columns file and label.
        device: "auto", "cpu", "cuda", "mps".
        results: a results.jsonl to append every score to as it is measured, and the verdict at the end.
        command: how to do it again, kept in the results.
        listen: True shows progress on stderr; False is silent; a function is told what happens.

    Returns:
        The verdict; its `sentence` is what to read first.

    Raises:
        InputError: for the subject, the data, or the settings. CannotWrite: for the results.
    """
    _check(labels_per_class, seeds, minutes, subject)
    started = time.monotonic()
    place = pick_device(device)
    check_rivals(against)
    check_also(also)
    behind = _settings_of(subject)
    subject = subject if _is_plain(subject) else as_encoder(subject, place)
    check_layers(layers, subject)
    kind = judged(subject, data)
    labelled = open_labelled(data, labels, list(labels_per_class), seeds, kind.open)
    with aloud(listen) as hear:
        book = _Book(labelled, results, command, hear)
        measurement = _begin(kind, labelled, minutes, started, hear, book)
        measurement.notes += seen_note(measurement.labelled, behind.get("data", {}).get("location"))
        try:
            _measure(measurement, subject, against, also, layers is not None, place)
        except Interrupted as error:
            kept = f": the scores measured so far are in {results}" if results is not None else ""
            error.args = (f"the evaluation was stopped{kept}",)
            raise
        return book.close(measurement, _remedy(behind.get("method")))


def _check(labels_per_class: Sequence[int], seeds: int, minutes: float, subject: Any) -> None:
    if not labels_per_class or any(int(count) != count or count < 1 for count in labels_per_class):
        raise InputError(f"--labels-per-class {list(labels_per_class)}: give whole numbers from 1, such as 1,10,100")
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: give at least 1; an interval needs 2, and 5 is usual")
    if not minutes > 0:
        raise InputError(f"--minutes {minutes} must be above 0")
    if not isinstance(subject, (str, Path)) and not hasattr(subject, "transform"):
        raise InputError(f"a verdict is on a run, an encoder or something with transform, not {type(subject).__name__}")


def _settings_of(subject: Any) -> dict[str, Any]:
    """Those of a run, or of the one whose encoder it is; none of anything else."""
    if not isinstance(subject, (str, Path)):
        return {}
    folder = Path(subject)
    run = next((f for f in (folder, folder.parent) if (f / "run.json").is_file()), None)
    return {} if run is None else open_run(run).settings


def _remedy(method: str | None) -> str:
    """What helps where pretraining is no better than an untrained network; a method's file may define REMEDY."""
    return str(constant(method, "REMEDY", closing.MORE)) if method in method_names() else closing.MORE


def _is_plain(subject: Any) -> bool:
    return not isinstance(subject, (str, Path, Encoder))


def _begin(
    kind: Judged, labelled: Labelled, minutes: float, started: float, listen: Listen, book: _Book
) -> Measurement:
    """Decodes the items, drops the broken ones, and looks for near-duplicates."""
    notes = list(labelled.notes)
    items, kept = kind.decode(labelled.source, collecting(notes, listen))
    row_of = {int(position): row for row, position in enumerate(kept)}
    bad = np.setdiff1d(np.arange(len(labelled.source)), kept)
    if len(bad):
        labelled = labelled.without(bad)
    notes += duplicates_note(labelled, items, row_of)
    found = Measurement(labelled, kind, items, row_of, minutes, started, listen, book.write)
    found.notes = notes
    return found


def _measure(
    measurement: Measurement, subject: Any, against: Sequence[str], also: Sequence[str], layers: bool, device: str
) -> None:
    measurement.say("classical floors")
    if isinstance(measurement.judged, JudgedTexts):
        measure_tfidf(measurement)
    elif isinstance(measurement.judged, JudgedClips):
        for name, floor in clip_floors().items():
            measurement.floor(Row(name, FLOOR), floor)
    else:
        for name, function in floors(int(measurement.images.shape[1])).items():
            measurement.floor(Row(name, FLOOR), Floor(function))
    item = measurement.pretrained(subject)
    if layers:
        measure_layers(measurement, subject)
    measure_unlabelled(measurement, subject, item)
    if "m2" in also:
        measure_m2(measurement, subject)
    named, missing = rivals(against, measurement.judged.rival)
    measurement.left_out += missing
    for name, where in named:
        measure_public(measurement, name, where, device)
    if isinstance(subject, Encoder):
        measurement.random(subject, item)
        Tuning(measurement, subject, item).run()
    else:
        measurement.left_out.append("fine-tuned, from scratch and random frozen: these need an encoder of this library")


class _Book:
    """Writes the scores as they come, and the verdict at the end."""

    def __init__(self, labelled: Labelled, results: str | Path | None, command: str, listen: Listen) -> None:
        from withheld.provenance import commit_of_code

        self.data, self.labelled, self.command, self.listen = labelled.source.location, labelled, command, listen
        self.path = None if results is None else Path(results)
        self.id = uuid.uuid4().hex[:12]
        self.commit = commit_of_code()
        self.scores: list[Score] = []
        add_results(self.path)

    def write(self, row: Row, count: int) -> None:
        """One number, measured."""
        values = row.values(count)
        score = Score(
            row.method, self.data, "accuracy", count, float(np.mean(list(values.values()))),
            row.half(count, self.labelled.test_share), list(values), list(values.values()),
            dict(row.budget.get(count, {})), self.commit, self.command, row.note,
        )  # fmt: skip
        self.scores.append(score)
        add_results(self.path, {**score.to_json(), "evaluation": self.id})
        self.listen({**score.to_json(), "kind": "score"})

    def close(self, measurement: Measurement, remedy: str) -> Verdict:
        """The verdict, written."""
        share = self.labelled.test_share
        sentence = closing.sentence(measurement.rows, share, self.labelled.known_classes, remedy)
        outcome = closing.outcome(measurement.rows, share, classes=self.labelled.known_classes)
        details = {
            "data": self.data, "labels_per_class": self.labelled.counts, "classes": self.labelled.classes,
            **_mistakes(measurement),
        }  # fmt: skip
        seconds = round(measurement.elapsed, 1)
        found = Verdict(self.scores, sentence, outcome, measurement.left_out, measurement.notes, seconds, details)
        line = {
            "kind": "verdict", "sentence": sentence, "outcome": outcome, "notes": found.notes,
            "left_out": found.left_out, "seconds": seconds, "command": self.command, **details, "evaluation": self.id,
        }  # fmt: skip
        add_results(self.path, line)
        if self.path is not None:
            _draw_errors(measurement, details["errors"], self.path.parent)
        return found


def _mistakes(measurement: Measurement) -> dict[str, Any]:
    """The surest wrong guesses of the best pretrained row at the most labels, and who was taken for whom."""
    method = next((name for name in (closing.FINE_TUNED, closing.PROBE) if name in measurement.guesses), None)
    if method is None:
        return {"errors": [], "confusion": [], "errors_of": ""}
    probabilities, at = measurement.guesses[method]
    labelled = measurement.labelled
    true, guess = labelled.labels[at], probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    wrong = np.flatnonzero(true != guess)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:WORST]
    confusion = np.zeros((len(labelled.classes), len(labelled.classes)), np.int64)
    np.add.at(confusion, (true, guess), 1)
    errors = [
        {
            "name": labelled.source.names[int(at[i])], "true": labelled.classes[int(true[i])],
            "predicted": labelled.classes[int(guess[i])], "probability": round(float(sure[i]), 4),
            "position": int(at[i]), **_shown(measurement, int(at[i])),
        }
        for i in wrong
    ]  # fmt: skip
    return {"errors": errors, "confusion": confusion.tolist(), "errors_of": method}


def _shown(measurement: Measurement, position: int) -> dict[str, str]:
    """The beginning of a text."""
    if not isinstance(measurement.judged, JudgedTexts):
        return {}
    return {"text": first_words(str(measurement.images[measurement.row_of[position]]))}


def _draw_errors(measurement: Measurement, errors: list[dict[str, Any]], folder: Path) -> None:
    from withheld.evaluate.pictures import draw_errors

    if isinstance(measurement.judged, JudgedTexts):
        return
    images = [measurement.images[measurement.row_of[error["position"]]] for error in errors]
    if isinstance(measurement.judged, JudgedClips):
        images = [clip.frames[len(clip.frames) // 2] for clip in images]
    draw_errors(errors, images, folder)
