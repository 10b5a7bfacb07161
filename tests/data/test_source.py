"""Folders, IDX files and arrays: the same contract for all; labels only when asked for."""

from __future__ import annotations

import builtins
import gzip
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_files import encoded, idx_bytes, photo, write_images, write_mnist

from withheld.data.image import native_size
from withheld.data.source import Source, open_source
from withheld.errors import InputError


def check_contract(source: Source) -> None:
    """What every kind of source promises."""
    items = dict(source.stream())
    assert sorted(items) == list(range(len(source)))
    assert len(set(source.names)) == len(source)
    assert len(source.fingerprint) == 64
    for i in (0, len(source) - 1):
        assert np.array_equal(np.asarray(source.read(i)), np.asarray(items[i]))
    half = source.subset(np.arange(len(source))[::-2])
    assert half.names == source.names[::-2]
    assert half.fingerprint != source.fingerprint
    for i, item in half.stream():
        assert np.array_equal(np.asarray(item), np.asarray(items[source.names.index(half.names[i])]))
    if source.labels is not None:
        assert half.labels is not None
        assert np.array_equal(half.labels, source.labels[::-2])
    assert open_source(source) is source


def test_flat_and_nested_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "a" / "b", 3)
    write_images(tmp_path, 2, "PNG")
    write_images(tmp_path / "a", 2, "BMP")
    source = open_source(tmp_path)
    assert source.names == [
        "000.png",
        "001.png",
        "a/000.bmp",
        "a/001.bmp",
        "a/b/000.jpeg",
        "a/b/001.jpeg",
        "a/b/002.jpeg",
    ]
    assert source.kind == "folder"
    assert source.parts is None
    assert source.labels is None
    assert native_size(source) == (40, 60)
    check_contract(source)


