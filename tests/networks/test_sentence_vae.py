"""The sentence VAE against a naive loop, closed forms, quadrature over z and an enumeration of all sentences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from transformers import AutoModel

from withheld.errors import InputError
from withheld.evaluate.decode_text import Teller, beam, draw
from withheld.evaluate.likelihood_text import importance_bound
from withheld.losses.latent import SentenceBound
from withheld.methods.sentence_vae import cyclical, logistic, sentence_vae
from withheld.networks.sentence import SentenceConfig
from withheld.networks.sentence_vae import SentenceAutoencoder
from withheld.networks.text import Special
from withheld.networks.text_open import open_text_trunk
from withheld.splits.text import WholeSentence
from withheld.types import Moment

LENGTHS = (5, 9, 3, 7)


def network_of(vocabulary: int = 20, latents: int = 3, word_dropout: float = 0.0, seed: int = 0) -> SentenceAutoencoder:
    config = SentenceConfig(vocabulary, latents, embedding_size=6, width=8, init_range=0.5)
    trunk, _ = open_text_trunk(config, vocabulary=vocabulary, length=None, seed=seed)
    trunk._special = Special(0, 2, 2, 4, (0, 1, 2, 3, 4), 1)
    torch.manual_seed(seed)
    network = SentenceAutoencoder(trunk, 8, word_dropout)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


def sentences(vocabulary: int = 20, more: int = 0) -> dict[str, torch.Tensor]:
    """Four of different lengths, and perhaps more padding than they need."""
    item = torch.randint(5, vocabulary, (4, 9), generator=torch.Generator().manual_seed(1))
    item = torch.nn.functional.pad(item, (0, more))
    mask = torch.arange(9 + more) < torch.tensor(LENGTHS)[:, None]
    item[:, 0] = 2
    return {"item": item.masked_fill(~mask, 0), "mask": mask}


def gates(layer: torch.nn.LSTM, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    i, f, g, o = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("vocabulary", [20, 5000])
def test_batched_loss_is_the_naive_loop_over_sentences_and_words(vocabulary):
    network, t = network_of(vocabulary), sentences(vocabulary)
    x, y = WholeSentence()(t)
    torch.manual_seed(3)
    prediction = network(x)
    terms = SentenceBound()(prediction, y)
    table = network.trunk.model.embeddings
    total = kl = 0.0
    for row, length, z in zip(t["item"], LENGTHS, prediction["z"], strict=True):
        h = c = torch.zeros(8)
        for word in row[:length]:
            h, c = gates(network.trunk.model.lstm, table(word), h, c)
        q = Normal(network.trunk.model.mean(h), (0.5 * 8 * torch.tanh(network.trunk.model.spread(h) / 8)).exp())
        kl = kl + kl_divergence(q, Normal(0.0, 1.0)).sum() / 4
        h, c = network.first(z).chunk(2)
        h = h.tanh()
        for word, following in itertools.pairwise(row[:length]):
            h, c = gates(network.lstm, torch.cat([table(word), z]), h, c)
            if vocabulary > 4096:  # by the chain rule: first the cluster, then the word in it
                root = (network.head.head(h)).log_softmax(0)
                head, tail = len(root) - 1, network.head.tail[0](h).log_softmax(0)
                log_p = root[following] if following < head else root[-1] + tail[following - head]
            else:
                log_p = network.head(h).log_softmax(0)[following]
            total = total - log_p / 4
    torch.testing.assert_close(terms["reconstruction"], total, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(terms["kl"], kl, atol=1e-4, rtol=1e-5)


def test_the_adaptive_softmax_sums_to_one():
    told = network_of(5000).words(torch.randn(7, 8))
    torch.testing.assert_close(told.log_all().exp().sum(dim=1), torch.ones(7), atol=1e-4, rtol=0)
    y = torch.tensor([5, 999, 1000, 1001, 4999, 2, 40])
    torch.testing.assert_close(told.log_p(y), told.log_all().gather(1, y[:, None]).squeeze(1), atol=1e-4, rtol=1e-5)


def test_padding_does_not_change_the_loss_with_word_dropout_on():
    network = network_of(word_dropout=0.5).train()
    found = []
    for more in (0, 6):
        pair = WholeSentence()(sentences(more=more))
        torch.manual_seed(5)
        found.append(SentenceBound()(network(pair.x), pair.y))
    for name in ("reconstruction", "kl"):
        torch.testing.assert_close(found[0][name], found[1][name], atol=1e-5, rtol=1e-6)


def test_word_dropout_hides_words_from_the_decoder_only_and_in_training_only():
    network = network_of(word_dropout=1.0)
    before = sentences()["item"][:, :-1]
    assert torch.equal(network._dropped(before), before)
    gone = network.train()._dropped(before)
    assert (gone[:, 0] == 2).all()
    assert (gone[:, 1:] == 1).all()


def test_kl_against_monte_carlo():
    network, t = network_of(), sentences()
    mean, log_variance = network.infer(t)
    q = Normal(mean, (0.5 * log_variance).exp())
    z = q.sample((200_000,))
    drawn = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(dim=2).mean(dim=0).mean()
    found = SentenceBound()({**network(t), "told": network.words(torch.zeros(20, 8))}, WholeSentence()(t).y)["kl"]
    torch.testing.assert_close(found, drawn, rtol=0.02, atol=0.01)


@torch.no_grad()
def test_the_bound_is_below_importance_sampling_which_comes_to_log_p():
    network, t = network_of(latents=1), sentences()
    mean, log_variance = network.infer(t)
    grid = torch.linspace(-8, 8, 1601)
    joint = torch.stack([network.log_p(t, torch.full((4, 1), float(z))) + Normal(0.0, 1.0).log_prob(z) for z in grid])
    exact = torch.logsumexp(joint, dim=0) + (grid[1] - grid[0]).log()
    torch.manual_seed(0)
    reconstruction, weighed = importance_bound(network, t, 20_000)
    elbo = -reconstruction - kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(dim=1)
    assert (elbo < exact).all()
    torch.testing.assert_close(weighed.float(), exact, atol=0.15, rtol=0)
    few = torch.stack([importance_bound(network, t, 2)[1] for _ in range(300)]).mean()
    assert float(elbo.mean()) <= float(few) < float(exact.mean())


@torch.no_grad()
def test_beams_find_the_likeliest_of_all_sentences():
    network = network_of(vocabulary=8, seed=2)
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))
    teller = Teller(network, 2, 2, [0, 3, 4])
    words = [1, 5, 6, 7]
    everything = [[*inner, 2] for n in range(4) for inner in itertools.product(words, repeat=n)]
    everything += [list(inner) for inner in itertools.product(words, repeat=4)]
    for each in z:
        scores = []
        for sentence in everything:
            state, token, score = network.start(each[None]), torch.tensor([2]), 0.0
            for word in sentence:
                log_p, state = teller.next(token, each[None], state)
                score, token = score + float(log_p[0, word]), torch.tensor([word])
            scores.append(score)
        best = everything[max(range(len(scores)), key=scores.__getitem__)]
        assert beam(teller, each[None], beams=64, most=4)[0] == [word for word in best if word != 2]
    assert beam(teller, z, beams=1, most=4) == draw(teller, z, most=4)


def test_drawn_words_come_as_often_as_the_model_says():
    network = network_of(vocabulary=8)
    teller = Teller(network, 2, 2, [0, 3, 4])
    z = torch.zeros(20_000, 3)
    with torch.no_grad():
        log_p, _ = teller.next(torch.full((1,), 2), z[:1], network.start(z[:1]))
    torch.manual_seed(0)
    first = [row[0] if row else 2 for row in draw(teller, z, temperature=1.0, most=1)]
    share = torch.bincount(torch.tensor(first), minlength=8) / len(z)
    torch.testing.assert_close(share, log_p[0].softmax(0), atol=0.015, rtol=0)


def test_the_kept_encoder_opens_in_transformers_and_its_features_are_the_mean(tmp_path):
    network, t = network_of(), sentences(more=3)
    network.trunk.model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    mean = again(input_ids=t["item"], attention_mask=t["mask"]).mean
    torch.testing.assert_close(network.infer(t)[0], mean)
    torch.testing.assert_close(network.trunk(t).pooled, mean)
    assert network.trunk.recognition
    assert not network.trunk.causal


def test_annealing():
    assert logistic(0.475) == 0.5
    assert logistic(0) < 0.01
    assert logistic(1) > 0.99
    assert [cyclical(p) for p in (0, 0.0625, 0.125, 0.2, 0.25, 0.999, 1)] == [0, 0.5, 1, 1, 0, 1, 1]
    trunk = network_of().trunk
    objective, _ = sentence_vae(trunk, annealing="cyclical", beta=0.5)
    one = torch.ones(())
    assert float(objective.total({"reconstruction": one, "kl": one}, Moment(1, 16))) == 1.25
    with pytest.raises(InputError, match="logistic"):
        sentence_vae(trunk, annealing="linear")
    with pytest.raises(InputError, match="lstm-vae"):
        sentence_vae(open_text_trunk("lstm-small", vocabulary=40, length=20)[0])
    with pytest.raises(InputError, match="word_dropout=2"):
        sentence_vae(trunk, word_dropout=2)


def test_free_bits_cost_nothing_and_pull_nothing():
    mean = torch.full((4, 3), 0.01, requires_grad=True)
    prediction = {"mean": mean, "log_variance": torch.zeros(4, 3), "told": network_of().words(torch.zeros(2, 8))}
    y = torch.tensor([[5, -100], [6, -100]])
    kl = SentenceBound(free_bits=0.2)(prediction, y)["kl"]
    assert float(kl.detach()) == pytest.approx(0.6)
    assert torch.autograd.grad(kl, mean)[0].abs().sum() == 0
