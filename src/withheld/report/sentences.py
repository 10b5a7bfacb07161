"""Sentences as a sentence VAE tells them."""

from __future__ import annotations

from typing import Any

from withheld.report.folder import Contents, objects, texts

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
    return {"pairs": pairs[:MOST], "ways": ways[:MOST], "drawn": drawn, "likeliest": likeliest}


def _said(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
