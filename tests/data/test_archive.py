"""Archives: the same as folders, nothing is ever extracted, hostile ones do no harm."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_files import encoded, photo
from test_source import check_contract

from withheld.data import archive
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.errors import InputError

Members = dict[str, bytes]
KINDS = ["tar", "tar.gz", "zip"]


def pets() -> Members:
    """A train and a test folder below one more folder."""
    names = [f"pets/{part}/{kind}/{i}.jpg" for part in ("train", "test") for kind in ("cat", "dog") for i in range(3)]
    return {name: encoded(photo(i)) for i, name in enumerate(names)}


def pack(path: Path, members: Members, kind: str) -> Path:
    """Writes an archive."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in members.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as packed_tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                packed_tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_archives_are_read_as_folders_are(kind: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "some.bin", pets(), kind)
    source = open_source(path, labels=True)
    assert source.kind == kind.split(".")[0]
    assert source.names == sorted(pets())
    assert source.classes == ["cat", "dog"]
    assert source.parts is not None
    assert set(source.parts) == {"train", "test"}
    check_contract(source)
    assert prepare(source, 8).images.shape == (12, 3, 8, 8)
    assert open_source(path).labels is None
    assert sorted(os.listdir(tmp_path)) == ["some.bin"]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_csv_inside(kind: str, tmp_path: Path) -> None:
    members = {f"top/{i}.png": encoded(photo(i), "PNG") for i in range(4)}
    members["top/labels.csv"] = b"file,label\n0.png,x\n3.png,y\n"
    source = open_source(pack(tmp_path / "a", members, kind), labels=True)
    assert source.labels is not None
    assert source.labels.tolist() == [0, -100, -100, 1]


def test_a_folder_that_holds_one_archive_is_that_archive(tmp_path: Path) -> None:
    pack(tmp_path / "pets.tar.gz", pets(), "tar.gz")
    (tmp_path / "README.md").write_text("pets")
    assert len(open_source(tmp_path)) == 12
    pack(tmp_path / "more.zip", pets(), "zip")
    with pytest.raises(InputError, match="2 archives"):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.promise("S3", "names that lead out")
def test_names_that_lead_out_and_system_files_are_left_out(kind: str, tmp_path: Path) -> None:
    data = encoded(photo(0))
    bad = ["../out.jpg", "/abs.jpg", "a/../../b.jpg", "C:\\x.jpg", "..\\y.jpg"]
    members = {"good.jpg": data, "__MACOSX/._good.jpg": data, ".hidden.jpg": data, "note.txt": b"x"}
    source = open_source(pack(tmp_path / "a", {**members, **dict.fromkeys(bad, data)}, kind))
    assert source.names == ["good.jpg"]
    assert all("leads out" in line["reason"] for line in source.left_out)
    assert len(source.left_out) == len(bad)


