"""The items nearest to one: by the cosine of their standardized features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.duplicates import near_duplicates
from withheld.data.source import Source
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.errors import nearest as hint_for
from withheld.evaluate.choose import unit_features
from withheld.evaluate.features import Listen, as_encoder, features, silent
from withheld.evaluate.judged import judged
from withheld.evaluate.pool import Pool, looked_at, open_pool, plain_text, twins_of_clips
from withheld.evaluate.thumbnails import LARGE, Shown, draw_sheet, first_words, shown
from withheld.wording import plural

MOST_SEARCHED = 200_000
FEW = 8
"""Items below which the numbers are said to mean little: of two, cosines are 1 or -1."""
TITLE = 60
"""Characters of a query that stand in a title."""
COMPARED = 20_000
"""Names among which one like a mistyped one is looked for."""


@dataclass
class Found:
    """The nearest items.

    Attributes:
        query: what was looked for, as it is shown.
        names, similarity: of the nearest, the most alike first; cosines from -1 to 1.
        doubles: which of them nearly equal the query or one before them.
        texts: their first words, "" for images and clips.
        sheet: the query and them as a sheet shows them. picture: the same as one PNG.
        notes: what there is to know.
    """

    query: str
    names: list[str]
    similarity: list[float]
    doubles: list[bool]
    texts: list[str]
    sheet: list[Shown]
    picture: bytes
    notes: list[str] = field(default_factory=list)


def search(
    subject: Any, query: str | Path, data: Any, *, n: int = 12, most: int = MOST_SEARCHED, device: str = "auto",
    listen: Listen = silent,
) -> Found:  # fmt: skip
    """Finds the items of some data that an encoder finds most like a query.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `Encoder`.
        query: the name of an item of the data, a file of an image, text or clip, or for encoders of texts a text itself.
        data: what is searched, as `withheld.pretrain` takes it.
        n: how many are wanted.
        most: items that are looked at, a seeded sample of more.
        device: "auto", "cpu", "cuda", "mps".
        listen: is told what happens.

    Raises:
        InputError: for the subject, the data, or a query that is none.
    """
    if n < 1:
        raise InputError(f"-n {n}: ask for at least 1 item")
    encoder = as_encoder(subject, device)
    source = judged(encoder).open(data)
    known = _named(str(query), source.names, source.location)
    item, seen = (None, None) if known is not None else _query(encoder, query, source, listen)
    wanted = np.zeros(0, np.int64) if known is None else np.array([known])
    pool = open_pool(encoder, source, listen, most=most, wanted=wanted)
    if known is not None:
        place = np.flatnonzero(pool.at == known)
        if not len(place):
            raise InputError(f"{query}: this item cannot be read")
        item, asked = pool.item(int(place[0])), pool.values[place[0]]
        seen = looked_at(source, np.array([known]), [item], LARGE)[0]
    else:
        asked = features(encoder, _one(item))[0]
    unit = unit_features(np.concatenate([pool.values, asked[None]]))
    cosine = unit[:-1] @ unit[-1]
    if known is not None:
        cosine[pool.at == known] = -np.inf
    if len(pool.at) < FEW:
        pool.notes.append(
            f"features are standardized over what is searched, and of {plural(len(pool.at), 'item')} the numbers mean little"
        )
    nearest = np.argsort(-cosine, kind="stable")[: min(n, int(np.isfinite(cosine).sum()))]
    return _found(pool, str(query), item, seen, nearest, cosine[nearest])


def _named(query: str, names: Sequence[str], location: str) -> int | None:
    """The position of the item with this name, or that is this file of the data, or the only one whose path ends so."""
    folder, plain = (each.replace("\\", "/").removeprefix("./") for each in (location, query))
    plain = plain.removeprefix(folder.rstrip("/") + "/")
    exact = [i for i, name in enumerate(names) if name == plain]
    if exact:
        return exact[0]
    if _is_file(query):
        return None
    ends = [i for i, name in enumerate(names) if name.endswith("/" + plain)]
    return ends[0] if len(ends) == 1 else None


def _is_file(query: str | Path) -> bool:
    try:
        return Path(query).expanduser().is_file()
    except (OSError, RuntimeError):  # a text longer than names may be, or one that begins with ~
        return False


def _query(encoder: Encoder, query: str | Path, source: Source, listen: Listen) -> tuple[Any, Any]:
    """The one item of a file, or the text itself; and as a person should see it."""
    if not _is_file(query):
        if encoder.modality == "text":
            if not str(query).strip():
                raise InputError("the query is empty: give a text, a file or the name of an item")
            return str(query), str(query)
        hint = hint_for(str(query), source.names[:COMPARED])
        hint = hint if hint.startswith("did you mean") else f"names are such as {source.names[0]!r}"
        raise InputError(f"{str(query)!r} is neither a file nor the name of an item of {source.location}; {hint}")
    kind = judged(encoder)
    opened = kind.open(str(Path(query).expanduser()))
    items, kept = kind.decode(opened, listen)
    if len(items) != 1:
        raise InputError(f"{query} holds {len(items):,} items: a query is one; name one of them")
    return items[0], looked_at(opened, np.asarray(kept), [items[0]], LARGE)[0]


def _one(item: Any) -> Any:
    """A set of one item, as an encoder takes it."""
    if isinstance(item, str) or hasattr(item, "frames"):
        one = np.empty(1, dtype=object)
        one[0] = item
        return one
    return np.asarray(item)[None]


def _found(pool: Pool, query: str, item: Any, seen: Any, nearest: Any, cosine: Any) -> Found:
    names, items = [pool.name(at) for at in nearest], [pool.item(at) for at in nearest]
    doubles = _doubles([item, *items])
    said = [f"{c:.3f}{' copy' if twice else ''}" for c, twice in zip(cosine, doubles, strict=True)]
    typed = isinstance(item, str) and item == query
    title = first_words(query, TITLE) if isinstance(item, str) else query[-TITLE:]
    title = f'"{title}"' if typed else title
    told = "" if typed else query  # a text is its own name
    items = looked_at(pool.source, pool.at[nearest], items, LARGE)
    sheet = [shown(told, "query", seen), *map(shown, names, said, items)]
    below = [f"{what}  {name}" for what, name in zip(said, names, strict=True)]
    picture = draw_sheet(f"nearest to {title}", [("query", seen), *zip(below, items, strict=True)])
    texts = [first_words(one) if isinstance(one, str) else "" for one in items]
    return Found(title, names, [float(c) for c in cosine], doubles, texts, sheet, picture, list(pool.notes))


def _doubles(items: list[Any]) -> list[bool]:
    """Whether an item nearly equals one before it, of all but the first."""
    if isinstance(items[0], str):
        plain = [plain_text(text) for text in items]
        return [text in plain[:at] for at, text in enumerate(plain)][1:]
    pairs = twins_of_clips(items) if hasattr(items[0], "frames") else near_duplicates(np.stack(items))
    return [bool((pairs[:, 1] == at).any()) for at in range(1, len(items))]
