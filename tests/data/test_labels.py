"""labels.csv: every way in which people write it, and every way in which it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_files import write_images

from withheld.data.labels import given_labels, read_label_words, read_labels, read_row_labels
from withheld.data.layout import find_layout
from withheld.data.source import open_source
from withheld.errors import InputError

NAMES = ["a/000.jpg", "a/001.jpg", "b/002.jpg", "b/é.jpg"]
LABELS = [0, 1, 0, -100]

GOOD = {
    "plain": "file,label\na/000.jpg,cat\na/001.jpg,dog\nb/002.jpg,cat\n",
    "other order": "label,file\ncat,a/000.jpg\ndog,a/001.jpg\ncat,b/002.jpg\n",
    "other names": "Image,width,Class\na/000.jpg,3,cat\na/001.jpg,3,dog\nb/002.jpg,3,cat\n",
    "no header": "a/000.jpg,cat\na/001.jpg,dog\nb/002.jpg,cat\n",
    "semicolons": "file;label\na/000.jpg;cat\na/001.jpg;dog\nb/002.jpg;cat\n",
    "mark and CRLF": "\ufefffile,label\r\na/000.jpg,cat\r\na/001.jpg,dog\r\nb/002.jpg,cat\r\n",
    "base names": "file,label\n000.jpg,cat\n001.jpg,dog\n002.jpg,cat\n",
    "stems": "file,label\n000,cat\n001,dog\n002,cat\n",
    "backslashes and dots": "file,label\na\\000.jpg,cat\n./a/001.jpg,dog\nb/002.jpg,cat\n",
    "quotes and blanks": 'file,label\n"a/000.jpg", cat \na/001.jpg,"dog"\n\nb/002.jpg,cat\n',
    "said twice alike": "file,label\na/000.jpg,cat\na/000.jpg,cat\na/001.jpg,dog\nb/002.jpg,cat\n",
    "empty is unknown": "file,label\na/000.jpg,cat\na/001.jpg,dog\nb/002.jpg,cat\nb/é.jpg,\n",
    "missing as pandas says it": "file,label\na/000.jpg,cat\na/001.jpg,dog\nb/002.jpg,cat\nb/é.jpg,nan\n",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_ways_to_write_it(text: str) -> None:
    labels, classes = read_labels(text.encode(), "labels.csv", NAMES)
    assert classes == ["cat", "dog"]
    assert labels.tolist() == LABELS
    assert labels.dtype == np.int64


BAD = {
    "unknown file": (
        "file,label\na/000.jpg,cat\na/0001.jpg,dog\n",
        r"labels\.csv:3: no item 'a/0001\.jpg'.*did you mean",
    ),
    "unknown column": ("file,lable,by\na/000.jpg,cat,me\n", r"labels\.csv:1: no column 'label'.*did you mean 'lable'"),
    "no file column": ("pic,label\nx.jpg,cat\n", r"labels\.csv:1: no column 'file'"),
    "two labels": ("file,label\na/000.jpg,cat\na/000.jpg,dog\n", r"labels\.csv:3: .*'dog' here, 'cat' on line 2"),
    "ragged": ("file,label\na/000.jpg,cat\na/001.jpg\n", r"labels\.csv:3: 1 column where at least 2"),
    "one class": ("file,label\na/000.jpg,cat\na/001.jpg,cat\n", r"labels\.csv holds one class, 'cat'"),
    "one row": ("file,label\na/000.jpg,cat\n", r"labels\.csv holds one class"),
    "no rows": ("file,label\n", r"labels\.csv holds no labels"),
    "empty": ("", r"labels\.csv is empty"),
    "quotes": ('file,label\n"a/000.jpg"x,cat\n', r"labels\.csv:2: .*quotes"),
    "open quote": ('file,label\n"a/000.jpg,cat\na/001.jpg,dog\n', r"labels\.csv:3: .*quotes"),
    "empty name": ("file,label\n,cat\na/001.jpg,dog\n", r"labels\.csv:2: the file name is empty"),
    "wrong table": ("a,b,c\n1,2,3\n", r"labels\.csv:1: no column 'file'"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
@pytest.mark.promise("R11", "ways in which a label sheet is wrong, each named by line and remedy")
def test_ways_to_be_wrong(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(text.encode(), "labels.csv", NAMES)


def test_latin_1_is_named_with_its_line() -> None:
    with pytest.raises(InputError, match=r"labels\.csv:3: the byte 0xe9 is not UTF-8"):
        read_labels("file,label\na/000.jpg,cat\nb/é.jpg,dog\n".encode("latin-1"), "labels.csv", NAMES)


def test_latin_1_as_old_spreadsheets_save_it_is_read_and_said() -> None:
    notes: list[str] = []
    data = "file;label\na/000.jpg;Käse\nb/é.jpg;dog\n".encode("latin-1")
    labels, classes = read_labels(data, "labels.csv", NAMES, None, notes)
    assert classes == ["Käse", "dog"]
    assert labels.tolist() == [0, -100, -100, 1]
    assert notes == [
        "labels.csv is not UTF-8 and was read as Windows-1252 (Western European); where letters look wrong, save it as UTF-8"
    ]
    chinese = "file,label\na/000.jpg,猫猫猫\na/001.jpg,狗狗狗\n".encode("gbk")
    with pytest.raises(InputError, match=r"labels\.csv:3: the byte 0xb9 is not UTF-8"):
        read_labels(chinese, "labels.csv", NAMES, None, notes)


def test_rows_of_files_that_are_not_there_are_left_out_and_said() -> None:
    notes: list[str] = []
    text = "file,label\na/000.jpg,cat\na/0001.jpg,dog\na/001.jpg,dog\nfar/x.jpg,dog\n"
    labels, _ = read_labels(text.encode(), "labels.csv", NAMES, None, notes)
    assert labels.tolist() == [0, 1, -100, -100]
    assert len(notes) == 1
    assert notes[0].startswith(
        "2 of 4 rows of labels.csv name nothing in the data and are left out: no item 'a/0001.jpg'"
    )
    many = text + "".join(f"zz{i}.jpg,cat\n" for i in range(2000))
    read_labels(many.encode(), "labels.csv", NAMES, None, notes)
    assert notes[1].startswith("2,002 of 2,004 rows")
    assert len(notes[1]) < 700
    with pytest.raises(InputError, match=r"one class, 'cat'.*1 of 2 rows of labels\.csv names nothing"):
        read_labels(b"file,label\na/000.jpg,cat\nx.jpg,dog\n", "labels.csv", NAMES, None, notes)


NAMED_OTHERWISE = {
    "two columns": ("datei;Rasse\n000.jpg;cat\n001.jpg;dog\n002.jpg;cat\n", 1),
    "stars": ("image,stars\na/000.jpg,cat\na/001.jpg,dog\nb/002.jpg,cat\n", 0),
    "the one with classes": (
        "id,when,which\n000,2001,cat\n001,2002,dog\n002,2003,cat\n001,2005,dog\nb/é.jpg,2004,\n",
        1,
    ),
    "parts": ("file,which,split\na/000.jpg,cat,train\na/001.jpg,dog,train\nb/002.jpg,cat,test\n", 2),
    "a column named as files are, and no files": (
        "name,key,label\nAnna,000.jpg,cat\nBen,001.jpg,dog\nCid,002.jpg,cat\n",
        0,
    ),
}


@pytest.mark.parametrize(("text", "told"), NAMED_OTHERWISE.values(), ids=NAMED_OTHERWISE.keys())
def test_columns_may_be_called_otherwise_where_their_cells_tell(text: str, told: int) -> None:
    notes: list[str] = []
    labels, classes = read_labels(text.encode(), "labels.csv", NAMES, None, notes)
    assert classes == ["cat", "dog"]
    assert labels.tolist() == LABELS
    assert len(notes) == told


def test_a_column_of_labels_is_named_after_a_colon(tmp_path: Path) -> None:
    names = write_images(tmp_path / "photos", 4)
    rows = "".join(f"{name},{'xy'[i % 2]},{'pq'[i // 2]}\n" for i, name in enumerate(names))
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"file,color,shape\n{rows}")
    with pytest.raises(InputError, match=r"no column 'label'.*--labels sheet\.csv:color"):
        open_source(tmp_path / "photos", labels=sheet)
    source = open_source(tmp_path / "photos", labels=f"{sheet}:shape")
    assert source.classes == ["p", "q"]
    with pytest.raises(InputError, match=r"sheet\.csv has no column 'shap': did you mean 'shape'"):
        open_source(tmp_path / "photos", labels=f"{sheet}:shap")


def test_utf_16_as_spreadsheets_save_it_is_read() -> None:
    labels, classes = read_labels(
        "file\tlabel\na/000.jpg\tkäse\na/001.jpg\tdog\n".encode("utf-16"), "labels.csv", NAMES
    )
    assert classes == ["dog", "käse"]
    assert (labels >= 0).sum() == 2


def test_an_ambiguous_name_asks_for_the_path() -> None:
    with pytest.raises(InputError, match="more than one item"):
        read_labels(b"file,label\n1.jpg,cat\n", "labels.csv", ["a/1.jpg", "b/1.jpg"])


@pytest.mark.promise("R11", "all errors at once")
def test_all_errors_are_told_at_once_at_most_20() -> None:
    rows = "".join(f"zz{i}.jpg,cat\n" for i in range(30))
    with pytest.raises(InputError) as caught:
        read_labels(f"file,label\n{rows}".encode(), "labels.csv", NAMES)
    text = str(caught.value)
    assert "30 lines are wrong" in text
    assert text.count("labels.csv:") == 21
    assert "labels.csv:21:" in text
    assert "labels.csv:22:" not in text
    assert "and 10 more" in text


def test_many_wrong_names_among_many_files_take_no_minutes() -> None:
    names = [f"folder/{i:06d}.jpg" for i in range(50_000)]
    rows = "".join(f"folder/x{i:06d}.jpg,cat\n" for i in range(40))
    with pytest.raises(InputError, match="40 lines are wrong"):
        read_labels(f"file,label\n{rows}".encode(), "labels.csv", names)


def test_numbers_are_ordered_as_numbers() -> None:
    labels, classes = given_labels([10, 2, 2, 10, None], 5)
    assert classes == ["2", "10"]
    assert labels.tolist() == [1, 0, 0, 1, -100]
    with pytest.raises(InputError, match="2 labels for 3 items"):
        given_labels([1, 2], 3)


def test_the_csv_beside_the_images_wins_and_another_can_be_named(tmp_path: Path) -> None:
    names = write_images(tmp_path / "photos", 3)
    with pytest.raises(InputError, match=r"no labels\.csv; put the files of each class into a folder"):
        open_source(tmp_path / "photos", labels=True)
    (tmp_path / "photos" / "labels.csv").write_text(f"file,label\n{names[0]},x\n{names[2]},y\n")
    source = open_source(tmp_path / "photos", labels=True)
    assert source.labels is not None
    assert source.labels.tolist() == [0, -100, 1]
    other = tmp_path / "other.csv"
    other.write_text(f"file,label\n{names[1]},p\n{names[2]},q\n")
    named = open_source(tmp_path / "photos", labels=other)
    assert named.labels is not None
    assert named.labels.tolist() == [-100, 0, 1]
    with pytest.raises(InputError, match="there is no labels file"):
        open_source(tmp_path / "photos", labels="missing.csv")


def test_folders_that_all_share_may_be_left_out() -> None:
    names = ["set/a/1.jpg", "set/b/1.jpg"]
    labels, _ = read_labels(b"file,label\na/1.jpg,x\nb/1.jpg,y\n", "labels.csv", names, find_layout(names))
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "row,label\n0,cat\n2,dog\n",
        "label;index\ncat;0\ndog;2\n",
        "0,cat\n2,dog\n",
        "row,label\n0,cat\n1,\n2,dog\n3,-100\n",
        "row,label\n0,cat\n0,cat\n2,dog\n",
    ],
)
def test_rows_of_a_table_are_labelled_by_number(text: str) -> None:
    labels, classes = read_row_labels(text.encode(), "labels.csv", 4)
    assert (labels.tolist(), classes) == ([0, -100, 1, -100], ["cat", "dog"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,label\n0,cat\n4,dog\n", r"labels\.csv:3: '4' is no row of the table; its rows are 0 to 3"),
        ("row,label\n0,cat\n" + "1" * 5000 + ",dog\n", r"labels\.csv:3: '1+\.\.\.' is no row of the table"),
        ("row,label\n0,cat\nx,dog\n", r"labels\.csv:3: 'x' is no row"),
        ("row,label\n0,cat\n1\n", r"labels\.csv:3: 1 column where at least 2"),
        ("row,label\n0,cat\n0,dog\n", r"labels\.csv:3: row 0 is labelled 'dog' here, 'cat' on line 2"),
        (
            "row,lable\n0,cat\n",
            r"labels\.csv:1: no column 'label'.*did you mean 'lable'|labels\.csv:1: no column 'label'",
        ),
        ("rwo,label\n0,cat\n", r"no column 'row'.*the first line must be row,label"),
        ("row,label\n0,cat\n1,cat\n", r"holds one class, 'cat'"),
        ("", r"labels\.csv is empty"),
    ],
)
@pytest.mark.promise("R11", "ways in which labels of rows are wrong")
def test_rows_wrongly_labelled_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_row_labels(text.encode(), "labels.csv", 4)


def test_minus_100_is_unknown_in_every_form():
    """As in torch's cross-entropy: of files as of rows and of sequences."""
    labels, classes = read_labels(
        b"file,label\na.jpg,cat\nb.jpg,-100\nc.jpg,dog\n", "labels.csv", ["a.jpg", "b.jpg", "c.jpg"]
    )
    assert classes == ["cat", "dog"]
    rows = read_row_labels(b"row,label\n0,cat\n1,-100\n2,dog\n", "labels.csv", 3)
    given = given_labels(["cat", -100, "dog"], 3)
    assert labels.tolist() == rows[0].tolist() == given[0].tolist() == [0, -100, 1]


