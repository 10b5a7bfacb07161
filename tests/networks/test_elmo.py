"""ELMo against a naive loop, its published size, and what either direction must not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import withheld
from withheld.errors import InputError
from withheld.losses.prediction import BothWaysCrossEntropy
from withheld.methods.elmo import elmo
from withheld.networks.elmo import BEGIN, END, ElmoConfig, ElmoForCausalLM, spelled
from withheld.networks.text import TextTrunk
from withheld.networks.text_open import TEXT_PRESETS, open_text_trunk
from withheld.networks.words import BothWays
from withheld.objective import Objective
from withheld.splits.text import Neighbors

SMALL = {"hidden_size": 12, "filters": [[1, 3], [2, 4]], "highways": 1, "longest": 8, "dropout": 0.0}


def tokens(count: int = 3, length: int = 10) -> torch.Tensor:
    return torch.randint(5, 50, (count, length), generator=torch.Generator().manual_seed(0))


def model_of(cell: int = 6, **change) -> ElmoForCausalLM:
    torch.manual_seed(0)
    return ElmoForCausalLM(ElmoConfig(50, cell_size=cell, **{**SMALL, **change})).eval()


def cell_by_cell(layer: torch.nn.LSTM, hidden: torch.Tensor) -> torch.Tensor:
    """An LSTM layer, one token after the other, projected where it is."""
    B, L, _ = hidden.shape
    h, c, out = torch.zeros(B, layer.proj_size or layer.hidden_size), torch.zeros(B, layer.hidden_size), []
    for t in range(L):
        gates = hidden[:, t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        h = h @ layer.weight_hr_l0.T if layer.proj_size else h
        out.append(h)
    return torch.stack(out, dim=1)


def naive(model: ElmoForCausalLM, item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the next and of the previous token, by loops."""
    inputs = model.elmo.embeddings(item)
    found = []
    for way, order in (("ahead", range(item.shape[1])), ("behind", reversed(range(item.shape[1])))):
        order = list(order)
        first = cell_by_cell(model.elmo.layers[0][way], inputs[:, order])
        second = cell_by_cell(model.elmo.layers[1][way], first) + first
        found.append(F.linear(second[:, [order.index(t) for t in range(len(order))]], *model.lm_head.parameters()))
    return found[0], found[1]


