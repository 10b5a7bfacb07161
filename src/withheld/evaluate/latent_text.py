"""What a sentence VAE has to say: sentences told again from z, the way from one to another, sentences from the prior.

Shapes: B sentences, L tokens, Z latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.sample import spaced
from withheld.data.tokens import padded
from withheld.errors import InputError
from withheld.evaluate.decode_text import beam, draw, teller_of
from withheld.learn.checkpoint import write_json, writing
from withheld.networks.sentence_vae import SentenceAutoencoder
from withheld.run import Run, open_run, pick_device
from withheld.text_encoder import TextEncoder

SHOWN, PAIRS, STEPS, BEAMS = 8, 4, 7, 5


@dataclass(frozen=True)
class Told:
    """A place between two sentences (0 the first, 1 the second), and what is told from there."""

    at: float
    greedy: str
    beam: str


class SentenceModel:
    """A sentence VAE: its encoder reads sentences, its network tells them from z.

    Args:
        network: its trunk is the encoder's.
        encoder: with the tokenizer.
        unknown: whether <unk> may be told.
    """

    def __init__(self, network: SentenceAutoencoder, encoder: TextEncoder, unknown: bool = False) -> None:
        self.network, self.encoder = network, encoder
        network.trunk.know(encoder.tokenizer)
        self.teller = teller_of(network, encoder, unknown)

    @torch.no_grad()
    def read(self, sentences: Sequence[str]) -> Tensor:
        """(B, Z), the mean of q(z | sentence).

        Raises:
            InputError: for a sentence that is empty, or holds no word the run knows.
        """
        rows = self.encoder.rows([" ".join(sentence.split()) for sentence in sentences])
        for sentence, row in zip(sentences, rows, strict=True):
            self._check(sentence, row)
        return self.network.infer(padded(rows, self.encoder.pad, self.encoder.device))[0]

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text."""
        return str(self.encoder.tokenizer.decode(list(ids), skip_special_tokens=False)).strip()

    def between(self, a: Tensor, b: Tensor, steps: int = STEPS, beams: int = BEAMS) -> list[Told]:
        """What is told along the straight line from one z (Z,) to another, both ends among them."""
        part = torch.linspace(0, 1, steps, device=a.device)[:, None]
        z = (1 - part) * a + part * b
        plain, likeliest = draw(self.teller, z), beam(self.teller, z, beams)
        places = part.squeeze(1).tolist()
        return [Told(at, self.text(g), self.text(b)) for at, g, b in zip(places, plain, likeliest, strict=True)]

    def drawn(self, count: int, temperature: float = 1.0, seed: int = 0) -> list[str]:
        """Sentences of z from the prior; at temperature 1 draws of p(sentence), near 0 the likeliest words of each z.

        Where <unk> may not be told, words are drawn from the others.
        """
        torch.manual_seed(seed)
        z = torch.randn(count, self.network.latents).to(self.encoder.device)
        return [self.text(ids) for part in z.split(256) for ids in draw(self.teller, part, temperature)]

    def _check(self, sentence: str, row: np.ndarray) -> None:
        inner = row[len(self.encoder.start) : len(row) - len(self.encoder.end)]
        if not len(inner):
            raise InputError(f"the sentence {sentence!r} is empty: give one with words")
        unknown = self.network.trunk.special.unknown
        if unknown is not None and (inner == unknown).all():
            lower = self.encoder.tokenizer(sentence.lower(), add_special_tokens=False)["input_ids"]
            known = [n for n in range(len(self.encoder.tokenizer)) if n not in self.network.trunk.special.all][:5]
            remedy = (
                "its texts are in small letters, write it so"
                if any(n != unknown for n in lower)
                else f"write words of its texts, such as {', '.join(self.encoder.tokenizer.convert_ids_to_tokens(known))}"
            )
            raise InputError(f"the sentence {sentence!r} has no word that the run knows: {remedy}")


