"""Did it help, to find objects? Rows of mAP by number of training images, within the time there is, and one closing sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from withheld.data.few import interval
from withheld.data.source import digest
from withheld.data.voc import VocData, open_voc
from withheld.errors import InputError
from withheld.evaluate.compare import PRETRAINED, PUBLIC, RANDOM, SCRATCH, Row
from withheld.evaluate.detection import closing
from withheld.evaluate.detection.book import Book
from withheld.evaluate.detection.detector import Detector
from withheld.evaluate.detection.learn import fast_rcnn
from withheld.evaluate.detection.network import Way, side_for
from withheld.evaluate.detection.plan import counts_for, draw, make_plan
from withheld.evaluate.detection.proposals import Listen, SelectiveSearch
from withheld.evaluate.detection.regions import Regions, load_regions
from withheld.evaluate.detection.trial import Head, Pipeline, recall_of_proposals, run_trial
from withheld.evaluate.features import as_image_encoder, silent
from withheld.evaluate.sentence import FINE_TUNED, PROBE, RANDOM_ROW, SCRATCH_ROW
from withheld.image_encoder import ImageEncoder
from withheld.learn.gradient import Interrupted
from withheld.run import pick_device

AIM, LATE = 0.9, 1.15
TOLD = 10
"""Problems of the data that are told one by one."""


@dataclass(frozen=True)
class Contender:
    """One row: an encoder, trained end to end ("softmax") or as it is under machines ("svm")."""

    row: str
    kind: str
    encoder: ImageEncoder
    head: Head


@dataclass
class DetectionVerdict:
    """What an evaluation found.

    Attributes:
        rows: their values by number of training images and seed.
        sentence, outcome: the closing one, and "better", "worse" or "unclear".
        table: a dict a row and number of images: row, images, mean, half (of the 95 % interval), seeds, and more scores.
        left_out, notes: what was not measured, what there is to know. seconds: it took.
    """

    rows: list[Row]
    sentence: str
    outcome: str
    table: list[dict[str, Any]]
    left_out: list[str]
    notes: list[str]
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence


def detection_verdict(
    subject: Any, voc: str | Path, *, shares: Sequence[float] = (10, 50, 100), seeds: int = 3, minutes: float = 30.0,
    steps: int | None = None, against: Sequence[str] = (), way: Way = "align", side: int | None = None, device: str = "auto",
    results: str | Path | None = None, command: str = "", listen: Listen = silent,
) -> DetectionVerdict:  # fmt: skip
    """Compares a pretrained encoder with training from scratch and with the same network frozen at random, in finding objects.

    "fine-tuned" and "from scratch" are Fast R-CNN trained end to end at equal steps; "linear probe" and "random frozen" are R-CNN's
    machines on an encoder that stays as it is. All rows learn from the same draws of the training images, and are tested on
    the test images (val, where there is no test). What was measured before with the same settings is not measured again.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `ImageEncoder`.
        voc: see `open_voc`.
        shares: of the training images, in percent.
        seeds: draws of images, and starts of networks.
        minutes: that it may take, proposals included; what does not fit is left out, and it is said.
        steps: of training on all images, fewer images get the root of their share; None takes what fits into the time.
        against: other encoders, fine-tuned and named.
        way, side: see `Pipeline`; by default the side is twice that of the encoder.
        results: a results.jsonl to append every number to, with a folder "detector" beside it.
        listen: is told what happens.

    Raises:
        InputError: for the subject, the data, or the settings. CannotWrite: for the results.
    """
    _check(shares, seeds, minutes, steps)
    place = pick_device(device)
    encoder = as_image_encoder(subject, place)
    others = [(name, as_image_encoder(name, place)) for name in against]
    data = open_voc(voc)
    pipeline = Pipeline(side or side_for(encoder), way)
    path = None if results is None else Path(results)
    judge = _Judge(data, encoder, others, pipeline, list(shares), seeds, minutes, steps, path, command, listen)
    try:
        return judge.run(torch.device(place))
    except Interrupted as error:
        error.args = (f"the evaluation was stopped: the same command goes on from what is in {results}",)
        raise


def _check(shares: Sequence[float], seeds: int, minutes: float, steps: int | None) -> None:
    if not shares or not all(0 < share <= 100 for share in shares):
        raise InputError(f"--shares {list(shares)}: give percentages of the training images, such as 10,50,100")
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: give at least 1; an interval needs 2, and 3 is usual here")
    if not minutes > 0:
        raise InputError(f"--minutes {minutes} must be above 0")
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps} must be at least 1")


class _Judge:
    """One evaluation."""

    def __init__(
        self, data: VocData, encoder: ImageEncoder, others: list[tuple[str, ImageEncoder]], pipeline: Pipeline,
        shares: list[float], seeds: int, minutes: float, steps: int | None, path: Path | None, command: str, listen: Listen,
    ) -> None:  # fmt: skip
        self.began = time.monotonic()
        self.data, self.pipeline, self.listen, self.steps = data, pipeline, listen, steps
        self.seeds, self.budget, self.search = seeds, 60 * minutes, SelectiveSearch()
        self.encoder = pipeline.fed(encoder)
        self.others = [(name, pipeline.fed(other)) for name, other in others]
        self.shares, self.path = shares, path
        self.notes, self.left_out = list(data.notes), [] if False else list[str]()
        settings = {
            "data": data.fingerprint, "encoder": fingerprint(self.encoder), "side": pipeline.side, "way": pipeline.way,
            "shares": shares, "search": self.search.__dict__, "length": steps or minutes,
            "against": [fingerprint(other) for _, other in self.others],
        }  # fmt: skip
        self.book = Book(path, settings, command)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def run(self, device: torch.device) -> DetectionVerdict:
        """Measures all rows."""
        self._tell_problems(self.data.problems)
        tested = self.data.test_part
        regions = load_regions(self.data, self.encoder, self.pipeline.side, self.search, ("train", tested), self.listen)
        self._tell_problems(regions.problems)
        train, test = regions.at("train"), regions.at(tested)
        if not len(train) or not len(test):
            raise InputError(
                f"{self.data.location}: {len(train)} images to learn from and {len(test)} to test: it needs both"
            )
        self._tell_data(regions, train, test, tested)
        counts, dropped = counts_for(self.shares, len(train))
        self.notes += dropped
        if not counts:
            raise InputError(f"{len(train)} training images are too few for {self.shares} %: give larger --shares")
        table = {(count, seed): draw(regions.annotations, train, len(regions.classes), count, seed)
                 for count in counts for seed in range(self.seeds)}  # fmt: skip
        steps, seeds = self._plan(regions, table, test, counts, device)
        done = self._cells(regions, table, test, steps, seeds, device)
        return self._close(regions, train, test, done, counts)

    def _tell_data(self, regions: Regions, train: NDArray[np.int64], test: NDArray[np.int64], tested: str) -> None:
        recall = recall_of_proposals(regions, test)
        self.notes.append(
            f"learned from {len(train)} images of train, tested on {len(test)} of {tested}; classes: {', '.join(regions.classes)}; "
            f"the proposals reach {100 * recall:.0f} % of the tested boxes"
        )
        self.listen({"kind": "note", "text": self.notes[-1]})

    def _tell_problems(self, problems: Sequence[dict[str, str]]) -> None:
        lines = [f"{line['file']}: {line['reason']}" for line in problems]
        if len(lines) > TOLD:
            lines = [*lines[:TOLD], f"and {len(lines) - TOLD} more such places"]
        self.notes += lines
        for line in lines:
            self.listen({"kind": "note", "text": line})

    def _rows(self, seed: int) -> list[Contender]:
        """The rows of a seed, the cheap ones first."""
        fresh = self.encoder.fresh(seed).eval()
        found = [
            Contender(PROBE, PRETRAINED, self.encoder, "svm"), Contender(RANDOM_ROW, RANDOM, fresh, "svm"),
            Contender(FINE_TUNED, PRETRAINED, self.encoder, "softmax"), Contender(SCRATCH_ROW, SCRATCH, fresh, "softmax"),
        ]  # fmt: skip
        return found + [Contender(f"{name} fine-tuned", PUBLIC, other, "softmax") for name, other in self.others]

    def _plan(
        self, regions: Regions, table: dict[tuple[int, int], NDArray[np.int64]], test: NDArray[np.int64], counts: list[int],
        device: torch.device,
    ) -> tuple[dict[int, int], int]:  # fmt: skip
        """Steps by number of images and how many seeds; an earlier plan with these settings is kept."""
        if self.steps is not None:
            return {count: max(1, round(self.steps * (count / counts[-1]) ** 0.5)) for count in counts}, self.seeds
        if self.book.steps:
            return {count: self.book.steps[count] for count in counts if count in self.book.steps}, self.seeds
        begun = time.monotonic()
        probe = self._rows(0)[0]
        self._cell(regions, probe, table[counts[0], 0], test, counts[0], 0, 0, device)
        tested = time.monotonic() - begun
        self.listen({"kind": "timing"})
        loop = fast_rcnn(
            self.encoder,
            regions,
            table[counts[-1], 0],
            way=self.pipeline.way,
            steps=100,
            seed=0,
            scratch=True,
            device=device,
        )
        step = loop.seconds_per_step(2, min(2.0, 0.005 * self.budget))
        tuned = 2 + len(self.others)
        one = tested / (counts[0] * 2 + len(test))
        cell = {count: one * (4 * count + (2 + tuned) * len(test)) for count in counts}
        plan = make_plan(counts, self.seeds, tuned, step, cell, AIM * self.budget - self.elapsed)
        self.left_out += plan.left_out
        if plan.steps:
            shown = ", ".join(f"{steps} steps on {count} images" for count, steps in plan.steps.items())
            self.listen({"kind": "note", "text": f"{plan.seeds} seeds, {shown}: about {plan.seconds / 60:.0f} minutes"})
            self.book.plan(plan.steps)
        return plan.steps or dict.fromkeys(counts[:1], 0), plan.seeds or min(2, self.seeds)

    def _cells(
        self, regions: Regions, table: dict[tuple[int, int], NDArray[np.int64]], test: NDArray[np.int64],
        steps: dict[int, int], seeds: int, device: torch.device,
    ) -> list[int]:  # fmt: skip
        """All cells, seed by seed, so that being late costs whole seeds; returns the seeds that are whole."""
        done: list[int] = []
        begun = self.elapsed
        for seed in range(seeds):
            each = (self.elapsed - begun) / len(done) if done else 0.0
            known = all((c.row, count, seed) in self.book.cells for c in self._rows(seed) for count in steps)
            if not known and done and self.elapsed + each > LATE * self.budget:
                self.left_out.append(f"{seeds - seed} of {seeds} seeds: training was slower than it had been timed")
                break
            rows = self._rows(seed)
            for at, (count, contender) in enumerate((count, row) for count in steps for row in rows):
                self.listen(
                    {"kind": "row", "done": seed * len(steps) * len(rows) + at, "total": seeds * len(steps) * len(rows),
                     "note": f"{contender.row}, {count} images, seed {seed}"}
                )  # fmt: skip
                if contender.head == "svm" or steps[count]:
                    self._cell(regions, contender, table[count, seed], test, count, seed, steps[count], device)
            done.append(seed)
        return done

    def _cell(
        self, regions: Regions, contender: Contender, learn: NDArray[np.int64], test: NDArray[np.int64], count: int,
        seed: int, steps: int, device: torch.device,
    ) -> None:  # fmt: skip
        """One row on one draw of images, unless it is known."""
        if (contender.row, count, seed) in self.book.cells:
            return
        trial = run_trial(
            contender.encoder, regions, learn, test, self.pipeline, head=contender.head, steps=steps, seed=seed,
            scratch=contender.kind == SCRATCH, device=device, listen=self.listen,
        )  # fmt: skip
        if trial.note:
            self.notes.append(f"{contender.row} on {count} images, seed {seed}: {trial.note}")
        line = self.book.write(
            contender.row, contender.kind, count, seed, trial.scores, steps=steps if contender.head == "softmax" else 0,
            seconds=round(trial.seconds, 2), head=contender.head,
        )  # fmt: skip
        self.listen({**line, "kind": "detection_score"})
        if contender.row == FINE_TUNED and seed == 0 and count == max(c for c, s in self._wanted(regions)):
            self._show(regions, contender, trial, test)

    def _wanted(self, regions: Regions) -> list[tuple[int, int]]:
        counts, _ = counts_for(self.shares, len(regions.at("train")))
        return [(count, 0) for count in counts if not self.book.steps or count in self.book.steps]

    def _show(self, regions: Regions, contender: Contender, trial: Any, test: NDArray[np.int64]) -> None:
        """Keeps the detector of the most images, and draws what it found."""
        if self.path is None:
            return
        from withheld.evaluate.detection.draw import draw_found

        made = {"row": contender.row, "data": self.data.location, "scores": trial.scores}
        detector = Detector(contender.encoder, trial.network, regions.classes, self.pipeline.side, self.search, made)
        detector.save(self.path.parent / "detector")
        draw_found(self.data, regions, test, trial.found, detector.threshold, self.path.parent)

    def _close(
        self, regions: Regions, train: NDArray[np.int64], test: NDArray[np.int64], seeds: list[int], counts: list[int]
    ) -> DetectionVerdict:
        rows: dict[str, Row] = {}
        for (name, count, seed), cell in self.book.cells.items():
            if seed in seeds and count in counts and cell["value"] is not None:
                rows.setdefault(name, Row(name, cell["row_kind"])).add(count, seed, [cell["value"]])
        order = [contender.row for contender in self._rows(0)]
        found = sorted(rows.values(), key=lambda row: order.index(row.method) if row.method in order else len(order))
        sentence, outcome = closing.sentence(found, len(train)), closing.outcome_of(found)
        table = [self._line(row, count, len(train)) for row in found for count in sorted(row.right)]
        details = {"data": self.data.location, "classes": regions.classes, "train": len(train), "test": len(test),
                   "side": self.pipeline.side, "regions": self.pipeline.way}  # fmt: skip
        seconds = round(self.elapsed, 1)
        self.book.close(
            {"sentence": sentence, "outcome": outcome, "table": table, "notes": self.notes, "left_out": self.left_out,
             "seconds": seconds, **details}
        )  # fmt: skip
        return DetectionVerdict(found, sentence, outcome, table, self.left_out, self.notes, seconds, details)

    def _line(self, row: Row, count: int, total: int) -> dict[str, Any]:
        """A row at a number of images: mean over seeds, half the 95 % interval, and the means of the other scores."""
        cells = [cell for (name, images, seed), cell in sorted(self.book.cells.items())
                 if (name, images) == (row.method, count) and seed in row.right[count]]  # fmt: skip
        values = [cell["value"] for cell in cells]
        names = [name for name, value in cells[0]["scores"].items() if isinstance(value, float)]
        means = {name: float(np.mean([cell["scores"].get(name) or 0.0 for cell in cells])) for name in names}
        by_class = {
            label: float(np.mean([cell["scores"]["AP"].get(label, 0.0) for cell in cells]))
            for label in cells[0]["scores"]["AP"]
        }
        return {
            "row": row.method, "row_kind": row.kind, "images": count, "share": round(100 * count / total, 1),
            "mean": float(np.mean(values)), "half": interval(values), "values": values, "seeds": sorted(row.right[count]),
            "steps": cells[0]["steps"], "scores": means, "AP": by_class,
        }  # fmt: skip


def fingerprint(encoder: ImageEncoder) -> str:
    """A digest of an encoder's architecture, weights and how it is fed."""
    told = json.dumps(encoder.trunk.config.to_dict(), sort_keys=True, default=str)
    parts: list[str | bytes | int] = [told, str(encoder.mean), str(encoder.std), repr(encoder.split)]
    for name, value in encoder.trunk.state_dict().items():
        parts += [name, value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()]
    return digest(parts)[:16]
