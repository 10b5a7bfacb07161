"""Did it help, to find objects? Rows of mAP by number of training images, within the time there is, and one closing sentence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from withheld.data.boxes import BoxData, open_boxes
from withheld.errors import InputError
from withheld.evaluate.compare import SCRATCH, Row
from withheld.evaluate.detection import closing
from withheld.evaluate.detection.average_precision import has_coco
from withheld.evaluate.detection.book import Book
from withheld.evaluate.detection.contenders import Contender, contenders, fingerprint, rows_of, table_of
from withheld.evaluate.detection.detector import Detector
from withheld.evaluate.detection.learn import fast_rcnn
from withheld.evaluate.detection.network import Way, side_for
from withheld.evaluate.detection.plan import counts_for, draw, make_plan
from withheld.evaluate.detection.proposals import SelectiveSearch
from withheld.evaluate.detection.regions import Regions, load_regions
from withheld.evaluate.detection.trial import Pipeline, Trial, recall_of_proposals, run_trial
from withheld.evaluate.features import Listen, as_image_encoder, silent
from withheld.evaluate.sentence import FINE_TUNED
from withheld.image_encoder import ImageEncoder
from withheld.learn.gradient import Interrupted
from withheld.run import pick_device
from withheld.wording import duration, plural

AIM, LATE = 0.9, 1.15
TOLD = 10
"""Problems of the data that are told one by one."""


@dataclass
class DetectionVerdict:
    """What an evaluation found.

    Attributes:
        rows: their values by number of training images and seed.
        sentence, outcome: the closing one, and "better", "worse" or "unclear".
        table: a dict a row and number of images: row, images, mean, half (of the 95 % interval), seeds, and more scores.
        left_out, notes, problems: what was not measured, what there is to know, what was wrong with the data.
        seconds: it took.
    """

    rows: list[Row]
    sentence: str
    outcome: str
    table: list[dict[str, Any]]
    left_out: list[str]
    notes: list[str]
    problems: list[str]
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence


def detection_verdict(
    subject: Any, boxes: str | Path, *, shares: Sequence[float] = (10, 50, 100), seeds: int = 3, minutes: float = 30.0,
    steps: int | None = None, against: Sequence[str] = (), way: Way = "align", side: int | None = None, device: str = "auto",
    results: str | Path | None = None, command: str = "", listen: Listen = silent,
) -> DetectionVerdict:  # fmt: skip
    """Compares a pretrained encoder with training from scratch and with the same network frozen at random, in finding objects.

    "fine-tuned" and "from scratch" are Fast R-CNN trained end to end at equal steps; "linear probe" and "random frozen" are R-CNN's
    machines on an encoder that stays as it is. All rows learn from the same draws of the training images, and are tested on
    the test images (val, where there is no test). What was measured before with the same settings is not measured again.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `ImageEncoder`.
        boxes: see `open_boxes`.
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
    began, place = time.monotonic(), pick_device(device)
    encoder = as_image_encoder(subject, place)
    data = open_boxes(boxes)
    pipeline = Pipeline(side or side_for(encoder), way)
    fed = pipeline.fed(encoder)
    others = [(name, pipeline.fed(as_image_encoder(name, place))) for name in against]
    path = None if results is None else Path(results)
    settings = {
        "data": data.fingerprint, "encoder": fingerprint(fed), "side": pipeline.side, "way": pipeline.way,
        "shares": list(shares), "search": asdict(SelectiveSearch()), "length": steps or minutes,
    }  # fmt: skip
    book = Book(path, settings, command)
    judge = _Judge(data, fed, others, pipeline, book, listen, began, 60 * minutes)
    try:
        return judge.run(list(shares), seeds, steps, torch.device(place))
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


@dataclass
class _Draws:
    """What is learned from and tested: images by (count, seed), the tested ones, the counts, all to learn from."""

    learn: dict[tuple[int, int], NDArray[np.int64]]
    test: NDArray[np.int64]
    counts: list[int]
    total: int


