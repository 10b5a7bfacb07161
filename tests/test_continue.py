"""Methods that continue from a language model: simcse and tsdae, in the right order and in the wrong ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import BertForSequenceClassification

import withheld
from made_texts import two_sentences
from withheld.cli import main
from withheld.run import open_run
from withheld.text_encoder import TextEncoder


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return two_sentences(600)


@pytest.fixture(scope="module")
def bert(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("bert") / "run"
    return withheld.pretrain("bert", texts, out, steps=4, size=16, batch_size=8, pictures=False, device="cpu")


def notes_of(method: str, texts: list[str], encoder: object, out: object, **more: object) -> list[str]:
    heard: list[dict] = []
    withheld.pretrain(
        method,
        texts,
        out,
        encoder=encoder,
        steps=3,
        batch_size=8,
        pictures=False,
        device="cpu",
        listen=heard.append,
        **more,
    )
    return [event["text"] for event in heard if event["kind"] == "note"]


@pytest.mark.parametrize("method", ["simcse", "tsdae"])
def test_it_continues_with_the_words_of_the_language_model(method, texts, bert, tmp_path):
    notes = notes_of(method, texts, str(bert.folder / "encoder"), tmp_path / "run")
    assert not [note for note in notes if "continue" in note]
    before, after = bert.encoder(), withheld.load_encoder(tmp_path / "run")
    assert isinstance(after, TextEncoder)
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    assert after.trunk.config.hidden_dropout_prob == 0.0
    one, two = before.transform(texts[:3]), after.transform(texts[:3])
    assert one.shape == two.shape == (3, 128)
    assert not np.allclose(one, two)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"effective_rank", "held_out_loss", "gap"} <= set(log[-1]["vitals"])
    run = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert run["unit"] == "sentence"
    assert ("unigram_nats" in run) == (method == "tsdae")  # simcse tells no words, so there is no loss of counting
    objective = open_run(tmp_path / "run").objective()
    torch.testing.assert_close(objective.trunk.state_dict(), after.trunk.state_dict())
    for folder, warned in ((tmp_path / "run", True), (bert.folder, False)):
        done = CliRunner().invoke(main, ["fill", str(folder), "what a [MASK] film"])
        assert done.exit_code == 0, done.output
        assert ("its encoder is not trained to tell words" in done.output) == warned


def test_an_untrained_start_is_said(texts, tmp_path):
    (note,) = [n for n in notes_of("simcse", texts, "bert-tiny", tmp_path / "run", size=16) if "continues" in n]
    assert "pretrain bert" in note
    assert "--encoder RUN/encoder" in note


@pytest.mark.parametrize("kind", ["transformers", "ours"])
def test_the_wrong_order_is_said(kind, texts, bert, tmp_path):
    start = tmp_path / "start"
    encoder = bert.encoder()
    encoder.save(start / "encoder")
    if kind == "ours":
        (start / "model.json").write_text("{}")
    else:
        BertForSequenceClassification(encoder.trunk.config).save_pretrained(start / "encoder")
    (note,) = [n for n in notes_of("tsdae", texts, str(start / "encoder"), tmp_path / "run") if "labels" in n]
    assert "fine-tune last" in note


def test_documents_may_be_the_items(texts, bert, tmp_path):
    notes_of("simcse", texts, str(bert.folder / "encoder"), tmp_path / "run", settings={"sentences": "documents"})
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert facts["items"] + facts["held_out"] == len(texts)


def test_stopped_by_nobody_both_seeds_differ_and_equal_seeds_agree(texts, bert, tmp_path):
    weights = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        notes_of("simcse", texts, str(bert.folder / "encoder"), tmp_path / out, seed=seed)
        trunk = withheld.load_encoder(tmp_path / out).trunk
        weights.append(torch.cat([p.detach().flatten() for p in trunk.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
