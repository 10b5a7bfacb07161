"""Sentences as a sentence VAE tells them."""

from __future__ import annotations

from typing import Any

from withheld.report.clean import shorten
from withheld.report.folder import Contents, number, objects, texts
from withheld.wording import plural

MOST = 12


def read_sentences(found: Contents) -> dict[str, Any]:
    """Pairs (sentence, told), ways (first, told in between, last), and lists of samples; nothing where the run has none."""
    pairs = [(_said(entry, "item"), _said(entry, "told")) for entry in objects(found.sentences.get("reconstructions"))]
    ways = [
        (_said(entry, "from"), texts(entry.get("told"))[:MOST], _said(entry, "to"))
        for entry in objects(found.sentences.get("interpolations"))
    ]
    drawn, likeliest = (texts(found.sentences.get(name))[:MOST] for name in ("drawn", "likeliest"))
    if not (pairs or ways or drawn or likeliest):
        return {}
    return {
        "pairs": pairs[:MOST], "ways": ways[:MOST], "drawn": drawn, "likeliest": likeliest, "measured": _measured(found),
    }  # fmt: skip


def _measured(found: Contents) -> str:
    """What `withheld likelihood` found last, "" where it was not asked."""
    names = ("elbo", "reconstruction", "kl", "nll", "other_z", "active_units", "latents", "items")
    known = [value for value in (number(found.likelihood.get(name)) for name in names) if value is not None]
    if len(known) < len(names):
        return ""
    elbo, told, kl, nll, other, active, latents, items = known
    return (
        f"Measured on {plural(items, 'sentence')} of {shorten(found.likelihood.get('data') or 'held-out data', 60)}, nats a "
        f"sentence: -ELBO {-elbo:.2f} = reconstruction {told:.2f} + KL {kl:.2f}; -log p(x) at most {nll:.2f} by importance "
        f"sampling. With another sentence's z the reconstruction is {abs(other - told):.2f} "
        f"{'worse' if other >= told else 'better'}; {active:.0f} of {latents:.0f} units of z are active."
    )


def _said(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