@pytest.mark.promise("S3", "links, devices, twins")
def test_links_devices_and_twins_in_a_tar(tmp_path: Path) -> None:
    data = encoded(photo(0))
    kinds = {
        "sym.jpg": tarfile.SYMTYPE, "hard.jpg": tarfile.LNKTYPE, "fifo.jpg": tarfile.FIFOTYPE,
        "char.jpg": tarfile.CHRTYPE, "block.jpg": tarfile.BLKTYPE,
    }  # fmt: skip
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as packed:
        for name in ("good.jpg", "good.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            packed.addfile(info)
    source = open_source(path)
    assert source.names == ["good.jpg"]
    assert {line["file"] for line in source.left_out} == {"good.jpg", *kinds}
    assert np.asarray(source.read(0)).shape == (40, 60, 3)


@pytest.mark.promise("S3", "a link in a zip")
def test_a_link_in_a_zip_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("good.jpg", encoded(photo(0)))
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = 0o120777 << 16
        packed.writestr(info, "/etc/passwd")
    assert open_source(tmp_path / "a.zip").left_out == [{"file": "link.jpg", "reason": "is not a plain file"}]


@pytest.mark.promise("S3", "bombs")
def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(photo(0))
    zipped = open_source(pack(tmp_path / "a.zip", {"good.jpg": good, "bomb.bmp": b"\0" * (30 << 20)}, "zip"))
    assert zipped.names == ["good.jpg"]
    assert "grows more" in zipped.left_out[0]["reason"]
    monkeypatch.setattr(archive, "MAX_MEMBER", 1 << 20)
    large = open_source(pack(tmp_path / "b.tar", {"good.jpg": good, "large.bmp": b"\0" * (2 << 20)}, "tar"))
    assert large.names == ["good.jpg"]
    assert "at most" in large.left_out[0]["reason"]
    monkeypatch.setattr(archive, "_SLACK", 1 << 20)
    path = pack(tmp_path / "c.tar.gz", {"large.bmp": b"\0" * (30 << 20), "good.jpg": good}, "tar.gz")
    with pytest.raises(InputError, match="grows more than 200 times"):
        open_source(path)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(InputError, match="more than 3 images"):
        open_source(pack(tmp_path / "d.tar", {f"{i}.jpg": good for i in range(5)}, "tar"))


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    info.size = 4 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 2048)
    with pytest.raises(InputError, match="claims"):
        open_source(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", KINDS)
def test_cut_archives_are_errors_and_not_half_a_set(kind: str, tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole", pets(), kind).read_bytes()
    for share in (0.5, 0.8, 0.95):
        if kind == "tar" and share == 0.95:
            continue  # only the padding of zeros is lost
        (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=r"damaged|not a kind"):
            open_source(tmp_path / "cut")


def test_a_damaged_header_in_the_middle_is_noticed(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", pets(), "tar")
    data = bytearray(path.read_bytes())
    at = data.index(b"pets/train/dog/1.jpg")
    data[at + 148 : at + 156] = b"99999999"
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        open_source(path)


def test_one_damaged_member_costs_one_item(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for i in range(3):
            packed.writestr(f"{i}.bmp", encoded(photo(i), "BMP"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    items = dict(open_source(path).stream())
    assert sum(isinstance(item, Exception) for item in items.values()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_images_in_an_archive(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 0 images"):
        open_source(pack(tmp_path / "a", {"x.txt": b"x"}, kind))


@pytest.mark.promise("S3", "mutated archives")
def test_mutated_archives_end_in_an_answer(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "x"
    for kind in KINDS:
        whole = pack(tmp_path / "whole", pets(), kind).read_bytes()
        for _ in range(30):
            data = bytearray(whole)
            for at in generator.integers(0, len(data), 5):
                data[at] ^= 1 << int(generator.integers(8))
            path.write_bytes(data)
            try:
                source = open_source(path)
            except InputError:
                continue
            assert len(list(source.stream())) == len(source)


def test_a_tar_in_several_gzip_members_is_read_whole(tmp_path: Path) -> None:
    """As pigz --independent and block-wise writers make them."""
    plain = pack(tmp_path / "a.tar", pets(), "tar").read_bytes()
    cuts = [*range(0, len(plain), 3000), len(plain)]
    (tmp_path / "a.tar.gz").write_bytes(b"".join(gzip.compress(plain[a:b]) for a, b in itertools.pairwise(cuts)))
    source = open_source(tmp_path / "a.tar.gz")
    assert source.names == sorted(pets())
    assert {source.names[at]: raw for at, raw in source.raw()} == pets()


def test_gzip_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(InputError, match="not a kind of data"):
        open_source(tmp_path / "a.gz")


def test_of_members_of_one_name_the_first_is_read_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "twice.zip"
    first, other = encoded(photo(0)), encoded(photo(1))
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.jpg", first)
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("a.jpg", other)
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for data in (first, other):
            info = tarfile.TarInfo("a.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for one in (path, tmp_path / "twice.tar"):
        source = open_source(one)
        assert [raw for _, raw in source.raw()] == [first]
        assert source.left_out == [{"file": "a.jpg", "reason": "is there twice: the first one is read"}]
    monkeypatch.setattr(archive, "MAX_RATIO", 10)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jpg", first)
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("a.jpg", bytes(3 << 20))
    assert [raw for _, raw in open_source(bomb).raw()] == [first]
