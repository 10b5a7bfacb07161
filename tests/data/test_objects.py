"""Sets in Python's memory, as other libraries keep them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

import withheld
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.data.text import documents, open_texts
from withheld.data.vectors import is_table, open_vectors
from withheld.data.video import open_videos
from withheld.errors import InputError

COUNT = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 20, 24, 3), dtype=np.uint8)
PICTURES = [Image.fromarray(each) for each in PIXELS]
KINDS = [("cat", "dog", "owl")[i % 3] for i in range(COUNT)]
TEXTS = [f"the film number {i} was quiet, and nothing in it was loud" for i in range(COUNT)]


class Photographs(Dataset):
    """As torchvision's data sets: an image and the number of its class, with the names beside."""

    targets = torch.tensor([i % 3 for i in range(COUNT)])
    classes = ("cat", "dog", "owl")

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        return PICTURES[position], int(self.targets[position])


class Rows(Dataset):
    """Dicts, as transformers' trainer takes them."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, position: int) -> dict[str, Any]:
        if position == 3:
            raise OSError("this one is damaged")
        return {"pixel_values": torch.from_numpy(PIXELS[position]).permute(2, 0, 1), "label": KINDS[position]}


class Shaken(Dataset):
    """Other pixels whenever it is asked."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, position: int) -> torch.Tensor:
        return torch.rand(3, 20, 24)


class Streamed(IterableDataset):
    """Nobody knows how many."""

    def __iter__(self) -> Any:
        return iter(PICTURES)


def _of_hub() -> Any:
    made = datasets.Dataset.from_dict({"image": PICTURES, "kind": [i % 3 for i in range(COUNT)]})
    made = made.cast_column("image", datasets.Image())
    return made.cast_column("kind", datasets.ClassLabel(names=["cat", "dog", "owl"]))


def _files(folder: Path) -> list[str]:
    for number, picture in enumerate(PICTURES):
        picture.save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(COUNT)]


LABELED: dict[str, Callable[[Path], Any]] = {
    "tensors": lambda _: (torch.from_numpy(PIXELS).permute(0, 3, 1, 2), KINDS),
    "a torch Dataset": lambda _: Photographs(),
    "a Dataset of datasets": lambda _: _of_hub(),
    "a DatasetDict": lambda _: datasets.DatasetDict(train=_of_hub()),
    "a frame of images": lambda _: pd.DataFrame({"photo": PICTURES, "label": KINDS}),
    "a frame of files": lambda folder: pd.DataFrame({"species": KINDS, "where": _files(folder)}),
    "files": lambda folder: (_files(folder), pd.Series(KINDS)),
}


@pytest.mark.parametrize("kind", LABELED)
def test_images_and_labels_are_the_same_however_they_are_kept(kind: str, tmp_path: Path) -> None:
    source = open_source(LABELED[kind](tmp_path), labels=True)
    assert np.array_equal([source.classes[label] for label in source.labels], KINDS)
    kept = prepare(source, 20, 3)
    expected = prepare(open_source(list(PICTURES)), 20, 3)
    assert np.abs(np.asarray(kept.images).astype(int) - np.asarray(expected.images)).max() <= 1
    assert open_source(LABELED[kind](tmp_path)).labels is None


def test_a_data_set_of_dicts_is_read_item_by_item_and_a_damaged_one_is_named() -> None:
    kept = prepare(open_source(Rows()), 20, 3)
    assert len(kept) == COUNT - 1
    assert kept.skipped == [{"file": "item:3", "reason": "OSError: this one is damaged"}]


def test_labels_of_dicts() -> None:
    class Whole(Rows):
        def __getitem__(self, position: int) -> dict[str, Any]:
            return {"image": PICTURES[position], "label": KINDS[position]}

    source = open_source(Whole(), labels=True)
    assert [source.classes[label] for label in source.labels] == KINDS


def test_random_transforms_are_told_of() -> None:
    assert any("random transforms" in note for note in open_source(Shaken()).notes)
    assert not open_source(Photographs()).notes
    with pytest.raises(InputError, match="labels were asked for"):
        open_source(Shaken(), labels=True)


