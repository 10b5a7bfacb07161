"""`pretrain auto`: what it sees in data, what it chooses by the table, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from withheld.asked import Asked
from withheld.auto import Choice, choose, decide, look
from withheld.auto_rules import RULES, Facts, Rule
from withheld.cli import main
from withheld.errors import InputError
from withheld.run import method_names, modality_of

MODALITIES = ("image", "text", "video", "table")


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_ends_in_a_rule_that_always_fits(modality: str) -> None:
    last = [rule for rule in RULES if rule.modality == modality][-1]
    assert last.method in method_names()
    assert last.when(Facts(modality, 10**6))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.modality}-{rule.method or 'refuses'}")
def test_every_rule_says_why_and_what_it_rests_on(rule: Rule) -> None:
    assert rule.why.format(items=1, minutes=1.0, characters=1)
    assert rule.measured
    if rule.method in method_names():
        assert modality_of(rule.method) == rule.modality


@pytest.mark.parametrize(
    ("facts", "method"),
    [
        (Facts("image", 50_000, side=32), "simclr"),
        (Facts("image", 5_000, side=32), "simclr"),
        (Facts("image", 4_999, side=32), "patch_dictionary"),
        (Facts("image", 9_999, side=96), "patch_dictionary"),
        (Facts("image", 10_000, side=96), "simclr"),
        (Facts("image", 50_000, side=28, grey=True), "patch_dictionary"),
        (Facts("image", 1600, side=300), "patch_dictionary"),
        (Facts("image", 1600, side=300, named=True), "simclr"),
        (Facts("image", 50_000, side=32, minutes=1.0), "patch_dictionary"),
        (Facts("image", 50_000, side=32, minutes=1.0, gpu=True), "simclr"),
        (Facts("image", 900, side=300, continues=True), "simclr"),
        (Facts("text", 100, characters=10**6), "same_text"),
        (Facts("text", 100, characters=10**6, continues=True), "bert"),
        (Facts("text", 10**6, characters=10**9, streamed=True), "bert"),
        (Facts("video", 50), "videomae"),
        (Facts("table", 150), "mixture"),
    ],
)
def test_the_table_as_it_stands(facts: Facts, method: str) -> None:
    assert choose(facts).method == method


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            Facts("image", 90),
            r"too few images to learn from \(90\).*--encoder.*name a method: withheld pretrain patch_dictionary",
        ),
        (Facts("text", 3, characters=5000), r"too few characters to learn from \(5,000\)"),
        (Facts("video", 4), r"too few clips to learn from \(4\)"),
        (Facts("table", 12), r"too few rows to find groups in \(12\)"),
    ],
)
def test_too_little_is_refused_with_the_remedy(facts: Facts, told: str) -> None:
    with pytest.raises(InputError, match=told):
        choose(facts)


def test_a_method_that_is_not_there_is_passed_over() -> None:
    rules = (Rule("image", lambda f: True, "no_such_method", "", "x"), *RULES)
    assert choose(Facts("image", 50_000), rules).method == "simclr"


def test_what_is_given_is_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "photos.npy", np.zeros((1200, 70, 70), np.uint8))
    found = decide(tmp_path / "photos.npy", encoder="regnet-nano", size=48, batch_size=32)
    assert (found.method, found.encoder, found.size, found.batch_size) == ("simclr", "regnet-nano", 48, 32)
    assert found.asked(Asked(settings={"crop": 0.5})).settings == {"crop": 0.5}
    assert len(found.lines()) == 2


def test_what_it_sees(tmp_path: Path) -> None:
    for at in range(3):
        (tmp_path / "photos" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "test").mkdir(exist_ok=True)
        Image.new("L", (40, 20)).save(tmp_path / "photos" / ("train" if at else "test") / f"{at}.png")
    assert look(tmp_path / "photos") == Facts("image", 2, side=40, grey=True)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("once upon a time " * 100)
    assert look(tmp_path / "books") == Facts("text", 1, characters=1700)
    (tmp_path / "reviews.csv").write_text("text,stars\n" + "a good film,5\n" * 9)
    assert look(tmp_path / "reviews.csv").modality == "text"
    (tmp_path / "flowers.csv").write_text("petal,sepal\n" + "1.123456789,0.987654321\n" * 9)
    assert look(tmp_path / "flowers.csv") == Facts("table", 9)
    np.save(tmp_path / "bits.npy", np.eye(60))
    assert look(tmp_path / "bits.npy") == Facts("table", 60, binary=True)
    assert choose(look(tmp_path / "bits.npy")).settings["kind"] == "bernoulli"
    np.save(tmp_path / "clips.npy", np.zeros((4, 6, 16, 16, 3), np.uint8))
    assert look(tmp_path / "clips.npy").modality == "video"
    with pytest.raises(InputError, match="name the method"):
        look("run:runs/first")
    with pytest.raises(InputError, match="no file or folder"):
        look(tmp_path / "nothing")


def test_a_checkpoint_is_told_from_a_preset(tmp_path: Path) -> None:
    data = np.zeros((40, 8, 8), np.uint8)
    assert not look(data, "vit-tiny").continues
    assert not look(data, tmp_path / "config.json").continues
    assert look(data, "runs/first/encoder").continues


def test_the_run_is_of_the_method_chosen_and_says_why(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", random.normal(size=(80, 3)) + np.repeat([[0.0], [9.0]], 40, axis=0))
    words = ["pretrain", "auto", "--data", tmp_path / "rows.npy", "--out", tmp_path / "run", "--set", "components=2"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "auto: mixture" in result.stderr
    assert "measured: " in result.stderr
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["method"] == "mixture"
    assert settings["settings"]["components"] == 2
    assert "80 rows" in settings["auto"]["why"]


def test_too_few_images_end_with_code_2(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((30, 8, 8), np.uint8))
    words = ["pretrain", "auto", "--data", str(tmp_path / "few.npy"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "too few images to learn from (30)" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_choice_is_what_pretrain_takes() -> None:
    assert isinstance(choose(Facts("table", 200)), Choice)


def test_what_is_wrong_is_told_of_the_kind_that_the_names_tell_of(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_bytes("äöüßä".encode("latin-1") * 9)
    with pytest.raises(InputError, match=r"a\.txt: is not UTF-8"):
        look(str(texts))
    (tmp_path / "t.jsonl").write_text('{"doc": {"n": 1}}\n')
    with pytest.raises(InputError, match=r"no column of text among doc\.n"):
        look(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.csv").write_bytes("Kommentar;Note\n夏目漱石;eins\n".encode("shift-jis"))
    with pytest.raises(
        InputError, match=r"as texts: t\.csv:2: the byte 0x89 is not UTF-8.*as numbers: .*no column of numbers"
    ):
        look(str(tmp_path / "t.csv"))
    np.savez(tmp_path / "t.npz", images=np.zeros((5, 8, 8), np.uint8))
    with pytest.raises(InputError, match="bundle of arrays"):
        look(str(tmp_path / "t.npz"))


def test_clips_are_clips_where_a_picture_lies_beside_them(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mov"):
        (tmp_path / name).write_bytes(b"x")
    Image.new("RGB", (32, 32)).save(tmp_path / "poster.jpg")
    assert look(str(tmp_path)).modality == "video"
    for i in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{i}.png")
    assert look(str(tmp_path)).modality == "image"


def test_a_text_without_an_ending_is_told_to_take_one(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("It rained again, and nobody went out.\n" * 100)
    with pytest.raises(InputError, match=r"a text needs a name such as .*notes\.txt"):
        look(tmp_path / "notes")
