"""The prepared cache: right, found again, whole or absent, bounded; broken files are skipped and counted."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_files import encoded, photo, write_images, write_mnist

from withheld.data import build, cache
from withheld.data.decode import decode
from withheld.data.image import ImageItems, to_array
from withheld.data.prepared import Prepared, prepare
from withheld.data.rows import Rows, Streamed
from withheld.data.source import open_source
from withheld.errors import CannotWrite, InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prepared"


def entries(folder: Path) -> list[str]:
    """Finished and unfinished sets in the cache."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_images_are_those_of_the_files_in_their_order(tmp_path: Path) -> None:
    names = write_images(tmp_path / "x", 70, "PNG")
    prepared = prepare(open_source(tmp_path / "x"), 16)
    assert prepared.names == names
    assert isinstance(prepared.images, np.memmap)
    assert not prepared.images.flags.writeable
    for i in (0, 31, 32, 69):
        assert np.array_equal(prepared.images[i], to_array(decode(tmp_path / "x" / names[i]), 16, 3))
    pixels = np.asarray(prepared.images, np.float64) / 255
    assert np.allclose(prepared.mean, pixels.mean(axis=(0, 2, 3)), atol=1e-9)
    assert np.allclose(prepared.std, pixels.std(axis=(0, 2, 3)), atol=1e-9)
    assert prepared.kept.tolist() == list(range(70))
    assert prepared.skipped == []


def test_arrays_of_the_same_size_are_copied_and_others_resized() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2000, 8, 8)).astype(np.uint8)
    assert np.array_equal(prepare(open_source(images), 8).images[:, 0], images)
    larger = prepare(open_source(images), 12)
    assert larger.images.shape == (2000, 1, 12, 12)
    assert np.array_equal(larger.images[1500], to_array(images[1500], 12, 1))


def test_the_second_time_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    write_images(tmp_path / "x", 3)
    first = prepare(open_source(tmp_path / "x"), 8)
    monkeypatch.setattr(build, "blocks", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(build, "decode", lambda *_: pytest.fail("decoded again"))
    again = prepare(open_source(tmp_path / "x"), 8)
    assert np.array_equal(first.images, again.images)
    assert again.fingerprint == first.fingerprint
    assert again.mean == first.mean
    assert len(entries(own_cache)) == 1


def test_other_settings_or_files_are_other_entries(tmp_path: Path, own_cache: Path) -> None:
    write_images(tmp_path / "x", 3)
    a = prepare(open_source(tmp_path / "x"), 8)
    b = prepare(open_source(tmp_path / "x"), 9)
    c = prepare(open_source(tmp_path / "x"), 8, channels=1)
    write_images(tmp_path / "x", 4)
    d = prepare(open_source(tmp_path / "x"), 8)
    assert len({p.fingerprint for p in (a, b, c, d)}) == 4
    assert len(entries(own_cache)) == 4
    assert c.images.shape == (3, 1, 8, 8)


def test_labels_are_never_in_the_cache(class_folders: Path, own_cache: Path) -> None:
    without = prepare(open_source(class_folders), 8)
    labelled = prepare(open_source(class_folders, labels=True), 8)
    assert without.labels is None
    assert labelled.labels is not None
    assert labelled.classes == ["cat", "dog"]
    assert without.fingerprint == labelled.fingerprint
    assert len(entries(own_cache)) == 1
    written = (own_cache / entries(own_cache)[0] / "prepared.json").read_text()
    assert "cat" not in written


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(["L", "L", "LA"], 1), (["L", "RGB"], 3), (["grey in color", "L"], 1), (["P"], 3), (["I;16", "L"], 1)],
)
def test_channels_are_found_from_a_sample(modes: list[str], channels: int, tmp_path: Path) -> None:
    for i, mode in enumerate(modes):
        image = Image.fromarray(photo(i))
        if mode == "grey in color":
            image = image.convert("L").convert("RGB")
        elif mode == "I;16":
            image = Image.fromarray(photo(i)[..., 0].astype(np.uint16) * 16)
        else:
            image = image.convert(mode)
        image.save(tmp_path / f"{i}.png")
    assert prepare(open_source(tmp_path), 8).images.shape[1] == channels


