"""What a reader sees first: the verdict in a sentence, and a few numbers."""

from __future__ import annotations

import re
from typing import Any

from withheld.report.clean import one_line
from withheld.report.curves import Sweep
from withheld.report.facts import keeps_encoder
from withheld.report.folder import Contents, mapping, number
from withheld.report.scores import OURS, Table
from withheld.wording import count, duration, labels, short_count

_WORDS = {
    "better": "Pretraining helped",
    "mixed": "Pretraining helped, but something else is as good or better",
    "worse": "Pretraining did not help",
    "unclear": "Not decided",
    "unknown": "Not evaluated yet",
    "sweep": "Measured",
}
_NEGATIVE = re.compile(
    r"(?i)\bnot (?:certainly )?(?:better|worth)\b|\bdid not help\b|\bworse\b|\bworth\s+[-\u2212]\s*\d"
)
_POSITIVE = re.compile(r"(?i)\bworth\s+\+?\s*\d|(?<!not )(?<!not certainly )\bbetter than\b(?! guessing)|\bhelped\b")
_UNDECIDED = re.compile(r"(?i)\bno verdict\b|\btoo few\b|\bnothing was measured\b")


def headline(found: Contents, table: Table | None, sweep: Sweep | None) -> dict[str, Any]:
    """The outcome (a CSS class), its word, the sentence and the key numbers."""
    verdict = found.verdict or found.detection or (found.glue if found.glue.get("sentence") else {})
    sentence = one_line(verdict.get("sentence") or "")
    outcome = outcome_of(verdict) if verdict else "unknown"
    word = _WORDS[outcome]
    if not sentence and table is not None:
        outcome, word = "unclear", "Evaluation not finished"
        sentence = (
            "Scores were written, but no verdict: the evaluation is still running, or was stopped before its end."
        )
    elif not sentence and sweep is not None:
        outcome, word = "sweep", _WORDS["sweep"]
        sentence = f"Of the values tried, {sweep.sentence()}."
    elif not sentence and found.measured:
        outcome, word = "sweep", _WORDS["sweep"]
        sentence = one_line(list(found.measured.values())[-1].get("sentence") or "")
    elif not sentence and not keeps_encoder(found):
        outcome, word = "sweep", "Learned"
        loss = number(found.log[-1].get("loss")) if found.log else None
        sentence = "The model is fitted" + (
            f": {loss:.4g} nats an item on what it learned from." if loss is not None else "."
        )
        health = mapping(found.log[-1].get("health")) if found.log else {}
        if health.get("state") == "sick":
            outcome, word = "worse", "Learned, and sick"
            sentence += " But the run is sick: the section on health says of what, and the cure."
    elif not sentence:
        sentence = "The encoder is trained. Whether it helps is not known before it is evaluated."
    first, rest = parted(sentence)
    return {"outcome": outcome, "word": word, "sentence": first, "rest": rest, "numbers": _numbers(found, table)}


def parted(sentence: str) -> tuple[str, str]:
    """What is said first, and the asides after it, as sentences of their own; numbers keep their unit on the line."""
    sentence = re.sub(r"(?<=\d) %", "\u00a0%", sentence)
    first, *asides = sentence.split("; ")
    if not asides:
        return sentence, ""
    ended = [part.rstrip(".") + "." for part in (first, *asides)]
    return ended[0], " ".join(part[:1].upper() + part[1:] for part in ended[1:])


def outcome_of(verdict: dict[str, Any]) -> str:
    """One of better, mixed, worse and unclear: what the verdict says of itself, or else what its sentence says."""
    said, sentence = verdict.get("outcome"), str(verdict.get("sentence") or "")
    good, bad = bool(_POSITIVE.search(sentence)), bool(_NEGATIVE.search(sentence))
    if said == "worse" and good:  # worth something over training from scratch, yet something else is as good
        return "mixed"
    if isinstance(said, str) and said in ("better", "mixed", "worse", "unclear"):
        return said
    if _UNDECIDED.search(sentence) or not (good or bad):
        return "unclear"
    return "mixed" if good and bad else "better" if good else "worse"


def _numbers(found: Contents, table: Table | None) -> list[tuple[str, str]]:
    """Pairs of (number, what it is)."""
    shown = _score_numbers(table) if table is not None else []
    items = number(mapping(found.run.get("data")).get("items"))
    if items is not None:
        shown.append((count(items), "items without labels" if items != 1 else "item without a label"))
    seconds = number(found.log[-1].get("seconds")) if found.log else None
    if seconds is not None:
        device = one_line(found.run.get("device") or "")
        shown.append((duration(seconds), f"of pretraining on {device}" if device else "of pretraining"))
    size = number(mapping(found.run.get("encoder")).get("parameters"))
    if size is not None:
        where = "encoder" if keeps_encoder(found) else "model"
        shown.append((short_count(size), f"parameters in the {where}"))
    return shown


def _score_numbers(table: Table) -> list[tuple[str, str]]:
    """Our best row and the same network from scratch, at the most labels that both have."""
    ours, scratch = table.find(*OURS), table.find("scratch")
    for labels_per_class in reversed(table.counts):
        here = [row for row in ours if labels_per_class in row.points]
        if not here:
            continue
        best = max(here, key=lambda row: row.points[labels_per_class][0])
        per = labels(labels_per_class) + (" per class" if labels_per_class is not None else "")
        shown = [(table.show(best.points[labels_per_class][0]), f"{best.method}, {per}")]
        shown += [
            (table.show(row.points[labels_per_class][0]), f"{row.method}, {per}")
            for row in scratch[:1]
            if labels_per_class in row.points
        ]
        return shown
    return []
