"""Every format and mode comes out upright, in the channels asked for, and damaged ones as errors."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_files import encoded, photo

from withheld.data.decode import MAX_PIXELS, Look, as_hwc, decode, look
from withheld.data.image import to_array
from withheld.data.scale import Scale

PICTURE = photo(3)
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))

KINDS = [
    ("jpg", "JPEG", "RGB"), ("grey.jpg", "JPEG", "L"), ("cmyk.jpg", "JPEG", "CMYK"), ("png", "PNG", "RGB"),
    ("grey.png", "PNG", "L"), ("bit.png", "PNG", "1"), ("rgba.png", "PNG", "RGBA"), ("la.png", "PNG", "LA"),
    ("palette.png", "PNG", "P"), ("webp", "WEBP", "RGB"), ("rgba.webp", "WEBP", "RGBA"), ("bmp", "BMP", "RGB"),
    ("grey.bmp", "BMP", "L"), ("tiff", "TIFF", "RGB"), ("cmyk.tiff", "TIFF", "CMYK"), ("lab.tiff", "TIFF", "LAB"),
    ("grey.tiff", "TIFF", "L"), ("gif", "GIF", "P"), ("grey.gif", "GIF", "L"), ("ppm", "PPM", "RGB"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "form", "mode"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_kind_of_file_gives_the_picture(name: str, form: str, mode: str, tmp_path: Path) -> None:
    data = encoded(PICTURE, form, mode, **({"quality": 95} if form in ("JPEG", "WEBP") else {}))
    path = tmp_path / f"x.{name}"
    path.write_bytes(data)
    wanted = to_array(Image.fromarray(PICTURE), 16, 3).astype(int)
    grey = to_array(Image.fromarray(PICTURE), 16, 1).astype(int)
    for raw in (data, path):
        color = to_array(decode(raw), 16, 3)
        assert color.shape == (3, 16, 16)
        assert color.dtype == np.uint8
        near = grey if mode in ("1", "L", "LA") else wanted
        assert np.abs(color.astype(int) - near).mean() < (30 if mode == "1" else 12)
        assert np.abs(to_array(decode(raw), 16, 1).astype(int) - grey).mean() < (30 if mode == "1" else 8)
    assert look(path)[:2] == (40, 60)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation: int) -> None:
    upright = Image.fromarray(photo(1, 24, 48))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    lying = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    lying.save(stream, "PNG", exif=exif)
    image = decode(stream.getvalue())
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), np.asarray(upright))
    assert look(stream.getvalue())[:2] == (24, 48)


def test_transparent_pixels_are_white() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (to_array(decode(encoded(clear, "PNG")), 8, 3) == 255).all()
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=0)
    assert (to_array(decode(stream.getvalue()), 8, 1) == 255).all()


def test_16_bit_and_float_images_use_one_scale_for_all() -> None:
    dark, light = (np.full((6, 6), value, np.uint16) for value in (1000, 3000))
    scale = Scale((0.0,), (4000.0,))
    for array, value in ((dark, 64), (light, 191)):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "PNG")
        assert (to_array(decode(stream.getvalue()), 6, 1, scale) == value).all()
        assert (to_array(decode(stream.getvalue()), 6, 3)[0] == round(int(array[0, 0]) * 255 / 65535)).all()
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 6), 0.5, np.float32)).save(stream, "TIFF")
    assert (to_array(decode(stream.getvalue()), 6, 1) == 128).all()


@pytest.mark.parametrize("shape", [(5, 20, 30), (20, 30, 5), (20, 30)])
def test_npy_items_in_any_order_of_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    np.save(tmp_path / "x.npy", array)
    item = decode(tmp_path / "x.npy")
    assert isinstance(item, np.ndarray)
    assert item.shape == (20, 30, 5 if len(shape) == 3 else 1)
    assert np.array_equal(item, decode((tmp_path / "x.npy").read_bytes()))
    assert to_array(item, 8, item.shape[2]).shape == (item.shape[2], 8, 8)


@pytest.mark.parametrize("layout", ["contiguous", "planes", "stack", "ImageJ", "OME", "16 bit color"])
def test_multi_channel_tiff(layout: str, tmp_path: Path) -> None:
    import tifffile

    data = np.random.default_rng(0).integers(0, 255, (5, 20, 30)).astype(np.uint16)
    path = tmp_path / "x.tif"
    if layout == "contiguous":
        tifffile.imwrite(path, data.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    elif layout == "planes":
        tifffile.imwrite(path, data, photometric="minisblack", planarconfig="separate")
    elif layout == "stack":
        tifffile.imwrite(path, data, photometric="minisblack")
    elif layout == "ImageJ":
        tifffile.imwrite(path, data, imagej=True, metadata={"axes": "CYX"})
    elif layout == "OME":
        tifffile.imwrite(path, data, ome=True, metadata={"axes": "CYX"}, photometric="minisblack")
    else:
        data = data[:3]
        tifffile.imwrite(path, data.transpose(1, 2, 0), photometric="rgb")
    item = decode(path)
    assert isinstance(item, np.ndarray)
    assert np.array_equal(item, data.transpose(1, 2, 0))


def test_of_a_time_series_the_first_picture_is_taken(tmp_path: Path) -> None:
    import tifffile

    data = np.random.default_rng(0).integers(0, 255, (4, 2, 20, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", data, imagej=True, metadata={"axes": "TCYX"})
    item = decode(tmp_path / "x.tif")
    assert np.array_equal(np.asarray(item), data[0].transpose(1, 2, 0))


def test_jpeg_is_decoded_at_a_smaller_scale_with_nearly_the_same_result() -> None:
    data = encoded(photo(2, 400, 600), quality=95)
    small = decode(data, near=50)
    assert isinstance(small, Image.Image)
    assert small.size == (75, 50)
    assert np.abs(to_array(small, 32, 3).astype(int) - to_array(decode(data), 32, 3)).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK", "P"])
def test_very_large_images_come_out_as_others_do(mode: str) -> None:
    large = Image.fromarray(photo(5, 600, 900)).convert(mode)
    plain = large.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(to_array(large, 16, 3).transpose(1, 2, 0).astype(int) - np.asarray(plain)).max() <= 3


def test_of_moving_pictures_the_first_is_taken() -> None:
    first, second = Image.fromarray(photo(0)), Image.fromarray(photo(1))
    for form in ("GIF", "PNG", "WEBP", "MPO"):
        stream = io.BytesIO()
        first.copy().save(stream, form, save_all=True, append_images=[second] * 3)
        array = to_array(decode(stream.getvalue(), 16), 16, 3)
        assert np.abs(array.astype(int) - to_array(first, 16, 3)).mean() < 8


@pytest.mark.promise("R6", "cut files")
def test_cut_files_are_errors_and_never_half_grey_pictures() -> None:
    data = encoded(photo(0, 200, 300), quality=95)
    for share in (0.0, 0.01, 0.3, 0.9):
        with pytest.raises(Exception):  # noqa: B017, PT011  any kind
            decode(data[: int(len(data) * share)])


def _png_of(width: int, height: int) -> bytes:
    """A tiny file that claims a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 20_000), (60_000, 60_000), (MAX_PIXELS + 1, 1), (8001, 8001)])
