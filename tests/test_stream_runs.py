"""Runs on sources that are not prepared: what run.json and skipped.jsonl say, resuming, and what is refused."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

import withheld
from withheld.cli import main
from withheld.data import cache, elsewhere, prepared, windows
from withheld.errors import InputError, Unreachable
from withheld.learn.illness import facts_of
from withheld.learn.rules_of_training import waiting
from withheld.narrator import plan

BROKEN = {70, 333, 801, 1299}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """1,300 small images in four Parquet files, row groups of 20, four of them broken."""
    folder = tmp_path / "shards"
    folder.mkdir()
    rng = np.random.default_rng(0)
    cells = []
    for i in range(1300):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(stream, "PNG")
        cells.append(b"?" if i in BROKEN else stream.getvalue())
    for number in range(4):
        table = pa.table({"image": cells[number * 325 : (number + 1) * 325]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=20)
    return folder


def run(data: Any, out: Path, **more: Any) -> withheld.Run:
    given = {"steps": 50, "batch_size": 64, "pictures": False, "device": "cpu", **more}
    return withheld.pretrain("mae", data, out, **given)


def test_a_stream_is_named_and_learned_from(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "HELD_BYTES", 100_000)
    monkeypatch.setattr(prepared, "STREAMED_SAMPLE", 64)
    before = set(cache.entries_folder().iterdir())
    told: list[dict[str, Any]] = []
    done = run(shards, tmp_path / "run", stream=True, listen=told.append, pictures=True)
    assert set(cache.entries_folder().iterdir()) == before  # nothing was prepared
    data = done.settings["data"]
    assert data["streamed"] is True
    assert data["items"] + data["held_out"] == 1300
    assert 20 <= data["held_out"] <= 40
    assert any("items are decoded as they are needed" in event.get("text", "") for event in told)
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"{i // 325}.parquet:{i % 325}" for i in sorted(BROKEN)]  # 2.5 epochs
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert len(losses) == 50
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert any("held_out" in json.dumps(line) or "trial" in json.dumps(line) for line in log)  # vitals
    assert any((tmp_path / "run" / "pictures").iterdir())


def test_what_does_not_fit_the_cache_streams(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on as a stream when there is room again, to the same weights."""
    whole = run(shards, tmp_path / "whole", stream=True, steps=6)
    monkeypatch.setattr(cache, "MOST_BYTES", 10_000)

    def stop(event: dict[str, Any]) -> None:
        if event.get("kind") == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(shards, tmp_path / "run", steps=6, listen=stop, save_every=0.0)
    monkeypatch.undo()
    told: list[dict[str, Any]] = []
    again = run(shards, tmp_path / "run", steps=6, resume=True, listen=told.append)
    assert any("resumed at step" in event.get("text", "") for event in told)
    assert again.settings["data"]["fingerprint"] == whole.settings["data"]["fingerprint"]
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole.folder, again.folder)]
    assert weights[0] == weights[1]


def test_a_shard_that_is_missing_is_a_difference(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "run", stream=True, steps=2)
    (shards / "2.parquet").unlink()
    with pytest.raises(InputError, match=r"(?s)data: began with .* whose files were others.*data, items: \d+ -> \d+"):
        run(shards, tmp_path / "run", stream=True, steps=2, resume=True)


def test_what_cannot_stream_says_so(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"this method learns from .* items that it sees again and again"):
        withheld.pretrain("exemplar", shards, tmp_path / "run", steps=1, stream=True)
    (tmp_path / "rows.csv").write_text("a,b\n" + "1,2\n" * 9)
    with pytest.raises(InputError, match="--stream: images and blocks of text are streamed; a table run prepares its"):
        withheld.pretrain("mixture", tmp_path / "rows.csv", tmp_path / "run", steps=1, stream=True)
    text = tmp_path / "text.txt"
    text.write_text("some words " * 100)
    with pytest.raises(InputError, match=r"lstm_lm carries its state .* take transformer_lm, or leave out --stream"):
        withheld.pretrain("lstm_lm", text, tmp_path / "run", steps=1, stream=True)
    with pytest.raises(InputError, match=r"simcse learns from sentences of like length.*leave out --stream"):
        withheld.pretrain("simcse", text, tmp_path / "run", steps=1, stream=True)
    with pytest.raises(InputError, match=r"held_out: a stream sets aside a hundredth of its texts, and 256 blocks"):
        withheld.pretrain("bert", text, tmp_path / "run", steps=1, stream=True, settings={"held_out": 0.1})
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_command_line_takes_a_pattern(shards: Path, tmp_path: Path) -> None:
    words = [
        "pretrain",
        "mae",
        "--data",
        str(shards / "*.parquet"),
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "2",
        "--stream",
    ]
    said = CliRunner().invoke(main, [*words, "--dry-run"])
    assert said.exit_code == 0, said.output
    assert not (tmp_path / "run").exists()
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 0, said.output
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["location"].endswith("*.parquet")


