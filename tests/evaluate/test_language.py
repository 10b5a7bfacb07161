"""What a language model says, against its own chain rule; and runs on text from end to end."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import withheld
from withheld.data.text import open_texts
from withheld.data.tokens import prepare_tokens
from withheld.errors import InputError
from withheld.evaluate.generate_text import generate
from withheld.evaluate.language import document_log_p, fill, language_model, perplexity, score
from withheld.evaluate.likelihood import likelihood
from withheld.evaluate.verdict import verdict
from withheld.run import method_names, modality_of

GOOD = ["what a wonderful bright film", "great fun and lovely music", "a warm and happy story", "bright lovely acting"]
BAD = ["what a dull grey film", "no fun and awful noise", "a cold and sad story", "dull awful acting"]


def corpus(folder, copies: int = 30):
    generator = np.random.default_rng(0)
    for part, many in (("train", copies), ("test", 12)):
        for label, lines in (("good", GOOD), ("bad", BAD)):
            place = folder / part / label
            place.mkdir(parents=True)
            for i in range(many):
                (place / f"{i}.txt").write_text(f"{lines[i % 4]} {' '.join(generator.choice(lines, 3))} {i}.")
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def lm(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "lm"
    settings = {"vocabulary": 320, "held_out": 0.1}
    withheld.pretrain("transformer_lm", texts, out, steps=20, size=16, batch_size=8, settings=settings)
    return out


@pytest.fixture(scope="module")
def bert(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "bert"
    withheld.pretrain(
        "bert", texts, out, steps=20, size=32, batch_size=8, encoder="bert-tiny", settings={"held_out": 0.1}
    )
    return out


@pytest.fixture(scope="module")
def both_ways(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "elmo"
    withheld.pretrain("elmo", texts, out, steps=6, size=16, batch_size=8, settings={"held_out": 0.1})
    return out


class TestElmo:
    def test_fill_and_generate_say_what_to_use_instead(self, both_ways):
        with pytest.raises(InputError, match="give a run of bert"):
            fill(both_ways, "a [MASK] film")
        with pytest.raises(InputError, match="give a run of gpt"):
            generate(both_ways, "a")

    @torch.no_grad()
    def test_its_forward_model_has_a_likelihood(self, both_ways, texts):
        encoder, text = language_model(both_ways), "a wonderful film"
        found = score(both_ways, text)
        ids = [*encoder.start, *encoder.tokenizer(text, add_special_tokens=False)["input_ids"]]
        logits = encoder.trunk.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=1)
        assert found.exact
        assert found.log_p == pytest.approx(sum(float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1)), abs=1e-4)
        document = np.array([*encoder.start, *ids[1:] * 60])
        whole = encoder.trunk.model(input_ids=torch.from_numpy(document)[None]).logits[0, :-1].log_softmax(dim=1)
        naive = whole.gather(1, torch.from_numpy(document)[1:, None]).squeeze(1)
        np.testing.assert_allclose(document_log_p(encoder, document), naive, atol=1e-4)
        assert perplexity(both_ways, texts).per_token > 1

    def test_what_is_kept_opens_again_with_its_spelling(self, both_ways, texts):
        run = withheld.open_run(both_ways)
        encoder, objective = run.encoder(), run.objective()
        for name, value in objective.trunk.state_dict().items():
            assert torch.equal(value, encoder.trunk.state_dict()[name]), name
        assert (both_ways / "pictures" / "words.json").is_file()
        assert encoder.transform(GOOD).shape == (4, 256)


class TestScore:
    @torch.no_grad()
    def test_words_add_up_to_the_chain_rule(self, lm):
        encoder, text = language_model(lm), "a wonderful film"
        found = score(lm, text)
        ids = [*encoder.start, *encoder.tokenizer(text, add_special_tokens=False)["input_ids"]]
        logits = encoder.trunk.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=1)
        naive = sum(float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1))
        assert found.exact
        assert [w.word for w in found.words] == text.split()
        assert found.log_p == pytest.approx(naive, abs=1e-4)
        assert sum(w.log_p for w in found.words) == pytest.approx(naive, abs=1e-4)

    def test_a_masked_model_gives_a_pseudo_likelihood(self, bert):
        found = score(bert, "a wonderful film")
        assert not found.exact
        assert found.log_p < 0

    def test_too_long_or_empty(self, lm):
        with pytest.raises(InputError, match="the model sees 16"):
            score(lm, "a film " * 50)
        with pytest.raises(InputError, match="empty"):
            score(lm, "")


class TestFill:
    def test_probabilities_of_real_words(self, bert):
        (found,) = fill(bert, "a [MASK] film", top=3)
        assert len(found) == 3
        assert 0 < sum(p for _, p in found) <= 1
        assert not any(word.startswith("[") for word, _ in found)

    def test_refuses_with_the_remedy(self, lm, bert):
        with pytest.raises(InputError, match=r"no \[MASK\]"):
            fill(bert, "a film")
        with pytest.raises(InputError, match="looks back only"):
            fill(lm, "a [MASK]")


class TestGenerate:
    def test_same_seed_same_text_and_it_begins_with_the_prompt(self, lm):
        a, b = (generate(lm, "what a", length=8, count=2, temperature=0.8, top_k=20, top_p=0.9) for _ in range(2))
        assert a == b
        assert all(text.startswith("what a") for text in a)
        assert generate(lm, "what a", length=8, seed=1) != generate(lm, "what a", length=8, seed=2)
        heard: list[dict] = []
        generate(lm, "what a", length=8, listen=heard.append)
        assert heard[0] == {"kind": "tokens", "done": 0, "total": 8}

    def test_refuses_with_the_remedy(self, lm, bert):
        with pytest.raises(InputError, match="the prompt has"):
            generate(lm, "film " * 50)
        with pytest.raises(InputError, match="sees both ways"):
            generate(bert, "a")


class TestPerplexity:
    @torch.no_grad()
    def test_it_is_the_naive_sum_and_its_units_agree(self, lm, texts):
        found = perplexity(lm, texts)
        encoder = language_model(lm)
        tokens = prepare_tokens(open_texts(texts).part("test"), encoder.tokenizer)
        naive = 0.0
        for i in range(len(tokens)):
            ids = torch.from_numpy(tokens.document(i).astype(np.int64))[None, :16]
            logits = encoder.trunk.model(input_ids=ids).logits[0, :-1].log_softmax(dim=1)
            naive -= float(logits.gather(1, ids[0, 1:, None]).sum())
            naive -= float(document_log_p(encoder, tokens.document(i))[15:].sum())
        assert found.nats == pytest.approx(naive, rel=1e-4)
        assert found.bits_per_character * found.characters * math.log(2) == pytest.approx(found.nats)
        assert found.per_token == pytest.approx(math.exp(found.nats / found.tokens))

    @torch.no_grad()
    def test_it_reads_no_more_texts_than_asked_for(self, lm, texts):
        encoder, heard = language_model(lm), []
        tokens = prepare_tokens(open_texts(texts).part("test"), encoder.tokenizer)
        found = likelihood(lm, texts, items=2, listen=heard.append)
        assert found.documents == 2 < len(tokens)
        ends = [tokens.document(i) for i in (0, len(tokens) - 1)]
        assert found.nats == pytest.approx(-sum(float(document_log_p(encoder, ids).sum()) for ids in ends))
        assert found.tokens == sum(len(ids) - 1 for ids in ends)
        assert found.characters == tokens.characters[[0, -1]].sum()
        assert heard[-1] == {"kind": "likelihood", "done": 2, "total": 2}

    def test_windows_cover_every_token_once(self, lm):
        encoder = language_model(lm)
        ids = np.arange(100) % 200 + 6
        long = document_log_p(encoder, ids)
        assert len(long) == 99
        assert np.isfinite(long).all()
        assert (long < 0).all()
        short = document_log_p(encoder, ids[:17])
        np.testing.assert_allclose(long[:16], short, atol=1e-4)

    def test_a_masked_model_has_none(self, bert, texts):
        with pytest.raises(InputError, match="no log p"):
            perplexity(bert, texts)


def test_the_run_says_what_it_learned_from_and_how_well(bert):
    facts = json.loads((bert / "run.json").read_text())["data"]
    assert facts["tokenizer"] == "wordpiece"
    assert facts["unigram_nats"] > 0
    last = [json.loads(line) for line in (bert / "log.jsonl").read_text().splitlines()][-1]
    assert {"held_out_loss", "word_accuracy", "effective_rank"} <= set(last["vitals"])


def test_killed_and_resumed_is_bit_identical(texts, tmp_path):
    from withheld.learn.gradient import Loop

    settings = {"vocabulary": 50, "held_out": 0.1}
    given = {"steps": 8, "size": 8, "batch_size": 4, "settings": settings, "encoder": "lstm-small", "pictures": False}
    withheld.pretrain("lstm_lm", texts, tmp_path / "whole", **given)
    step = Loop.step

    def dies(self, number):
        if number == 5:
            self.save(keeper[0], 5)
            raise KeyboardInterrupt
        return step(self, number)

    keeper = []
    run = Loop.run

    def noted(self, kept=None, listen=None, start=0):
        keeper.append(kept)
        return run(self, kept, listen, start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "run", noted)
        patch.setattr(Loop, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            withheld.pretrain("lstm_lm", texts, tmp_path / "cut", **given)
    withheld.pretrain("lstm_lm", texts, tmp_path / "cut", resume=True, **given)
    a, b = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert a == b


def test_the_verdict_on_texts_has_its_rows(bert, texts, tmp_path):
    found = verdict(bert, texts, labels_per_class=[5], seeds=2, minutes=1.0, results=tmp_path / "results.jsonl")
    methods = {score.method for score in found.scores}
    assert {
        "tf-idf",
        "linear probe",
        "kNN",
        "random frozen",
        "fine-tuned",
        "from scratch",
    } <= methods
    tfidf = next(score.value for score in found.scores if score.method == "tf-idf")
    assert tfidf > 0.9
    assert "5 labels per class" in found.sentence


def test_texts_without_words_have_no_tfidf_and_a_verdict():
    """Sequences of letters, as of bases: scikit-learn finds no word to count in them."""

    class Shares:
        def transform(self, items):
            return np.array([[text.count(letter) for letter in "ACGT"] for text in items], np.float32)

    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("ACGT"), 40, p=[p, 0.5 - p, 0.25, 0.25])) for p in [0.1, 0.4] * 20]
    found = verdict(Shares(), (texts, [0, 1] * 20), labels_per_class=[3], seeds=2, minutes=1.0)
    assert {score.method for score in found.scores} >= {"linear probe", "kNN"}
    assert any(line.startswith('"tf-idf"') for line in found.left_out)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in ("lm", "both_ways")])
def test_the_verdict_fine_tunes_every_kind_of_encoder(kind, texts, request):
    found = verdict(request.getfixturevalue(kind), texts, labels_per_class=[5], seeds=2, minutes=2.0)
    scores = {score.method: score.value for score in found.scores}
    assert {"fine-tuned", "from scratch", "tf-idf"} <= set(scores)
    assert max(scores["fine-tuned"], scores["from scratch"]) > 0.6


def test_the_encoder_is_a_transformer_of_scikit_learn(bert):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(withheld.load_encoder(bert), LogisticRegression()).fit(GOOD + BAD, [1] * 4 + [0] * 4)
    assert model.score(GOOD + BAD, [1] * 4 + [0] * 4) == 1.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"vocabulary": 30_000}, "the text supports"), ({"tokenizer": "bpee"}, "bpe"), ({"held_out": 2.0}, "held_out")],
)
def test_bad_settings_of_text(texts, tmp_path, settings, told):
    with pytest.raises(InputError, match=told):
        withheld.pretrain("transformer_lm", texts, tmp_path / "r", steps=1, size=16, settings=settings)


def test_a_text_shorter_than_a_block(tmp_path):
    with pytest.raises(InputError, match="too few"):
        withheld.pretrain(
            "transformer_lm", ["a short text"], tmp_path / "r", steps=1, settings={"tokenizer": "character"}
        )


def test_check_tells_what_a_folder_of_texts_holds_and_costs(texts):
    from click.testing import CliRunner

    from withheld.cli import main

    found = CliRunner().invoke(main, ["check", str(texts), "--labelled"])
    assert found.exit_code == 0, found.output
    assert "84" in found.output
    assert "train 60" in found.output
    assert "items/s" in found.output
    assert "withheld pretrain same_text" in found.output


@pytest.mark.parametrize("method", [name for name in method_names() if modality_of(name) == "text"])
def test_every_method_of_texts_ends_with_its_pictures(method, texts, tmp_path):
    """data2vec_text ended in an error when all was learned: it tells no words that could be drawn."""
    settings = {}
    if method == "distill_text":
        teacher = withheld.pretrain("same_text", texts, tmp_path / "teacher", steps=1, size=16, batch_size=4)
        settings["teacher"] = str(teacher.folder)
    withheld.pretrain(method, texts, tmp_path / "run", steps=1, size=16, batch_size=4, settings=settings)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"