@pytest.mark.promise("R7", "images that claim too many pixels")
def test_bombs_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match="pixels"):
            decode(_png_of(*size))
        with pytest.raises(Exception, match="pixels"):
            look(_png_of(*size))


@pytest.mark.promise("S1", "pickles in arrays")
def test_pickles_and_lies_in_npy_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**3)})
    (tmp_path / "lie.npy").write_bytes(stream.getvalue())
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (100, 100)})
    (tmp_path / "short.npy").write_bytes(stream.getvalue())
    for name in ("x", "lie", "short"):
        path = tmp_path / f"{name}.npy"
        for raw in (path, path.read_bytes()):
            with pytest.raises(ValueError, match=r"."):
                decode(raw)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (80, 80, 65), (2, 3, 4, 5), (9000, 9000)])
def test_arrays_that_are_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape|channels|pixels"):
        as_hwc(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="numbers"):
        as_hwc(np.zeros((4, 4), complex))


def test_other_formats_and_texts_are_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "ICO")
    for data in (stream.getvalue(), b"", b"<svg/>", b"%PDF-1.7", b"hello", b"\x93NUMPY", b"II*\0", b"MM\0+\0\0"):
        with pytest.raises(Exception):  # noqa: B017, PT011  any kind
            decode(data)
        with pytest.raises(Exception):  # noqa: B017, PT011  any kind
            look(data)


def test_look_tells_channels_and_format() -> None:
    assert look(encoded(GREY, "PNG")) == Look(40, 60, 1, "PNG L")
    assert look(encoded(PICTURE)) == Look(40, 60, 3, "JPEG RGB")
    assert look(np.zeros((5, 20, 30), np.float32)) == Look(20, 30, 5, "array float32")


def _mutants(count: int) -> list[bytes]:
    """Truncated, flipped, spliced and headless files of eight formats."""
    generator = np.random.default_rng(0)
    forms = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
    whole = [encoded(PICTURE, form) for form in forms]
    stream = io.BytesIO()
    np.save(stream, GREY)
    whole.append(stream.getvalue())
    mutants = []
    for i in range(count):
        data = bytearray(whole[i % len(whole)])
        kind = generator.integers(4)
        if kind == 0:
            data = data[: generator.integers(len(data))]
        elif kind == 1:
            for at in generator.integers(0, len(data), 10):
                data[at] ^= 1 << int(generator.integers(8))
        elif kind == 2:
            data[:16] = generator.bytes(16)
        else:
            cut = int(generator.integers(len(data)))
            data = data[:cut] + whole[(i + 1) % len(whole)][cut:]
        mutants.append(bytes(data))
    return mutants


def test_mutated_files_give_a_picture_or_an_error_and_never_end_the_program() -> None:
    good = bad = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in _mutants(600):
            try:
                array = to_array(decode(data, 16), 16, 3)
            except Exception:
                bad += 1
            else:
                good += 1
                assert array.shape == (3, 16, 16)
                assert array.dtype == np.uint8
    assert good > 30
    assert bad > 200
