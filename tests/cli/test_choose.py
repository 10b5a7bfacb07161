"""suggest and search as they are typed: from a run to labels, and to what evaluate takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

Command = Callable[..., Result]


def test_from_a_run_to_a_labels_csv_and_back(run: Path, labelled: Path, tmp_path: Path, withheld: Command) -> None:
    out = tmp_path / "suggested"
    result = withheld("suggest", run, "--data", labelled, "-n", 6, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"Fill in: {out / 'labels.csv'}" in result.stdout
    assert f"withheld evaluate {run} --data {labelled} --labels {out / 'labels.csv'}" in result.stderr
    rows = (out / "labels.csv").read_text().splitlines()
    assert rows[0] == "file,label"
    assert len(rows) == 7
    assert (out / "sheet.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "sheet.html").read_text()
    assert all(row.removesuffix(",") in page for row in rows[1:])
    assert "<script" not in page

    again = withheld("suggest", run, "--data", labelled, "-n", 6, "--out", out)
    assert again.exit_code == 2
    assert "maybe filled in" in again.stderr
    filled = [rows[0], *(f"{row}{row.split('/')[0]}" for row in rows[1:5]), *rows[5:]]
    (out / "labels.csv").write_text("\n".join(filled))
    more = withheld(
        "suggest", run, "--data", labelled, "-n", 3, "--labels", out / "labels.csv", "--out", tmp_path / "more"
    )
    assert more.exit_code == 0, more.output
    kept = (tmp_path / "more" / "labels.csv").read_text().splitlines()
    assert sorted(kept[1:5]) == sorted(filled[1:5])
    assert all(row.endswith(",") for row in kept[5:])
    assert not {row.split(",")[0] for row in kept[5:]} & {row.split(",")[0] for row in filled[1:5]}


def test_names_are_escaped_on_the_page(run: Path, tmp_path: Path, withheld: Command) -> None:
    (tmp_path / "photos").mkdir()
    for at in range(8):
        Image.new("RGB", (16, 16), (at * 30, 5, 90)).save(tmp_path / "photos" / f"<b onclick='x'>{at}.png")
    out = tmp_path / "alike.html"
    result = withheld("search", run, "<b onclick='x'>3.png", "--data", tmp_path / "photos", "-n", 3, "-o", out)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 3
    assert "<b onclick" not in out.read_text()
    assert "&lt;b onclick" in out.read_text()
    refused = withheld("search", run, "<b onclick='x'>3.png", "--data", tmp_path / "photos", "-o", out)
    assert refused.exit_code == 2
    assert "exists" in refused.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("search", "RUN", "nothing.png", "--data", "DATA"), "neither a file nor the name of an item"),
        (("search", "RUN", "x", "--data", "DATA", "-o", "sheet.txt"), "ends in .png or .html"),
        (("suggest", "elsewhere", "--data", "DATA"), "is no folder here"),
        (("suggest", "RUN", "--data", "DATA", "--labels", "none.csv", "--out", "new"), "no labels file"),
    ],
)
def test_what_is_wrong_is_said(run: Path, labelled: Path, withheld: Command, words: tuple[str, ...], told: str) -> None:
    result = withheld(*({"RUN": run, "DATA": labelled}.get(word, word) for word in words))
    assert result.exit_code == 2
    assert told in result.stderr
