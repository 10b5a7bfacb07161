"""Features of whole images: in memory for the verdict, in a file for everything else.

Shapes: N images, C channels, H W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.aloud import Listen as Listen
from withheld.aloud import silent as silent
from withheld.data.broken import notes_of
from withheld.data.prepared import Prepared, prepare
from withheld.data.source import open_source
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.learn.checkpoint import replacing
from withheld.networks.open import PRESETS
from withheld.run import load_encoder, pick_device
from withheld.wording import plural

Patches = NDArray[np.float32]


def collecting(notes: list[str], listen: Listen) -> Listen:
    """Passes on what happens, but for notes, which it adds to `notes`: they are said with the others."""
    return lambda event: notes.append(event["text"]) if event["kind"] == "note" else listen(event)


class Rows:
    """Some rows of decoded items, copied slice by slice."""

    def __init__(self, items: Any, at: NDArray[np.int64]) -> None:
        self.items, self.at = items, at
        self.shape = (len(at), *getattr(items, "shape", (0,))[1:])

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        return np.asarray(self.items[self.at[part]])


def as_encoder(subject: Any, device: str = "auto") -> Encoder:
    """The encoder of a run folder, an encoder folder or a transformers id, or the one given, on a device.

    Raises:
        InputError: where there is none.
    """
    encoder = subject if isinstance(subject, Encoder) else load_encoder(subject)
    return encoder.to(pick_device(device)).eval()


def preparing(listen: Listen) -> Callable[[int, int], None]:
    """Tells a listener how many items are prepared, of how many."""
    return lambda done, total: listen({"kind": "prepare", "done": done, "total": total})


def features(encoder: Any, images_NCHW: Any, batch_size: int = 256, listen: Listen = silent) -> NDArray[np.float32]:
    """Pooled features (N, D).

    Args:
        encoder: an `Encoder`, or anything whose `transform` takes (n, C, H, W) uint8.
        images_NCHW: uint8, memory-mapped or not.
        batch_size: images at a time.
        listen: is told {"kind": "features", "done", "total"}.
    """
    parts = []
    listen({"kind": "features", "done": 0, "total": len(images_NCHW)})  # the first batch may take long
    for first in range(0, len(images_NCHW), batch_size):
        part = np.array(images_NCHW[first : first + batch_size])  # a copy: what is mapped cannot be written to
        parts.append(np.asarray(encoder.transform(part), dtype=np.float32).reshape(len(part), -1))
        listen({"kind": "features", "done": first + len(part), "total": len(images_NCHW)})
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def prepare_unlabelled(data: Any, encoder: Any, listen: Listen = silent) -> Prepared:
    """The items of any data as an encoder takes them; broken ones are skipped and said."""
    source = open_source(data)
    prepared = prepare(source, encoder.size, encoder.channels, scale=encoder.scale, progress=preparing(listen))
    for note in notes_of(prepared.skipped, plural(len(source) + len(source.left_out), "image")):
        listen({"kind": "note", "text": note})
    return prepared


def embed(
    subject: Any, data: Any, out: str | Path, *, patches: bool = False, device: str = "auto", listen: Listen = silent
) -> Path:
    """Writes one feature vector an item: .parquet (columns file, features) or .npz (arrays names, features).

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `Encoder`.
        data: whatever `withheld.pretrain` takes.
        out: the file, replaced in one step.
        patches: one vector a patch of every image instead: .parquet with a row for each (columns file, row, column, features),
            written batch by batch; .npz with features (N, rows, columns, D), held in memory.

    Raises:
        InputError: for another ending, data that cannot be read, or patches of what has none. CannotWrite: for the file.
    """
    from withheld.evaluate.kept import kept_features

    out = Path(out)
    if out.suffix not in WRITERS:
        raise InputError(f"{out}: features are written to a file that ends in {' or '.join(WRITERS)}")
    encoder = as_encoder(subject, device)
    if str(subject) in PRESETS and not Path(str(subject)).exists():
        listen(
            {
                "kind": "note",
                "text": f"{subject} is a network that has learned nothing: its features are those of chance",
            }
        )
    if patches and encoder.modality != "image":
        raise InputError(f"{subject}: an encoder of {encoder.modality}; patches are those of images")
    names, items = items_of(data, encoder, listen)
    found = patches_of(encoder, items, listen) if patches else kept_features(encoder, items, listen)
    writers: dict[str, Callable[..., None]] = PATCH_WRITERS if patches else WRITERS
    with replacing(out) as aside:
        writers[out.suffix](aside, names, found)
    return out


def patches_of(encoder: Any, images_NCHW: Any, listen: Listen = silent, batch_size: int = 64) -> Iterator[Patches]:
    """(n, rows, columns, D) of a batch after the other."""
    for first in range(0, len(images_NCHW), batch_size):
        part = np.array(images_NCHW[first : first + batch_size])
        yield encoder.transform_patches(part)
        listen({"kind": "features", "done": first + len(part), "total": len(images_NCHW)})


def items_of(data: Any, encoder: Encoder, listen: Listen) -> tuple[list[str], Any]:
    """Names and decoded items of the encoder's modality."""
    if encoder.modality == "image":
        prepared = prepare_unlabelled(data, encoder, listen)
        return list(prepared.names), prepared.images
    from withheld.evaluate.judged import judged

    kind = judged(encoder)
    source = kind.open(data)
    items, kept = kind.decode(source, listen)
    return [source.names[int(i)] for i in kept], items


