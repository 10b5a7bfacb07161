"""What a table of word vectors holds: words, and those nearest to them.

Shapes: V vocabulary, W words looked at, D width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from withheld.learn.checkpoint import write_json
from withheld.text_encoder import TextEncoder

SHOWN, NEAR = 14, 6
LEAST, MOST = 20, 5000
"""How often a word stands in the texts at least, and how many of the most frequent ones are looked at."""
TELLING = 400
"""Words with the longest vectors, which move a text's mean most; those shown are chosen among them."""


def draw_near_words(encoder: TextEncoder, counts_V: NDArray[np.float64], out: Path) -> None:
    """Writes pictures/near_words.json, a table; nothing where there are too few words."""
    table = near_words(encoder, counts_V)
    if table:
        (out / "pictures").mkdir(parents=True, exist_ok=True)
        said = "Words whose vectors move a text most, each as unlike the others as can be, and the words nearest to it, by cosine."
        rows = [[word, ", ".join(near)] for word, near in table.items()]
        write_json(out / "pictures" / "near_words.json", {"header": ["word", "near it"], "rows": rows, "said": said})


def near_words(encoder: TextEncoder, counts_V: NDArray[np.float64]) -> dict[str, list[str]]:
    """`SHOWN` words and the `NEAR` nearest of each, the nearest first."""
    tokens = encoder.tokenizer.convert_ids_to_tokens(list(range(len(encoder.tokenizer))))
    usual = [int(i) for i in np.argsort(-counts_V[: len(tokens)], kind="stable") if counts_V[i] >= LEAST]
    words = [i for i in usual if _is_word(str(tokens[i]))][:MOST]
    if len(words) < 4 * SHOWN:
        return {}
    table_VD = encoder.trunk.model.get_input_embeddings().weight.detach().float().cpu().numpy()
    vectors_WD = table_VD[words]
    length_W = np.linalg.norm(vectors_WD, axis=1)
    unit_WD = vectors_WD / np.maximum(length_W, 1e-9)[:, None]
    telling = np.argsort(-length_W, kind="stable")[:TELLING]
    chosen = [int(telling[0])]
    nearest = unit_WD[telling] @ unit_WD[chosen[0]]
    while len(chosen) < SHOWN:  # the one that is least like any chosen before
        chosen.append(int(telling[nearest.argmin()]))
        nearest = np.maximum(nearest, unit_WD[telling] @ unit_WD[chosen[-1]])
    found = {}
    for at in chosen:
        near = np.argsort(-(unit_WD @ unit_WD[at]), kind="stable")
        found[_bare(tokens[words[at]])] = [_bare(tokens[words[i]]) for i in near if i != at][:NEAR]
    return found


def _bare(token: str) -> str:
    return token.lstrip("Ġ▁")


def _is_word(token: str) -> bool:
    bare = _bare(token)
    return not token.startswith("##") and bare.isalpha() and (len(bare) > 2 or not bare.isascii())
