"""Shortcut tests: what they declare is run, a shortcut that was laid is found, and a defense that holds is told."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import withheld
from withheld.cli import main
from withheld.errors import InputError
from withheld.evaluate.shortcuts import SAME, Reading, probe_shortcuts
from withheld.losses.prediction import CrossEntropy
from withheld.methods import exemplar, relative_position
from withheld.networks.open import open_trunk
from withheld.report import write
from withheld.report.shortcuts import sentence_of
from withheld.run import constant, load_method, method_names, open_run
from withheld.shortcuts import Probe, Variant


def photos(count: int = 20, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, side, side, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "photos.npy", photos())
    made = {}
    for method in ("relative_position", "exemplar"):
        made[method] = folder / method
        withheld.pretrain(method, folder / "photos.npy", made[method], steps=2, batch_size=8)
    return made


@pytest.mark.parametrize("name", method_names())
def test_what_is_declared_can_be_run(name):
    """Every variant names settings its method or recipe has."""
    from withheld.run import split_settings

    for each in constant(name, "shortcuts", list)():
        assert isinstance(each, Variant | Probe)
        assert each.reads
        if isinstance(each, Variant):
            split_settings(load_method(name), dict(each.settings))


def test_every_declared_row_is_measured_and_kept(runs, monkeypatch):
    run = runs["relative_position"]
    some = [each for each in relative_position.shortcuts() if each.name in ("saddle", "where a patch was", "no gap")]
    monkeypatch.setattr(relative_position, "shortcuts", lambda: some)
    found = probe_shortcuts(run, steps=2, results=run / "results.jsonl")
    rows = {reading.row: reading for reading in found}
    assert list(rows) == ["the run", "saddle", "where a patch was", SAME, "no gap"]
    assert 0 <= rows["the run"].measures["accuracy"] <= 1
    assert rows["saddle"].suspect == ("nats below ln 8",)  # two steps on noise
    assert "accuracy on the run's task" in rows["no gap"].measures
    assert "accuracy on the run's task" not in rows[SAME].measures
    assert "place R2" in rows["no gap"].measures  # asked of variants, too
    kept = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert [line["row"] for line in kept if line["kind"] == "shortcut"] == list(rows)
    page = write(run).read_text()
    assert "Was the task solved by cheating?" in page
    assert "no gap" in page
    assert "the short trainings did not learn from them" in page
    again = probe_shortcuts(run, steps=2)
    assert [r.measures for r in again] == [r.measures for r in found]  # a function of the seed


def test_exemplars_are_asked_of_the_items_themselves(runs, monkeypatch):
    some = [each for each in exemplar.shortcuts() if isinstance(each, Probe) or each.name == "no hue"]
    monkeypatch.setattr(exemplar, "shortcuts", lambda: some)
    result = CliRunner().invoke(main, ["probe-shortcuts", str(runs["exemplar"]), "--steps", "1"])
    assert result.exit_code == 0, result.output
    for words in ("share with a twin", "cosine of two", "no hue", "Report", "learned from these very items"):
        assert words in result.output
    page = (runs["exemplar"] / "report.html").read_text()
    assert "to tell them apart is the task, so all trainings learned from them" in page


def test_of_a_task_at_chance_nothing_is_told(runs, monkeypatch):
    some = [each for each in relative_position.shortcuts() if each.name == "no gap"]
    monkeypatch.setattr(relative_position, "shortcuts", lambda: some)
    result = CliRunner().invoke(main, ["probe-shortcuts", str(runs["relative_position"]), "--steps", "1"])
    assert result.exit_code == 0, result.output
    assert "Nothing can be told: the run solves its task no better than an answer" in result.stdout
    assert "Of its defenses nothing can be told" in result.stdout
    assert "Nothing suspicious" not in result.output
    assert "Nothing can be told: the run solves its task" in (runs["relative_position"] / "report.html").read_text()


def test_right_answers_that_are_too_sure_are_not_chance():
    floor = {"loss": 2.08, "accuracy": 0.125}
    assert Reading("the run", {"loss": 2.0, "accuracy": 0.13}, floor=floor).by_chance is False
    assert Reading("the run", {"loss": 2.08, "accuracy": 0.13}, floor=floor).by_chance is True
    assert Reading("the run", {"loss": 3.0, "accuracy": 0.4}, floor=floor).by_chance is False
    assert Reading("the run", {"loss": 3.0, "accuracy": 0.4}).by_chance is False


def test_what_rows_share_is_said_once(runs, monkeypatch):
    some = [each for each in exemplar.shortcuts() if each.name in ("no hue", "no power")]
    monkeypatch.setattr(exemplar, "shortcuts", lambda: some)
    result = CliRunner().invoke(main, ["probe-shortcuts", str(runs["exemplar"]), "--steps", "1"])
    assert "no power, no hue: without this distortion" in result.stderr
    assert (runs["exemplar"] / "report.html").read_text().count("without this distortion the task is easier") == 1


def test_methods_without_shortcuts_and_bad_settings_are_said(tmp_path, runs):
    np.save(tmp_path / "a.npy", photos(8, 16))
    withheld.pretrain("mae", tmp_path / "a.npy", tmp_path / "mae", steps=1, batch_size=4, pictures=False)
    with pytest.raises(InputError, match="no way to cheat"):
        probe_shortcuts(tmp_path / "mae")
    with pytest.raises(InputError, match="minutes"):
        probe_shortcuts(runs["exemplar"], minutes=0)
    with pytest.raises(InputError, match="not a run"):
        probe_shortcuts(tmp_path)


def test_twins_are_found():
    torch.manual_seed(0)
    trunk, _ = open_trunk("regnet-nano", size=32, channels=3)
    objective, _ = load_method("exemplar")(trunk)
    t = {"item": torch.rand(10, 3, 32, 32), "id": torch.arange(10)}
    objective.fit_parts(t)
    assert exemplar.twin_seeds(objective, t, t)["share with a twin"] == 0
    t["item"][5:] = t["item"][:5] * 0.8 + 0.1  # the same patches, a little paler
    t["id"] = torch.arange(5).repeat(2)
    assert exemplar.twin_seeds(objective, t, t)["share with a twin"] == 1


def test_a_network_is_blind_to_what_is_off_and_not_to_what_is_on():
    torch.manual_seed(0)
    trunk, _ = open_trunk("regnet-nano", size=32, channels=3)
    objective, _ = load_method("exemplar")(trunk, rotation=0.0)
    smooth = torch.nn.functional.interpolate(torch.rand(12, 3, 8, 8), size=32, mode="bilinear")
    t = {"item": smooth, "id": torch.arange(12)}
    objective.fit_parts(t)
    with torch.no_grad():
        found = exemplar.invariances(objective.eval(), t, t)
    assert found["rotation"] == pytest.approx(1, abs=1e-4)
    assert found["power"] < 0.999


def test_a_place_that_colors_tell_is_found_and_projection_hides_it():
    """Green against magenta that grows toward the right, as a lens makes it: it is read, and not through the projection."""
    torch.manual_seed(0)
    trunk, _ = open_trunk("regnet-nano", size=48, channels=3)
    ramp = torch.linspace(-1, 1, 48)
    textures = torch.randn(300, 1, 48, 48).expand(-1, 3, -1, -1)
    lens = torch.tensor([-1.0, 2.0, -1.0]).view(3, 1, 1) * ramp
    found = {}
    for color in ("keep", "project"):
        objective, _ = load_method("relative_position")(trunk, color=color, blur=0.0)
        seen, held = textures[:200] + 3 * lens, textures[200:] + 3 * lens
        with torch.no_grad():
            found[color] = relative_position.absolute_position(objective.eval(), seen, held)["place R2"]
    assert found["keep"] > 0.25  # of two axes one can be told
    assert found["project"] < 0.1


def test_the_saddle_is_the_loss_of_saying_nothing():
    y = torch.randint(8, (50, 40))
    assert float(CrossEntropy()(torch.zeros(50, 40, 8), y)) == pytest.approx(math.log(8), abs=1e-6)
    assert CrossEntropy().measures(torch.nn.functional.one_hot(y, 8).float(), y) == {"accuracy": 1.0}


@pytest.mark.parametrize("method", ["relative_position", "exemplar"])
def test_a_run_opens_as_it_was_trained(runs, method):
    run = open_run(runs[method])
    objective = run.objective()
    assert run.settings["fitted"]["color" if method == "relative_position" else "components"]
    t = torch.rand(3, 3, 32, 32)
    encoder = run.encoder()
    fed = (
        t
        if method == "exemplar"
        else (t - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1)
    )
    with torch.no_grad():
        direct = objective.trunk(objective.split.full(fed)).pooled
        torch.testing.assert_close(encoder.eval()(t).pooled, direct, atol=1e-4, rtol=1e-4)
    log = [line["vitals"] for line in run.log() if "vitals" in line]
    assert log
    assert 0 <= log[-1]["accuracy"] <= 1
    listed = json.loads((run.folder / "pictures" / "index.json").read_text())
    sections = {each["section"] for each in listed}
    assert ({"pairs", "confusion", "near_patches"} if method == "relative_position" else {"exemplars"}) <= sections


def test_the_last_line_names_what_is_suspicious_and_is_silent_about_few() -> None:
    found = [
        Reading("the run", {"accuracy": 0.9}, items=40),
        Reading("still", {"share": 1.0}, suspect=("share",), items=40),
    ]
    assert sentence_of([each.to_json() for each in found]) == "Suspicious: still"
    few = [dataclasses.replace(each, items=1) for each in found]
    assert sentence_of([each.to_json() for each in few]).startswith("Nothing can be told: only 1 item was held out")


def test_items_held_out_are_counted(runs: dict[str, Path]) -> None:
    found = probe_shortcuts(runs["relative_position"], steps=1)
    assert {each.items for each in found} == {4}
