"""The shards of a data set of the Hugging Face hub, read where they lie: nothing is downloaded whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from withheld.data.elsewhere import Shard, shards_of
from withheld.data.layout import PARTS
from withheld.data.shards import TARS, RowNames, open_shards
from withheld.data.source import Labels, Source
from withheld.errors import InputError, Unreachable, WithheldError
from withheld.hub import named_set, reachable, why

IMAGES_IN = (TARS, (".parquet",))
"""How names of shards of images end, all of a set in one of these ways."""
EXPORT = "refs/convert/parquet"
"""The branch in which the hub keeps a data set of another kind as Parquet files: CONFIG/SPLIT/0000.parquet."""


def open_hub_shards(text: str, labels: Labels = None) -> Source:
    """Opens "hf:NAME", "hf:NAME:CONFIG" or "hf:NAME:CONFIG:COLUMN": the Parquet files or tars that `datasets` would read, or else
    the Parquet files that the hub has made of them; of the commit that is newest now.

    Raises:
        InputError: where there is no such set or configuration, or neither kind of file.
        Unreachable: where the hub cannot be reached.
    """
    shards, splits = shards_of_set(text, IMAGES_IN)
    return _parted(open_shards(shards, text, labels), splits)


def shards_of_set(text: str, kinds: tuple[tuple[str, ...], ...]) -> tuple[list[Shard], list[str]]:
    """The files of a set, and the split of each.

    Args:
        text: see `withheld.hub.named_set`.
        kinds: how names of the set's own files may end, all in one way of these; else the hub's Parquet files are taken.

    Raises:
        InputError: where there is no such set or configuration, or no such files.
        Unreachable: where the hub cannot be reached.
    """
    name, config, _ = named_set(text)
    if not reachable():
        raise Unreachable(
            f"{text}: the hub cannot be reached from here; check the network (or HF_ENDPOINT), or copy the shards here and give "
            "them by a pattern ('shards/*.parquet')"
        )
    splits = _own(name, config, text, kinds) or _exported(name, config, text)
    system = _system()
    split_of = {path.removeprefix("hf://"): split for split, paths in splits.items() for path in paths}
    with _asking(text):
        infos = {path: system.info(path) for path in split_of}
    shards = shards_of(system, infos, text)
    return shards, [split_of[getattr(shard, "path", "")] for shard in shards]


def _parted(source: Source, splits: list[str]) -> Source:
    """With the parts that the set tells, whatever its files are called."""
    told = [PARTS.get(split.lower(), "") for split in splits]
    if len(set(told)) == 1 and told[0]:
        source.parts = np.broadcast_to(np.array(told[0]), len(source))
    elif any(told) and isinstance(source.names, RowNames):
        source.parts = np.repeat(np.array(told), np.diff(source.names.starts))
    return source


def _own(
    name: str, config: str | None, text: str, kinds: tuple[tuple[str, ...], ...] = IMAGES_IN
) -> dict[str, list[str]]:
    """The files of every split as `datasets` finds them, where they are shards of one kind; else none."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(name, config)
    except Exception as error:  # the network, the hub and the card each raise their own kinds
        reason = str(error).strip().split("\n")[0][:300]
        raise InputError(
            f"cannot open {text}: {reason}; check the name, or give the files themselves: hf://datasets/{name}/**/*.parquet"
        ) from error
    found = {str(split): [str(file) for file in files] for split, files in (builder.config.data_files or {}).items()}
    names = [file for files in found.values() for file in files]
    return found if any(all(file.lower().endswith(ends) for file in names) for ends in kinds if names) else {}


def _exported(name: str, config: str | None, text: str) -> dict[str, list[str]]:
    """The Parquet files that the hub has made of a set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    with _asking(text):
        try:
            commit = HfApi().dataset_info(name, revision=EXPORT).sha
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise
            raise InputError(
                f"{text} has neither Parquet files nor tars, and the hub has made none of it: leave out --stream, so that it is "
                "downloaded, or write shards of it"
            ) from error
        files = sorted(_system().glob(f"datasets/{name}@{commit}/*/*/*.parquet"))
    below = {file: PurePosixPath(file).parts[-3:-1] for file in files}
    configs = sorted({found for found, _ in below.values()})
    chosen = config or (configs[0] if len(configs) == 1 else "default")
    if chosen not in configs:
        raise InputError(
            f"{text}: name one of its configurations, hf:{name}:CONFIG; there are {', '.join(configs) or 'none'}"
        )
    splits: dict[str, list[str]] = {}
    for file, (found, split) in below.items():
        if found == chosen:
            splits.setdefault(split, []).append(file)
    partial = [split for split in splits if split.startswith("partial-")]
    if partial:
        raise InputError(
            f"{text}: the hub has made Parquet files of a part of it only ({', '.join(partial)}); leave out --stream, so that all "
            f"of it is downloaded, or ask for that part: hf://datasets/{name}@{commit}/{chosen}/{partial[0]}/*.parquet"
        )
    return splits


@contextmanager
def _asking(text: str) -> Iterator[None]:
    try:
        yield
    except WithheldError:
        raise
    except Exception as error:  # the network and the hub each raise their own kinds
        raise Unreachable(
            f"{text}: the hub gives no answer ({why(error)}); check the network, and try again later"
        ) from error


def _system() -> Any:
    import fsspec

    return fsspec.filesystem("hf")