def test_multi_channel_data_keeps_its_channels_and_one_scale(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "x").mkdir()
    for i in range(5):
        values = generator.uniform(0, 1, (10, 12, 5)) * [10, 20, 30, 40, 50] * (i + 1)
        np.save(tmp_path / "x" / f"{i}.npy", values.astype(np.float32))
    np.save(tmp_path / "x" / "odd.npy", np.zeros((10, 12, 4), np.float32))
    prepared = prepare(open_source(tmp_path / "x"), 8)
    assert prepared.images.shape == (5, 5, 8, 8)
    assert prepared.scale is not None
    assert "4 channels" in prepared.skipped[0]["reason"]
    means = prepared.images.mean(axis=(1, 2, 3))
    assert np.allclose(means / means[0], [1, 2, 3, 4, 5], rtol=0.15)
    other = prepare(open_source(tmp_path / "x").subset([4]), 8, scale=prepared.scale)
    assert np.array_equal(other.images[0], prepared.images[4])
    own = prepare(open_source(tmp_path / "x").subset([0]), 8)
    assert own.images.mean() > 4 * prepared.images[0].mean()


def bad_folder(folder: Path, good: int, bad: int) -> set[str]:
    """Good pictures among broken ones of every kind; returns the names of the broken."""
    write_images(folder, good, first=1000)
    kinds = [b"", b"not a picture", encoded(photo(0))[:300], encoded(photo(0), "PNG")[:200], b"\x89PNG" + b"x" * 99]
    names = {f"bad{i:03d}.jpg" for i in range(bad)}
    for i, name in enumerate(sorted(names)):
        (folder / name).write_bytes(kinds[i % len(kinds)])
    return names


def test_broken_files_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    broken = bad_folder(tmp_path / "x", 80, 15)
    (tmp_path / "x" / "folder.jpg").mkdir()
    seen: list[tuple[int, int]] = []
    prepared = prepare(open_source(tmp_path / "x"), 8, progress=lambda done, total: seen.append((done, total)))
    assert prepared.images.shape == (80, 3, 8, 8)
    assert {line["file"] for line in prepared.skipped} == broken | {"folder.jpg"}
    assert all(line["reason"] for line in prepared.skipped)
    assert prepared.kept.tolist() == list(range(80))
    assert prepared.names == sorted(name for name in os.listdir(tmp_path / "x") if name.endswith("jpeg"))
    assert seen[-1] == (95, 95)
    assert prepare(open_source(tmp_path / "x"), 8).skipped == prepared.skipped
    json.dumps(prepared.skipped)


def test_too_many_broken_files_stop_with_the_count_and_the_first(tmp_path: Path) -> None:
    bad_folder(tmp_path / "x", 6, 4)
    for _ in range(2):
        with pytest.raises(InputError, match=r"4 of 10 images under .* \(40%, allowed are 20%\)[^$]*bad000\.jpg"):
            prepare(open_source(tmp_path / "x"), 8)
    assert len(prepare(open_source(tmp_path / "x"), 8, allow_bad=0.5)) == 6


def test_no_good_image(tmp_path: Path) -> None:
    bad_folder(tmp_path / "x", 0, 3)
    for _ in range(2):
        with pytest.raises(InputError, match=r"found 0 images under .*that can be read, of 3"):
            prepare(open_source(tmp_path / "x"), 8, allow_bad=1.0)


