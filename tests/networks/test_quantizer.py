"""The codebook against the paper's formulas; the two-level autoencoder; the prior over codes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from withheld.errors import InputError
from withheld.losses.codes import NextCode as NextCodeLoss
from withheld.networks.code_prior import CodePrior, CodeShape, CodeTrunk
from withheld.networks.open import open_trunk
from withheld.networks.quantizer import RARE, SMOOTHING, Quantizer, perplexity
from withheld.networks.vq_vae2 import VectorQuantizedAutoencoder
from withheld.splits.codes import NextCode
from withheld.types import Moment, Pair


def vectors(n=2, d=3, side=4, seed=0):
    return torch.randn(n, d, side, side, generator=torch.Generator().manual_seed(seed))


def test_vectors_of_half_precision_move_the_codes_as_exactly_and_start_rare_ones_anew():
    torch.manual_seed(0)
    x, books = (vectors(side=32) + 5).bfloat16(), []
    start = Quantizer(3, 7).state_dict()
    for half in (False, True):
        book = Quantizer(3, 7, decay=0.5).train()
        book.load_state_dict(start)
        torch.manual_seed(0)
        for _ in range(9):  # a code that nothing chooses halves its count each time
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                book(x if half else x.float())
            book.after_step(Moment())
        books.append(book.book)
    assert torch.equal(*books)


def test_every_vector_gets_its_nearest_code_and_the_gradient_goes_straight_through():
    torch.manual_seed(0)
    book = Quantizer(3, 7).train()
    x = vectors().requires_grad_(True)
    out, codes, commitment = book(x)
    flat = x.permute(0, 2, 3, 1).reshape(-1, 3)
    naive = torch.cdist(flat, book.book).argmin(dim=1).view(2, 4, 4)
    assert torch.equal(codes, naive)
    torch.testing.assert_close(out, book.look_up(codes))
    (3 * out).sum().backward(retain_graph=True)
    torch.testing.assert_close(x.grad, torch.full_like(x, 3.0))
    x.grad = None
    commitment.backward()
    torch.testing.assert_close(x.grad, 2 * (x - book.look_up(codes)).detach() / x.numel())


def test_codes_move_as_running_means_after_the_step_only():
    torch.manual_seed(0)
    book = Quantizer(2, 3, decay=0.9).train()
    with torch.no_grad():
        book.counts.fill_(5.0)
        book.sums.copy_(book.book * 5)
    before, counts = book.book.clone(), book.counts.clone()
    x = vectors(d=2)
    _, codes, _ = book(x)
    assert torch.equal(book.book, before)
    book.after_step(Moment())
    flat, at = x.permute(0, 2, 3, 1).reshape(-1, 2), codes.flatten()
    n = 0.9 * counts + 0.1 * torch.stack([(at == k).sum().float() for k in range(3)])
    m = 0.9 * before * 5 + 0.1 * torch.stack([flat[at == k].sum(dim=0) for k in range(3)])
    smooth = (n + SMOOTHING) / (n.sum() + 3 * SMOOTHING) * n.sum()
    torch.testing.assert_close(book.book, m / smooth[:, None])
    moved = book.book.clone()
    book.after_step(Moment())
    assert torch.equal(book.book, moved)
    book.eval()(x)
    book.after_step(Moment())
    assert torch.equal(book.book, moved)


def test_a_rare_code_starts_anew_at_a_vector_of_the_batch():
    torch.manual_seed(0)
    book = Quantizer(2, 4).train()
    with torch.no_grad():
        book.book[3] = 1e3
        book.counts[3] = RARE / 2
    x = vectors(d=2)
    book(x)
    book.after_step(Moment())
    flat = x.permute(0, 2, 3, 1).reshape(-1, 2)
    assert (flat == book.book[3]).all(dim=1).any()


def test_the_start_is_at_the_centers_of_the_data():
    torch.manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    book = Quantizer(2, 3)
    book.start(centers.repeat(200, 1) + 0.01 * torch.randn(600, 2))
    assert torch.cdist(centers, book.book).min(dim=1).values.max() < 0.05


def test_perplexity_is_the_exponential_of_the_entropy():
    assert perplexity(torch.arange(8), 16) == pytest.approx(8)
    assert perplexity(torch.zeros(8, dtype=torch.int64), 16) == pytest.approx(1)
    p = torch.tensor([0.5, 0.25, 0.25])
    assert perplexity(torch.tensor([0, 0, 1, 2]), 3) == pytest.approx(math.exp(-float((p * p.log()).sum())))


def test_codes_tell_the_image():
    torch.manual_seed(0)
    network = VectorQuantizedAutoencoder(open_trunk("vq-vae2", size=16, channels=3)[0], codes=16)
    x = torch.randn(4, 3, 16, 16)
    network.fitted(Pair(x, x)).eval()
    top, bottom = network.codes(x)
    assert top.shape == (4, 2, 2)
    assert bottom.shape == (4, 4, 4)
    torch.testing.assert_close(network.decode_codes(top, bottom), network(x)["image"], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"give --size \d"):
        open_trunk("vq-vae2", size=28, channels=1)
    with pytest.raises(InputError, match="its own encoder"):
        VectorQuantizedAutoencoder(open_trunk("vit-nano", size=16, channels=3)[0])


def prior(codes=3, seed=0):
    torch.manual_seed(seed)
    network = CodePrior(CodeTrunk(CodeShape(1, 2, codes), width=16, layers=2, heads=2)).eval()
    with torch.no_grad():
        for head in network.codes_of.heads:
            head.weight.mul_(4)
    return network


def test_the_prior_sees_only_what_came_before():
    network = prior()
    codes = torch.randint(3, (2, 5))
    logits = network(codes[:, :-1])
    changed = codes.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 3
    other = network(changed[:, :-1])
    torch.testing.assert_close(logits[:, :4], other[:, :4])
    assert not torch.allclose(logits[:, 4], other[:, 4])


def test_the_prior_sums_to_one_and_draws_what_it_says():
    network = prior(codes=2)
    every = torch.tensor(list(itertools.product(range(2), repeat=5)))
    p = network.log_likelihood(every).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    torch.manual_seed(1)
    drawn = network.draw(20_000)
    number = (drawn * torch.tensor([16, 8, 4, 2, 1])).sum(dim=1)
    torch.testing.assert_close(torch.bincount(number, minlength=32) / 20_000, p, atol=0.015, rtol=0.1)


def test_the_next_code_loss_is_minus_the_log_likelihood():
    network, codes = prior(), torch.randint(3, (6, 5))
    pair = NextCode()(codes)
    terms = NextCodeLoss(1)(network(pair.x), pair.y)
    assert float(sum(terms.values()).detach()) == pytest.approx(-float(network.log_likelihood(codes).mean()), rel=1e-5)
    naive = F.cross_entropy(network(pair.x)[:, 0], codes[:, 0]).detach()
    assert float(terms["top"].detach()) == pytest.approx(float(naive), rel=1e-5)
