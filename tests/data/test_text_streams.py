"""Streams of texts: windows of shards, what a sample tells of them, and blocks that are packed on the way."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from withheld.data import text_lines, text_stream
from withheld.data import windows as limits
from withheld.data.text import decode_text
from withheld.data.text_corpus import open_corpus
from withheld.data.text_lines import _lines
from withheld.data.text_shards import Corpus
from withheld.data.text_stream import BlockStream, beginnings, make_plan
from withheld.data.tokenizer import train_tokenizer
from withheld.data.tokens import numbers_of
from withheld.errors import InputError
from withheld.learn.schedule import Windowed, order_of
from withheld.types import Recipe

WORDS = ["sea", "wind", "house", "bird", "green", "old", "came", "went", "sang", "over", "café", "straße"]
L = 16


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 2 kB of text."""
    monkeypatch.setattr(limits, "WINDOW_BYTES", 16_000)
    monkeypatch.setattr(limits, "HELD_BYTES", 100_000)
    monkeypatch.setattr(text_lines, "PASSAGE", 300)


def documents(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{i}: " + " ".join(rng.choice(WORDS, rng.integers(3, 30))) for i in range(count)]


def write(folder: Path, kind: str, texts: list[Any], shards: int = 3) -> Path:
    """Texts in several shards, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        some = texts[number * len(texts) // shards : (number + 1) * len(texts) // shards]
        stem = folder / f"part-{number}"
        lines = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in some).encode()
        if kind == "parquet":
            table = pa.table({"id": ["x"] * len(some), "text": some})
            pq.write_table(table, stem.with_suffix(".parquet"), row_group_size=7)
        elif kind == "jsonl":
            stem.with_suffix(".jsonl").write_bytes(lines)
        elif kind == "jsonl.gz":
            stem.with_suffix(".jsonl.gz").write_bytes(gzip.compress(lines))
        elif kind == "tar":
            with tarfile.open(stem.with_suffix(".tar"), "w") as archive:
                for i, text in enumerate(some):
                    for name, data in ((f"{i:05}.txt", text.encode()), (f"{i:05}.json", b"{}")):
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        archive.addfile(member, io.BytesIO(data))
        else:
            for i, text in enumerate(some):
                (folder / f"{number}-{i:05}.txt").write_text(text, encoding="utf-8")
    return folder


def read(corpus: Corpus, bad: dict[str, str] | None = None) -> list[str]:
    bad = {} if bad is None else bad
    return [text for window in range(len(corpus)) for text in corpus.documents(window, bad)]


def streamed(corpus: Corpus, overlap: int = 0, kind: str = "character", length: int = L) -> BlockStream:
    tokenizer = train_tokenizer(kind, beginnings(corpus, 100_000), 400, not overlap, 1 << 20)
    return BlockStream(
        corpus, make_plan(corpus, tokenizer, length + overlap, overlap), tokenizer, length + overlap, overlap
    )


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "jsonl.gz", "tar", "txt"])
def test_every_kind_has_all_texts_once_in_windows(kind: str, tmp_path: Path) -> None:
    texts = documents(150)
    corpus = open_corpus(write(tmp_path / "s", kind, texts))
    assert read(corpus) == texts
    assert len(corpus) > 4
    assert all(read_bytes <= 2.5 * 2000 for read_bytes in corpus.sizes)
    again = open_corpus(str(tmp_path / "s" / f"*.{kind}"))
    assert again.fingerprint == corpus.fingerprint
    memory = fsspec.filesystem("memory")
    try:
        for file in (tmp_path / "s").iterdir():
            memory.pipe_file(f"/bucket/{file.name}", file.read_bytes())
        there = open_corpus(f"memory://bucket/*.{kind}")
        assert there.fingerprint == corpus.fingerprint
        assert read(there) == texts
        assert list(there.read(1)) == list(corpus.read(1))
    finally:
        memory.store.clear()


def test_a_line_belongs_to_one_window_wherever_these_are_cut() -> None:
    rng = np.random.default_rng(1)
    lines = [b"x" * int(n) + b"\n" for n in rng.integers(0, 12, 40)]
    lines[-1] = lines[-1].rstrip()
    data = b"".join(lines)
    ends = np.cumsum([0, *map(len, lines)])
    for size in range(1, len(data) + 3):
        cuts = [*range(0, len(data), size), len(data)]
        found = [one for a, b in itertools.pairwise(cuts) for one in _lines(io.BytesIO(data), a, b)]
        assert found == [(int(at), line) for at, line in zip(ends, lines, strict=False) if line], size


def test_lines_without_an_end_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MOST_LINE", 1000)
    data = b"a\n" + b"z" * 50_000 + b"\nb\n"
    found = [one for a in range(0, len(data), 2000) for one in _lines(io.BytesIO(data), a, min(len(data), a + 2000))]
    assert [at for at, _ in found] == [0, 2, 50_003]
    assert "more than 0 MB" in str(found[1][1])
    assert (found[0][1], found[2][1]) == (b"a\n", b"b\n")


def test_a_large_text_is_cut_at_ends_of_lines(tmp_path: Path) -> None:
    text = "".join(f"line {i} of a long book\n" for i in range(1000))
    (tmp_path / "book.txt").write_text(text)
    corpus = open_corpus(tmp_path / "book.txt")
    parts = read(corpus)
    assert "".join(parts) == text
    assert all(part.endswith("\n") and len(part) < 400 for part in parts)


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_blocks_are_those_of_the_naive_packing(kind: str, overlap: int, tmp_path: Path) -> None:
    """Of a window: its documents back to back, cut from the first token that is not set aside, without the rest."""
    stream = streamed(open_corpus(write(tmp_path / "s", kind, documents(150))), overlap)
    assert stream.plan.aside
    for window in range(len(stream.corpus)):
        rows = numbers_of(stream.tokenizer, list(stream.corpus.documents(window, {})))
        ids = np.concatenate(rows)[stream.plan.aside.get(window, 0) :]
        of = np.concatenate([np.full(len(row), n) for n, row in enumerate(rows)])[stream.plan.aside.get(window, 0) :]
        naive = [ids[a : a + L + overlap] for a in range(0, len(ids) - L - overlap + 1, L)]
        start, places = int(stream.read_in.starts[window]), int(stream.read_in.rows[window])
        epochs = -(-len(naive) // places)
        index = np.concatenate([start + np.arange(places) + epoch * len(stream) for epoch in range(epochs)])
        told = stream.batch(index, "cpu")
        for k, item in enumerate(told["item"].numpy()):
            assert np.array_equal(item, naive[k % len(naive)])
            at = k % len(naive) * L
            assert np.array_equal(told["document"][k].numpy(), of[at : at + L + overlap] - of[at])
        assert places == pytest.approx(len(naive), rel=0.5, abs=3)


def test_every_block_of_a_window_is_seen_equally_often(tmp_path: Path) -> None:
    """However wrong the sample was about how many there are."""
    texts = [" ".join(str(n) for n in range(i, i + 20)) for i in range(10_000, 11_200, 20)]  # no block is there twice
    stream = streamed(open_corpus(write(tmp_path / "s", "jsonl", texts)))
    for wrong in (0.5, 1.7):
        plan = stream.plan
        plan.places = np.maximum(1, (plan.places * wrong).astype(np.int64))
        other = BlockStream(stream.corpus, plan, stream.tokenizer, L)
        order = order_of(other, Recipe(batch_size=1), 0, 1)
        assert isinstance(order, Windowed)
        seen: Counter[bytes] = Counter()
        for step in range(12 * len(other)):
            seen[other.batch(order.step(step), "cpu")["item"].numpy().tobytes()] += 1
        for window in range(len(stream.corpus)):
            blocks, _ = other.blocks_of(window)
            assert blocks is not None
            items = blocks.batch(np.arange(len(blocks)), "cpu")["item"].numpy()
            times = [seen[item.tobytes()] for item in items]
            assert max(times) - min(times) <= 1
            assert min(times) >= 1


def test_the_order_is_that_of_a_fresh_start(tmp_path: Path) -> None:
    """A step asked for alone shows the blocks that it shows after all steps before it, whatever is held."""
    folder = write(tmp_path / "s", "parquet", documents(150))
    stream = streamed(open_corpus(folder), 1)
    order = order_of(stream, Recipe(batch_size=8), 3, 8)
    whole = [stream.batch(order.step(step), "cpu")["item"].numpy() for step in range(100)]
    assert order.epoch_of(100) > 1
    for step in (99, 0, 31):
        fresh = streamed(open_corpus(folder), 1)
        assert fresh.fingerprint == stream.fingerprint
        index = order_of(fresh, Recipe(batch_size=8), 3, 8).step(step)
        assert np.array_equal(fresh.batch(index, "cpu")["item"].numpy(), whole[step])


def test_what_is_set_aside_is_never_learned_from(tmp_path: Path) -> None:
    """Whole documents, and less than half of any window."""
    texts = documents(150)
    stream = streamed(open_corpus(write(tmp_path / "s", "jsonl", texts)))
    apart = stream.plan.trial
    spoken = [stream.tokenizer.decode(apart.document(i), skip_special_tokens=True) for i in range(len(apart))]
    assert len(spoken) >= 4
    assert all(text in texts for text in spoken)
    starts = np.array([stream.tokenizer.cls_token_id])
    for window in range(len(stream.corpus)):
        blocks, _ = stream.blocks_of(window)
        assert blocks is not None
        assert blocks.tokens.ids[0] == starts
        learned = {blocks.tokens.document(i).tobytes() for i in range(len(blocks.tokens.starts) - 1)}
        assert not learned & {apart.document(i).tobytes() for i in range(len(apart))}
        assert stream.plan.aside.get(window, 0) <= len(blocks.tokens.ids)


CELLS: list[Any] = [b"\xfd\xfc" * 20, None, "  \n", b"some words and one \xff byte that is mended among many"]
VALUES: list[Any] = [{"id": 1}, {"text": 7}, {"text": [1]}, {"text": "  "}, [1], {"text": None}]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_broken_rows_are_met_and_told_exactly(kind: str, tmp_path: Path) -> None:
    texts: list[Any] = documents(200)
    folder = tmp_path / "s"
    folder.mkdir()
    if kind == "parquet":
        for at, cell in zip((3, 77, 120, 199), CELLS, strict=True):
            texts[at] = cell
        cells = [one.encode() if isinstance(one, str) else one for one in texts]
        raw = pa.array(cells, pa.binary())
        column = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
        pq.write_table(pa.table({"text": column}), folder / "a.parquet", row_group_size=10)
        wrong = {f"a.parquet:{at}" for at in (3, 77, 120, 199)}
    else:
        lines = [json.dumps({"text": text}).encode() for text in texts]
        for at, value in zip((0, 40, 41, 90, 150, 199), VALUES, strict=True):
            lines[at] = json.dumps(value).encode()
        lines[60] = b'{"text": "\xff\xff"}'
        lines[61] = b"{no json"
        lines[62] = b""
        lines[63] = b'"a line may be a text alone"'
        begin = np.cumsum([0, *(len(line) + 1 for line in lines)])
        (folder / "a.jsonl").write_bytes(b"\n".join(lines))
        wrong = {f"a.jsonl:byte {begin[at]}" for at in (0, 40, 41, 60, 61, 90, 150, 199)}
    stream = streamed(open_corpus(folder))
    index = np.concatenate([stream.read_in.starts + stream.read_in.rows - 1])
    stream.batch(index, "cpu")
    assert set(stream.skipped) == wrong, stream.skipped
    bad: dict[str, str] = {}
    assert len(read(stream.corpus, bad)) == (197 if kind == "parquet" else 191)
    assert bad == stream.skipped
    assert all(bad.values())


def test_halves_of_surrogate_pairs_are_mended() -> None:
    """They end a tokenizer with a TypeError."""
    found = decode_text("one \ud83d half, one whole \ud83d\ude00")
    assert found == ("one \ufffd half, one whole \U0001f600", "1 half of a surrogate pair was replaced")
    assert decode_text("fine") == ("fine", "")


def test_too_many_broken_rows_end_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "words and words"}\n' + '{"text": 1}\n' * 50)
    with pytest.raises(
        InputError, match=r"50 of 51 texts looked at under .* cannot be read; the first:\n.*a.jsonl:byte"
    ):
        streamed(open_corpus(tmp_path))


def test_a_window_without_a_block_shows_those_of_the_next(tmp_path: Path) -> None:
    texts = documents(60)
    lines = [json.dumps({"text": text}) for text in texts]
    empty = json.dumps({"text": "", "id": "x" * 4500})  # two windows of nothing
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:30], empty, *lines[30:]]) + "\n")
    stream = streamed(open_corpus(tmp_path))
    nothing = [w for w in range(len(stream.corpus)) if stream.blocks_of(w)[0] is None]
    assert nothing
    for window in nothing:
        after = next(w for w in range(window, len(stream.corpus)) if w not in nothing)
        blocks, _ = stream.blocks_of(after)
        assert blocks is not None
        told = stream.batch(stream.read_in.starts[[window]], "cpu")["item"].numpy()
        assert np.array_equal(told[0], blocks.batch(np.array([0]), "cpu")["item"].numpy()[0])


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """But for some 100 bytes a window, which is 4 MB of text otherwise."""
    peaks, windows = [], []
    for times in (1, 10):
        corpus = open_corpus(write(tmp_path / f"{times}", "jsonl", documents(400 * times)))
        windows.append(len(corpus))
        stream = streamed(corpus)
        order = order_of(stream, Recipe(batch_size=32), 0, 8)
        tracemalloc.start()
        for step in range(len(stream) // 32):
            stream.batch(order.step(step), "cpu")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert stream.held.most <= limits.HELD_BYTES
        assert stream.held.waited >= len(corpus)  # all of it was read
    assert windows[1] > 9 * windows[0]
    assert peaks[1] - peaks[0] < 20_000 + 250 * (windows[1] - windows[0])


def test_reading_ahead_gives_the_same_and_nothing_is_waited_for(tmp_path: Path) -> None:
    stream = streamed(open_corpus(write(tmp_path / "s", "parquet", documents(150))))
    order = order_of(stream, Recipe(batch_size=8), 0, 8)
    assert isinstance(order, Windowed)
    plain = [stream.batch(order.step(s), "cpu")["item"].numpy() for s in range(20)]
    ahead = streamed(open_corpus(tmp_path / "s"))
    for s in range(20):
        ahead.expect(order.ahead(s, range(8)))
        thread = ahead.held._thread
        if thread is not None:
            thread.join(20)
        assert np.array_equal(ahead.batch(order.step(s), "cpu")["item"].numpy(), plain[s])
    ahead.rest()
    assert ahead.held.waited == 0


def test_columns(tmp_path: Path) -> None:
    table = {"url": ["x" * 100] * 30, "body": documents(30), "other": ["y"] * 30, "n": [1] * 30}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert read(open_corpus(f"{tmp_path}/a.parquet")) == table["body"]
    assert read(open_corpus(f"{tmp_path}/*.parquet:other")) == table["other"]
    with pytest.raises(InputError, match="the column 'n' is of int64 and no text"):
        open_corpus(f"{tmp_path}/a.parquet:n")
    with pytest.raises(InputError, match=r"has no column 'bodi': did you mean 'body'\?"):
        open_corpus(f"{tmp_path}/a.parquet:bodi")
    pair = {"sentence1": ["a b"] * 30, "sentence2": ["c d"] * 30}
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({k: v[i] for k, v in pair.items()}) + "\n" for i in range(30)))
    assert read(open_corpus(tmp_path / "b.jsonl")) == ["a b\nc d"] * 30
    (tmp_path / "c.jsonl").write_text('{"id": "7", "review": {"text": "it rained all day", "stars": 3}}\n' * 30)
    assert read(open_corpus(tmp_path / "c.jsonl")) == ["it rained all day"] * 30


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_column_taken_is_told_where_there_are_several(kind: str, tmp_path: Path) -> None:
    rows = [{"title": "about the old sea", "body": "the rain fell " * 9, "label": "a word of a class"}] * 30
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    else:
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = open_corpus(f"{tmp_path}/*.{kind}").told
    assert told.startswith("the column 'body' is taken for the text, and not 'title'; to take another one: ")
    assert read(open_corpus(told.rpartition("one: ")[2])) == ["about the old sea"] * 30
    assert not open_corpus(f"{tmp_path}/*.{kind}:title").told


def test_shards_named_train_are_read_alone(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}-0.jsonl").write_text("".join(json.dumps({"text": f"{part} {i}"}) + "\n" for i in range(9)))
    assert read(open_corpus(tmp_path)) == [f"train {i}" for i in range(9)]


@pytest.mark.parametrize("members", [2, 5, 60], ids=str)
def test_gzip_of_several_members_is_read_whole(members: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `cat a.gz b.gz` and block-wise writers make them; what follows hides how long all is."""
    texts = documents(60)
    lines = [json.dumps({"text": text}).encode() + b"\n" for text in texts]
    parts = [gzip.compress(b"".join(lines[k::members])) for k in range(members)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts) + gzip.compress(b'{"text": "last"}\n'))
    bad: dict[str, str] = {}
    assert sorted(read(open_corpus(tmp_path), bad)) == sorted([*texts, "last"])
    monkeypatch.setattr("withheld.data.windows.WINDOW_BYTES", 8 * 1000)
    corpus = open_corpus(tmp_path)
    assert len(corpus.sizes) > 5, "windows as of what is in it"
    assert sorted(read(corpus, bad)) == sorted([*texts, "last"])
    assert not bad


