"""Language models against transformers with the same weights, a naive loop, and the future."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from withheld.errors import InputError
from withheld.learn.gradient import train
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.lstm import LstmConfig, LstmForCausalLM
from withheld.networks.text import Special, TextTrunk
from withheld.networks.text_open import TEXT_PRESETS, open_text_trunk
from withheld.networks.words import MaskedWords, NextWord
from withheld.objective import Objective
from withheld.splits.text import MaskWords, NextToken
from withheld.types import Recipe

CAUSAL = ("gpt2-nano", "gpt-tiny", "lstm-small")


def tokens(count: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(5, 50, (count, length), generator=torch.Generator().manual_seed(0))


def trunk_of(preset: str) -> TextTrunk:
    trunk, _ = open_text_trunk(preset, vocabulary=50, length=16)
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    return trunk.eval()


def test_vitals_are_of_words_behind_mask_only():
    trunk = trunk_of("bert-tiny")
    network = MaskedWords(trunk)
    item = tokens(2, 15)
    item[0, 3] = 1  # unknown: never asked for
    found = network.vitals({"item": item})
    hidden = item.clone()
    places = [(0, 10), (1, 3), (1, 10)]
    for row, column in places:
        hidden[row, column] = 4
    logits = trunk.model(input_ids=hidden).logits
    loss = torch.stack([F.cross_entropy(logits[r, c], item[r, c]) for r, c in places]).mean()
    assert found["masked_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    right = [float(logits[r, c].argmax() == item[r, c]) for r, c in places]
    assert found["masked_accuracy"] == pytest.approx(sum(right) / 3)


class TestParity:
    def test_masked_loss_and_gradients_are_transformers_own(self):
        trunk = trunk_of("bert-tiny")
        objective = Objective(MaskWords(4, 50, (0, 1, 2, 3, 4)), MaskedWords(trunk), TokenCrossEntropy())
        torch.manual_seed(1)
        pair = objective.split({"item": tokens()})
        ours = objective(pair)["words"]
        model = trunk.model
        theirs = model(input_ids=pair.x["item"], labels=pair.y).loss
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        of = lambda loss: torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])  # noqa: E731
        for a, b in zip(of(ours), of(theirs), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("preset", ["gpt2-nano", "gpt-tiny"])
    def test_causal_loss_is_transformers_own(self, preset):
        trunk = trunk_of(preset)
        ours = Objective(NextToken(), NextWord(trunk), TokenCrossEntropy())({"item": tokens()})["loss"]
        theirs = trunk.model(input_ids=tokens(), labels=tokens()).loss
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("preset", ["bert-tiny", *CAUSAL])
    def test_saved_it_opens_in_transformers(self, preset, tmp_path):
        trunk = trunk_of(preset)
        trunk.model.save_pretrained(tmp_path)
        kind = AutoModelForCausalLM if trunk.causal else AutoModelForMaskedLM
        model = kind.from_pretrained(tmp_path).eval()
        mine = trunk.logits(trunk.run({"item": tokens()}).last_hidden_state)
        torch.testing.assert_close(model(input_ids=tokens()).logits, mine, atol=1e-5, rtol=1e-5)

    def test_lstm_is_the_naive_loop(self):
        model = LstmForCausalLM(LstmConfig(30, 8, 2)).eval()
        item = torch.randint(30, (2, 5))
        hidden = model.lstm.embeddings(item)
        for layer in model.lstm.layers:
            h, c, out = torch.zeros(2, 8), torch.zeros(2, 8), []
            for t in range(5):
                gates = (
                    hidden[:, t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
                )
                i, f, g, o = gates.chunk(4, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                out.append(h)
            hidden = torch.stack(out, dim=1)
        naive = F.linear(hidden, model.lm_head.weight, model.lm_head.bias)
        torch.testing.assert_close(model(item).logits, naive, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", CAUSAL)
def test_no_token_sees_the_future(preset):
    trunk, item = trunk_of(preset), tokens()
    before = trunk.run({"item": item}).last_hidden_state
    other = item.clone()
    other[:, 7:] = 6
    after = trunk.run({"item": other}).last_hidden_state
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("preset", ["bert-tiny", "gpt2-nano", "gpt-tiny"])
def test_packed_documents_do_not_see_each_other(preset):
    """What a document is alone, it is in a block with another before it."""
    trunk, item = trunk_of(preset), tokens(1, 12)
    document = (torch.arange(12) >= 7).long()[None]
    packed = trunk.run({"item": item, "document": document}).last_hidden_state
    for part in (slice(0, 7), slice(7, 12)):
        alone = trunk.run({"item": item[:, part]}).last_hidden_state
        torch.testing.assert_close(packed[:, part], alone, atol=1e-5, rtol=1e-4)


def test_packed_documents_of_roberta_begin_at_its_first_position():
    """Its positions begin at 2: row 1 of the table is that of padding."""
    config = RobertaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=18
    )  # fmt: skip
    torch.manual_seed(0)
    model = RobertaForMaskedLM(config).eval()
    trunk, item = TextTrunk(model), tokens(1, 12)
    packed = trunk.run({"item": item, "document": (torch.arange(12) >= 7).long()[None]}).last_hidden_state
    for part in (slice(0, 7), slice(7, 12)):
        theirs = model.roberta(input_ids=item[:, part]).last_hidden_state
        torch.testing.assert_close(packed[:, part], theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("preset", ["bert-tiny", *CAUSAL])
def test_padding_changes_nothing(preset):
    trunk, item = trunk_of(preset), tokens(1, 9)
    padded = F.pad(item, (0, 3))
    mask = torch.arange(12)[None] < 9
    a, b = trunk({"item": item}), trunk({"item": padded, "mask": mask})
    if trunk.causal or not trunk.recurrent:
        torch.testing.assert_close(a.pooled, b.pooled, atol=1e-5, rtol=1e-4)


def test_long_texts_are_seen_in_windows():
    trunk, item = trunk_of("bert-tiny"), tokens(2, 40)
    found = trunk({"item": item})
    assert found.tokens.shape == (2, 40, 128)
    torch.testing.assert_close(found.tokens[:, :16], trunk({"item": item[:, :16]}).tokens, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("preset", "vocabulary", "millions"),
    [("bert-base", 30_522, 109.5), ("bert-large", 30_522, 335.2), ("gpt", 40_478, 116.5), ("gpt2-small", 50_257, 124.4),
     ("lstm-small", 10_000, 4.65)],
)  # fmt: skip
def test_parameters_are_as_published(preset, vocabulary, millions):
    from withheld.networks.text import language_class

    with torch.device("meta"):
        model = language_class(TEXT_PRESETS[preset].config(vocabulary, 512)).from_config(
            TEXT_PRESETS[preset].config(vocabulary, 1024 if preset == "gpt2-small" else 512)
        )
    assert sum(p.numel() for p in set(model.parameters())) / 1e6 == pytest.approx(millions, rel=0.02)


class TestMasking:
    SPLIT = MaskWords(4, 50, (0, 1, 2, 3, 4))

    def test_shares_are_15_and_80_10_10(self):
        torch.manual_seed(0)
        item = torch.randint(5, 50, (64, 200))
        pair = self.SPLIT({"item": item})
        asked = pair.x["asked"]
        assert asked.sum(dim=1).unique().tolist() == [30]
        shown = pair.x["item"][asked]
        assert float((shown == 4).float().mean()) == pytest.approx(0.8, abs=0.03)
        assert float((shown == item[asked]).float().mean()) == pytest.approx(0.1 + 0.1 / 50, abs=0.03)
        assert bool((pair.x["item"][~asked] == item[~asked]).all())

    def test_special_tokens_and_padding_are_never_asked_for(self):
        item, mask = tokens(8, 20), torch.ones(8, 20, dtype=torch.bool)
        item[:, 0], item[:, 9], mask[:, 15:] = 2, 3, False
        for seed in range(20):
            torch.manual_seed(seed)
            asked = self.SPLIT({"item": item, "mask": mask}).x["asked"]
            assert not bool(asked[:, [0, 9]].any() | asked[:, 15:].any())

    def test_whole_words_are_asked_for_whole(self):
        word = torch.arange(20).expand(8, 20) // 3
        split = MaskWords(4, 50, (), rate=0.3, whole_words=True)
        for seed in range(10):
            torch.manual_seed(seed)
            asked = split({"item": tokens(8, 20), "word": word}).x["asked"]
            for row in asked:
                assert all(len(set(row[word[0] == w].tolist())) == 1 for w in range(7))


class TestCarriedState:
    def test_a_stream_read_in_blocks_is_the_stream_read_at_once(self):
        network = NextWord(trunk_of("lstm-small")).train()
        item = tokens(2, 20)
        whole = network({"item": item})
        first = network({"item": item[:, :10], "first": torch.ones(2, dtype=torch.bool)})
        second = network({"item": item[:, 10:], "first": torch.zeros(2, dtype=torch.bool)})
        torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-5, rtol=1e-5)
        assert not network.state_h.requires_grad

    def test_it_is_kept_with_the_weights_and_not_used_in_evaluation(self):
        network = NextWord(trunk_of("lstm-small")).train()
        network({"item": tokens(2), "first": torch.ones(2, dtype=torch.bool)})
        other = NextWord(trunk_of("lstm-small"))
        other.load_state_dict(network.state_dict())
        assert torch.equal(other.state_h, network.state_h)
        t = {"item": tokens(2), "first": torch.zeros(2, dtype=torch.bool)}
        assert torch.equal(other.eval()(t), other({"item": tokens(2)}))


class Same:
    """One batch again and again."""

    def __len__(self) -> int:
        return 8

    def batch(self, index, device):
        return {"item": tokens(8, 12)[torch.as_tensor(index)]}


def test_muon_learns_faster_than_plain_sgd_and_resumes():
    def last(optimizer: str) -> float:
        torch.manual_seed(0)
        objective, losses = Objective(NextToken(), NextWord(trunk_of("gpt2-nano")), TokenCrossEntropy()), []
        recipe = Recipe(base_learning_rate=0.3, batch_size=8, optimizer=optimizer, schedule="linear", weight_decay=0.0)
        train(objective, Same(), recipe, steps=12, listen=lambda line: losses.append(line["loss"]))
        return losses[-1]

    assert last("muon") < 0.7 * last("sgd")


def test_a_model_that_cannot_do_it_says_so():
    from withheld.methods.bert import bert
    from withheld.methods.lstm_lm import lstm_lm

    with pytest.raises(InputError, match="looks back only"):
        bert(trunk_of("gpt2-nano"))
    with pytest.raises(InputError, match="needs an LSTM"):
        lstm_lm(trunk_of("gpt2-nano"))
    with pytest.raises(InputError, match="no preset"):
        open_text_trunk("bert-tinny", vocabulary=50, length=16)


def test_any_bert_of_transformers_is_a_trunk(tmp_path):
    """A checkpoint of bert-base-uncased's form, small, saved as the hub has it."""
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = BertForMaskedLM(config).eval()
    model.save_pretrained(tmp_path)
    trunk, pretrained = open_text_trunk(tmp_path, vocabulary=None, length=None)
    assert pretrained
    assert trunk.length == 512
    theirs = model(input_ids=tokens()).logits
    torch.testing.assert_close(trunk.eval().logits(trunk.run({"item": tokens()}).last_hidden_state), theirs)
