"""How likely held-out sentences are under a sentence VAE, and whether its z is used: nats a sentence.

Shapes: S samples of z, B batch, L tokens, Z latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.sample import spaced
from withheld.data.sentences import Sentences, end_behind, parted_as, parted_by
from withheld.data.text import open_texts
from withheld.data.tokens import prepare_tokens
from withheld.evaluate.features import Listen, preparing
from withheld.evaluate.latent_text import open_sentences
from withheld.evaluate.likelihood import give_or_take, standard_error
from withheld.losses.latent import gaussian_kl
from withheld.networks.sentence_vae import SentenceAutoencoder
from withheld.networks.vae import ACTIVE, mutual_information
from withheld.run import Run
from withheld.wording import plural

TOKENS = 8192
"""Tokens told at a time."""
MUTUAL = 512
"""Sentences that the mutual information is estimated from; it is at most the logarithm of this."""


@dataclass(frozen=True)
class SentenceLikelihood:
    """What was measured; nats a sentence, means over sentences.

    Attributes:
        data: on what. items: sentences. words: as white space parts them, and one end a sentence. unknown: share of the
            tokens told that are <unk> to the run.
        samples: of z for every sentence.
        elbo: the bound, minus `reconstruction`, minus `kl` (closed form). nll: -log p(x) by importance sampling, an upper bound
            that falls with `samples`. Errors are standard errors over sentences (None of one).
        other_z: the reconstruction with the z of another sentence; what it is more than `reconstruction`, z tells.
        active_units: of `latents` dimensions. mutual_information: of z and the sentence.
    """

    data: str
    items: int
    words: int
    unknown: float
    samples: int
    elbo: float
    elbo_error: float | None
    reconstruction: float
    kl: float
    nll: float
    nll_error: float | None
    other_z: float
    active_units: int
    latents: int
    mutual_information: float
    seed: int

    @property
    def perplexity(self) -> float:
        """An upper bound of the perplexity a word, from `nll`; the end of a sentence counts as a word."""
        return math.exp(min(700.0, self.nll * self.items / self.words))

    @property
    def perplexity_of_bound(self) -> float:
        """The same from the ELBO."""
        return math.exp(min(700.0, -self.elbo * self.items / self.words))

    def __str__(self) -> str:
        lost = self.other_z - self.reconstruction
        used = "z is used" if lost > 1 and self.active_units else "z is not used: the posterior has collapsed"
        of_z = (
            f"with another sentence's z the reconstruction is {self.other_z:.2f}, {abs(lost):.2f} nats "
            f"{'better' if lost < 0 else 'worse'}: {used}; {self.active_units} of {self.latents} units active, mutual "
            f"information {max(0.0, self.mutual_information):.2f} nats"
        )
        if self.items < 2:
            of_z = "whether z is used, one sentence cannot tell"
        return (
            f"-ELBO {-self.elbo:z.2f}{give_or_take(self.elbo_error)} nats a sentence = reconstruction {self.reconstruction:.2f} "
            f"+ KL {self.kl:.2f} ({plural(self.items, 'sentence')} of {self.data})\n"
            f"-log p(x) at most {self.nll:z.2f}{give_or_take(self.nll_error)} nats a sentence (importance sampling, "
            f"{self.samples:,} samples)\n"
            f"perplexity a word at most {self.perplexity:.2f} by importance sampling, {self.perplexity_of_bound:.2f} by the ELBO "
            f"(upper bounds; ends of sentences count, {100 * self.unknown:.1f} % are <unk>)\n"
            f"{of_z}"
        )

    def to_json(self) -> dict[str, Any]:
        """A line of results.jsonl."""
        more = {"perplexity": self.perplexity, "perplexity_of_bound": self.perplexity_of_bound}
        return {"kind": "likelihood", **asdict(self), **more}


@torch.no_grad()
def importance_bound(
    network: SentenceAutoencoder, t: Mapping[str, Tensor], samples: int, posterior: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """(B,) -E_q[log p(x | z)], estimated, and (B,) log of the mean of the importance weights; both nats.

    The second is a bound of log p(x) that rises with the number of samples (Burda et al. 2015).

    Args:
        t: sentences "item", "mask" (B, L).
        samples: at least 1; they are told some at a time.
        posterior: mean and log variance (B, Z), where they are known.
    """
    mean, log_variance = network.infer(t) if posterior is None else posterior
    B, L = t["item"].shape
    each = max(1, min(samples, TOKENS // (B * L)))
    told, parts, done = torch.zeros(B, dtype=torch.float64), [], 0
    while done < samples:
        S = min(each, samples - done)
        z = mean + (0.5 * log_variance).exp() * torch.randn(S, *mean.shape, device=mean.device)
        many = {name: part.repeat(S, 1) for name, part in t.items()}
        log_p = network.log_p(many, z.view(S * B, -1)).view(S, B).cpu().double()
        log_ratio = 0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance - z**2).sum(dim=2).cpu().double()
        told += log_p.sum(dim=0)
        parts.append(torch.logsumexp(log_p + log_ratio, dim=0))
        done += S
    return -told / samples, torch.logsumexp(torch.stack(parts), dim=0) - math.log(samples)


@torch.no_grad()
def sentence_likelihood(
    run: Run, data: Any, *, samples: int, items: int | None, seed: int, device: str, listen: Listen
) -> SentenceLikelihood:
    """The bound, its parts and -log p(x) of the sentences of the test part, or of all where there is none.

    Raises:
        InputError: for a run of another method, or data without sentences.
    """
    model = open_sentences(run, device)
    network, encoder = model.network, model.encoder
    sentences, at, words, where = _sentences(run, encoder, data, items, listen)
    torch.manual_seed(seed)
    batches = [at[i : i + 64] for i in range(0, len(at), 64)]
    posteriors = [network.infer(sentences.batch(some, encoder.device)) for some in batches]
    mean, log_variance = (torch.cat([p[i] for p in posteriors]) for i in (0, 1))
    z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    mixed = torch.randperm(len(at), device=z.device)
    other = torch.empty_like(mixed).index_copy_(0, mixed, mixed.roll(1))  # nobody keeps its own
    reconstruction, bound, wrong, unknown, done = [], [], [], 0, 0
    for some, posterior in zip(batches, posteriors, strict=True):
        t = sentences.batch(some, encoder.device)
        mine, weighed = importance_bound(network, t, samples, posterior)
        reconstruction.append(mine)
        bound.append(weighed)
        wrong.append(-network.log_p(t, z[other[done : done + len(some)]]))
        unknown += (
            int((t["item"][:, 1:] == network.trunk.special.unknown).sum()) if network.trunk.special.unknown else 0
        )
        done += len(some)
        listen({"kind": "likelihood", "done": done, "total": len(at)})
    kl = gaussian_kl(mean, log_variance).sum(dim=1).cpu().double()
    rec, nll = torch.cat(reconstruction), -torch.cat(bound)
    tokens = int(sentences.lengths[at].sum()) - len(at)
    few = torch.linspace(0, len(at) - 1, min(MUTUAL, len(at)), device=mean.device).long()
    return SentenceLikelihood(
        where, len(at), words + len(at), unknown / max(1, tokens), samples, -float((rec + kl).mean()),
        standard_error(rec + kl), float(rec.mean()), float(kl.mean()), float(nll.mean()), standard_error(nll),
        float(torch.cat(wrong).mean()),
        int((mean.var(dim=0, correction=min(1, len(mean) - 1)) > ACTIVE).sum()),
        network.latents, float(mutual_information(mean[few], log_variance[few])), seed,
    )  # fmt: skip


def _sentences(
    run: Run, encoder: Any, data: Any, items: int | None, listen: Listen
) -> tuple[Sentences, np.ndarray, int, str]:
    """Sentences parted as the run parted its own and never cut, which of them by length, their words, and whose they are."""
    source = open_texts(data)
    chosen = source.part("test") or source
    how = parted_as(run.settings) or "auto"
    tokens = prepare_tokens(chosen, encoder.tokenizer, preparing(listen), parted=parted_by(how))
    sentences = Sentences(tokens, 1 << 20, end_behind(encoder.tokenizer), encoder.pad)
    at = spaced(len(tokens), items or len(tokens))
    at = at[np.argsort(sentences.lengths[at], kind="stable")]
    return sentences, at, int(tokens.words[at].sum()), f"{data}" + (" (test)" if chosen is not source else "")