def as_image_encoder(subject: Any, device: str = "auto") -> Any:
    """As `as_encoder`, for what is made for images.

    Raises:
        InputError: for an encoder of texts, with what to do instead.
    """
    encoder = as_encoder(subject, device)
    if encoder.modality != "image":
        raise InputError(
            f"{subject}: an encoder of {'clips' if encoder.modality == 'video' else 'texts'}, and one of images is needed here. "
            f"What this one can do: withheld evaluate, embed, search, or in Python make_pipeline(withheld.load_encoder(RUN), "
            "LogisticRegression())"
        )
    return encoder


def _write_parquet(path: Path, names: list[str], features_ND: NDArray[np.float32]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.FixedSizeListArray.from_arrays(pa.array(features_ND.ravel()), features_ND.shape[1])
    files = pa.array([printable_name(name) for name in names], pa.string())
    pq.write_table(pa.table({"file": files, "features": values}), path)


def _write_npz(path: Path, names: list[str], features_ND: NDArray[np.float32]) -> None:
    with open(path, "wb") as file:
        np.savez(file, names=np.array([printable_name(name) for name in names]), features=features_ND)


def _write_patches_parquet(path: Path, names: list[str], parts: Iterator[Patches]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, done = None, 0
    try:
        for part in parts:
            n, rows, columns, width = part.shape
            at = np.indices((n, rows, columns)).reshape(3, -1)
            files = pa.array([printable_name(name) for name in names[done : done + n]], pa.string())
            values = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), width)
            told = {
                "file": files.take(pa.array(at[0])), "row": at[1].astype(np.int16), "column": at[2].astype(np.int16),
                "features": values,
            }  # fmt: skip
            table = pa.table(told)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            done += n
    finally:
        if writer is not None:
            writer.close()


def _write_patches_npz(path: Path, names: list[str], parts: Iterator[Patches]) -> None:
    _write_npz(path, names, np.concatenate(list(parts)))


def printable_name(name: str) -> str:
    """A file name that can be written as UTF-8, whatever bytes the disk gave it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


WRITERS: dict[str, Callable[[Path, list[str], NDArray[np.float32]], None]] = {
    ".parquet": _write_parquet,
    ".npz": _write_npz,
}
PATCH_WRITERS: dict[str, Callable[[Path, list[str], Iterator[Patches]], None]] = {
    ".parquet": _write_patches_parquet,
    ".npz": _write_patches_npz,
}