def test_a_folder_looks_the_same_wherever_it_lies_and_not_after_a_change(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_images(tmp_path / name)
    one, two = open_source(tmp_path / "one"), open_source(tmp_path / "two")
    assert one.fingerprint == two.fingerprint
    assert one.stamp != two.stamp
    file = tmp_path / "two" / "001.jpeg"
    changed = bytearray(file.read_bytes())
    changed[-3] ^= 1
    file.write_bytes(changed)
    os.utime(file, ns=(1, 1))
    assert open_source(tmp_path / "two").fingerprint != one.fingerprint
    assert open_source(tmp_path / "two").stamp != two.stamp


def test_class_folders(class_folders: Path) -> None:
    source = open_source(class_folders, labels=True)
    assert source.classes == ["cat", "dog"]
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert source.parts is not None
    assert source.parts.tolist() == ["test"] * 4 + ["train"] * 8
    test = source.part("test")
    assert test is not None
    assert len(test) == 4
    assert source.part("val") is None
    check_contract(source)


def test_labels_are_not_read_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "idx")
    write_images(tmp_path / "photos")
    (tmp_path / "photos" / "labels.csv").write_text("file,label\nnonsense")
    opened: list[str] = []
    real = Path.open

    def watched(self: Path, *args: Any, **options: Any) -> Any:
        opened.append(self.name)
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", watched)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"read {self}"))
    for labels in (None, False):
        for name in ("idx", "photos"):
            source = open_source(tmp_path / name, labels=labels)
            list(source.stream())
            assert source.labels is None
            assert source.classes == []
    assert "labels.csv" not in opened


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are made otherwise on Windows")
@pytest.mark.promise("S12", "links, pipes and folders named as images")
def test_only_plain_files_below_the_root_are_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_images(root, 2)
    write_images(tmp_path / "secret", 1)
    os.symlink(tmp_path / "secret" / "000.jpeg", root / "out.jpg")
    os.symlink(tmp_path / "secret", root / "folder")
    os.symlink(tmp_path / "secret", root / "folder.jpg")
    os.symlink(root, root / "loop")
    os.symlink(root / "self.jpg", root / "self.jpg")
    os.symlink(root / "gone.jpg", root / "broken.jpg")
    os.symlink(root / "000.jpeg", root / "inside.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "x.jpg").mkdir()
    write_images(root / "x.jpg", 1)
    for name in (".hidden.jpg", "._000.jpeg", "notes.txt"):
        (root / name).write_text("x")
    write_images(root / "__MACOSX", 1)
    write_images(root / ".cache", 1)
    source = open_source(root)
    assert source.names == ["000.jpeg", "001.jpeg", "inside.jpg", "x.jpg/000.jpeg"]
    reasons = {line["file"]: line["reason"] for line in source.left_out}
    assert set(reasons) == {
        "out.jpg", "folder", "folder.jpg", "loop", "self.jpg", "broken.jpg", "pipe.jpg", "x.jpg",
    }  # fmt: skip
    assert "leads out" in reasons["out.jpg"]
    assert "plain file" in reasons["pipe.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="these names cannot be made on Windows")
@pytest.mark.promise("R20", "odd file names")
def test_odd_names(tmp_path: Path) -> None:
    names = [
        b"\xff\xfe.jpg", "emoji \U0001f98a.jpg".encode(), unicodedata.normalize("NFD", "é.jpg").encode(),
        unicodedata.normalize("NFC", "é.jpg").encode(), b"100%.jpg", b"a'b\"c.jpg", b"new\nline.jpg", b"-rf.jpg",
        b"a" * 251 + b".jpg", b" .jpg", b"<script>.jpg",
    ]  # fmt: skip
    for i, name in enumerate(names):
        with builtins.open(os.fsencode(tmp_path) + b"/" + name, "wb") as stream:
            stream.write(encoded(photo(i)))
    source = open_source(tmp_path)
    assert sorted(os.fsencode(name) for name in source.names) == sorted(names)
    assert source.names == sorted(source.names)
    check_contract(source)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_mnist_family(zipped: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path, zipped=zipped)
    source = open_source(tmp_path, labels=True)
    assert source.kind == "idx"
    assert len(source) == 40
    assert source.names[0] == "train-images:0"
    assert source.names[30] == "t10k-images:0"
    assert source.classes == ["4", "5", "6"]
    assert source.labels is not None
    assert source.labels[:4].tolist() == [0, 1, 2, 0]
    assert source.parts is not None
    assert source.parts[[0, 29, 30]].tolist() == ["train", "train", "test"]
    check_contract(source)
    train = open_source(tmp_path / f"train-images-idx3-ubyte{'.gz' if zipped else ''}", labels=True)
    assert len(train) == 30
    assert train.part("train") is not None
    assert np.array_equal(np.asarray(train.read(7)), np.asarray(source.read(7)))


def test_unzipped_idx_of_equal_sizes_are_told_apart(tmp_path: Path) -> None:
    for i, name in enumerate(("digits", "clothes")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.full((5, 4, 4), i)))
    assert open_source(tmp_path / "digits").fingerprint != open_source(tmp_path / "clothes").fingerprint


def test_idx_in_a_folder_is_found_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "digits.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((5, 4, 4)))))
    (tmp_path / "notes.gz").write_bytes(gzip.compress(b"no images"))
    source = open_source(tmp_path)
    assert (source.kind, len(source)) == ("idx", 5)


def test_damaged_idx(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz"):
        list(open_source(tmp_path).stream())
    file.write_bytes(whole)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="labels-idx1"):
        open_source(tmp_path, labels=True)
    lying = tmp_path / "lying-idx3-ubyte"
    lying.write_bytes(idx_bytes(np.zeros((2, 2, 2)))[:4] + b"\x7f\xff\xff\xff" + b"\0\0\x10\0" * 2)
    with pytest.raises(InputError, match="get the file again"):
        list(open_source(lying).stream())


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((6, 8, 9), (8, 9, 1)), ((6, 8, 9, 3), (8, 9, 3)), ((6, 3, 8, 9), (8, 9, 3)), ((6, 8, 9, 5), (8, 9, 5))],
)
def test_arrays(shape: tuple[int, ...], wanted: tuple[int, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.save(tmp_path / "set.npy", images)
    labels = [0, 1, 1, 0, -100, 1]
    for data in (images, tmp_path / "set.npy"):
        source = open_source(data, labels=labels)
        assert np.asarray(source.read(2)).shape == wanted
        assert source.labels is not None
        assert source.labels.tolist() == labels
        check_contract(source)
    assert open_source((images, labels)).labels is None
    both = open_source((images, labels), labels=True)
    assert both.labels is not None
    assert both.labels.tolist() == labels
    assert open_source(images).fingerprint == open_source(images.copy()).fingerprint
    assert open_source(images).fingerprint != open_source(images[::-1]).fingerprint


def test_lists_of_images_of_any_size() -> None:
    images = [Image.fromarray(photo(i, 20 + i, 30)) for i in range(4)]
    source = open_source(images, labels=["a", None, "b", "a"])
    assert source.classes == ["a", "b"]
    assert source.labels is not None
    assert source.labels.tolist() == [0, -100, 1, 0]
    check_contract(source)
    same = open_source([photo(i) for i in range(3)])
    assert same.array(0, 2) is not None
    assert source.array(0, 2) is None
    check_contract(same)


@pytest.mark.parametrize("data", [np.zeros((4, 4)), np.zeros((0, 4, 4)), np.zeros((2, 3, 4), complex), [], None, "3"])
def test_what_is_no_data(data: Any) -> None:
    with pytest.raises(InputError, match=r"."):
        open_source(data)


@pytest.mark.promise("R19", "a folder without images")
def test_an_empty_folder_says_what_was_looked_for_and_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found 0 images under .*looked for .*\.jpg"):
        open_source(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    write_images(tmp_path.parent / f"{tmp_path.name}-far", 1)
    os.symlink(tmp_path.parent / f"{tmp_path.name}-far" / "000.jpeg", tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"1 is a link that leads out.*1 with \.mp4"):
        open_source(tmp_path)


def test_a_missing_folder_names_the_nearest(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    with pytest.raises(InputError, match="did you mean 'photos'"):
        open_source(tmp_path / "fotos")


def test_a_single_image(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    source = open_source(tmp_path / "001.jpeg")
    assert source.names == ["001.jpeg"]
    check_contract(source)
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(InputError, match="is no image, whatever its name says"):
        open_source(tmp_path / "text.jpg")


def test_a_bad_item_does_not_end_the_stream(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "001.jpeg").write_bytes(b"")
    items = dict(open_source(tmp_path).stream())
    assert isinstance(items[1], Exception)
    assert isinstance(items[2], Image.Image)
