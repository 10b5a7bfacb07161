"""Which texts a stream reads: a folder or pattern of shards, an address, or a data set of the Hugging Face hub."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from withheld.data.elsewhere import Local, Shard, common, is_address, shards_at
from withheld.data.layout import part_named
from withheld.data.shards import TARS, locals_below, part_of
from withheld.data.text_lines import Lines, open_lines
from withheld.data.text_shards import Corpus, open_table, open_tars_of_texts
from withheld.data.wanted import TEXTS
from withheld.errors import InputError, neighbor
from withheld.hub import named_set
from withheld.redact import redact

KINDS: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "json lines": (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
    "tar": TARS,
    "txt": tuple(sorted(TEXTS.suffixes)),
}
"""By how names end; of a folder the first that is there."""
COLUMNS = (*KINDS["parquet"], *KINDS["json lines"])


def open_corpus(data: Any) -> Corpus:
    """Opens texts that are read window by window; where shards are named train, those alone.

    Args:
        data: a folder, file or pattern of Parquet files, JSON lines (gzipped or not), plain tars of .txt, or .txt files; an address
            or a pattern of addresses of such; "hf:NAME". A column may be named behind a colon: 'shards/*.parquet:body'.

    Raises:
        InputError: where there are none, or they are of another kind.
        Unreachable: where the network fails.
    """
    if not isinstance(data, str | os.PathLike):
        raise InputError("--stream reads texts from shards: give a folder, a pattern, an address or hf:NAME")
    text = os.fsdecode(data)
    if text.startswith("hf:") and not is_address(text):
        shards, parts = _on_the_hub(text)
        return _opened(_train(shards, parts), redact(text), named_set(text).column)
    place, column = _column_of(text)
    shards = shards_at(place) if is_address(place) else _here(place)
    return _opened(_train(shards, [part_of(shard.name) for shard in shards]), redact(text), column)


def _column_of(text: str) -> tuple[str, str | None]:
    """Where it lies, and the column where one is named behind a colon."""
    head, colon, column = text.rpartition(":")
    if colon and head.lower().endswith(COLUMNS) and not Path(text).exists():
        return head, column
    return text, None


def _here(text: str) -> list[Shard]:
    from withheld.data.folder import scan_folder

    path = Path(text).expanduser()
    if path.is_dir():
        scan = scan_folder(path, TEXTS)
        names = sorted([*scan.items, *scan.others])
        kind = next((kind for kind in KINDS if any(_kind_of(name) == kind for name in names)), None)
        if kind is None:
            raise InputError(
                f"found no texts to stream under {text}; looked for {', '.join(e for ends in KINDS.values() for e in ends)}"
                f"{'; it holds ' + ', '.join(names[:3]) if names else ''}"
            )
        return [Local(path / name, name) for name in names if _kind_of(name) == kind]
    if path.is_file():
        return [Local(path, path.name)]
    if not glob.has_magic(text):
        raise InputError(f"there is no file or folder {text!r}{neighbor(path)}; give a folder or a pattern of shards")
    files = sorted(found for name in glob.glob(str(path), recursive=True) if (found := Path(name)).is_file())
    if not files:
        raise InputError(f"no file is called like {text!r}; quote the pattern, so that the shell leaves it as it is")
    return locals_below(common(files), files)


def _kind_of(name: str) -> str | None:
    return next((kind for kind, ends in KINDS.items() if name.lower().endswith(ends)), None)


def _train(shards: list[Shard], parts: Sequence[str]) -> list[Shard]:
    """Those of the training part, where there is one."""
    chosen = [shard for shard, part in zip(shards, parts, strict=True) if part == "train"]
    return chosen or shards


def _opened(shards: list[Shard], text: str, column: str | None) -> Corpus:
    kinds = {_kind_of(shard.name) for shard in shards}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None:
        some = ", ".join(shard.name for shard in shards[:5])
        raise InputError(
            f"{text} ({some}): a stream of texts is read from Parquet files, JSON lines (.jsonl, .jsonl.gz), plain tars of .txt, "
            "or .txt files, all of one kind; write tables of another kind as one of these, or leave out --stream"
        )
    if column is not None or kind in ("parquet", "json lines"):
        return (open_table if kind == "parquet" else open_lines)(shards, text, column)
    return open_tars_of_texts(shards, text) if kind == "tar" else Lines(shards, text, ())


def _on_the_hub(text: str) -> tuple[list[Shard], list[str]]:
    from withheld.data.hub_shards import shards_of_set

    if Path(named_set(text).name).exists():
        raise InputError(f"{text} was saved by `datasets` here and is no set of shards: leave out --stream")
    shards, splits = shards_of_set(text, tuple(KINDS.values()))
    return shards, [part_named(split) for split in splits]
