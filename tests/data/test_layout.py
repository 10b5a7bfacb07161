"""What folder names say."""

from __future__ import annotations

import pytest

from withheld.data.layout import find_layout, folder_labels
from withheld.errors import InputError


@pytest.mark.parametrize(
    ("names", "root", "parts", "folders"),
    [
        (["1.jpg", "2.jpg"], "", None, ["", ""]),
        (["a/1.jpg", "b/2.jpg"], "", None, ["a", "b"]),
        (["set/a/1.jpg", "set/b/2.jpg"], "set", None, ["a", "b"]),
        (["set/train/a/1.jpg", "set/test/b/2.jpg"], "set", ["train", "test"], ["a", "b"]),
        (["Train/a/1.jpg", "Train/b/2.jpg"], "", ["train", "train"], ["a", "b"]),
        (["train/1.jpg", "valid/2.jpg"], "", ["train", "val"], ["", ""]),
        (["bus/1.jpg", "train/2.jpg", "car/3.jpg"], "", None, ["bus", "train", "car"]),
        (["train/a/1.jpg", "test/a/2.jpg", "extra/3.jpg"], "", ["train", "test", ""], ["a", "a", ""]),
        (["train/a/1.jpg", "unlabeled/2.jpg"], "", ["train", "train"], ["a", ""]),
        (["train/a/1.jpg", "test/b/2.jpg", "Unlabelled/3.jpg"], "", ["train", "test", "train"], ["a", "b", ""]),
        (["unlabeled/1.jpg", "unlabeled/2.jpg"], "unlabeled", None, ["", ""]),
        (["a/x/1.jpg", "b/2.jpg"], "", None, ["a", "b"]),
        (["train2017/1.jpg", "val2017/2.jpg", "unlabeled2017/3.jpg"], "", ["train", "val", "train"], ["", "", ""]),
        (["images/train_2012/1.jpg", "images/test_2012/2.jpg"], "images", ["train", "test"], ["", ""]),
    ],
)
def test_layouts(names: list[str], root: str, parts: list[str] | None, folders: list[str]) -> None:
    layout = find_layout(names)
    assert layout.root == root
    assert (None if layout.parts is None else layout.parts.tolist()) == parts
    assert layout.folders == folders


def test_folders_for_unlabeled_images_are_no_class() -> None:
    labels, classes = folder_labels(find_layout(["a/1.jpg", "b/2.jpg", "unlabeled/3.jpg", "4.jpg"]), "x")
    assert classes == ["a", "b"]
    assert labels.tolist() == [0, 1, -100, -100]


def test_a_flat_folder_has_no_labels() -> None:
    with pytest.raises(InputError, match=r"no class folders and no labels\.csv"):
        folder_labels(find_layout(["1.jpg"]), "x")
    with pytest.raises(InputError, match="only one class folder, 'a'"):
        folder_labels(find_layout(["a/1.jpg", "2.jpg"]), "x")
