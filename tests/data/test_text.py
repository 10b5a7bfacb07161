"""Texts in, tokens out: what is read, mended, left out and refused."""

from __future__ import annotations

import csv
import gzip
import json
import tarfile
import zipfile

import numpy as np
import pytest

from withheld.data.text import decode_text, documents, open_texts, spread_documents
from withheld.data.tokenizer import PIECE, continues, encode, pieces, train_tokenizer
from withheld.data.tokens import Blocks, prepare_tokens
from withheld.data.wanted import named_modality
from withheld.errors import InputError
from withheld.hub import named_set

STORY = "The cat sat on the mat. It was a fine day, and nobody came.\nA dog barked; then it slept.\n"


def words(kind: str = "bpe", masked: bool = False, vocabulary: int = 400):
    return train_tokenizer(kind, [STORY * 5], vocabulary, masked, 64)


class TestDecoding:
    def test_bom_gzip_utf16_and_windows_lines(self):
        assert decode_text("é a".encode("utf-8-sig")).text == "é a"
        assert decode_text(gzip.compress(b"a b")).text == "a b"
        assert decode_text("é a".encode("utf-16")).text == "é a"
        assert decode_text(b"a\r\nb").text == "a\nb"

    def test_a_few_bad_bytes_are_mended_and_told(self):
        found = decode_text(b"a good sentence with \xff one bad byte in it")
        assert "\ufffd" in found.text
        assert "1 character that" in found.mended

    @pytest.mark.parametrize(
        ("raw", "why"),
        [(b"", "is empty"), (b" \n", "is empty"), (b"\x00\x01ab", "no text"), (b"\xf1\xf2" * 20 + b"a b", "not UTF-8")],
    )
    def test_what_is_no_text_says_why(self, raw, why):
        with pytest.raises((ValueError, UnicodeError), match=why):
            decode_text(raw)

    def test_one_long_line_is_cut_before_white_space_and_nothing_is_lost(self):
        line = "word " * 60_000
        parts = list(pieces(line))
        assert "".join(parts) == line
        assert max(map(len, parts)) <= PIECE
        assert all(part.startswith(" ") for part in parts[1:])