@pytest.fixture
def address(shards: Path) -> Iterator[str]:
    """The shards, elsewhere."""
    memory = fsspec.filesystem("memory")
    for file in shards.iterdir():
        memory.pipe_file(f"/bucket/{file.name}", file.read_bytes())
    yield "memory://bucket/*.parquet"
    memory.store.clear()


def weights(done: withheld.Run) -> bytes:
    return (done.folder / "model" / "model.safetensors").read_bytes()


def losses(done: withheld.Run) -> list[float]:
    lines = [json.loads(line) for line in (done.folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.promise("R23", "runs on shards elsewhere: the weights of the same shards here")
def test_a_run_on_shards_elsewhere_is_that_on_the_same_here(
    shards: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, ahead = windows.Held._keep, [0]

    def count(self: windows.Held, number: int, items: Any, asked: bool) -> None:
        ahead[0] += not asked
        keep(self, number, items, asked)

    monkeypatch.setattr(windows.Held, "_keep", count)
    monkeypatch.setattr(windows, "HELD_BYTES", 100_000)
    here = run(shards, tmp_path / "here", stream=True, steps=12)
    assert ahead[0] > 10
    there = run(address, tmp_path / "there", stream=True, steps=12)
    assert ahead[0] > 20
    assert there.settings["data"]["fingerprint"] == here.settings["data"]["fingerprint"]
    assert there.settings["data"]["location"] == address
    assert losses(there) == losses(here)
    assert weights(there) == weights(here)
    assert (there.folder / "skipped.jsonl").read_text() == (here.folder / "skipped.jsonl").read_text()


@pytest.mark.promise("R23", "runs whose source broke off: tried again, a checkpoint, exit 75, resumed to the same bits")
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_source_that_breaks_ends_with_a_checkpoint(
    at: int, shards: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever window it is that cannot be read; and the run goes on with the shards here as well."""
    monkeypatch.setattr(windows, "HELD_BYTES", 40_000)  # a window or two of each part of a batch
    monkeypatch.setattr(elsewhere, "WAITS", (0.0, 0.0))
    whole = run(shards, tmp_path / "whole", stream=True, steps=12)
    once, reached = elsewhere.Ranges._once, [0, 0]

    def breaks(self: elsewhere.Ranges, start: int, count: int) -> bytes:
        if reached[0] >= 2 + at:
            reached[1] += 1
            raise ConnectionResetError("no more")
        return once(self, start, count)

    def count(event: dict[str, Any]) -> None:
        reached[0] += event.get("kind") == "step"

    monkeypatch.setattr(elsewhere.Ranges, "_once", breaks)
    with pytest.raises(
        Unreachable, match=r"\d.parquet cannot be read, tried 3 times \(ConnectionResetError: no more\)"
    ) as told:
        run(address, tmp_path / "run", stream=True, steps=12, listen=count)
    assert told.value.exit_code == 75
    assert reached[1] >= 3
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["resumable"] is True
    assert status["exit_code"] == 75
    assert [folder.name for folder in (tmp_path / "run" / "state").iterdir()] == [f"step-{reached[0]}"]
    assert not [thread for thread in threading.enumerate() if thread.name == "withheld read-ahead"]
    monkeypatch.setattr(elsewhere.Ranges, "_once", once)
    again = run(address if at else shards, tmp_path / "run", steps=12, resume=True)
    assert weights(again) == weights(whole)
    assert losses(again) == losses(whole)
    assert (again.folder / "skipped.jsonl").read_text() == (whole.folder / "skipped.jsonl").read_text()


KILLED = """
import os, signal, sys
import withheld
def hear(event):
    if event.get("kind") == "step" and event["step"] == 4:
        os.kill(os.getpid(), int(sys.argv[3]))
given = {"steps": 8, "batch_size": 64, "pictures": False, "device": "cpu", "stream": True, "save_every": 0.0}
withheld.pretrain("mae", sys.argv[1], sys.argv[2], listen=hear, **given)
"""


@pytest.mark.promise("R23", "runs killed while they read ahead, resumed to the same bits")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM])
def test_killed_while_it_reads_ahead(number: signal.Signals, shards: Path, tmp_path: Path) -> None:
    address = f"file://{shards.as_posix()}/*.parquet"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, address, str(tmp_path / "run"), str(int(number))],
        capture_output=True,
        timeout=300,
    )
    assert ended.returncode == -number if number == signal.SIGKILL else b"stopped at step 4" in ended.stderr
    whole = run(shards, tmp_path / "whole", stream=True, steps=8)
    again = run(address, tmp_path / "run", steps=8, resume=True)
    assert weights(again) == weights(whole)
    assert losses(again) == losses(whole)


@pytest.fixture
def text_shards(tmp_path: Path) -> Path:
    """600 texts in three files of JSON lines, four of them broken."""
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = ["sea", "wind", "house", "bird", "green", "old", "came", "went", "sang", "over"]
    rows: list[Any] = [{"text": " ".join(rng.choice(words, 12)) + "."} for _ in range(600)]
    for i in (70, 233, 401, 599):
        rows[i] = {"text": i}
    for number in range(3):
        some = rows[number * 200 : (number + 1) * 200]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


def learn(method: str, data: Any, out: Path, **more: Any) -> withheld.Run:
    given: dict[str, Any] = {
        "steps": 8,
        "batch_size": 16,
        "size": 32,
        "settings": {"tokenizer": "character"},
        "stream": True,
    }
    return withheld.pretrain(method, data, out, device="cpu", **{"pictures": False, **given, **more})


@pytest.mark.parametrize("method", ["bert", "gpt", "transformer_lm"])
def test_texts_are_streamed(method: str, text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped twice ends as one that was not, here or with shards elsewhere; broken rows are told exactly."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", 24_000)
    monkeypatch.setattr(windows, "HELD_BYTES", 60_000)
    monkeypatch.setattr(cache, "MOST_BYTES", 300_000)
    whole = learn(method, text_shards, tmp_path / "whole", steps=60, pictures=True) if method == "bert" else None
    if whole is not None:
        lines = [json.loads(line)["file"] for line in (whole.folder / "skipped.jsonl").read_text().splitlines()]
        begin = [
            np.cumsum([0, *map(len, file.read_bytes().splitlines(keepends=True))])
            for file in sorted(text_shards.iterdir())
        ]
        assert sorted(lines) == sorted(f"{i // 200}.jsonl:byte {begin[i // 200][i % 200]}" for i in (70, 233, 401, 599))
        log = (whole.folder / "log.jsonl").read_text()
        assert "held_out" in log or "trial" in log
        told = losses(whole)
        assert np.mean(told[-5:]) < np.mean(told[:5])
    steps = 60 if method == "bert" else 8
    whole = whole or learn(method, text_shards, tmp_path / "whole")
    data = whole.settings["data"]
    assert data["streamed"] is True
    assert data["kind"] == "json lines"
    assert data["documents"] == pytest.approx(596, rel=0.05)
    real = sum(
        len(json.loads(line)["text"]) for file in text_shards.iterdir() for line in file.open() if '"text": "' in line
    )
    assert data["tokens"] == pytest.approx(real, rel=0.1)

    def stop(event: dict[str, Any]) -> None:
        if event.get("kind") == "step" and event["step"] in (3, 5):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            learn(method, text_shards, tmp_path / "run", steps=steps, listen=stop, save_every=0.0, resume=True)
    memory = fsspec.filesystem("memory")
    try:
        for file in text_shards.iterdir():
            memory.pipe_file(f"/texts/{file.name}", file.read_bytes())
        again = learn(method, "memory://texts/*.jsonl", tmp_path / "run", steps=steps, resume=True)
    finally:
        memory.store.clear()
    assert weights(again) == weights(whole)
    assert losses(again) == losses(whole)
    assert "of about" in plan(whole.settings)  # reckoned from a sample
    case: Any = SimpleNamespace(now=lambda name: 0.9, step=30, facts=facts_of(whole.settings))
    finding = waiting(case)
    assert finding is not None
    assert "leave out --stream" in finding.cure  # no prepared cache is slow: there is none


def test_auto_streams_texts(text_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="characters"):
        withheld.pretrain("auto", str(text_shards / "*.jsonl"), tmp_path / "run", stream=True)
