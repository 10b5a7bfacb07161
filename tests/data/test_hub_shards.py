"""hf:NAME read where it lies, through the real client of the hub, against a small hub of our own: listing, commits, ranges.

Not tried here: the real hub. The parts of its protocol that are answered are a repository's commit, its tree, and its files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from served import served
from small_files import encoded, photo
from test_elsewhere import same
from test_streams import parquet, tar

from withheld.data import hub_shards
from withheld.data import windows as limits
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.data.text_corpus import open_corpus
from withheld.errors import InputError, Unreachable

MAIN, EXPORTED = "a" * 40, "b" * 40


class Hub:
    """A hub with one data set, me/birds: a folder for its own files, and one for the branch of Parquet files.

    Attributes:
        asked: what it was asked for. splits: what `datasets` finds in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folders = {MAIN: folder / "main", EXPORTED: folder / "exported"}
        self.asked: list[str] = []
        self.splits: dict[str, list[str]] = {}

    def route(self, asked: str) -> bytes | Path:
        self.asked.append(asked)
        path, _, query = unquote(asked).partition("?")
        told = re.fullmatch(r"/(api/)?datasets/me/birds/(revision|tree|resolve)/(refs/convert/parquet|\w+)/?(.*)", path)
        if told is None:
            return Path("/none")
        commit = EXPORTED if told[3] == hub_shards.EXPORT else told[3]
        root = self.folders[commit]
        if not root.exists() or told[2] == "resolve":
            return root / told[4]
        if told[2] == "revision":
            return json.dumps({"id": "me/birds", "sha": commit, "siblings": [], "tags": []}).encode()
        below = (root / told[4]).rglob("*") if "recursive=true" in query.lower() else (root / told[4]).glob("*")
        return json.dumps(
            [
                {"type": "directory" if one.is_dir() else "file", "path": one.relative_to(root).as_posix(),
                 "oid": "1", "size": 0 if one.is_dir() else one.stat().st_size}
                for one in sorted(below)
            ]
        ).encode()  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import datasets
    import huggingface_hub

    found = Hub(tmp_path)

    def builder(name: str, config: str | None) -> Any:
        assert name == "me/birds"
        return SimpleNamespace(config=SimpleNamespace(data_files=found.splits))

    monkeypatch.setattr(limits, "WINDOW_BYTES", 4_000)
    monkeypatch.setattr(limits, "HELD_BYTES", 64_000)
    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr(hub_shards, "reachable", lambda: True)
    # the tests ask no network, but this hub is of this process
    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: False)
    with served(tmp_path, route=found.route) as (address, _):
        client, api = huggingface_hub.HfFileSystem, huggingface_hub.HfApi
        monkeypatch.setattr(
            hub_shards, "_system", lambda: client(endpoint=address, token=False, skip_instance_cache=True)
        )
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api(endpoint=address, token=False))
        yield found


def fill(folder: Path, names: list[str], kind: str = "parquet") -> None:
    for number, name in enumerate(names):
        write = parquet if kind == "parquet" else tar
        write(folder / name, [encoded(photo(20 * number + i), "PNG") for i in range(7 + 6 * number)])


def urls(folder: Path, *names: str) -> list[str]:
    return [f"hf://datasets/me/birds@{MAIN}/{name}" for name in names]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_its_own_shards(kind: str, hub: Hub, tmp_path: Path) -> None:
    names = [f"data/{n}.{kind}" for n in ("test-0", "train-0", "train-1")]
    fill(tmp_path / "main", names, kind)
    hub.splits = {"train": urls(tmp_path, *names[1:]), "test": urls(tmp_path, names[0])}
    there = open_source("hf:me/birds", stream=True)
    same(there, open_source(str(tmp_path / "main" / "data" / f"*.{kind}")))
    assert there.parts is not None
    assert there.parts.tolist() == ["test"] * 7 + ["train"] * 32
    asked = [one for one in hub.asked if "/resolve/" in one]
    assert asked
    assert all(f"/resolve/{MAIN}/" in one for one in asked)  # of one commit, whatever is pushed meanwhile
    by_address = open_source(f"hf:me/birds:{'default'}", stream=True)
    assert by_address.fingerprint == there.fingerprint


def test_parts_are_those_of_the_set(hub: Hub, tmp_path: Path) -> None:
    fill(tmp_path / "main", ["one.parquet", "two.parquet"])
    hub.splits = {"validation": urls(tmp_path, "one.parquet"), "train": urls(tmp_path, "two.parquet")}
    source = open_source("hf:me/birds", stream=True)
    assert source.parts is not None
    assert source.parts.tolist() == ["val"] * 7 + ["train"] * 13
    hub.splits.pop("validation")
    source = open_source("hf:me/birds", stream=True)
    assert source.parts is not None
    assert source.parts.tolist() == ["train"] * 13