class TestSources:
    def test_folder_with_classes_and_parts(self, tmp_path):
        for part in ("train", "test"):
            for label in ("neg", "pos"):
                for i in range(3):
                    path = tmp_path / part / label / f"{i}.txt"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"{label} {i}")
        (tmp_path / "train" / "unsup").mkdir()
        (tmp_path / "train" / "unsup" / "0.txt").write_text("who knows")
        source = open_texts(tmp_path, True)
        assert source.classes == ["neg", "pos"]
        assert (source.labels == -100).sum() == 1
        assert sorted(set(source.parts)) == ["test", "train"]

    def test_archives_are_read_without_unpacking(self, tmp_path):
        (tmp_path / "a.txt").write_text("one")
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.write(tmp_path / "a.txt", "set.train.txt")
            archive.write(tmp_path / "a.txt", "set.test.txt")
        with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "a.txt", "d/a.txt")
        assert open_texts(tmp_path / "x.zip").parts.tolist() == ["test", "train"]
        assert [text for _, text in documents(open_texts(tmp_path / "x.tar.gz"), [])] == ["one"]

    def test_tables_find_or_are_told_their_column(self, tmp_path):
        (tmp_path / "r.csv").write_text('id,review,label\n1,"good, very",pos\n2,bad,neg\n')
        (tmp_path / "r.jsonl").write_text('{"body": "x y"}\n\n{"body": "z"}\n')
        source = open_texts(tmp_path / "r.csv", True)
        assert [t for _, t in documents(source, [])] == ["good, very", "bad"]
        assert source.classes == ["neg", "pos"]
        assert len(open_texts(f"{tmp_path / 'r.csv'}:label")) == 2
        assert len(open_texts(tmp_path / "r.jsonl")) == 2

    def test_objects_in_lines_of_json_are_columns_of_their_own(self, tmp_path):
        rows = [
            {"id": i, "review": {"text": f"a film about {i} cats", "title": "Cats"}, "label": "ab"[i]} for i in range(2)
        ]
        (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
        source = open_texts(tmp_path / "r.jsonl", True)
        assert [text for _, text in documents(source, [])] == ["a film about 0 cats", "a film about 1 cats"]
        assert source.classes == ["a", "b"]
        titles = open_texts(f"{tmp_path / 'r.jsonl'}:review.title")
        assert [text for _, text in documents(titles, [])] == ["Cats", "Cats"]

    def test_objects_and_lists_of_a_parquet_file_too(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        table = pa.table({"doc": [{"paragraphs": ["one day", "they left"], "n": 1}], "source": ["web"]})
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
        source = open_texts(f"{tmp_path / 't.parquet'}:doc.paragraphs")
        assert [text for _, text in documents(source, [])] == ["one day\nthey left"]

    def test_json_too_deep_is_an_error_with_its_line(self, tmp_path):
        (tmp_path / "r.jsonl").write_text('{"text": "a"}\n' + "[" * 200_000)
        with pytest.raises(InputError, match=r"r\.jsonl:2: "):
            open_texts(tmp_path / "r.jsonl")

    def test_a_tsv_may_quote_texts_of_several_lines(self, tmp_path):
        with (tmp_path / "r.tsv").open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(
                [["text", "label"], ['he said "no"\nand left', "a"], ["yes", "b"]]
            )
        texts = [text for _, text in documents(open_texts(tmp_path / "r.tsv"), [])]
        assert texts == ['he said "no"\nand left', "yes"]
        (tmp_path / "published.tsv").write_text('text\tlabel\n"so it begins\ta\nit ends\tb\n')
        assert [text for _, text in documents(open_texts(tmp_path / "published.tsv"), [])] == [
            '"so it begins',
            "it ends",
        ]

    def test_markdown_is_read_where_nothing_else_is(self, tmp_path):
        for i in range(3):
            (tmp_path / f"{i}.md").write_text(f"# Note {i}")
        assert named_modality(tmp_path) == "text"
        assert [text for _, text in documents(open_texts(tmp_path), [])] == ["# Note 0", "# Note 1", "# Note 2"]
        assert len(open_texts(tmp_path / "1.md")) == 1
        (tmp_path / "a.txt").write_text("a text")
        assert open_texts(tmp_path).names == ["a.txt"]

    def test_notes_beside_other_data_make_it_no_texts(self, tmp_path):
        for name in ("README.md", "images.gz", "labels.gz"):
            (tmp_path / name).write_text("x")
        assert named_modality(tmp_path) == "image"

    def test_a_table_may_be_utf_16(self, tmp_path):
        (tmp_path / "reviews.csv").write_bytes("text,label\nso schön war es,1\nund so übel,0\n".encode("utf-16"))
        source = open_texts(tmp_path / "reviews.csv", labels=True)
        assert [text for _, text in documents(source, [])] == ["so schön war es", "und so übel"]

    def test_parquet_and_hub(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        table = datasets.Dataset.from_dict({"text": ["a b", "c d"], "label": [0, 1]})
        table.to_parquet(str(tmp_path / "t.parquet"))
        datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(tmp_path / "hub"))
        assert len(open_texts(tmp_path / "t.parquet", True)) == 2
        hub = open_texts(f"hf:{tmp_path / 'hub'}", True)
        assert hub.parts.tolist() == ["train", "train", "test", "test"]
        assert hub.labels.tolist() == [0, 1, 0, 1]

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("r.csv", "text,label\na,b,c\n", r"r.csv:2: 3 columns"),
            ("r.jsonl", '{"text": "a"}\n{oops\n', r"r.jsonl:2: "),
            ("r.csv", "a,b\n1,2\n", "no column of text"),
            (
                "r.csv",
                "label;file\r\ncat;/data/my photos/a.jpg\r\n",
                "names files .*give the folder .* and r.csv as --labels",
            ),
            ("r.csv", b"text\n\xff\xfe\n", r"r.csv:2: the byte 0xff"),
        ],
    )
    def test_a_bad_table_names_file_and_line(self, tmp_path, name, content, told):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError, match=told):
            open_texts(path)

    def test_nothing_there(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"x")
        with pytest.raises(InputError, match="found 0 texts"):
            open_texts(tmp_path)
        with pytest.raises(InputError, match="no file or folder"):
            open_texts(tmp_path / "absent")
        with pytest.raises(InputError, match="element 1"):
            open_texts(["a", 3])