def test_one_image_and_equal_images(tmp_path: Path) -> None:
    write_images(tmp_path / "one", 1)
    assert len(prepare(open_source(tmp_path / "one"), 8)) == 1
    black = prepare(open_source(np.zeros((5, 8, 8), np.uint8)), 8)
    assert black.std == [1e-3]
    batch = ImageItems(black, black.mean, black.std).batch(np.arange(5), "cpu")
    assert isinstance(batch, torch.Tensor)
    assert torch.isfinite(batch).all()


@pytest.mark.parametrize("damage", ["cut", "gone", "json", "kept"])
def test_a_damaged_entry_is_made_again(damage: str, tmp_path: Path, own_cache: Path) -> None:
    write_images(tmp_path / "x", 3)
    first = np.array(prepare(open_source(tmp_path / "x"), 8).images)
    entry = own_cache / entries(own_cache)[0]
    if damage == "cut":
        data = (entry / "images.npy").read_bytes()
        (entry / "images.npy").unlink()
        (entry / "images.npy").write_bytes(data[:-10])
    elif damage == "gone":
        (entry / "images.npy").unlink()
    else:
        (entry / ("prepared.json" if damage == "json" else "kept.npy")).write_text("{")
    assert np.array_equal(prepare(open_source(tmp_path / "x"), 8).images, first)


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path, own_cache: Path) -> None:
    write_images(tmp_path / "x", 40)
    program = f"""
        import os
        from withheld.data.prepared import prepare
        from withheld.data.source import open_source
        prepare(open_source({str(tmp_path / "x")!r}), 8, progress=lambda done, total: os.kill(os.getpid(), 9))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert len(entries(own_cache)) == 1
    assert ".tmp-" in entries(own_cache)[0]
    assert len(prepare(open_source(tmp_path / "x"), 8)) == 40
    assert [name for name in entries(own_cache) if ".tmp-" in name] == []


def test_two_at_once_decode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "x", 40)
    started = []
    real = build.blocks
    monkeypatch.setattr(build, "blocks", lambda *args: started.append(1) or real(*args))
    found: list[Prepared] = []
    threads = [threading.Thread(target=lambda: found.append(prepare(open_source(tmp_path / "x"), 8))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert started == [1]


def test_the_least_recently_used_entries_leave_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    def images(i: int) -> Any:
        return open_source(np.full((100, 32, 32), i, np.uint8))

    keys = []
    for i in range(3):
        prepare(images(i), 32)
        keys += [name for name in entries(own_cache) if name not in keys]
        for file in (own_cache / keys[i]).iterdir():
            os.utime(file, (1000 + i, 1000 + i))
    prepare(images(0), 32)
    monkeypatch.setattr(cache, "MOST_BYTES", 300_000)
    prepare(images(3), 32)
    left = entries(own_cache)
    assert keys[0] in left
    assert keys[1] not in left
    assert keys[2] not in left


def test_above_the_allowance_images_are_decoded_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_folder(tmp_path / "x", 20, 2)
    kept = prepare(open_source(tmp_path / "x"), 8)
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "small"))
    monkeypatch.setattr(cache, "MOST_BYTES", 1000)
    streamed = prepare(open_source(tmp_path / "x"), 8, allow_bad=0.3)
    assert isinstance(streamed.images, Streamed)
    assert len(streamed) == 22
    assert len(streamed.skipped) == 2
    assert streamed.images.shape == (22, 3, 8, 8)
    good = np.flatnonzero([name.endswith("jpeg") for name in streamed.names])
    assert np.array_equal(streamed.images[good], kept.images)
    assert np.allclose(streamed.mean, kept.mean)
    bad = np.setdiff1d(np.arange(22), good)
    assert np.array_equal(streamed.images[bad], streamed.images[bad])
    assert np.array_equal(streamed.images[int(bad[-1])], kept.images[0])
    batch = ImageItems(streamed, streamed.mean, streamed.std).batch(np.array([3, 1]), "cpu")
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (2, 3, 8, 8)
    assert np.array_equal(streamed.subset([2, 0]).images[np.array([1])], streamed.images[[0]])
    with pytest.raises(InputError, match="allowed are 1%"):
        prepare(open_source(tmp_path / "x"), 8, allow_bad=0.01)


def test_a_gzipped_archive_above_the_allowance_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_archive import pack, pets

    path = pack(tmp_path / "a.tar.gz", pets(), "tar.gz")
    monkeypatch.setattr(cache, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="unpack it"):
        prepare(open_source(path), 8)
    assert isinstance(prepare(open_source(pack(tmp_path / "a.zip", pets(), "zip")), 8).images, Streamed)


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    write_images(tmp_path / "x", 3)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "sync", full)
    with pytest.raises(CannotWrite, match=r"no space left .* MB are free, .* MB are needed; .*WITHHELD_CACHE"):
        prepare(open_source(tmp_path / "x"), 8)
    assert entries(own_cache) == []


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "x", 3)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "file"))
    with pytest.raises(CannotWrite, match="WITHHELD_CACHE"):
        prepare(open_source(tmp_path / "x"), 8)


def test_data_that_went_away_is_not_called_a_full_disk(tmp_path: Path, own_cache: Path) -> None:
    from test_archive import pack, pets

    path = pack(tmp_path / "a.tar", pets(), "tar")
    source = open_source(path)
    path.unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        prepare(source, 8, channels=3)
    assert entries(own_cache) == []


def test_subsets_copy_little_and_view_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    prepared = prepare(open_source(tmp_path, labels=True), 12)
    index = np.array([5, 2, 39])
    for limit in (1 << 20, 10):
        monkeypatch.setattr("withheld.data.rows.COPY_BYTES", limit)
        some = prepared.subset(index)
        assert isinstance(some.images, Rows) == (limit == 10)
        assert some.names == [prepared.names[i] for i in index]
        assert some.labels is not None
        assert prepared.labels is not None
        assert some.labels.tolist() == prepared.labels[index].tolist()
        assert np.array_equal(some.images[np.array([2, 0])], prepared.images[[39, 5]])
        assert np.array_equal(np.asarray(some.images), prepared.images[index])
        assert np.array_equal(some.subset([1]).images[:], prepared.images[[2]])
        assert some.kept.tolist() == [5, 2, 39]


def test_batches_are_normalized_and_carry_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 6)
    prepared = prepare(open_source(tmp_path / "x"), 8)
    items = ImageItems(prepared, prepared.mean, prepared.std)
    assert len(items) == 6
    batch = items.batch(np.arange(6), "cpu")
    assert isinstance(batch, torch.Tensor)
    assert batch.dtype == torch.float32
    assert torch.allclose(batch.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(batch.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
    labels = np.array([0, 1, -100, 1, 0, 2])
    both = ImageItems(prepared, prepared.mean, prepared.std, labels).batch(np.array([5, 2]), "cpu")
    assert not isinstance(both, torch.Tensor)
    assert both["label"].tolist() == [2, -100]
    assert both["label"].dtype == torch.int64
    assert torch.equal(both["item"], batch[[5, 2]])


def test_memory_stays_small_while_preparing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    folder = tmp_path / "x"
    folder.mkdir()
    data = encoded(photo(0, 1500, 1000), quality=90)
    for i in range(60):
        (folder / f"{i}.jpg").write_bytes(data)
    prepare(open_source(folder), 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepare(open_source(folder), 64)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000 * (1024 if sys.platform == "darwin" else 1)


def test_arrays_with_other_channels_than_asked_for() -> None:
    with pytest.raises(InputError, match="has 5 channels where 3 are wanted"):
        prepare(open_source(np.zeros((2, 9, 9, 5), np.uint8)), 8, channels=3)


@pytest.mark.parametrize("settings", [{"size": 0}, {"size": 8, "channels": 0}, {"size": 8, "allow_bad": 2.0}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="sizes are >= 1"):
        prepare(open_source(np.zeros((2, 4, 4), np.uint8)), **settings)
