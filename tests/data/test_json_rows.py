"""Texts in JSON as people have it: arrays, wrapped arrays, columns, chats, a folder of objects; and files in Windows-1252."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from withheld.data.json_rows import cell_text
from withheld.data.text import decode_text, documents, open_texts
from withheld.data.text_corpus import open_corpus
from withheld.data.vectors import open_vectors
from withheld.errors import InputError

TEXTS = ["a film about cats", "a film about dogs", "a film about cats again", "and of dogs"]
LABELS = ["cat", "dog", "cat", "dog"]
ROWS = [{"review": text, "stars": label} for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.mark.parametrize(
    "whole",
    [
        ROWS,
        {"version": "1.0", "data": ROWS},
        {"review": dict(enumerate(TEXTS)), "stars": dict(enumerate(LABELS))},  # DataFrame.to_json()
    ],
    ids=["array", "wrapped", "columns"],
)
def test_objects_of_one_json_file(whole: object, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(whole, indent=1))
    for data in (tmp_path / "r.json", tmp_path, f"{tmp_path / 'r.json'}:review"):
        source = open_texts(data, True)
        assert [text for _, text in documents(source, [])] == TEXTS
        assert source.classes == ["cat", "dog"]


def test_strings_and_lines_under_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(TEXTS))
    assert [text for _, text in documents(open_texts(tmp_path / "r.json"), [])] == TEXTS
    (tmp_path / "r.json").write_text("\n".join(map(json.dumps, ROWS)))
    assert [text for _, text in documents(open_texts(tmp_path / "r.json"), [])] == TEXTS


def test_a_folder_with_an_object_a_file(tmp_path: Path) -> None:
    for i, row in enumerate(ROWS):
        (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
        (tmp_path / f"{i % 2}" / "page.json" if i < 2 else tmp_path / f"{i}.json").write_text(
            json.dumps({**row, "tags": ["x", "y"]})
        )
    source = open_texts(tmp_path, True)
    assert list(source.names) == ["0/page.json", "1/page.json", "2.json", "3.json"]
    assert source.classes == ["cat", "dog"]
    (tmp_path / "notes.txt").write_text("texts beside are what is meant")
    assert list(open_texts(tmp_path).names) == ["notes.txt"]


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ('[{"text": "a"}, 3]', "element 1 is int"),
        ("3", "holds int, where an array"),
        ('[{"text": "a"}', r"r\.json is no JSON: .*line 1"),
        (
            json.dumps({"images": [{"file": "a"}], "annotations": [{"id": 1}]}),
            r"several arrays \(images, annotations\)",
        ),
        ("[" * 200_000, "is no JSON"),
        ("[]", "has no rows"),
    ],
)
def test_what_is_wrong_says_where(whole: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(whole)
    with pytest.raises(InputError, match=message):
        open_texts(tmp_path / "r.json")


def test_chats_are_texts_of_a_line_a_message(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Over there."}]
    assert cell_text(chat) == "user: Where is it?\nassistant: Over there."
    other = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "There."}]
    assert cell_text(other) == "human: Where?\ngpt: There."
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"id": i, "messages": chat}) + "\n" for i in range(3)))
    assert [text for _, text in documents(open_texts(tmp_path / "c.jsonl"), [])] == [cell_text(chat)] * 3
    assert [text for _, text in open_corpus(str(tmp_path / "c.jsonl")).read(0)] == [cell_text(chat)] * 3
    (tmp_path / "c.json").write_text(json.dumps({"messages": chat}))
    assert [text for _, text in documents(open_texts(tmp_path / "c.json"), [])] == [cell_text(chat)]


def test_the_column_of_labels_of_texts_by_its_cells(tmp_path: Path) -> None:
    rows = "".join(f"{i};{text};{label}\n" for i, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)))
    (tmp_path / "r.csv").write_text(f"nr;Kommentar;Klasse\n{rows}")
    source = open_texts(tmp_path / "r.csv", True)
    assert source.classes == ["cat", "dog"]
    assert source.notes == ["the column 'Klasse' of r.csv is taken for the labels"]


def test_windows_1252_is_read_and_said(tmp_path: Path) -> None:
    text = "Schöne Grüße aus Köln – „für“ 5 €"
    found = decode_text(text.encode("cp1252"))
    assert found.text == text
    assert "was read as Windows-1252" in found.mended
    assert "replaced" in decode_text("schön und für Köln ".encode() * 9 + b"\xe9.").mended  # UTF-8 with a slip in it
    (tmp_path / "r.csv").write_bytes(f"Text;Klasse\n{text};a\n{text}!;b\n".encode("cp1252"))
    source = open_texts(tmp_path / "r.csv")
    assert [one for _, one in documents(source, [])] == [text, f"{text}!"]
    assert "was read as Windows-1252" in source.notes[0]
    (tmp_path / "n.csv").write_bytes("Größe;Höhe\n1;2\n3;4\n".encode("cp1252"))
    table = open_vectors(tmp_path / "n.csv")
    assert table.columns == ["Größe", "Höhe"]
    assert "was read as Windows-1252" in table.notes[-1]