class TestTokenizers:
    def test_words_end_lines_and_know_special_tokens_in_the_text(self):
        tokenizer = train_tokenizer("word", ["a b <unk>\na a\n"], 100, False, 64)
        ids = encode(tokenizer, ["a <unk>\nzz"])[0]
        assert tokenizer.convert_ids_to_tokens(ids) == ["a", "<unk>", "<eos>", "<unk>"]
        assert len(tokenizer) == max(tokenizer.get_vocab().values()) + 1

    @pytest.mark.parametrize("kind", ["bpe", "character"])
    def test_there_and_back(self, kind):
        tokenizer = words(kind)
        assert tokenizer.decode(encode(tokenizer, [STORY])[0]) == STORY

    def test_continuations_of_word_pieces(self):
        tokenizer = words("wordpiece", True, 320)
        parts = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        goes_on = continues(tokenizer)
        assert any(goes_on)
        assert all(str(part).startswith("##") for part, on in zip(parts, goes_on, strict=True) if on)

    def test_kept_and_opened_it_says_the_same(self, tmp_path):
        from withheld.data.tokenizer import open_tokenizer

        for kind in ("bpe", "wordpiece", "word", "character"):
            tokenizer = words(kind, kind == "wordpiece")
            tokenizer.save_pretrained(tmp_path / kind)
            assert encode(open_tokenizer(tmp_path / kind), [STORY]) == encode(tokenizer, [STORY])

    def test_bad_settings(self):
        with pytest.raises(InputError, match="wordpiece"):
            train_tokenizer("wordpiec", [STORY], 400, True, 8)
        with pytest.raises(InputError, match="vocabulary=20"):
            train_tokenizer("bpe", [STORY], 20, True, 8)


class TestTokens:
    def test_every_document_is_framed_counted_and_cached(self, tmp_path):
        (tmp_path / "a.txt").write_text(STORY)
        (tmp_path / "b.txt").write_text("short one")
        (tmp_path / "c.txt").write_bytes(b"")
        source, tokenizer = open_texts(tmp_path), words("wordpiece", True)
        tokens = prepare_tokens(source, tokenizer, allow_bad=0.5)
        assert len(tokens) == 2
        assert tokens.characters.tolist() == [len(STORY), 9]
        assert tokens.words.tolist() == [len(STORY.split()), 2]
        assert [line["reason"] for line in tokens.skipped] == ["is empty"]
        first = tokens.document(0)
        assert first.tolist() == [
            tokenizer.cls_token_id, *encode(tokenizer, [STORY])[0], tokenizer.sep_token_id
        ]  # fmt: skip
        again = prepare_tokens(source, tokenizer, allow_bad=0.5)
        assert again.fingerprint == tokens.fingerprint
        assert np.array_equal(again.ids, tokens.ids)

    def test_too_many_bad_texts_stop_the_run(self, tmp_path):
        (tmp_path / "a.txt").write_text("fine")
        (tmp_path / "b.txt").write_bytes(b"\0\0")
        with pytest.raises(InputError, match="1 of 2 texts"):
            prepare_tokens(open_texts(tmp_path), words())

    def test_blocks_hold_every_token_once_and_know_documents_and_words(self):
        tokenizer = words("wordpiece", True, 320)
        tokens = prepare_tokens(open_texts([STORY * 3, "a cat", STORY]), tokenizer)
        goes_on = np.array(continues(tokenizer))
        blocks = Blocks(tokens, 16, continues=goes_on)
        t = blocks.batch(np.arange(len(blocks)), "cpu")
        flat = t["item"].flatten().numpy()
        assert np.array_equal(flat, np.asarray(tokens.ids[: len(flat)]))
        begins = t["item"] == tokenizer.cls_token_id
        changes = t["document"].diff(dim=1) > 0
        assert bool((begins[:, 1:] == changes).all())
        same_word = t["word"].diff(dim=1) == 0
        assert bool((same_word == goes_on[t["item"][:, 1:].numpy()]).all() if goes_on.any() else True)

    def test_streams_go_on_where_they_were(self):
        tokens = prepare_tokens(open_texts([STORY * 20]), words())
        blocks = Blocks(tokens, 9, 1, streams=4)
        n = blocks.steps
        first, second = (blocks.batch(np.arange(4) * n + s, "cpu") for s in (0, 1))
        assert bool(first["first"].all())
        assert not bool(second["first"].any())
        assert bool((first["item"][:, -1] == second["item"][:, 0]).all())

    def test_a_text_that_is_too_short_says_so(self):
        tokens = prepare_tokens(open_texts(["a cat"]), words())
        with pytest.raises(InputError, match="fewer than one block of 64"):
            Blocks(tokens, 64)


