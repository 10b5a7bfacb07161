"""Classifiers of sentences and pairs against formulas, loops and transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from withheld.networks.elmo import ElmoConfig, ElmoForCausalLM
from withheld.networks.sentences import AttentiveClassifier, BiLstm, LastTokenClassifier, LayerMix
from withheld.networks.text import TextTrunk
from withheld.networks.text_open import open_text_trunk


def tokens(count: int = 3, length: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 50, (count, length), generator=torch.Generator().manual_seed(seed))


def real(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def small_elmo() -> TextTrunk:
    torch.manual_seed(0)
    return TextTrunk(ElmoForCausalLM(ElmoConfig(50, 12, 6, filters=(), dropout=0.0)))


def test_the_mix_is_equation_one():
    mix, layers = LayerMix(3), [torch.randn(2, 5, 4) for _ in range(3)]
    torch.testing.assert_close(mix(layers), sum(layers) / 3)
    with torch.no_grad():
        mix.s.copy_(torch.tensor([1.0, -1.0, 0.5]))
        mix.gamma.fill_(2.0)
    share = mix.s.exp() / mix.s.exp().sum()
    torch.testing.assert_close(mix(layers), 2 * (share[0] * layers[0] + share[1] * layers[1] + share[2] * layers[2]))


def test_a_bilstm_does_not_see_padding():
    torch.manual_seed(0)
    reader, tokens_BLD = BiLstm(4, 3, 2), torch.randn(2, 6, 4)
    found = reader(tokens_BLD, real(6, 3))
    torch.testing.assert_close(found[1:, :3], reader(tokens_BLD[1:, :3], real(3)))
    theirs = torch.nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)
    for number, ways in enumerate(reader.layers):
        for way, end in zip(ways, ("", "_reverse"), strict=True):
            for name, value in way.named_parameters():
                getattr(theirs, name.replace("l0", f"l{number}{end}")).data.copy_(value)
    torch.testing.assert_close(found[:1], theirs(tokens_BLD[:1])[0])


@torch.no_grad()
def test_a_pair_is_read_as_published():
    """Attention by loops, one pair without padding; then the same pair padded."""
    network = AttentiveClassifier(small_elmo(), 3, pairs=True).eval()
    a, b = tokens(1, 5), tokens(1, 4, seed=1)
    read = lambda item: network.reader(  # noqa: E731
        network.mix(network.trunk({"item": item}, layers=True).layers), torch.ones_like(item, dtype=torch.bool)
    )[0]
    first, second = read(a), read(b)
    looked = lambda at, other: torch.stack(  # noqa: E731
        [sum(w * o for w, o in zip((other @ place).softmax(0), other, strict=True)) for place in at]
    )
    whole = torch.ones(1, 5, dtype=torch.bool)
    u = network.comparer(torch.cat([first, looked(first, second)], dim=1)[None], whole)[0].amax(dim=0)
    v = network.comparer(torch.cat([second, looked(second, first)], dim=1)[None], whole[:, :4])[0].amax(dim=0)
    naive = network.head(torch.cat([u, v, (u - v).abs(), u * v]))
    x = {"item": a, "mask": real(5), "second": b, "second_mask": real(4)}
    torch.testing.assert_close(network(x)[0], naive, atol=1e-5, rtol=1e-5)
    other = {
        "item": F.pad(tokens(2, 5), (0, 2)),
        "mask": real(5, 7),
        "second": F.pad(tokens(2, 6), (0, 3)),
        "second_mask": real(4, 9),
    }
    other["item"][0, :5], other["second"][0, :4] = a[0], b[0]
    torch.testing.assert_close(network(other)[0], naive, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("learned", [False, True])
def test_the_trunk_is_learned_only_where_asked(learned):
    network = AttentiveClassifier(small_elmo(), 2, pairs=False, learned=learned).train()
    network({"item": tokens(), "mask": real(12, 9, 4)}).sum().backward()
    assert network.mix.s.grad is not None
    told = [p.grad is not None for name, p in network.trunk.named_parameters() if "lm_head" not in name]
    assert all(told) if learned else not any(told)
    assert network.trunk.training is learned


@pytest.mark.parametrize("preset", ["gpt-tiny", "gpt2-nano", "lstm-small"])
def test_the_last_token_tells_and_the_language_model_goes_on(preset):
    trunk = open_text_trunk(preset, vocabulary=50, length=16)[0]
    network = LastTokenClassifier(trunk, 2).eval()
    item, mask = F.pad(tokens(), (0, 2)), real(14, 9, 5)
    asked = mask[:, 1:]
    found = network({"item": item, "mask": mask, "asked": asked})
    for row, length in enumerate((14, 9, 5)):
        state = trunk.run({"item": item[row : row + 1, :length]}).last_hidden_state[0, -1]
        torch.testing.assert_close(found["label"][row], network.head(state), atol=1e-5, rtol=1e-4)
    words = F.cross_entropy(found["words"], item[:, 1:][asked])
    each = [F.cross_entropy(trunk.model(input_ids=item[r : r + 1, :n]).logits[0, :-1], item[r, 1:n], reduction="sum")
            for r, n in enumerate((14, 9, 5))]  # fmt: skip
    torch.testing.assert_close(words, sum(each) / (13 + 8 + 4), atol=1e-5, rtol=1e-4)
    assert "words" not in network({"item": item, "mask": mask})


def test_both_orders_are_added_and_do_not_differ():
    network = LastTokenClassifier(open_text_trunk("gpt-tiny", vocabulary=50, length=16)[0], 2).eval()
    one, other, mask = tokens(), tokens(seed=1), real(12, 9, 4)
    there = network({"item": one, "mask": mask, "turned": other})["label"]
    back = network({"item": other, "mask": mask, "turned": one})["label"]
    torch.testing.assert_close(there, back, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(there, network({"item": one, "mask": mask})["label"])


def test_texts_longer_than_the_context_are_read_in_windows():
    trunk = open_text_trunk("gpt-tiny", vocabulary=50, length=16)[0]
    network, item = LastTokenClassifier(trunk, 2).eval(), tokens(1, 20)
    parts = [trunk.run({"item": part}).last_hidden_state[0, -1] for part in (item[:, :16], item[:, 16:])]
    found = network({"item": item, "mask": real(20)})["label"][0]
    torch.testing.assert_close(found, network.head(sum(parts) / 2), atol=1e-5, rtol=1e-4)