def test_absolute_paths_of_another_machine_are_found_by_what_they_do_not_share() -> None:
    names = ["images/cat/1.jpg", "images/dog/1.jpg"]
    for folder in ("/home/anna/sets/", "C:\\Users\\Anna\\", "D:/sets/images/"):
        text = f"file,label\n{folder}cat/1.jpg,a\n{folder}dog/1.jpg,b\n"
        labels, _ = read_labels(text.encode(), "labels.csv", names, find_layout(names))
        assert labels.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"no item '/home/cat/1.jpg'"):  # which of two ones is meant, nobody knows
        read_labels(b"file,label\n/home/cat/1.jpg,a\n/else/dog/1.jpg,b\n", "labels.csv", ["a/1.jpg", "b/2.jpg"])


def test_paths_as_seen_from_beside_the_data_are_found_and_no_others() -> None:
    names = ["train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", "test/dog/9.jpg"]
    for above in ("pets/", "./pets/", "data\\pets\\", "/home/x/pets/", "C:\\pets\\"):
        text = f"file,label\n{above}train/cat/2.jpg,cat\n{above}train/dog/1.jpg,dog\n"
        assert read_label_words(text.encode(), "l.csv", names) == ["", "cat", "dog", ""]
    for wrong in ("pets/train/cat/9.jpg", "train/cat/9.jpg"):
        with pytest.raises(InputError, match="no item"):
            read_label_words(f"file,label\n{wrong},cat\n".encode(), "l.csv", names)


def test_not_a_number_is_unknown_as_pandas_means_it():
    values = pd.Series([0.0, 1.0, None, 1.0])  # a column of numbers with a gap
    assert given_labels(values, 4)[0].tolist() == values.fillna(-100).astype(int).tolist()
    assert given_labels(["cat", float("nan"), "dog"], 3)[1] == ["cat", "dog"]


def test_labels_of_images_that_lie_elsewhere_say_how_both_are_given(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n/data/photos/a.jpg,cat\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"give the folder of the files that labels\.csv lists .* as --labels"):
        open_source(tmp_path, labels=True)
    with pytest.raises(
        InputError, match=r"holds no images: .*give the folder they lie in as the data, and it as --labels"
    ):
        open_source(tmp_path / "labels.csv", labels=True)