def test_real_sets_are_read_as_published(shared_data):
    ptb = open_texts(shared_data / "ptb")
    assert sorted(ptb.parts) == ["test", "train", "val"]
    imdb = open_texts(shared_data / "imdb-subset", True)
    assert imdb.classes == ["neg", "pos"]
    assert (imdb.labels == -100).sum() == 6000
    assert json.dumps(imdb.left_out) == "[]"


def test_every_process_makes_the_same_tokens(tmp_path):
    """Hash tables of the trainer are seeded anew in every process."""
    import subprocess
    import sys

    code = (
        "from withheld.data.tokenizer import train_tokenizer as train\n"
        "texts = ['the old green sea, a house by the sea; gulls and a wind that came at night'] * 3 + ['Ünder thé sëa']\n"
        "for kind in ('wordpiece', 'bpe', 'character', 'word'):\n"
        "    found = train(kind, iter(texts), 400, kind == 'wordpiece', 64)\n"
        "    print(sorted(found.get_vocab().items(), key=lambda item: item[1]), found('the gulls by night').input_ids)\n"
    )
    first, *others = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(4)
    ]
    assert len(first) > 1000
    assert all(other == first for other in others)


def test_marks_that_look_like_ends_of_lines_end_no_row(tmp_path):
    """str.splitlines splits at \\x85 and \\u2028 too, which texts from the web hold."""
    (tmp_path / "t.tsv").write_text(
        "body\tlabel\nwhat a\x85 day it was\ta\na page\u2028 of two lines\tb\n", encoding="utf-8"
    )
    source = open_texts(tmp_path / "t.tsv", True)
    assert [text for _, text in documents(source, [])] == ["what a\x85 day it was", "a page\u2028 of two lines"]
    assert source.classes == ["a", "b"]


def test_a_first_line_that_is_a_row_is_not_lost(tmp_path):
    (tmp_path / "t.csv").write_text(f"pos,{'so good ' * 20}\nneg,{'so bad ' * 20}\n")
    with pytest.raises(InputError, match=r"t\.csv:1: the first line must name the columns"):
        open_texts(tmp_path / "t.csv")


def test_columns_of_one_file_are_not_taken_for_each_other(tmp_path):
    (tmp_path / "r.csv").write_text("title,body\nshort words,many more words than that\nothers,and again others\n")
    tokenizer = words("character")
    for column in ("title", "body"):
        tokens = prepare_tokens(open_texts(f"{tmp_path / 'r.csv'}:{column}"), tokenizer)
        with open(tmp_path / "r.csv", newline="", encoding="utf-8") as file:
            assert tokens.characters.tolist() == [len(row[column]) for row in csv.DictReader(file)]