@pytest.mark.parametrize("data", [Streamed(), (picture for picture in PICTURES)])
def test_what_has_no_length_is_refused(data: Any) -> None:
    with pytest.raises(InputError, match=r"has no length.*give a list"):
        open_source(data)
    with pytest.raises(InputError, match=r"has no length.*give a list"):
        open_texts(iter(TEXTS))


def test_frames_without_images_or_labels_say_what_is_missing() -> None:
    with pytest.raises(InputError, match="no column of images or of their files among a, b"):
        open_source(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    with pytest.raises(InputError, match="no column of labels among image, n; name it"):
        open_source(pd.DataFrame({"image": PICTURES, "n": range(COUNT)}), labels=True)
    source = open_source(pd.DataFrame({"image": PICTURES, "n": KINDS}), labels="n")
    assert source.classes == ["cat", "dog", "owl"]


def test_files_that_are_not_there_are_named() -> None:
    source = open_source(["no/such.png", "nor/this.png"])
    assert source.names[0] == str(Path("no/such.png"))


TABLES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame({"n": range(COUNT), "review": TEXTS, "sentiment": KINDS}),
    "pyarrow": lambda: pa.table({"n": range(COUNT), "review": TEXTS, "sentiment": KINDS}),
    "datasets": lambda: datasets.Dataset.from_dict({"n": range(COUNT), "review": TEXTS, "sentiment": KINDS}),
    "splits": lambda: datasets.DatasetDict(train=datasets.Dataset.from_dict({"review": TEXTS, "sentiment": KINDS})),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_column_of_text_is_found_and_never_its_name(kind: str) -> None:
    source = open_texts(TABLES[kind](), labels=True)
    assert [text for _, text in documents(source, [])] == TEXTS
    assert [source.classes[label] for label in source.labels] == KINDS


def test_an_empty_cell_is_no_text_called_nan() -> None:
    bad: list[dict[str, str]] = []
    source = open_texts(pd.DataFrame({"text": [*TEXTS, float("nan")]}))
    assert "nan" not in [text for _, text in documents(source, bad)]
    assert open_texts(pd.Series(TEXTS)).names[-1] == f"text:{COUNT - 1}"
    with pytest.raises(InputError, match="no column of text among a, b; give it alone"):
        open_texts(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))


NUMBERS = np.random.default_rng(0).normal(size=(COUNT, 2))
PLANES: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.from_numpy(NUMBERS),
    "pandas": lambda: pd.DataFrame(NUMBERS, columns=["width", "height"]).assign(species=KINDS),
    "numbered": lambda: pd.DataFrame(NUMBERS),
    "pyarrow": lambda: pa.table({"width": NUMBERS[:, 0], "height": NUMBERS[:, 1]}),
    "datasets": lambda: datasets.Dataset.from_dict({"width": NUMBERS[:, 0], "height": NUMBERS[:, 1], "label": KINDS}),
}


@pytest.mark.parametrize("kind", PLANES)
def test_rows_of_numbers(kind: str) -> None:
    data = PLANES[kind]()
    assert is_table(data)
    found = open_vectors(data)
    assert np.allclose(found.values, NUMBERS)
    assert found.columns == {"torch": ["x0", "x1"], "numbered": ["0", "1"]}.get(kind, ["width", "height"])


def test_what_is_no_table_of_numbers() -> None:
    assert not is_table(_of_hub())
    with pytest.raises(InputError, match="list is no table of numbers"):
        open_vectors(["a", "b"])


def test_clips() -> None:
    clips = torch.randint(0, 255, (4, 8, 16, 16, 3), dtype=torch.uint8)
    assert len(open_videos(clips)) == 4
    with pytest.raises(InputError, match="no table"):
        open_videos(pd.DataFrame({"clip": [1]}))


def test_a_run_and_its_encoder_take_them(tmp_path: Path) -> None:
    run = withheld.pretrain("simclr", Photographs(), tmp_path / "run", steps=2, batch_size=4, pictures=False)
    encoder = run.encoder()
    expected = encoder.transform(PICTURES)
    tensor = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    assert np.allclose(encoder.transform(tensor), expected, atol=0.01)
    assert np.allclose(encoder.transform(tensor.float() / 255), expected, atol=0.02)
    assert np.allclose(encoder.transform(list(tensor)), expected, atol=0.01)
    with pytest.raises(InputError, match=r"give a list of images, not one: \[image\]"):
        encoder.transform(PICTURES[0])