def test_the_parquet_files_that_the_hub_made(hub: Hub, tmp_path: Path) -> None:
    fill(tmp_path / "main", ["photos.zip"])
    hub.splits = {"train": urls(tmp_path, "photos.zip")}
    with pytest.raises(
        InputError, match=r"neither Parquet files nor tars, and the hub has made none of it: leave out --stream"
    ):
        open_source("hf:me/birds", stream=True)
    fill(tmp_path / "exported", ["large/test/0000.parquet", "large/train/0000.parquet", "large/train/0001.parquet"])
    there = open_source("hf:me/birds", stream=True)
    same(there, open_source(str(tmp_path / "exported" / "large" / "*" / "*.parquet")))
    assert there.parts is not None
    assert there.parts.tolist() == ["test"] * 7 + ["train"] * 32
    fill(tmp_path / "exported", ["small/partial-train/0000.parquet"])
    with pytest.raises(InputError, match=r"name one of its configurations, hf:me/birds:CONFIG; there are large, small"):
        open_source("hf:me/birds", stream=True)
    assert open_source("hf:me/birds:large", stream=True).fingerprint == there.fingerprint
    with pytest.raises(
        InputError, match=rf"a part of it only \(partial-train\).*@{EXPORTED}/small/partial-train/\*.parquet"
    ):
        open_source("hf:me/birds:small", stream=True)


def test_no_network_and_a_folder_that_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(hub_shards, "reachable", lambda: False)
    said = r"hf:me/birds: the hub cannot be reached from here; check the network.*copy the shards"
    with pytest.raises(Unreachable, match=said) as told:
        open_source("hf:me/birds", stream=True)
    assert told.value.exit_code == 75
    features = datasets.Features({"image": datasets.Image()})
    cells = [{"bytes": encoded(photo(i), "PNG"), "path": None} for i in range(20)]
    datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(str(tmp_path / "d"))
    kept, streamed = open_source(f"hf:{tmp_path / 'd'}"), open_source(f"hf:{tmp_path / 'd'}", stream=True)
    assert kept.fingerprint == streamed.fingerprint
    assert np.array_equal(prepare(streamed, 16, stream=True).images[:], prepare(kept, 16).images)


def test_datasets_tells_the_files_of_every_split(tmp_path: Path) -> None:
    """What is asked of `datasets`, without stubs, of a folder: the hub's own is the same call."""
    fill(
        tmp_path / "set",
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
    )
    found = hub_shards._own(str(tmp_path / "set"), None, "hf:set")
    assert {split: [Path(file).name for file in files] for split, files in found.items()} == {
        "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        "test": ["test-00000-of-00001.parquet"],
    }
    fill(tmp_path / "tars", ["train-0.tar"], "tar")
    assert [Path(file).name for file in hub_shards._own(str(tmp_path / "tars"), None, "hf:tars")["train"]] == [
        "train-0.tar"
    ]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("a,b\n1,2\n")
    assert hub_shards._own(str(tmp_path / "csv"), None, "hf:csv") == {}


def test_texts_where_they_lie(hub: Hub, tmp_path: Path) -> None:
    """JSON lines of the set's own, or else the Parquet files that the hub has made; the training split."""
    lines = "".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(50))
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "a.jsonl").write_text(lines)
    (tmp_path / "main" / "b.jsonl").write_text(json.dumps({"text": "a test"}) + "\n")
    hub.splits = {"train": urls(tmp_path, "a.jsonl"), "test": urls(tmp_path, "b.jsonl")}
    corpus = open_corpus("hf:me/birds")
    found = [text for window in range(len(corpus)) for text in corpus.documents(window, {})]
    assert found == [f"text {i}" for i in range(50)]
    hub.splits = {"train": urls(tmp_path, "a.csv")}
    table = pa.table({"label": [0] * 9, "text": [f"row {i}" for i in range(9)]})
    (tmp_path / "exported" / "default" / "train").mkdir(parents=True)
    pq.write_table(table, tmp_path / "exported" / "default" / "train" / "0000.parquet")
    corpus = open_corpus("hf:me/birds")
    assert list(corpus.documents(0, {})) == [f"row {i}" for i in range(9)]
    named = table.append_column("body", pa.array([f"a longer body {i}" for i in range(9)]))
    pq.write_table(named, tmp_path / "exported" / "default" / "train" / "0000.parquet")
    for name in ("hf:me/birds::body", "hf:me/birds:default:body"):
        assert list(open_corpus(name).documents(0, {})) == [f"a longer body {i}" for i in range(9)]
