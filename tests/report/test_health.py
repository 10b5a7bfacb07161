"""The page's section on health: a table over the steps, and illnesses with their cures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from withheld.report.folder import read_folder
from withheld.report.headline import headline
from withheld.report.health import MOST, read_health
from withheld.report.page import render


def finding(state: str, **more: Any) -> dict[str, Any]:
    ill = {"illness": "dead codes", "reason": "60 of 64 codes are <never> chosen", "cure": "--set codes=16"}
    return {
        "vital": "codes",
        "state": state,
        "value": "perplexity 2",
        **(ill if state in ("warn", "sick") else {}),
        **more,
    }


def folder(path: Path, states: list[str], **more: Any) -> Path:
    path.mkdir()
    (path / "run.json").write_text('{"method": "vq_vae2"}')
    lines = []
    for i, state in enumerate(states):
        health = {"state": state, "findings": [finding(state), {"vital": "input", "state": "ok"}]}
        lines.append({"step": 10 * (i + 1), "steps": 100, "loss": 1.0, "health": health, **(more if i == 1 else {})})
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_lasting_illness_comes_first_with_its_cure(tmp_path: Path) -> None:
    treatment = {"step": 30, "illness": "dead codes", "remedy": "codes restarted"}
    found = read_folder(folder(tmp_path / "run", ["not yet", "ok", "warn", "sick"], treatment=treatment))
    health = read_health(found)
    assert health["words"] == "This run is sick: dead codes."
    assert health["steps"] == ["10", "20", "30", "40"]
    (row,) = [row for row in health["rows"] if row["name"] == "codes"]
    assert [cell["state"] for cell in row["cells"]] == ["not-yet", "ok", "warn", "sick"]
    (worse,) = health["worse"]
    assert (worse["state"], worse["when"]) == ("sick", "from step 30")
    assert health["treatments"] == ["At step 30: dead codes; remedy: codes restarted"]
    page = render(found)
    assert "Cure: --set codes=16." in page
    assert "&lt;never&gt;" in page
    assert "<never>" not in page


def test_a_remedy_is_told_with_its_numbers(tmp_path: Path) -> None:
    treatment = {
        "step": 8,
        "illness": "collapse",
        "remedy": "lower learning rate",
        "factor": 1 / 3,
        "from": 4,
        "back": True,
    }
    health = read_health(read_folder(folder(tmp_path / "run", ["ok", "ok"], treatment=treatment)))
    assert health["treatments"] == ["At step 8: collapse; remedy: lower learning rate, times 0.33, again from step 4"]


def test_a_model_that_is_sick_does_not_begin_with_learned_alone(tmp_path: Path) -> None:
    for states, word in ((["ok", "ok"], "Learned"), (["ok", "sick"], "Learned, and sick")):
        path = folder(tmp_path / states[-1], states)
        (path / "run.json").write_text('{"method": "mixture", "modality": "table"}')
        shown = headline(read_folder(path), None, None)
        assert shown["word"] == word
        assert ("the run is sick" in shown["rest"] + shown["sentence"]) == (states[-1] == "sick")


def test_what_was_cured_is_told_as_past(tmp_path: Path) -> None:
    health = read_health(read_folder(folder(tmp_path / "run", ["sick", "sick", "ok"])))
    assert health["words"].startswith("Healthy at the end")
    assert health["worse"][0]["when"] == "from step 10, and not since step 20"


def test_an_illness_that_eased_is_what_doctor_says_it_is(tmp_path: Path) -> None:
    health = read_health(read_folder(folder(tmp_path / "run", ["ok", "warn", "sick", "warn"])))
    assert health["words"] == "Worth a look: dead codes."
    (worse,) = health["worse"]
    assert (worse["state"], worse["when"], worse["lasts"]) == ("warn", "from step 20, sick until step 30", "yes")


def test_no_checkups_no_section_and_many_are_thinned(tmp_path: Path) -> None:
    assert read_health(read_folder(folder(tmp_path / "none", []))) == {}
    health = read_health(read_folder(folder(tmp_path / "many", ["ok"] * 500)))
    assert len(health["steps"]) == MOST
    assert health["steps"][-1] == "5,000"
    assert health["words"] == "Healthy: nothing was found."


def test_damaged_entries_do_not_crash(tmp_path: Path) -> None:
    path = folder(tmp_path / "run", ["ok"])
    odd = [
        {
            "step": 20,
            "health": {"state": 3, "findings": [{"vital": None}, 7, {"vital": "x", "state": ["sick"], "value": {}}]},
        },
        {"step": 30, "health": [1], "treatment": "none"},
        {"step": 40, "health": {"findings": "none"}, "treatment": {"step": "x"}},
    ]
    with open(path / "log.jsonl", "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
    assert "Health" in render(read_folder(path))
