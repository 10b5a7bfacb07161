"""How likely held-out items are, on one axis for all models: nats an item.

Shapes: S samples of z, B batch.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.broken import notes_of
from withheld.data.prepared import prepare
from withheld.data.sample import spaced
from withheld.data.source import open_source
from withheld.errors import InputError
from withheld.evaluate.features import Listen
from withheld.latent import LatentModel
from withheld.losses.latent import gaussian_kl, log_weights
from withheld.networks.code_prior import CodePrior
from withheld.networks.vae import LatentAutoencoder
from withheld.run import Run, open_run, pick_device
from withheld.wording import plural

CHUNK = 1 << 15
"""Decoded images at a time."""


@dataclass(frozen=True)
class Likelihood:
    """What was measured.

    Attributes:
        data: on what. items: how many. samples: of z for every item; 0 where log p(x) is exact.
        elbo: the mean of the bound; nll: of -log p(x), estimated from above; both nats an item, with standard errors over items
            (None of one item).
        bits: nll in bits a value, where values are discrete.
        seed: of what was drawn (bits of grey pixels, z).
    """

    data: str
    items: int
    samples: int
    elbo: float
    elbo_error: float | None
    nll: float
    nll_error: float | None
    bits: float | None
    seed: int

    def __str__(self) -> str:
        how = f"importance sampling, {self.samples:,} samples" if self.samples else "exact"
        bits = f", {self.bits:.3f} bits a value" if self.bits is not None else ""
        bound = f"-ELBO {-self.elbo:z.2f}{give_or_take(self.elbo_error)}, " if self.samples else ""
        found = f"{bound}-log p(x) {self.nll:z.2f}{give_or_take(self.nll_error)} nats an item"
        return f"{found} ({how}{bits}; {plural(self.items, 'item')} of {self.data})"

    def to_json(self) -> dict[str, Any]:
        """A line of results.jsonl."""
        return {"kind": "likelihood", **asdict(self)}


@torch.no_grad()
def importance_bound(network: LatentAutoencoder, t: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """(B,) the ELBO with its KL in closed form, and (B,) log of the mean of `samples` importance weights; both nats.

    The second is a bound of log p(x) that rises with the number of samples (Burda et al. 2015).

    Args:
        t: images (B, C, H, W) as the likelihood takes them.
        samples: at least 1; they are drawn some at a time.
    """
    mean, log_variance = network.infer(t)
    each = max(1, min(samples, CHUNK // max(1, len(t))))
    parts, told, done = [], torch.zeros(len(t), dtype=torch.float64), 0
    while done < samples:
        now = min(each, samples - done)
        z = mean + (0.5 * log_variance).exp() * torch.randn(now, *mean.shape, device=t.device)
        prediction = {"mean": mean, "log_variance": log_variance, "z": z, "told": network.tell(z)}
        if network.likelihood != "bernoulli":
            prediction["log_scale"] = network.log_scale
        weights = log_weights(prediction, t, network.likelihood).cpu().double()
        log_ratio = -0.5 * (z**2 - (z - mean) ** 2 / log_variance.exp() - log_variance).sum(dim=2)
        told += (weights - log_ratio.cpu().double()).sum(dim=0)
        parts.append(torch.logsumexp(weights, dim=0))
        done += now
    elbo = told / samples - gaussian_kl(mean, log_variance).sum(dim=1).cpu()
    return elbo, torch.logsumexp(torch.stack(parts), dim=0) - math.log(samples)


def likelihood(
    run: str | Path | Run, data: Any, *, samples: int = 100, items: int | None = None, seed: int = 0, device: str = "auto",
    listen: Listen = lambda event: None,
) -> Any:  # fmt: skip
    """-log p(x) of held-out items under a run of `vae`, `mixture`, `mean_field` or `code_prior` (both stages counted).

    Of a causal language model: a `Perplexity`; of sentence_vae: a `SentenceLikelihood`.

    Args:
        run: its folder.
        data: what `withheld.pretrain` takes; its test part where it has one.
        samples: of z for every item.
        items: at most so many, spread over the data; None takes all.
        seed: of what is drawn: grey pixels become bits where the likelihood is Bernoulli.

    Raises:
        InputError: for a run of another kind, or data of another shape.
    """
    if samples < 1:
        raise InputError(f"samples={samples}: give at least 1")
    run = run if isinstance(run, Run) else open_run(run)
    if run.settings["modality"] == "text":
        from withheld.evaluate.language import perplexity
        from withheld.evaluate.likelihood_text import sentence_likelihood

        if run.settings["method"] == "sentence_vae":
            return sentence_likelihood(run, data, samples=samples, items=items, seed=seed, device=device, listen=listen)
        return perplexity(run.folder, data, items=items, device=device, listen=listen)
    where = pick_device(device)
    model = run.objective().to(where)
    if isinstance(model, LatentModel):
        return _of_table(run, model, data, items, seed)
    if isinstance(model.network, CodePrior):
        from withheld.evaluate.two_stage import two_stage

        return two_stage(run, data, items)
    if not isinstance(model.network, LatentAutoencoder):
        raise InputError(
            f"{run.folder}: a run of {run.settings['title']} has no likelihood of items; vae, code_prior, mixture, mean_field, "
            "sentence_vae and language models have"
        )
    network, facts = model.network.eval(), run.settings["data"]
    whole = open_source(data)
    source = whole.part("test") or whole
    prepared = prepare(source, facts["size"], facts["channels"], scale=run.encoder().scale)
    for note in notes_of(prepared.skipped, plural(len(source) + len(source.left_out), "image")):
        listen({"kind": "note", "text": note})
    at = spaced(len(prepared), items or len(prepared))
    elbos, bounds = [], []
    torch.manual_seed(seed)
    for first in range(0, len(at), 256):
        pixels = torch.from_numpy(np.array(prepared.images[at[first : first + 256]])).to(where).float() / 255
        t = (torch.rand_like(pixels) < pixels).float() if network.likelihood == "bernoulli" else pixels
        elbo, bound = importance_bound(network, t, samples)
        elbos.append(elbo.cpu())
        bounds.append(bound.cpu())
        listen({"kind": "likelihood", "done": first + len(t), "total": len(at)})
    elbo, bound = torch.cat(elbos), torch.cat(bounds)
    values = math.prod((facts["channels"], facts["size"], facts["size"]))
    nll, discrete = -float(bound.mean()), network.likelihood != "gaussian"
    shown = named(run, data, parted=source is not whole)
    return Likelihood(
        shown, len(at), samples, float(elbo.mean()), standard_error(elbo), nll, standard_error(bound),
        nll / values / math.log(2) if discrete else None, seed,
    )  # fmt: skip


def _of_table(run: Run, model: Any, data: Any, items: int | None, seed: int) -> Likelihood:
    """Exact for a mixture; mean field's is the density at its expected parameters."""
    from withheld.evaluate.groups import open_table, posteriors

    table = open_table(run, model, data, test=True)
    if items is not None and items < len(table):
        table.values = table.values[spaced(len(table), items)]
    found = torch.cat([density for _, density in posteriors(model, table)])
    mean = float(found.mean())
    error = standard_error(found)
    shown = named(run, data, table.kind == "images" and open_source(data).part("test") is not None)
    return Likelihood(shown, len(found), 0, mean, error, -mean, error, None, seed)


def named(run: Run, data: Any, parted: bool) -> str:
    """The data as it is named beside the number: whoever measures on what was learned from reads so.

    Args:
        parted: whether its test part is measured, which no run learns from.
    """
    known = run.settings["data"].get("location")
    if parted or not isinstance(data, str | os.PathLike) or not isinstance(known, str):
        return str(data)
    same = os.path.realpath(os.path.expanduser(os.fsdecode(data))) == os.path.realpath(os.path.expanduser(known))
    return f"{os.fsdecode(data)}, which it learned from" if same else str(data)


def standard_error(values: Tensor) -> float | None:
    """Of the mean of (N,); None of one, which says nothing of it."""
    return float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else None


def give_or_take(error: float | None) -> str:
    """Such as " ± 0.12"; nothing where it is not known."""
    return "" if error is None else f" ± {error:.2f}"