def test_objects_without_a_text_are_left_out_and_named(tmp_path):
    rows = [{"id": 1}, {"text": "a first text"}, {"text": None}, {"text": "a second one", "id": 2}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad: list[dict[str, str]] = []
    found = list(documents(open_texts(tmp_path / "t.jsonl"), bad))
    assert found == [(at, row["text"]) for at, row in enumerate(rows) if row.get("text")]
    assert [line["file"] for line in bad] == ["t.jsonl:1", "t.jsonl:3"]


def test_a_tokenizer_learns_from_all_of_a_large_source():
    """Folders lie in the order of their names, and what comes last may be in letters that come first nowhere."""
    english = [f"a plain english text number {i} about cats" for i in range(300)]
    russian = [f"\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442 {i}" for i in range(100)]
    learned = list(spread_documents(open_texts(english + russian), 4000))
    assert sum(map(len, learned)) == 4000
    share = sum(text in russian for text in learned) / len(learned)
    assert 0.15 < share < 0.35  # a quarter of the documents
    tokenizer = train_tokenizer("wordpiece", learned, 400, True, 64)
    assert tokenizer.unk_token not in tokenizer.tokenize(russian[-1])
    assert sorted(spread_documents(open_texts(english + russian), 10**9)) == sorted(english + russian)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv", ".tsv"])
def test_a_gzipped_table_is_read_as_the_plain_one(tmp_path, suffix):
    rows = [{"text": f"a sentence number {i}, of some length", "label": "ab"[i % 2]} for i in range(6)]
    mark = "\t" if suffix == ".tsv" else ";"
    lines = [mark.join(rows[0]), *(mark.join(row.values()) for row in rows)]
    lines = [json.dumps(row) for row in rows] if "json" in suffix else lines
    (tmp_path / f"plain{suffix}").write_text("\n".join(lines))
    zipped = tmp_path / "folder" / f"reviews{suffix}.gz"
    zipped.parent.mkdir()
    zipped.write_bytes(gzip.compress("\n".join(lines).encode()))
    plain = open_texts(tmp_path / f"plain{suffix}", labels=True)
    for where in (zipped, zipped.parent, f"{zipped}:text"):
        found = open_texts(where, labels=True)
        assert [text for _, text in documents(found, [])] == [text for _, text in documents(plain, [])]
        assert found.labels.tolist() == plain.labels.tolist() == [0, 1] * 3
    zipped.write_bytes(zipped.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cannot be gunzipped.*get it again"):
        open_texts(zipped)


def test_the_name_of_a_gzipped_table_tells_of_texts(tmp_path):
    (tmp_path / "reviews.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a sentence of some length"}'))
    assert named_modality(tmp_path / "reviews.jsonl.gz") == named_modality(tmp_path) == "text"


def test_a_column_of_text_of_the_hub_is_named(tmp_path):
    """The remedy was to save the set as a table; a second part behind a colon was taken for a configuration, without a word."""
    datasets = pytest.importorskip("datasets")
    table = {"text": [f"short words {i}" for i in range(3)], "body": [f"a longer body of number {i}" for i in range(3)]}
    datasets.Dataset.from_dict(table).save_to_disk(str(tmp_path / "hub"))
    where = f"hf:{tmp_path / 'hub'}"
    plain = open_texts(where)
    assert plain.told.endswith(f"to take another one: {where}::body")
    for named in (f"{where}::body", f"{where}:body"):
        source = open_texts(named)
        assert [text for _, text in documents(source, [])] == table["body"]
        assert source.told == ""
        assert source.fingerprint != plain.fingerprint
    with pytest.raises(InputError, match=r"has no column 'bod'.*body"):
        open_texts(f"{where}::bod")


def test_what_a_set_of_the_hub_is_called():
    assert named_set("hf:me/set") == ("me/set", None, None)
    assert named_set("hf:me/set:en") == ("me/set", "en", None)
    assert named_set("hf:me/set:en:body") == ("me/set", "en", "body")
    assert named_set("hf:me/set::body") == ("me/set", None, "body")


@pytest.mark.parametrize("name", ["book.txt", "notes.md"])
def test_one_file_stays_what_it_is_whatever_comes_beside_it(name, tmp_path):
    """Else it would be tokenized again for every run that is written into its folder."""
    (tmp_path / name).write_text(STORY)
    before = open_texts(tmp_path / name)
    (tmp_path / "run").mkdir()
    after = open_texts(tmp_path / name)
    assert (after.stamp, after.fingerprint) == (before.stamp, before.fingerprint)
    (tmp_path / name).write_text(STORY.upper())
    assert open_texts(tmp_path / name).fingerprint != before.fingerprint


def test_texts_in_memory_take_labels_as_images_do(tmp_path):
    texts = ["a good film", "a bad film"]
    (tmp_path / "labels.csv").write_text("file,label\ntext:0,good\ntext:1,bad\n")
    for source in (
        open_texts((texts, ["good", "bad"]), labels=True), open_texts(texts, labels=["good", "bad"]),
        open_texts(texts, labels=tmp_path / "labels.csv"),
    ):  # fmt: skip
        assert [source.classes[i] for i in source.labels] == ["good", "bad"]
    with pytest.raises(InputError, match=r"give \(texts, labels\)"):
        open_texts(texts, labels=True)
