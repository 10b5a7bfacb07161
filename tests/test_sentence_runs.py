"""Runs of sentence_vae from text to report, as typed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import withheld
from withheld.cli import main
from withheld.errors import InputError
from withheld.evaluate.latent_text import write_lines
from withheld.evaluate.likelihood import likelihood
from withheld.report.page import write_page

WHO = ["the dog", "a cat", "the old man", "she", "nobody"]
DOES = ["sleeps", "saw the sea", "likes a red house", "runs away from the city today"]


def lines(count: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(f" {rng.choice(WHO)} {rng.choice(DOES)} \n" for _ in range(count))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    for part, count, seed in (("train", 200, 0), ("valid", 40, 1), ("test", 30, 2)):
        (folder / f"bank.{part}.txt").write_text(lines(count, seed))
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.json"
    path.write_text(
        json.dumps({"model_type": "withheld_sentence", "hidden_size": 4, "embedding_size": 16, "width": 16})
    )
    return path


@pytest.fixture(scope="module")
def run(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "svae"
    return withheld.pretrain(
        "sentence_vae", corpus, out, encoder=str(config), steps=60, batch_size=16, settings={"base_learning_rate": 0.1}
    )


def typed(*words, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def test_sentences_are_counted_and_learned_from(run):
    facts = run.settings["data"]
    assert (facts["items"], facts["held_out"], facts["unit"], facts["documents"]) == (200, 40, "sentence", 1)
    seen = [line["vitals"] for line in run.log() if "vitals" in line]
    assert {"kl", "active_units", "reconstruction_lost_by_other_z", "held_out_loss"} <= seen[-1].keys()
    assert seen[-1]["held_out_loss"] < 0.8 * seen[0]["held_out_loss"]


def test_it_is_exported_and_opens_elsewhere(run, tmp_path):
    said = typed("export", run.folder, "--to", "hf", "-o", tmp_path / "hf")
    assert "import withheld.architectures" in said
    code = (
        "import sys, withheld.architectures; from transformers import AutoModel; "
        "print(type(AutoModel.from_pretrained(sys.argv[1])).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hf")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["SentenceRecognition"]


def test_a_z_that_helps_less_than_anothers_is_told_in_words(run, corpus):
    measured = likelihood(run, corpus, samples=2, items=10)
    other = dataclasses.replace(measured, other_z=measured.reconstruction - 1.05, mutual_information=-0.001)
    assert "1.05 nats better: z is not used" in str(other)
    assert "mutual information 0.00 nats" in str(other)


def test_features_of_texts_are_rows_of_a_mixture(config, tmp_path):
    (tmp_path / "notes").mkdir()
    for i in range(30):
        (tmp_path / "notes" / f"{i:02d}.txt").write_text(lines(8, i))
    given = {"encoder": str(config), "steps": 2, "batch_size": 8, "pictures": False}
    run = withheld.pretrain("sentence_vae", tmp_path / "notes", tmp_path / "run", **given)
    given, heard = {"settings": {"components": 2, "covariance": "diag"}, "pictures": False}, []
    groups = withheld.pretrain("mixture", f"run:{run.folder}", tmp_path / "groups", listen=heard.append, **given)
    learned = run.settings["data"]["items"] + run.settings["data"]["held_out"]
    assert (groups.settings["data"]["items"], len(groups.settings["data"]["columns"])) == (learned, 4) == (240, 4)
    assert any("240 sentences of 30 texts, as it learned them" in event.get("text", "") for event in heard)
    typed("predict", groups.folder, f"run:{run.folder}", "-o", tmp_path / "groups.csv")
    rows = (tmp_path / "groups.csv").read_text().splitlines()
    assert (len(rows), rows[1].split(",")[0], rows[-1].split(",")[0]) == (241, "00.txt:0", "29.txt:7")


def test_whole_texts_that_a_run_learned_from_are_rows_as_they_are(config, tmp_path):
    (tmp_path / "notes").mkdir()
    for i in range(12):
        (tmp_path / "notes" / f"{i:02d}.txt").write_text(lines(3, i))
    given = {
        "encoder": str(config),
        "steps": 1,
        "batch_size": 4,
        "pictures": False,
        "settings": {"sentences": "documents"},
    }
    run = withheld.pretrain("sentence_vae", tmp_path / "notes", tmp_path / "run", **given)
    settings = {"components": 2, "covariance": "diag"}
    groups = withheld.pretrain("mixture", f"run:{run.folder}", tmp_path / "groups", settings=settings, pictures=False)
    assert groups.settings["data"]["items"] == 12


def test_of_lines_of_one_text_none_is_suggested(config, tmp_path):
    (tmp_path / "one.txt").write_text(lines(60, 0))
    given = ("--encoder", config, "--steps", 2)
    said = typed("pretrain", "sentence_vae", "--data", tmp_path / "one.txt", "--out", tmp_path / "run", *given)
    assert "withheld suggest" not in said
    assert "one a row" in typed("suggest", tmp_path / "run", "--data", tmp_path / "one.txt", code=2)


def test_resumed_is_bit_identical(corpus, config, tmp_path):
    from withheld.learn.gradient import Loop

    given = {
        "encoder": str(config),
        "steps": 12,
        "batch_size": 16,
        "pictures": False,
        "save_every": 0.0,
        "device": "cpu",
    }
    withheld.pretrain("sentence_vae", corpus, tmp_path / "whole", **given)
    step, calls = Loop.step, []

    def dies(self, number):
        if calls.append(number) or len(calls) > 7:
            raise KeyboardInterrupt
        return step(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            withheld.pretrain("sentence_vae", corpus, tmp_path / "cut", **given)
    withheld.pretrain("sentence_vae", corpus, tmp_path / "cut", **given, resume=True)
    a, b = (load_file(tmp_path / name / "state" / "step-12" / "model.safetensors") for name in ("whole", "cut"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_sample_and_interpolate(run, tmp_path):
    printed = typed("sample", run.folder, "-n", 5, "--seed", 1)
    assert len(printed.strip("\n").split("\n")) == 5
    assert printed == typed("sample", run.folder, "-n", 5, "--seed", 1)
    typed("sample", run.folder, "-n", 3, "-o", tmp_path / "some.txt")
    assert len((tmp_path / "some.txt").read_text().split("\n")) == 4
    table = typed("interpolate", run.folder, "the dog sleeps", "she saw the sea", "--steps", 3, "--beams", 2)
    assert "greedy" in table
    assert "2 beams" in table
    assert "0.50" in table
    typed("interpolate", run.folder, "the dog sleeps", "she saw the sea", "-o", tmp_path / "way.txt")
    assert len((tmp_path / "way.txt").read_text().strip().split("\n")) == 7


def test_texts_are_not_compared_with_images(run, tmp_path):
    said = typed("fidelity", run.folder, "--data", tmp_path, code=2)
    assert "learned from texts, and no picture can be drawn from it" in said


def test_unknown_words_are_told_on_request_only(corpus, config, tmp_path):
    out = tmp_path / "few"
    settings = {"vocabulary": 9, "base_learning_rate": 0.1}
    withheld.pretrain("sentence_vae", corpus, out, encoder=str(config), steps=40, settings=settings, pictures=False)
    assert "<unk>" not in typed("sample", out, "-n", 20)
    assert "<unk>" in typed("sample", out, "-n", 20, "--unknown")


def test_likelihood_says_its_parts(run, corpus):
    found = likelihood(run, str(corpus), samples=20)
    assert found.items == 30
    assert found.words == sum(len(line.split()) + 1 for line in lines(30, 2).splitlines())
    assert -found.elbo == pytest.approx(found.reconstruction + found.kl, rel=1e-6)
    assert found.nll <= -found.elbo + 3 * found.nll_error / 10
    assert found.perplexity <= found.perplexity_of_bound
    printed = typed("likelihood", run.folder, "--data", corpus, "--samples", 3)
    for said in ("-ELBO", "reconstruction", "KL", "3 samples", "upper bounds", "another sentence's z", "units active"):
        assert said in printed
    assert run.results()[-1]["kind"] == "likelihood"
    of_one = str(likelihood(run, str(corpus), samples=3, items=1))
    assert "nan" not in of_one
    assert "±" not in of_one
    assert "one sentence cannot tell" in of_one


def test_report_shows_sentences(run, corpus):
    told = json.loads((run.folder / "pictures" / "sentences.json").read_text())
    assert set(told) == {"reconstructions", "interpolations", "drawn", "likeliest"}
    assert all(len(way["told"]) == 7 for way in told["interpolations"])
    page = write_page(run.folder).read_text()
    assert "From one sentence to another" in page
    assert told["reconstructions"][0]["item"] in page
    assert "active units" in page
    likelihood_line = json.dumps({**likelihood(run, str(corpus), samples=1).to_json(), "kl": 1.25})
    with (run.folder / "results.jsonl").open("a") as file:
        file.write(likelihood_line + "\n")
    assert "KL 1.25; -log p(x) at most" in write_page(run.folder).read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("", "she sleeps"), "is empty"),
        (("zebra quark", "she sleeps"), "no word that the run knows: write words of its texts, such as"),
        (("THE DOG", "she sleeps"), "small letters"),
    ],
)
def test_sentences_that_say_nothing(run, words, said):
    assert said in " ".join(typed("interpolate", run.folder, *words, code=2).split())


def test_other_runs_and_other_verbs_say_what_to_do(run, corpus, tmp_path):
    withheld.pretrain("lstm_lm", corpus, tmp_path / "lm", steps=1, batch_size=2, size=8, pictures=False)
    assert "withheld pretrain sentence_vae" in typed("interpolate", tmp_path / "lm", "a cat", "she", code=2)
    assert f"withheld generate {tmp_path / 'lm'}" in typed("sample", tmp_path / "lm", code=2)
    assert "withheld likelihood" in typed("score", run.folder, "a cat", code=2)
    assert "withheld sample" in typed("traverse", run.folder, code=2)
    with pytest.raises(InputError, match=r"\.txt"):
        write_lines(["a"], tmp_path / "a.png")
    with pytest.raises(InputError, match="learns from blocks"):
        withheld.pretrain("lstm_lm", corpus, tmp_path / "no", steps=1, settings={"sentences": "lines"})
    with pytest.raises(InputError, match="did you mean"):
        withheld.pretrain("sentence_vae", corpus, tmp_path / "no", steps=1, settings={"sentences": "line"})
    with pytest.raises(InputError, match="too few"):
        withheld.pretrain("sentence_vae", ["one sentence"], tmp_path / "no", steps=1)


def test_features_are_of_whole_sentences_and_serve_a_verdict(run):
    encoder = run.encoder()
    texts = ["the dog sleeps", "she saw the sea", "a cat runs away from the city today"]
    features = encoder.transform(texts)
    assert features.shape == (3, 4)
    alone = np.concatenate([encoder.transform([text]) for text in texts])
    np.testing.assert_allclose(features, alone, atol=1e-5)
    assert encoder.fresh(0).transform(texts).shape == (3, 4)