def test_gzip_of_several_members_longer_than_a_head_is_read_whole(tmp_path: Path) -> None:
    """Two members whose first goes beyond what is looked at, of which the last is the longer: only its end tells of it."""
    random = np.random.default_rng(0)
    lines = [json.dumps({"text": random.bytes(40).hex()}).encode() + b"\n" for _ in range(6000)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:2000])) + gzip.compress(b"".join(lines[2000:])))
    assert (tmp_path / "a.jsonl.gz").stat().st_size > 1 << 17
    bad: dict[str, str] = {}
    assert len(read(open_corpus(tmp_path), bad)) == 6000
    assert not bad


def test_gzip_that_lies_about_its_length_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b'{"text": "a"}\n' * 500_000)
    monkeypatch.setattr("withheld.data.text_lines.SLACK", 1 << 20)
    (tmp_path / "a.jsonl.gz").write_bytes(bomb + gzip.compress(b'{"text": "a"}\n'))
    with pytest.raises(InputError, match=r"(?s)cannot be read.*grows more than 200 times"):
        open_corpus(tmp_path)
    lie = bomb[:-4] + (12_000).to_bytes(4, "little")
    monkeypatch.setattr("withheld.data.text_lines._growth", lambda head: 0.0)
    monkeypatch.setattr("withheld.data.windows.WINDOW_BYTES", 8 * 20_000)
    (tmp_path / "a.jsonl.gz").write_bytes(lie)
    bad: dict[str, str] = {}
    assert len(read(open_corpus(tmp_path), bad)) < 5000
    assert ["goes on far behind" in why for why in bad.values()] == [True]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--stream reads texts from shards"):
        open_corpus(["a text"])
    with pytest.raises(InputError, match="there is no file or folder"):
        open_corpus(tmp_path / "none")
    with pytest.raises(InputError, match="no file is called like"):
        open_corpus(f"{tmp_path}/*.jsonl")
    (tmp_path / "a.csv").write_text("text\nwords\n")
    with pytest.raises(InputError, match=r"write tables of another kind as one of these, or leave out --stream"):
        open_corpus(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"found no texts to stream under .*it holds a.csv"):
        open_corpus(tmp_path)
    (tmp_path / "b.jsonl").write_text('{"text": "few"}\n')
    with pytest.raises(InputError, match="too few for blocks of 16 to learn from and one to check with"):
        streamed(open_corpus(tmp_path))


def test_damage_is_told_and_the_rest_read(tmp_path: Path) -> None:
    texts = documents(150)
    folder = write(tmp_path / "s", "jsonl.gz", texts)
    data = bytearray((folder / "part-1.jsonl.gz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "part-1.jsonl.gz").write_bytes(bytes(data))
    corpus = open_corpus(folder)
    bad: dict[str, str] = {}
    found = read(corpus, bad)
    assert found[:50] == texts[:50]
    assert found[-50:] == texts[-50:]
    assert bad
    assert all("part-1.jsonl.gz" in name for name in bad)


def test_the_sample_is_of_several_shards(tmp_path: Path) -> None:
    corpus = open_corpus(write(tmp_path / "s", "jsonl", documents(400), shards=4))
    assert len(corpus) > text_stream.SAMPLED
    names = {name.split(":")[0] for window in text_stream.sampled(corpus) for name, _ in corpus.read(window)}
    assert len(names) == 4
