"""Runs on sources that are not prepared: what run.json and skipped.jsonl say, resuming, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

import withheld
from withheld.cli import main
from withheld.data import cache, prepared, windows
from withheld.errors import InputError

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
    (tmp_path / "text.txt").write_text("some words " * 100)
    with pytest.raises(InputError, match="--stream: items of images are streamed; a text run prepares its data once"):
        withheld.pretrain("bert", tmp_path / "text.txt", tmp_path / "run", steps=1, stream=True)


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
