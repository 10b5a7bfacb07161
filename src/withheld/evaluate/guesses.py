"""Guessed labels of unlabelled items, the surest of each class, for fine-tuning to learn from beside the given ones.

Shapes: N labelled items, U unlabelled ones, G guessed ones, K classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.rows import take
from withheld.errors import InputError
from withheld.evaluate.features import Listen, features
from withheld.evaluate.floors import floors
from withheld.evaluate.judged import Judged, JudgedClips, JudgedImages, JudgedTexts
from withheld.evaluate.self_training import SelfTraining, even
from withheld.evaluate.text_floors import Words, counted, tfidf_probabilities

Labels = NDArray[np.int64]

MOST, MOST_CLIPS, MOST_BYTES = 10_000, 500, 1 << 30
"""Unlabelled items at most, a seeded sample; of images, what they hold."""
SURE = 0.8
"""Share of the guesses of a class that is learned from, the surest."""
GIVEN = 0.2
"""Share of what is learned from that has labels of people: they are repeated until they make it up."""


def with_guesses(
    kind: Judged, learn: Any, y_N: Labels, classes: int, known: Any, data: Any, seed: int, listen: Listen
) -> tuple[Any, Labels, int]:
    """Labelled items and, with guessed labels, items of unlabelled data.

    Guesses are those of `SelfTraining` on the encoder's features, of images with the strongest floor's beside them, of texts with
    topics and tf-idf (Lee 2013, Pseudo-Label). No item whose content is that of a labelled one is guessed, so none that is held
    out. Where cross-validation on the labelled items says that labels alone tell more, as where the rest is of other classes,
    nothing is guessed.

    Args:
        kind: how items are handled. learn: decoded labelled items (N, ...). y_N: their labels. classes: K.
        known: all decoded labelled items, also those held out. data: unlabelled, of the same classes. seed: of the sample.
        listen: is told.

    Returns:
        Decoded items, their labels, and how many of them are guessed, G.

    Raises:
        InputError: where nothing of data is without a label.
    """
    items = _unlabelled(kind, known, data, seed, listen)
    learned = features(kind.encoder, learn, listen=listen), features(kind.encoder, items, listen=listen)
    kinds = [even(*learned)]
    if isinstance(kind, JudgedImages):
        floor = list(floors(int(learn.shape[1])).values())[-1]
        kinds.append(even(*(np.asarray(floor(np.asarray(some)), np.float32) for some in (learn, items))))
    words = _words(kind, learn, items, classes)
    if words is not None:
        kinds.append(even(*words.topics))
    # A small language model may know less than words do, and lead neighbors astray: then topics are looked at by themselves.
    for some in (kinds, kinds[1:]) if words is not None else (kinds,):
        x_ND, x_UD = (np.concatenate(parts, axis=1) for parts in zip(*some, strict=True))
        found = SelfTraining(classes, seed, plain=None if words is None else tfidf_probabilities)
        found.fit(x_ND, y_N, x_UD, None if words is None else words.weights[0])
        if found.way != "alone":
            break
    if found.way == "alone":
        text = "labels alone tell more here (cross-validated): nothing of --unlabelled is learned from"
        listen({"kind": "note", "text": text})
        return learn, y_N, 0
    p_UK = found.probabilities(x_UD, None if words is None else words.weights[1])
    at = surest(p_UK)
    listen({"kind": "note", "text": f"guessed: {len(at):,} of {len(items):,} unlabelled items"})
    times = max(1, round(GIVEN / (1 - GIVEN) * len(at) / len(y_N)))
    given = np.tile(np.arange(len(y_N)), times)
    both = np.concatenate([np.asarray(learn)[given], np.asarray(take(items, at))])
    return both, np.concatenate([y_N[given], p_UK[at].argmax(axis=1)]), len(at)


@dataclass
class _Told:
    """tf-idf and topics of labelled and of unlabelled texts."""

    weights: tuple[Any, Any]
    topics: tuple[Any, Any]


def _words(kind: Judged, learn: Any, items: Any, classes: int) -> _Told | None:
    """None of what is no text, or has no words."""
    if not isinstance(kind, JudgedTexts):
        return None
    try:
        counts = counted([*learn, *items])[1]
        words = Words(counts, classes)
    except ValueError:
        return None
    weights = words.weighted(counts[: len(learn)]), words.weighted(counts[len(learn) :])
    return _Told(weights, (words.topics(weights[0]), words.topics(weights[1])))


def surest(p_UK: NDArray[np.floating], share: float = SURE) -> Labels:
    """Places of the surest guesses of each class, in order: this share of what is guessed to be of it, one at least."""
    guess, certain = p_UK.argmax(axis=1), p_UK.max(axis=1)
    chosen = []
    for label in np.unique(guess):
        own = np.flatnonzero(guess == label)
        chosen.append(own[np.argsort(-certain[own], kind="stable")[: max(1, round(share * len(own)))]])
    return np.sort(np.concatenate(chosen))


def _unlabelled(kind: Judged, known: Any, data: Any, seed: int, listen: Listen) -> Any:
    """Decoded items of data, a seeded sample, none of the test part and none whose content is that of a labelled one."""
    source = kind.open(data)
    free = np.arange(len(source)) if source.parts is None else np.flatnonzero(source.parts != "test")
    most = MOST_CLIPS if isinstance(kind, JudgedClips) else MOST
    mixed = np.random.default_rng([seed, 0x65]).permutation(free)[: most + len(known)]
    items = kind.decode(source.subset(np.sort(mixed)), listen)[0] if len(mixed) else []
    labelled = {_content(item) for item in known.items}
    new = np.array([at for at, item in enumerate(items) if _content(item) not in labelled], np.int64)
    if not len(new):
        raise InputError(f"--unlabelled {source.location}: every item of it has a label already; name more items")
    most = min(most, max(1, MOST_BYTES // int(getattr(items[new[0]], "nbytes", 1))))
    return take(items, np.sort(np.random.default_rng([seed, 0x66]).permutation(new)[:most]))


def _content(item: Any) -> Any:
    """What is equal where two decoded items are."""
    if isinstance(item, str):
        return item
    return hash(np.ascontiguousarray(getattr(item, "frames", item)).tobytes())