@pytest.mark.parametrize("cell", [6, 10], ids=["plain", "projected"])
def test_the_loss_is_the_naive_loop(cell):
    model, item = model_of(cell), tokens()
    objective = Objective(Neighbors(), BothWays(TextTrunk(model)), BothWaysCrossEntropy())
    found, (ahead, behind) = objective({"item": item}), naive(model, item)
    following = [-ahead[b, t].log_softmax(0)[item[b, t + 1]] for b in range(3) for t in range(9)]
    before = [-behind[b, t].log_softmax(0)[item[b, t - 1]] for b in range(3) for t in range(1, 10)]
    torch.testing.assert_close(found["next"], torch.stack(following).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["previous"], torch.stack(before).mean(), atol=1e-5, rtol=1e-5)
    output = model(item)
    torch.testing.assert_close(output.logits, ahead, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.backward_logits, behind, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", ["elmo-tiny", "elmo-tiny-tokens"])
def test_neither_direction_sees_what_it_must_tell(preset):
    """A changed token leaves the forward states before it as they were, and the backward states after it."""
    trunk, item = open_text_trunk(preset, vocabulary=50, length=16)[0].eval(), tokens()
    other = item.clone()
    other[:, 5] = 50 - other[:, 5] // 2
    before, after = (trunk({"item": t}, layers=True).layers for t in (item, other))
    for a, b in zip(before[1:], after[1:], strict=True):
        for (left, right), same, moved in (
            ([side.chunk(2, dim=2)[0] for side in (a, b)], slice(0, 5), slice(5, None)),
            ([side.chunk(2, dim=2)[1] for side in (a, b)], slice(6, None), slice(0, 6)),
        ):
            torch.testing.assert_close(left[:, same], right[:, same], atol=1e-6, rtol=0)
            assert not torch.isclose(left[:, moved], right[:, moved], atol=1e-7).all(dim=2).any()


def test_padding_changes_nothing():
    trunk, item = TextTrunk(model_of()), tokens(2, 7)
    mask = torch.arange(10)[None].expand(2, -1) < torch.tensor([[7], [4]])
    found = trunk({"item": F.pad(item, (0, 3)), "mask": mask}, layers=True)
    for row, length in ((0, 7), (1, 4)):
        alone = trunk({"item": item[row : row + 1, :length]}, layers=True)
        for a, b in zip(found.layers, alone.layers, strict=True):
            torch.testing.assert_close(a[row, :length], b[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.pooled[row], alone.pooled[0], atol=1e-6, rtol=1e-5)


def test_layers_are_the_inputs_twice_and_every_layer():
    trunk = TextTrunk(model_of())
    layers = trunk({"item": tokens()}, layers=True).layers
    assert [tuple(layer.shape) for layer in layers] == [(3, 10, 12)] * 3
    assert trunk.depth == 2
    assert torch.equal(layers[0][..., :6], layers[0][..., 6:])


def test_tokens_are_their_characters():
    table = spelled(["ab", "é", "a" * 20], 6)
    assert table[0].tolist() == [BEGIN, 98, 99, END, 0, 0]
    assert table[1].tolist() == [BEGIN, 0xC3 + 1, 0xA9 + 1, END, 0, 0]
    assert table[2].tolist() == [BEGIN, 98, 98, 98, 98, END]
    model = model_of()
    words = [f"w{i}" for i in range(50)]
    words[7] = words[8] = "same"
    model.spell(words)
    found = model.elmo.embeddings(torch.tensor([[7, 8, 9]]))[0]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(found[0], found[2])
    letters = model.elmo.embeddings.table(spelled(["same"], 8).long())[0]
    grams = []
    for conv in model.elmo.embeddings.convolutions:  # the n-gram filters, place by place
        k = conv.weight.shape[2]
        at = [(conv.weight * letters[i : i + k].T).sum(dim=(1, 2)) + conv.bias for i in range(8 - k + 1)]
        grams.append(torch.stack(at).amax(dim=0).relu())
    hidden = torch.cat(grams)
    for layer in model.elmo.embeddings.highways:
        change, gate = layer(hidden).chunk(2)
        hidden = gate.sigmoid() * hidden + (1 - gate.sigmoid()) * change.relu()
    torch.testing.assert_close(found[0], model.elmo.embeddings.projection(hidden), atol=1e-5, rtol=1e-5)


def test_saved_it_opens_in_transformers_with_its_spelling(tmp_path):
    model = model_of()
    model.spell([f"word{i}" for i in range(50)])
    model.save_pretrained(tmp_path)
    other = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(other.elmo.embeddings.spelling, model.elmo.embeddings.spelling)
    torch.testing.assert_close(other(tokens()).logits, model(tokens()).logits)


def test_the_published_size():
    """93.6 M parameters without the softmax; torch's LSTMs have two biases where the paper's have one."""
    with torch.device("meta"):
        model = ElmoForCausalLM(TEXT_PRESETS["elmo"].config(1000, 20))
    second_biases = 2 * 2 * 4 * 4096
    assert sum(p.numel() for p in model.elmo.parameters()) == 93_600_864 + second_biases


def test_methods_refuse_what_cannot_learn_so():
    from withheld.methods.bert import bert
    from withheld.methods.gpt import gpt
    from withheld.methods.lstm_lm import lstm_lm

    both = TextTrunk(model_of())
    for method, told in ((bert, "use elmo"), (gpt, "bert or elmo"), (lstm_lm, "needs an LSTM")):
        with pytest.raises(InputError, match=told):
            method(both)
    with pytest.raises(InputError, match="--encoder elmo-tiny"):
        elmo(open_text_trunk("bert-tiny", vocabulary=50, length=16)[0])


def test_what_has_learned_nothing_tells_words_as_often_as_they_occur():
    trunk, item = open_text_trunk("elmo-tiny-tokens", vocabulary=50, length=16)[0].eval(), tokens()
    counts = np.random.default_rng(0).integers(1, 2000, 50).astype(float)
    trunk.begin_at(counts)
    share = torch.from_numpy(counts / counts.sum())
    with torch.no_grad():
        told = trunk.model(item).logits.double().log_softmax(dim=2).flatten(0, 1)
    divergence = (share * (share.log() - told)).sum(dim=1)
    assert divergence.max() < 0.1
    assert (share * (share.log() + np.log(50))).sum() > 0.2, "guessing blindly is far from it"


def test_what_has_learned_is_left_as_it_is(tmp_path):
    texts = [
        f"the {a} saw a {b} in the {c}" for a in ("cat", "dog") for b in ("bird", "mouse") for c in ("tree", "sun")
    ]
    first = withheld.pretrain("elmo", texts * 8, tmp_path / "one", steps=2, size=16, batch_size=4)
    told = lambda run: run.encoder().trunk.model.lm_head.bias.detach()  # noqa: E731
    again = withheld.pretrain(
        "elmo", ["something else entirely"] * 60, tmp_path / "two", encoder=first.folder / "encoder", steps=1, size=16,
        batch_size=4, settings={"base_learning_rate": 1e-9},
    )  # fmt: skip
    assert told(first).std() > 0.1
    torch.testing.assert_close(told(again), told(first), atol=1e-4, rtol=0)
