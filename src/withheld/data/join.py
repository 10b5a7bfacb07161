"""Several sources as one, such as videos and folders of frames that lie in one folder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from withheld.data.decode import Raw
from withheld.data.source import Source, Store, digest


class JoinedStore(Store):
    """The items of several sources, one after the other."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.starts = np.concatenate([[0], np.cumsum([len(source) for source in sources])])
        self.sequential = any(source.store.sequential for source in sources)

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        which = np.searchsorted(self.starts, positions, side="right") - 1
        for number in np.unique(which):
            places = np.flatnonzero(which == number)
            inner = self.sources[number]
            for place, contents in inner.store.raw(inner.places(positions[places] - self.starts[number])):
                yield int(places[place]), contents


def joined(sources: list[Source], text: str) -> Source:
    """One source of all items, without labels."""
    parts = [np.full(len(one), "") if one.parts is None else one.parts for one in sources]
    together = np.concatenate(parts)
    return Source(
        location=text, kind=" and ".join(dict.fromkeys(one.kind for one in sources)),
        names=[name for one in sources for name in one.names], store=JoinedStore(sources),
        fingerprint=digest([one.fingerprint for one in sources]), parts=together if (together != "").any() else None,
        left_out=[line for one in sources for line in one.left_out], stamp=digest([one.stamp for one in sources]),
    )  # fmt: skip
