"""The expensive rows of a verdict: fine-tuned, and from scratch at equal steps, the latter also with the pretraining's views."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from withheld.data.sample import spread
from withheld.encoder import Encoder
from withheld.errors import Diverged
from withheld.evaluate.classify import batch_for, class_probabilities, loop_of, steps_for
from withheld.evaluate.compare import PRETRAINED, Row
from withheld.evaluate.compare import SCRATCH as SCRATCH_KIND
from withheld.evaluate.features import features
from withheld.evaluate.few_label import LinearProbe
from withheld.evaluate.measure import Measurement, rows
from withheld.evaluate.plan import FEWEST_SEEDS, Pace, Plan, make_plan
from withheld.evaluate.sentence import AUGMENTED_ROW, FINE_TUNED, PROBE, SCRATCH_ROW
from withheld.wording import duration, per_class, plural

AIM = 0.75
"""The share of the time that is planned for: the timing of a few steps is a guess."""
LATE, TOO_LATE = 1.15, 1.5


class Tuning:
    """The trained rows of one evaluation; `run()` measures them.

    Args:
        measurement: the evaluation, with the frozen rows measured.
        encoder: what is fine-tuned, and whose architecture is trained from scratch.
        item: seconds that the features of an item take.
    """

    def __init__(self, measurement: Measurement, encoder: Encoder, item: float) -> None:
        self.measurement, self.labelled, self.encoder, self.item = measurement, measurement.labelled, encoder, item
        self.began = 0.0
        self.told, self.total = 0, 0
        self.augments = measurement.judged.augmented(encoder, 2) is not None

    def run(self) -> None:
        """Plans what fits into the time, and measures it."""
        m = self.measurement
        wanted = {count: steps_for(self._learned(count)) for count in self.labelled.counts}
        tested = max(len(at) for at in self.labelled.common.values())
        pace = self._pace()
        plan = make_plan(wanted, len(self.labelled.seeds), tested, pace, AIM * m.budget - m.elapsed)
        m.left_out += plan.left_out
        if not self.augments and m.judged.unaugmented:
            m.left_out.append(m.judged.unaugmented)
        if not plan.steps:
            return
        steps = ", ".join(f"{plural(steps, 'step')} at {plural(count, 'label')}" for count, steps in plan.steps.items())
        m.say(
            f"fine-tuning and training from scratch, {plural(plan.seeds, 'seed')}, {steps}: about {duration(plan.seconds)}"
        )
        trained = [Row(FINE_TUNED, PRETRAINED), Row(SCRATCH_ROW, SCRATCH_KIND), Row(AUGMENTED_ROW, SCRATCH_KIND)]
        finished = self._seeds(trained, plan)
        if not finished:
            m.guesses.pop(FINE_TUNED, None)
            return
        most = max(len(self.labelled.tested(seed)) for seed in self.labelled.seeds)
        for row in trained if plan.augmented else trained[:2]:
            row.keep(finished)
            row.note = f"tested on {plural(plan.test, 'item')}" if plan.test < most else ""
            m.rows.append(row)
            for count in row.right:
                m.done(row, count)

    def _seeds(self, trained: list[Row], plan: Plan) -> list[int]:
        """Runs seed by seed, so that being late costs whole seeds and never one row only."""
        m = self.measurement
        finished: list[int] = []
        self.total = plan.seeds * plan.runs
        self.began = m.elapsed
        for seed in self.labelled.seeds[: plan.seeds]:
            if self._late(len(finished)):
                m.left_out.append(
                    f'"fine-tuned" and "from scratch" beyond {len(finished)} of {plan.seeds} seeds: training was '
                    "slower than it had been timed"
                )
                break
            for count, steps in plan.steps.items():
                for row in trained if count in plan.augmented else trained[:2]:
                    if self._hopeless(plan):
                        return []
                    self._cell(row, count, seed, steps, plan.test)
            finished.append(seed)
        return finished

    def _late(self, finished: int) -> bool:
        """Whether another seed like those before would end too late."""
        if finished < 2:
            return False
        ends = self.measurement.elapsed + (self.measurement.elapsed - self.began) / finished
        return ends > (LATE if finished >= FEWEST_SEEDS else TOO_LATE) * self.measurement.budget

    def _hopeless(self, plan: Plan) -> bool:
        """Whether the two seeds that an interval needs would end far too late, by the pace so far; then it is said."""
        m, needed = self.measurement, min(plan.seeds, 2) * plan.runs
        if not 0 < self.told < needed:
            return False
        ends = self.began + (m.elapsed - self.began) * needed / self.told
        if ends <= TOO_LATE * m.budget:
            return False
        m.left_out.append(
            f'"fine-tuned" and "from scratch" for time: training is slower than it had been timed, and two seeds would have '
            f"ended after {duration(ends)}, of {duration(m.budget)} (give more --minutes)"
        )
        return True

    def _cell(self, row: Row, count: int, seed: int, steps: int, tested: int) -> None:
        """One row at one label count with one seed: trained, tested and recorded."""
        m, begun = self.measurement, time.monotonic()
        scratch = row.kind == SCRATCH_KIND
        draw = self.labelled.draws[count, seed]
        images, labels = m.images[rows(m.row_of, draw.train)], self.labelled.labels[draw.train]
        start = self.encoder.fresh(seed).eval() if scratch else self.encoder
        probe = None if scratch else m.probes.get((len(labels), seed))
        torch.manual_seed(seed)
        if row.method == AUGMENTED_ROW:
            objective = m.judged.augmented(start, m.classes)
        else:
            objective = m.judged.objective(start, m.classes, scratch)
        loop = loop_of(
            objective, m.judged.items(start, images, labels), m.judged.recipe(start, scratch),
            steps=steps, seed=seed, device=self.encoder.device,
            probe=probe or LinearProbe(m.classes, seed).fit(features(start, images), labels),
        )  # fmt: skip
        try:
            loop.run(None, self._tell)
        except Diverged:
            m.notes.append(f"{row.method} at {per_class([count])}, seed {seed}: diverged, measured as it was then")
        self.told += steps
        common = self.labelled.common[seed]
        test = common[spread(len(common), tested)]
        items = m.judged.items(self.encoder, m.images[rows(m.row_of, test)])
        m.score(row, count, seed, class_probabilities(loop.objective, items), test)
        row.budget[count] = {"steps": steps, "seconds": round(time.monotonic() - begun, 2)}

    def _tell(self, line: dict) -> None:
        self.measurement.listen({**line, "kind": "step", "step": self.told + line["step"], "steps": self.total})

    def _pace(self) -> Pace:
        """Times a few training steps at every batch size that will be used."""
        m = self.measurement
        plain = self._paces(lambda: m.judged.objective(self.encoder, m.classes, True))
        augmented = self._paces(lambda: m.judged.augmented(self.encoder, m.classes)) if self.augments else None
        # a run from scratch also fits a probe to start from, which took the subject's features so long
        fits = [cost["seconds"] for row in m.rows if row.method == PROBE for cost in row.budget.values()]
        probe = sum(fits) / max(1, len(fits))
        cell = 0.1 + 0.6 * (self._learned(self.labelled.largest) * self.item + probe)
        return Pace(plain, self.item, cell, augmented)

    def _paces(self, objective: Callable[[], Any]) -> dict[int, float]:
        """Seconds for a step, by labels per class."""
        m = self.measurement
        by_batch: dict[int, float] = {}
        step: dict[int, float] = {}
        for count in self.labelled.counts:
            train = self.labelled.draws[count, self.labelled.seeds[0]].train
            batch = batch_for(len(train))
            if batch not in by_batch:
                images, labels = m.images[rows(m.row_of, train)], self.labelled.labels[train]
                torch.manual_seed(0)
                loop = loop_of(
                    objective(), m.judged.items(self.encoder, images, labels), m.judged.recipe(self.encoder, True),
                    steps=100, device=self.encoder.device,
                )  # fmt: skip
                by_batch[batch] = loop.seconds_per_step(2, min(1.0, 0.005 * m.budget))
            step[count] = by_batch[batch]
        return step

    def _learned(self, count: int) -> int:
        return max(len(self.labelled.draws[count, seed].train) for seed in self.labelled.seeds)