class _Judge:
    """One evaluation.

    Args:
        data, encoder, others, pipeline: what is judged, on what, and how. book: what is known, and where it is written.
        began: when, by the monotonic clock. budget: seconds from then.
    """

    def __init__(
        self, data: BoxData, encoder: ImageEncoder, others: list[tuple[str, ImageEncoder]], pipeline: Pipeline, book: Book,
        listen: Listen, began: float, budget: float,
    ) -> None:  # fmt: skip
        self.data, self.encoder, self.others, self.pipeline = data, encoder, others, pipeline
        self.book, self.listen, self.began, self.budget = book, listen, began, budget
        self.search = SelectiveSearch()
        self.notes = list(data.notes)
        self.left_out: list[str] = []
        self.problems: list[str] = []
        self.loaded: dict[str, Regions] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def regions(self, encoder: ImageEncoder) -> Regions:
        """The images as an encoder takes them, with their proposals."""
        key = f"{encoder.channels}|{encoder.scale}"
        if key not in self.loaded:
            parts = ("train", self.data.test_part)
            self.loaded[key] = load_regions(self.data, encoder, self.pipeline.side, self.search, parts, self.listen)
        return self.loaded[key]

    def run(self, shares: list[float], seeds: int, steps: int | None, device: torch.device) -> DetectionVerdict:
        """Measures all rows."""
        self._tell_problems(self.data.problems)
        regions = self.regions(self.encoder)
        self._tell_problems(regions.problems)
        draws = self._draws(regions, shares, seeds)
        planned, seeds = self._plan(draws, seeds, steps, device)
        done = self._cells(draws, planned, seeds, device)
        return self._close(draws, done)

    def _tell_problems(self, problems: Sequence[dict[str, str]]) -> None:
        lines = [f"{line['file']}: {line['reason']}" for line in problems]
        if len(lines) > TOLD:
            lines = [*lines[:TOLD], f"and {len(lines) - TOLD} more such places"]
        self.problems += lines
        for line in lines:
            self.listen({"kind": "note", "text": line})

    def _draws(self, regions: Regions, shares: list[float], seeds: int) -> _Draws:
        tested, where = self.data.test_part, self.data.location
        train, test = regions.at("train"), regions.at(tested)
        if not len(train) or not len(test):
            raise InputError(
                f"{where}: {plural(len(train), 'image')} to learn from and {len(test)} to be tested on: both are needed"
            )
        recall = 100 * recall_of_proposals(regions, test)
        self.notes.append(
            f"learned from images of train ({len(train)}), tested on {tested} ({len(test)}); the proposals reach {recall:.0f} % of "
            "the tested boxes"
        )
        if not has_coco():
            self.left_out.append('COCO AP: pip install "withheld[detection]"')
        counts, dropped = counts_for(shares, len(train))
        self.notes += dropped
        if not counts:
            raise InputError(
                f"{where}: {plural(len(train), 'training image is', 'training images are')} too few for --shares "
                f"{shares}: give larger ones"
            )
        learn = {
            (count, seed): draw(regions.annotations, train, len(regions.classes), count, seed)
            for count in counts
            for seed in range(seeds)
        }
        return _Draws(learn, test, counts, len(train))

    def _plan(self, draws: _Draws, seeds: int, steps: int | None, device: torch.device) -> tuple[dict[int, int], int]:
        """Steps by number of images and how many seeds; an earlier plan with these settings is kept."""
        counts = draws.counts
        if steps is not None:
            return {count: max(1, round(steps * (count / counts[-1]) ** 0.5)) for count in counts}, seeds
        if self.book.planned is not None:
            self.left_out += self.book.planned.left_out
            return self.book.planned.steps, min(seeds, self.book.planned.seeds)
        begun = time.monotonic()
        self._cell(contenders(self.encoder, self.others, 0)[0], draws, counts[0], 0, 0, device)
        each = (time.monotonic() - begun) / (2 * counts[0] + len(draws.test))
        self.listen({"kind": "timing"})
        loop = fast_rcnn(
            self.encoder, self.regions(self.encoder), draws.learn[counts[-1], 0], way=self.pipeline.way, steps=100, seed=0,
            scratch=True, device=device,
        )  # fmt: skip
        step = loop.seconds_per_step(2, min(2.0, 0.005 * self.budget))
        tuned = 2 + len(self.others)
        rest = {count: each * (4 * count + (2 + tuned) * len(draws.test)) for count in counts}
        plan = make_plan(counts, seeds, tuned, step, rest, AIM * self.budget - self.elapsed)
        self.left_out += plan.left_out
        if not plan.steps:
            return {counts[0]: 0}, min(2, seeds)
        shown = ", ".join(f"{plural(steps, 'step')} on {plural(count, 'image')}" for count, steps in plan.steps.items())
        self.listen({"kind": "note", "text": f"{plural(plan.seeds, 'seed')}, {shown}: about {duration(plan.seconds)}"})
        self.book.plan(plan)
        return plan.steps, plan.seeds

    def _cells(self, draws: _Draws, steps: dict[int, int], seeds: int, device: torch.device) -> list[int]:
        """All cells, seed by seed, so that being late costs whole seeds; returns the seeds that are whole."""
        done: list[int] = []
        slowest = 0.0
        for seed in range(seeds):
            begun = self.elapsed
            wanted = [(row, count) for count in steps for row in contenders(self.encoder, self.others, seed)]
            new = any((row.key, count, seed) not in self.book.cells for row, count in wanted)
            if new and done and self.elapsed + slowest > LATE * self.budget:
                self.left_out.append(f"{seeds - seed} of {seeds} seeds: training was slower than it had been timed")
                break
            for at, (row, count) in enumerate(wanted):
                told = f"{row.row}, {plural(count, 'image')}, seed {seed}"
                self.listen(
                    {"kind": "row", "done": seed * len(wanted) + at, "total": seeds * len(wanted), "note": told}
                )
                if row.head == "svm" or steps[count]:
                    self._cell(row, draws, count, seed, steps[count], device, show=seed == 0 and count == max(steps))
            slowest = max(slowest, self.elapsed - begun)
            done.append(seed)
        return done

    def _cell(
        self,
        contender: Contender,
        draws: _Draws,
        count: int,
        seed: int,
        steps: int,
        device: torch.device,
        show: bool = False,
    ) -> None:
        """One row on one draw of images, unless it is known."""
        if (contender.key, count, seed) in self.book.cells:
            return
        trial = run_trial(
            contender.encoder, self.regions(contender.encoder), draws.learn[count, seed], draws.test, self.pipeline,
            head=contender.head, steps=steps, seed=seed, scratch=contender.kind == SCRATCH, device=device, listen=self.listen,
        )  # fmt: skip
        if trial.note:
            self.notes.append(f"{contender.row} on {plural(count, 'image')}, seed {seed}: {trial.note}")
        line = self.book.write(
            contender.key, count, seed, trial.scores, row=contender.row, row_kind=contender.kind, head=contender.head,
            steps=steps if contender.head == "softmax" else 0, seconds=round(trial.seconds, 2),
        )  # fmt: skip
        self.listen({**line, "kind": "detection_score"})
        if show and contender.row == FINE_TUNED:
            self._show(contender, trial, draws.test)

    def _show(self, contender: Contender, trial: Trial, test: NDArray[np.int64]) -> None:
        """Keeps the detector of the most images, and draws what it found."""
        if self.book.path is None:
            return
        from withheld.evaluate.detection.draw import draw_found

        regions = self.regions(contender.encoder)
        made = {"row": contender.row, "data": self.data.location, "scores": trial.scores}
        detector = Detector(contender.encoder, trial.network, regions.classes, self.pipeline.side, self.search, made)
        detector.save(self.book.path.parent / "detector")
        draw_found(self.data, regions, test, trial.found, detector.threshold, self.book.path.parent)

    def _close(self, draws: _Draws, seeds: list[int]) -> DetectionVerdict:
        order = [each.key for each in contenders(self.encoder, self.others, 0)]
        rows = rows_of(self.book, order, draws.counts, seeds)
        sentence, outcome = closing.sentence(rows, draws.total), closing.outcome_of(rows)
        details = {
            "data": self.data.location, "classes": self.data.classes, "train": draws.total, "test": len(draws.test),
            "side": self.pipeline.side, "regions": self.pipeline.way,
        }  # fmt: skip
        found = DetectionVerdict(
            rows, sentence, outcome, table_of(self.book, rows, order, draws.total), self.left_out, self.notes, self.problems,
            round(self.elapsed, 1), details,
        )  # fmt: skip
        told = {
            name: getattr(found, name)
            for name in ("sentence", "outcome", "table", "left_out", "notes", "problems", "seconds")
        }
        self.book.close({**told, **details})
        return found
