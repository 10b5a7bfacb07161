"""The road of texts through the command line: check, show, pretrain, finetune, predict, export; and what goes wrong on it."""

from __future__ import annotations

import csv
import json
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


def test_of_a_single_text_nothing_is_chosen_or_labelled(withheld, tmp_path, reviews):
    (tmp_path / "one.txt").write_text("\n".join(f"{LINES['good'][i % 2]}, said number {i}." for i in range(600)))
    said = withheld("check", tmp_path / "one.txt").output
    assert "save them one a row, as a .csv or .jsonl" in said
    assert "withheld pretrain auto" in said
    assert "withheld suggest" not in said
    assert "withheld predict" not in said
    assert "withheld suggest" in withheld("check", reviews).output


def test_the_column_that_is_taken_is_said_and_how_to_take_another(withheld, tmp_path):
    path = tmp_path / "mail.csv"
    row = "'re: the old house','dear friends we went down to the sea and it rained all day',good\n".replace("'", '"')
    path.write_text("subject,body,label\n" + row * 300)
    said = f"the column 'body' is taken for the text, and not 'subject'; to take another one: {path}:subject"
    assert said in withheld("check", path).stdout
    heard = withheld("pretrain", "bert", "--data", path, "--out", tmp_path / "run", "--steps", 2, "--size", 16)
    assert heard.output.count(said) == 1
    embedded = withheld("embed", tmp_path / "run", path, "-o", tmp_path / "a.parquet")
    assert said in embedded.output
    other = withheld("check", f"{path}:subject")
    assert other.exit_code == 0
    assert "is taken for the text" not in other.output
    assert "the median text has 17" in other.stdout


def test_what_an_item_is_is_said(withheld, tmp_path):
    """Lines of a .txt of short sentences, passages of any other."""
    words = ["old", "song", "rain", "sea", "house", "friend"]
    lines = [f"The {words[i % 6]} was {words[i % 5]} number {i}." for i in range(400)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    (tmp_path / "book.txt").write_text("\n".join(line[:-1] for line in lines))
    for name, items, said in (
        ("lines", 400, "400 lines of about 6 words; passages of about a page instead: --set sentences=passages"),
        ("book", 8, "8 passages of about 299 words; each line an item instead: --set sentences=lines"),
    ):
        path = tmp_path / f"{name}.txt"
        assert said in withheld("check", path).stdout
        out = tmp_path / name
        heard = withheld("pretrain", "same_text", "--data", path, "--out", out, "--steps", 2, "--batch-size", 4)
        assert heard.exit_code == 0, heard.output
        assert said in heard.output
        data = json.loads((out / "run.json").read_text())["data"]
        assert data["items"] + data["held_out"] == items
        assert data["sentences"] == ("lines" if name == "lines" else "passages")


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


def test_a_mask_is_one_in_small_letters_too(withheld, run):
    found = [withheld("fill", run, f"a {mask} film") for mask in ("[MASK]", "[mask]", "<Mask>")]
    assert {each.exit_code for each in found} == {0}
    assert len({each.stdout for each in found}) == 1


def test_show_of_whole_sentences(withheld, tmp_path):
    from withheld import pretrain

    lines = [f"the {'dog' if i % 3 else 'small cat'} sleeps near the sea {i % 7}" for i in range(80)]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines))
    before = withheld("show", "sentence_vae", path, "--items", 3, "-o", tmp_path / "a.png")
    assert before.exit_code == 0, before.output
    assert len(before.stdout.splitlines()) == 4
    assert all(line.count("sleeps") == 1 for line in before.stdout.splitlines()[:3])
    assert "told from z" in before.stderr
    run = pretrain("sentence_vae", path, tmp_path / "run", steps=2, batch_size=8, pictures=False)
    after = withheld("show", "sentence_vae", path, "--run", run.folder, "--items", 3, "-o", tmp_path / "b.png")
    assert after.exit_code == 0, after.output


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
        (("score", run, "  "), "the text is empty"),
        (("fill", run, ""), "no [MASK] in the text"),
        (("likelihood", run, "--data", reviews), "no log p(text)"),
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