def open_sentences(run: str | Path | Run, device: str = "auto", unknown: bool = False) -> SentenceModel:
    """A finished run of sentence_vae.

    Raises:
        InputError: for a run of another method.
    """
    run = run if isinstance(run, Run) else open_run(run)
    model = run.objective() if run.settings["modality"] == "text" else None
    if model is None or not isinstance(model.network, SentenceAutoencoder):
        goes_on = model is not None and getattr(getattr(model.network, "trunk", None), "causal", False)
        texts = f"texts from it: withheld generate {run.folder}; a" if goes_on else "a"
        raise InputError(
            f"{run.folder}: a run of {run.settings['title']} has no z that sentences are told from; {texts} run that has: "
            "withheld pretrain sentence_vae --data TEXTS --out RUN"
        )
    where = torch.device(pick_device(device))
    return SentenceModel(model.network.to(where).eval(), run.encoder().to(where), unknown)


def interpolate_text(
    run: str | Path | Run, a: str, b: str, *, steps: int = STEPS, beams: int = BEAMS, unknown: bool = False,
    device: str = "auto",
) -> list[Told]:  # fmt: skip
    """Sentences along the line between the z of two sentences (Bowman et al. 2015, table 1).

    Args:
        a, b: sentences.
        steps: places on the line, both ends among them, at least 2.
        beams: of the likeliest sentence that is looked for beside the greedy one.
        unknown: whether <unk> may be told.

    Raises:
        InputError: for a run of another method, or a sentence without words that it knows.
    """
    if steps < 2 or beams < 1:
        raise InputError(f"steps={steps}, beams={beams}: 2 steps and 1 beam at least")
    model = open_sentences(run, device, unknown)
    z = model.read([a, b])
    return model.between(z[0], z[1], steps, beams)


def sample_text(
    run: str | Path | Run, count: int = 10, temperature: float = 1.0, seed: int = 0, unknown: bool = False,
    device: str = "auto",
) -> list[str]:  # fmt: skip
    """New sentences: z from its prior, then a sentence from z."""
    return open_sentences(run, device, unknown).drawn(count, temperature, seed)


def write_lines(lines: Sequence[str], out: str | Path) -> Path:
    """A text file of these lines."""
    out = Path(out)
    if out.suffix.lower() != ".txt":
        raise InputError(f"-o {out}: sentences are written to a file that ends in .txt")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return out


@torch.no_grad()
def draw_sentences(network: SentenceAutoencoder, encoder: TextEncoder, trial: Any, out: Path) -> None:
    """Writes pictures/sentences.json: held-out sentences told again, ways between pairs of them, sentences from the prior."""
    model = SentenceModel(network, encoder)
    lengths = trial.lengths
    usual = np.flatnonzero((lengths > 6) & (lengths < 20)) if len(lengths) else lengths
    usual = usual if len(usual) >= 2 else np.arange(len(lengths))
    at = usual[spaced(len(usual), max(SHOWN, 2 * PAIRS))]
    t = trial.batch(at, encoder.device)
    z = network.infer(t)[0]
    items = [row[mask][1:-1].tolist() for row, mask in zip(t["item"].cpu(), t["mask"].cpu(), strict=True)]
    again = draw(model.teller, z)
    entries = {
        "reconstructions": [
            {"item": model.text(item), "told": model.text(told)} for item, told in zip(items, again, strict=True)
        ],
        "interpolations": [
            {
                "from": model.text(items[2 * i]), "to": model.text(items[2 * i + 1]),
                "told": [told.beam for told in model.between(z[2 * i], z[2 * i + 1])],
            }
            for i in range(min(PAIRS, len(items) // 2))
        ],
        "drawn": model.drawn(SHOWN),
        "likeliest": model.drawn(SHOWN, temperature=0.0),
    }  # fmt: skip
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    write_json(out / "pictures" / "sentences.json", entries)
