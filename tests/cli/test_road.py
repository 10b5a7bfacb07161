"""The whole road by commands, on a little data: each makes what it says and names what comes next."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from withheld.cli.judge import evaluate_aloud
from withheld.run import RECIPE_SETTINGS
from withheld.screen import Screen

Run = Callable[..., Result]
QUICK = ("--labels-per-class", "2,4", "--seeds", 2, "--minutes", 0.3)


@pytest.fixture(scope="module")
def evaluated(run: Path, labelled: Path, withheld: Run) -> Result:
    result = withheld("evaluate", run, "--data", labelled, *QUICK)
    assert result.exit_code == 0, result.output
    return result


def test_list_and_methods(withheld: Run) -> None:
    assert "mae" in withheld("list").stdout
    assert "mae" in withheld("list", "--modality", "image").stdout
    told = withheld("methods", "mae").stdout
    assert "--set ratio=0.75" in told
    for name in set(RECIPE_SETTINGS) - {"hold", "decay"}:  # of the schedule "steps", told there
        assert re.search(rf"^    [\w, ]*\b{name}\b[\w, ]*: \S", told, re.MULTILINE), name
    assert withheld("methods", "may").exit_code == 2
    assert withheld("list", "--modality", "images").exit_code == 2


def test_check_tells_what_it_costs(labelled: Path, withheld: Run) -> None:
    result = withheld("check", labelled)
    assert result.exit_code == 0, result.output
    for words in ("images", "duplicates", "look like labels", "suggested", "items/s", "an epoch"):
        assert words in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"withheld pretrain patch_dictionary --data {labelled}")
    for words in (
        "too few images to learn from",
        "All the same",
        "--encoder facebook/dinov2-small",
        "withheld suggest",
    ):
        assert words in result.output


def test_a_dry_run_leaves_nothing(labelled: Path, tmp_path: Path, withheld: Run) -> None:
    result = withheld("pretrain", "mae", "--data", labelled, "--out", tmp_path / "dry", "--minutes", 1, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "epochs" in result.stderr
    assert not (tmp_path / "dry").exists()


def test_show_draws(run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    for name, more in (("split", ()), ("filled", ("--run", run))):
        result = withheld("show", "mae", labelled, "-o", tmp_path / f"{name}.png", "--items", 2, *more)
        assert result.exit_code == 0, result.output
        assert Image.open(tmp_path / f"{name}.png").size[0] > 100
    assert withheld("show", "mae", labelled, "--run", run, "--set", "ratio=0.5").exit_code == 2
    assert withheld("show", "predict_part", labelled, "--run", run).exit_code == 2
    assert withheld("show", "mae", labelled, "-o", tmp_path / "x.gif").exit_code == 2


def test_the_verdict_is_the_last_line(evaluated: Result, run: Path) -> None:
    sentence = evaluated.stdout.splitlines()[-1]
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert sentence == [line for line in lines if line["kind"] == "verdict"][-1]["sentence"]
    assert "linear probe" in evaluated.stdout
    assert "2 per class" in evaluated.stdout
    assert (run / "report.html").is_file()
    assert str(run / "report.html") in evaluated.stderr


def test_report_prints_the_path(run: Path, withheld: Run) -> None:
    result = withheld("report", run)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(run / "report.html")


def test_an_encoder_without_a_run_is_judged_the_same(run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    told = withheld("evaluate", run / "encoder", "--data", labelled, *QUICK)
    assert told.exit_code == 2
    assert "--out" in told.stderr
    result = withheld("evaluate", run / "encoder", "--data", labelled, "--out", tmp_path / "out", *QUICK)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "report.html").is_file()


def test_finetune_predict_and_export(run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    model = tmp_path / "model"
    made = withheld("finetune", run, "--data", labelled, "--out", model, "--steps", 3)
    assert made.exit_code == 0, made.output
    assert "withheld predict" in made.stderr
    output = tmp_path / "labels.csv"
    assert withheld("predict", model, labelled, "-o", output).exit_code == 0
    rows = list(csv.DictReader(output.open(encoding="utf-8")))
    assert len(rows) == 40
    assert set(rows[0]) == {"file", "label", "probability"}
    assert {row["label"] for row in rows} <= {"across", "down"}
    again = withheld("predict", model, labelled, "-o", output)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert withheld("predict", model, labelled, "-o", output, "--force").exit_code == 0
    assert withheld("export", model, "--to", "hf", "-o", tmp_path / "hf").exit_code == 0
    assert (tmp_path / "hf" / "config.json").is_file()


def test_embed(run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    for name in ("f.npz", "f.parquet"):
        assert withheld("embed", run, labelled, "-o", tmp_path / name).exit_code == 0
    with np.load(tmp_path / "f.npz", allow_pickle=False) as kept:
        assert len(kept["names"]) == len(kept["features"]) == 40
    assert withheld("embed", run, labelled, "-o", tmp_path / "f.csv").exit_code == 2


def test_export_opens_in_transformers(run: Path, tmp_path: Path, withheld: Run) -> None:
    from transformers import AutoModel

    result = withheld("export", run, "--to", "hf", "-o", tmp_path / "hf")
    assert result.exit_code == 0, result.output
    assert AutoModel.from_pretrained(tmp_path / "hf", trust_remote_code=False).config.hidden_size > 0


def test_a_sweep_is_kept_row_by_row(labelled: Path, tmp_path: Path, withheld: Run) -> None:
    recipe, out = tmp_path / "sweep.yaml", tmp_path / "out"
    text = "method: mae\nsteps: 2\nbatch_size: 16\nevaluate: {labels_per_class: [2], seeds: 2, minutes: 0.05}\n"
    recipe.write_text(text + "sweep: {ratio: [0.5, 0.75]}\nrow: linear probe\n")
    result = withheld("run", recipe, "--data", labelled, "--out", out)
    assert result.exit_code == 0, result.output
    table = json.loads((out / "sweep.json").read_text())
    assert table["parameter"] == "ratio"
    assert [score["value"] for score in table["scores"]] == [0.5, 0.75]
    assert result.stdout.strip().endswith("report.html")
    assert withheld("run", recipe, "--data", labelled, "--out", out).exit_code == 2
    results = out / "ratio=0.5" / "results.jsonl"
    before = results.read_bytes()
    (out / "ratio=0.75" / "results.jsonl").unlink()
    resumed = withheld("run", recipe, "--data", labelled, "--out", out, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert results.read_bytes() == before, "what is finished is not done again"
    assert json.loads((out / "sweep.json").read_text())["scores"][0] == table["scores"][0]


def test_python_m_withheld_is_withheld(run: Path) -> None:
    command = [sys.executable, "-m", "withheld", "report", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "report.html")


def test_a_reader_who_leaves_is_no_error(run: Path) -> None:
    command = f'"{sys.executable}" -m withheld methods | head -n 1'
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("won", [True, False])
def test_how_to_keep_what_guessing_won(won: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    said = "self-training, which learns from unlabelled items too, does better still" if won else "no verdict"
    monkeypatch.setattr("withheld.evaluate.verdict.verdict", lambda *a, **k: SimpleNamespace(sentence=said))
    monkeypatch.setattr("withheld.cli.judge.show_verdict", lambda screen, found: None)
    monkeypatch.setattr("withheld.report.write", lambda folder: folder / "report.html")
    evaluate_aloud(Screen(), "runs/first", "my photos", tmp_path)
    out = "".join(capsys.readouterr())
    line = "withheld finetune runs/first --data 'my photos' --unlabelled DATA --out MODEL"
    assert (line in out) == won
    assert said in out
