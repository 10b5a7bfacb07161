"""Runs a loop to its end under watch, and does what was asked about an illness: warns, stops, or applies its remedy.

What is done is a pure function of (seed, settings, data): appointments are fixed before the first step, treatments are kept in
every checkpoint, and the checkpoint that a run goes back to is that of an appointment, not of a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from withheld import distributed
from withheld.errors import Diverged, WithheldError
from withheld.json_lines import read_lines
from withheld.learn.checkpoint import Keeper, load_state, newest, save_state, step_of, steps_in
from withheld.learn.gradient import Loop
from withheld.learn.illness import SICK, WARN, Finding
from withheld.learn.log import Log
from withheld.learn.remedy import HARMLESS, Treatment, apply, remedy_for
from withheld.learn.watch import Watch, news

ON_SICK = ("warn", "stop", "fix")
MOST_TREATMENTS = 3
"""After so many a person should look."""


class Sick(WithheldError):
    """`--on-sick stop`: the run fell ill; a checkpoint was written first."""

    exit_code = 3

    def __init__(self, step: int, finding: dict[str, Any]) -> None:
        self.step = step
        super().__init__(
            f"stopped at step {step}: {finding['illness']}: {finding['reason']}. Cure, in a new run (another --out): "
            f"{finding['cure']}. To go on all the same: --resume --on-sick warn"
        )


class _Back(Exception):
    def __init__(self, step: int) -> None:
        self.step = step


class Care:
    """One run under watch.

    Args:
        loop: a gradient `Loop` or an `Alternation`.
        keeper: its checkpoints; treatments are kept among its notes.
        out: the run folder.
        watch: of the first process; None on others.
        appointments: the steps at which all processes decide.
        on_sick: "warn", "stop" or "fix".
        tell: is told of steps, notes and findings.
        treated: is called with all treatments so far when there is a new one.
    """

    def __init__(
        self, loop: Any, keeper: Keeper, out: Path, watch: Watch | None, appointments: list[int], on_sick: str,
        tell: Callable[..., None], treated: Callable[[list[Treatment]], None] = lambda all: None,
    ) -> None:  # fmt: skip
        self.loop, self.keeper, self.out, self.watch = loop, keeper, out, watch
        self.appointments, self.on_sick, self.tell, self.treated = set(appointments), on_sick, tell, treated
        self.recipe = loop.recipe
        self.weights = dict(loop.objective.weights) if isinstance(loop, Loop) else {}
        self.given_up = False
        self.log: Log | None = None
        self.pending: Treatment | None = None

    def run(self, start: int) -> None:
        """All steps from `start`.

        Raises:
            Sick: with on_sick="stop". Diverged, Interrupted: as the loop does.
        """
        while True:
            self._begin(start)
            try:
                self.loop.run(self.keeper, self._hear, start)
                return
            except _Back as back:
                start = back.step
            except Diverged as error:
                start = self._after_divergence(error)
            finally:
                if self.log is not None:
                    self.log.close()

    @property
    def treatments(self) -> list[Treatment]:
        """All so far, as checkpoints keep them."""
        return self.keeper.notes.setdefault("treatments", [])  # type: ignore[no-any-return]

    def _begin(self, start: int) -> None:
        apply(self.loop, self.recipe, self.weights, self.treatments)
        if self.treatments and self.treatments[-1]["from"] == start and self.treatments[-1]["back"]:
            self.pending = self.treatments[-1]
        if self.watch is not None:
            self.log = Log(self.out / "log.jsonl", start)
            self.watch.begin(start, read_lines(self.out / "log.jsonl"), self.loop.recipe.base_learning_rate)
        if self._fixes:
            self._drop_after(self.out / "healthy", start)
            if start == 0:
                self._keep_healthy(0)

    @property
    def _fixes(self) -> bool:
        return self.on_sick == "fix" and isinstance(self.loop, Loop)

    def _hear(self, line: dict[str, Any]) -> None:
        before = list(self.watch.history.findings) if self.watch is not None else []
        found = self.watch.hear(line) if self.watch is not None else None
        if self.pending is not None:
            line["treatment"], self.pending = self.pending, None
        action = self._decided(line, found)
        treatment = self._treat(line["step"], action) if action and self.on_sick == "fix" else None
        if treatment is not None and not treatment["back"]:
            line["treatment"] = treatment
        note = line.pop("note", None)
        if note:
            self.tell("note", text=note)
        if self.log is not None:
            self.log.write(line)
        self.tell("step", **line)
        if found is not None:
            for each in news(before, found):
                self.tell("health", step=line["step"], **each.to_json())
        if action and self.on_sick == "stop":
            self.loop.save(self.keeper, line["step"])
            raise Sick(line["step"], action)
        if treatment is not None:
            self._tell_of(treatment)
        if treatment is not None and treatment["back"]:
            raise _Back(treatment["from"])

    def _decided(self, line: dict[str, Any], found: list[Finding] | None) -> dict[str, Any] | None:
        """The illness to act on, the same on every process."""
        if self.on_sick == "warn" or line["step"] == self.loop.steps:
            return None  # at the last step there is nothing left to do
        if isinstance(self.loop, Loop) and line["step"] not in self.appointments:
            return None
        sick = [each.to_json() for each in found or [] if each.state == SICK]
        well = not any(each.state in (WARN, SICK) and each.illness not in HARMLESS for each in found or [])
        if self._fixes:
            sick = [each for each in sick if remedy_for(each["illness"]) and not self._resting(each, line["step"])]
            sick = [] if self._give_up(sick) else sick
        chosen, well = distributed.from_first([sick[0] if sick else None, well])
        if well and self._fixes:
            self._keep_healthy(line["step"])
        return chosen  # type: ignore[no-any-return]

    def _resting(self, finding: dict[str, Any], step: int) -> bool:
        """Whether a treatment of this illness still has to show what it does."""
        past = [each for each in self.treatments if each["illness"] == finding["illness"]]
        return bool(past) and step < past[-1].get("until", 0)

    def _give_up(self, sick: list[dict[str, Any]]) -> bool:
        """Whether enough was tried; said once."""
        if len(self.treatments) < MOST_TREATMENTS:
            return False
        if sick and not self.given_up:
            self.given_up = True
            self.tell(
                "note",
                text=f"{sick[0]['illness']}: {MOST_TREATMENTS} remedies were tried, no more are: see withheld doctor",
            )
        return True

    def _treat(self, step: int, finding: dict[str, Any]) -> Treatment:
        """Decides on a remedy, keeps it, and applies what is done on the spot."""
        remedy = remedy_for(finding["illness"])
        assert remedy is not None  # noqa: S101 - only such are decided on
        treatment = remedy(self.loop, step, finding["illness"])
        if treatment["back"]:
            treatment["from"] = self._go_back(step)
        self.keeper.notes["treatments"] = [*self.treatments, treatment]
        apply(self.loop, self.recipe, self.weights, self.treatments)
        if treatment["back"]:
            self._drop_after(self.keeper.state, treatment["from"])
            self.loop.save(self.keeper, treatment["from"])
        self.treated(self.treatments)
        return treatment

    def _tell_of(self, treatment: Treatment) -> None:
        told = f"step {treatment['step']}: {treatment['illness']}; {treatment['words'].format(**treatment)}"
        self.tell("note", text=told)

    def _after_divergence(self, error: Diverged) -> int:
        """Where to go on after a loss that is not finite; the error itself where nothing is to be done."""
        if not self._fixes or len(self.treatments) >= MOST_TREATMENTS:
            raise error
        treatment = self._treat(self.loop.at, {"illness": "divergence", "reason": str(error)})
        self._tell_of(treatment)
        return int(treatment["from"])

    def _keep_healthy(self, step: int) -> None:
        with distributed.whole_state(self.loop.objective):
            if distributed.rank() == 0:
                save_state(
                    self.out / "healthy",
                    step,
                    self.loop.objective,
                    self.loop.optimizer,
                    keep=1,
                    notes=self.keeper.notes,
                )
        distributed.await_first()

    def _go_back(self, step: int) -> int:
        """Loads the last healthy checkpoint and returns its step; stays where there is none."""
        folder, _ = newest(self.out / "healthy")
        if folder is None:
            return step
        found = load_state(folder, self.loop.objective, self.loop.optimizer)
        distributed.take_part(self.loop.objective)
        return found

    def _drop_after(self, folder: Path, step: int) -> None:
        """Checkpoints of a way that was not taken."""
        if distributed.rank() == 0:
            for each in steps_in(folder):
                if step_of(each) > step:
                    shutil.rmtree(each, ignore_errors=True)
        distributed.barrier()
