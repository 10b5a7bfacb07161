"""doctor: is it learning, what ails it, and the cure."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from withheld.cli.options import RUN, talking
from withheld.screen import Screen

STYLES = {"sick": "bold red", "warn": "yellow", "ok": "", "not yet": "dim"}


@click.command("doctor")
@click.argument("run", type=RUN)
@click.option("--strict", is_flag=True, help="End with exit code 1 where the run is sick, for scripts.")
@talking
def doctor_command(run: Path, strict: bool, screen: Screen) -> int:
    """Is RUN learning? What ails it, and the cure. Reads its log: also of a run that is still going on.

    \b
      withheld doctor runs/first
      withheld doctor runs/first --strict || echo "look at runs/first"

    \b
    Every vital is
      ok       as it should be
      warn     worth a look; also what was sick once and may be chance
      sick     an illness, with its reason and the cure
      not yet  too early to tell
    A run can act on an illness by itself: withheld pretrain ... --on-sick stop, or fix.
    """
    from withheld.learn.illness import NOT_YET, SICK, WARN, History, facts_of, worst
    from withheld.learn.rules_of_training import RULES
    from withheld.run import describe_methods, open_run

    opened = open_run(run)
    knows = [each["settings"] for each in describe_methods() if each["name"] == opened.settings.get("method")]
    history = History(facts_of(opened.settings, list(knows[0]) if knows else []), RULES)
    lines = opened.log()
    for line in lines:
        history.hear(line)
    if not history.findings:
        done = f"step {lines[-1]['step']}" if lines else "no step"
        screen.result(f"{run}: no vitals yet ({done}); they are taken at the first step and then 5 to 25 times a run")
        return 0
    rows = [[each.vital, each.value, _state(each), _words(each)] for each in history.findings]
    last = history.checkups[-1]
    title = f"{opened.settings.get('title')}, step {last.step:,} of {last.steps:,}"
    screen.table(
        title, ["vital", "value", "state", "reason and cure"], rows,
        [STYLES[each.state] for each in history.findings],
    )  # fmt: skip
    for each in opened.settings.get("treatments") or []:
        screen.say(f"step {each['step']}: {each['illness']}: {each['words'].format(**each)}")
    still = {each.illness for each in history.findings if each.state == SICK}
    for illness, (first, until) in history.sick.items():
        if illness not in still:
            screen.say(f"earlier: {illness}, sick at step {first:,}" + (f" to {until:,}" if until > first else ""))
    if where := _whereabouts(run, int(lines[-1]["step"]), last.steps):
        screen.say(where)
    state = worst(history.findings)
    ill = ", ".join(dict.fromkeys(each.illness for each in history.findings if each.state == state))
    screen.result(f"{state}: {ill}" if state in (WARN, SICK) else state if state == NOT_YET else "healthy")
    return 1 if strict and state == SICK else 0


def _whereabouts(run: Path, step: int, steps: int) -> str:
    """Whether the run goes on, and if not, whether it was to end there; "" of one that is done."""
    from withheld.lock import is_held

    if is_held(run):
        return f"it goes on: step {step:,} of {steps:,} was the last one written"
    if step >= steps:
        return ""
    again = f"withheld pretrain ... --out {shlex.quote(str(run))} --resume"
    try:
        status = json.loads((run / "status.json").read_text(encoding="utf-8"))
        state, reason = str(status["state"]), str(status["reason"]).splitlines()[:1]
    except (OSError, ValueError, KeyError, TypeError):
        state, reason = "", []
    if state == "sick":
        return f"it was stopped at step {step:,} of {steps:,}, for it was sick; all the same: {again} --on-sick warn"
    told = (
        f" ({reason[0]})"
        if reason
        else ", without a word, as where its process is killed"
        if state == "running"
        else ""
    )
    return f"it ended at step {step:,} of {steps:,}{told}; to go on: {again}"


def _state(found: Any) -> str:
    """Such as "sick since step 40"."""
    return f"{found.state} since step {found.since:,}" if found.state in ("warn", "sick") else found.state


def _words(found: Any) -> str:
    return f"{found.illness}: {found.reason}\ncure: {found.cure}" if found.cure else ""
