"""The road of texts through the command line: check, show, pretrain, finetune, predict, export; and what goes wrong on it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

LINES = {"good": ["a wonderful bright film", "great fun and music"], "bad": ["a dull grey film", "no fun and noise"]}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["review", "label"])
        table.writerows([f"{LINES[name][i % 2]} {i}", name] for i in range(150) for name in LINES)
    return path


@pytest.fixture(scope="module")
def run(reviews, tmp_path_factory) -> Path:
    import withheld

    out = tmp_path_factory.mktemp("runs") / "bert"
    withheld.pretrain("bert", reviews, out, steps=3, size=16, batch_size=8, pictures=False)
    return out


def test_check_says_what_to_run_next(withheld, reviews):
    result = withheld("check", reviews)
    assert result.exit_code == 0
    assert "300" in result.stdout
    assert "is not looked at by pretraining" in result.stdout
    for verb in ("pretrain same_text", "pretrain auto", "show same_text", "evaluate", "finetune", "predict"):
        assert f"withheld {verb}" in result.output


def test_show_before_and_after(withheld, reviews, run, tmp_path):
    before = withheld("show", "bert", reviews, "--size", 16, "--items", 2, "-o", tmp_path / "a.png")
    assert before.exit_code == 0
    assert "[" in before.stdout.splitlines()[0]
    assert str(tmp_path / "a.png") in before.stdout
    after = withheld("show", "bert", reviews, "--run", run, "--items", 2, "-o", tmp_path / "b.png")
    assert after.exit_code == 0
    assert " 0." in after.stdout
    assert (tmp_path / "b.png").stat().st_size > 1000
    assert withheld("show", "transformer_lm", reviews, "--run", run).exit_code == 2
    assert withheld("show", "bert", reviews, "--run", run, "--size", 16).exit_code == 2


def test_show_of_texts_in_two_parts(withheld, reviews, tmp_path):
    shown = withheld("show", "same_text", reviews, "--items", 4, "-o", tmp_path / "a.png")
    assert shown.exit_code == 0, shown.output
    assert "From which of many texts are they?" in shown.output
    lines = shown.stdout.splitlines()[:4]
    assert all("[" in line and line.replace("[", "").replace("]", "") != line for line in lines)
    assert any(not line.startswith("[") or " [" in line for line in lines)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_finetune_predict_export(withheld, reviews, run, tmp_path):
    model, labels = tmp_path / "model", tmp_path / "labels.csv"
    assert withheld("finetune", run, "--data", reviews, "--out", model, "--steps", 3).exit_code == 0
    assert withheld("predict", model, reviews, "-o", labels).exit_code == 0
    rows = list(csv.DictReader(labels.open()))
    assert len(rows) == 300
    assert rows[2]["file"] == "reviews.csv:3"
    assert withheld("export", model, "--to", "hf", "-o", tmp_path / "hf").exit_code == 0
    assert (tmp_path / "hf" / "tokenizer.json").is_file()


def test_what_goes_wrong_is_said(withheld, reviews, run, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("a short text.")
    for arguments, said in (
        (("show", "bert", short), "give more text, a smaller --size"),
        (("pretrain", "bert", "--data", short, "--out", tmp_path / "r"), "give more text"),
        (("finetune", run, "--data", short, "--out", tmp_path / "m"), "labels"),
        (("predict", run, reviews, "-o", tmp_path / "x.csv"), "make a model of it"),
        (("fill", run, "no gap"), "no [MASK] in the text"),
        (("score", run, "film " * 60), "the model sees 16"),
        (("generate", run, "--prompt", "a"), "sees both ways"),
        (("pretrain", "bert", "--data", reviews, "--out", tmp_path / "r", "--set", "tokenizer=wordpeace"), "wordpiece"),
        (
            ("pretrain", "bert", "--data", reviews, "--out", tmp_path / "r", "--set", "vocabulary=90000"),
            "the text supports",
        ),
    ):
        result = withheld(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert said in result.output, (arguments, result.output)
