"""Features in memory and in files."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny_vit import tiny_encoder

from withheld.errors import CannotWrite, InputError
from withheld.evaluate.features import as_encoder, embed, features


@pytest.fixture
def folder(digits, tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    for i, image in enumerate(digits[0][:5]):
        Image.fromarray(image).save(place / f"{i}.png")
    (place / "broken.png").write_bytes(b"x")
    return place


def test_features_are_the_pooled_output_whatever_the_batch(tiny, digits):
    images = digits[0][:7, None]
    with torch.no_grad():
        expected = tiny(torch.from_numpy(images)).pooled.numpy()
    for batch in (1, 3, 100):
        np.testing.assert_allclose(features(tiny, images, batch), expected, atol=1e-5)


def test_a_read_only_array_is_fine(tiny, digits):
    images = digits[0][:3, None].copy()
    images.setflags(write=False)
    assert features(tiny, images).shape == (3, 16)


def test_progress_is_told(tiny, digits):
    heard: list[dict] = []
    features(tiny, digits[0][:5, None], 2, heard.append)
    assert [(e["done"], e["total"]) for e in heard] == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_no_images_have_no_features(tiny):
    assert len(features(tiny, np.zeros((0, 1, 8, 8), np.uint8))) == 0


def test_parquet(tiny, folder, tmp_path):
    heard: list[dict] = []
    out = embed(tiny, folder, tmp_path / "new" / "features.parquet", listen=heard.append)
    table = pq.read_table(out)
    assert table.column_names == ["file", "features"]
    found = np.stack(table["features"].to_numpy())
    assert table["file"].to_pylist() == [f"{i}.png" for i in range(5)]
    expected = tiny.transform([Image.open(folder / f"{i}.png") for i in range(5)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert any("1 of 6 images could not be read and was left out: '" in e.get("text", "") for e in heard)


def test_npz_opens_without_pickle(tiny, folder, tmp_path):
    out = embed(tiny, folder, tmp_path / "features.npz")
    with np.load(out, allow_pickle=False) as found:
        assert found["names"].tolist() == [f"{i}.png" for i in range(5)]
        assert found["features"].shape == (5, 16)
        assert found["features"].dtype == np.float32
    assert not list(tmp_path.glob("*.tmp"))


def test_an_encoder_folder_will_do(folder, tmp_path):
    where = tiny_encoder().save(tmp_path / "encoder")
    assert embed(where, folder, tmp_path / "f.npz").is_file()
    assert not as_encoder(where).training


def test_what_goes_wrong_is_said(tiny, folder, tmp_path):
    with pytest.raises(InputError, match=r"ends in \.parquet or \.npz"):
        embed(tiny, folder, tmp_path / "features.csv")
    with pytest.raises(InputError, match="no encoder"):
        embed(tmp_path, folder, tmp_path / "f.npz")
    with pytest.raises(InputError, match="there is no file or folder"):
        embed(tiny, tmp_path / "nowhere", tmp_path / "f.npz")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotWrite):
        embed(tiny, folder, tmp_path / "file" / "f.npz")


def test_a_photo_by_its_path_has_the_features_that_embed_writes(tmp_path):
    encoder = tiny_encoder(size=16, channels=3)
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8)
    for name in ("a.jpg", "b.png"):
        Image.fromarray(noise).resize((200, 320), Image.Resampling.NEAREST).save(tmp_path / "photos" / name)
    out = embed(encoder, tmp_path / "photos", tmp_path / "f.npz")
    with np.load(out, allow_pickle=False) as found:
        again = encoder.transform([tmp_path / "photos" / name for name in found["names"]])
        np.testing.assert_allclose(again, found["features"], atol=1e-5)


def test_names_that_are_no_text_are_written(tiny, digits, tmp_path):
    from withheld.evaluate.features import WRITERS

    for ending, write in WRITERS.items():
        write(tmp_path / f"x{ending}", ["a", "b\udcff"], np.zeros((2, 3), np.float32))
    assert pq.read_table(tmp_path / "x.parquet")["file"].to_pylist() == ["a", "b\\udcff"]


def test_patches(tiny, folder, tmp_path):
    """Their mean, of a network that pools by it, is the vector of the image; both files hold the same."""
    import pyarrow.parquet as pq

    with np.load(embed(tiny, folder, tmp_path / "p.npz", patches=True), allow_pickle=False) as kept:
        names, patches = kept["names"], kept["features"]
    with np.load(embed(tiny, folder, tmp_path / "f.npz"), allow_pickle=False) as kept:
        whole = kept["features"]
    assert patches.shape == (len(names), 2, 2, whole.shape[1])
    np.testing.assert_allclose(patches.mean(axis=(1, 2)), whole, atol=1e-5)
    table = pq.read_table(embed(tiny, folder, tmp_path / "p.parquet", patches=True))
    assert table.column_names == ["file", "row", "column", "features"]
    assert len(table) == patches[..., 0].size
    row = table.slice(3, 1).to_pylist()[0]
    assert (row["file"], row["row"], row["column"]) == (names[0], 1, 1)
    np.testing.assert_array_equal(np.float32(row["features"]), patches[0, 1, 1])
