"""Which items to label first: against naive versions, and on digits with known doubles."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from withheld.data.clip import Clip
from withheld.errors import InputError
from withheld.evaluate.choose import WAYS, _clusters, _radius, covering, typical, unit_features
from withheld.evaluate.labelled import open_labelled
from withheld.evaluate.pool import _equal_texts, twins_of_clips
from withheld.evaluate.search import _doubles, search
from withheld.evaluate.suggest import suggest, write_labels_csv
from withheld.evaluate.thumbnails import shown

NONE = np.zeros(0, np.int64)


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """60, 40 and 20 items around three directions, shuffled, and which is which."""
    random = np.random.default_rng(0)
    kind = random.permutation(np.repeat([0, 1, 2], [60, 40, 20]))
    x = np.eye(8)[kind] * 4 + random.normal(size=(120, 8)) * 0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), kind


def test_typical_takes_the_densest_of_each_cluster_the_largest_first(blobs: tuple) -> None:
    x, kind = blobs
    found = typical(x, 3, NONE)
    assert kind[found].tolist() == [0, 1, 2]
    for k, place in enumerate(found):  # the paper's formula, item by item
        own = np.flatnonzero(kind == k)
        distance = [np.sort([np.linalg.norm(x[i] - x[j]) for j in own if j != i])[:20].mean() for i in own]
        assert place == own[int(np.argmin(distance))] or len(own) == 20  # of 20 items 19 are near


def test_clusters_that_have_a_label_come_last(blobs: tuple) -> None:
    x, kind = blobs
    known = np.flatnonzero(kind == 0)[:1]
    found = typical(x, 2, known)
    assert kind[found].tolist() == [1, 2]
    assert not np.isin(found, known).any()


def test_covering_is_the_greedy_algorithm(blobs: tuple) -> None:
    x, kind = blobs
    known = np.flatnonzero(kind == 2)[:1]
    radius = _radius(x, 0)
    balls = [{j for j in range(len(x)) if i == j or np.linalg.norm(x[i] - x[j]) < radius} for i in range(len(x))]
    covered, free, naive = set(balls[known[0]]), set(range(len(x))) - set(known.tolist()), []
    for _ in range(6):
        best = max(sorted(free), key=lambda i: len(balls[i] - covered))
        naive.append(best)
        free.remove(best)
        covered |= balls[best]
    assert covering(x, 6, known).tolist() == naive


@pytest.mark.parametrize("how", WAYS)
def test_every_way_gives_as_many_different_items_as_asked_and_no_more_than_there_are(blobs: tuple, how: str) -> None:
    x, _ = blobs
    known = np.arange(5)
    for n, wanted in ((1, 1), (30, 30), (500, 115)):
        found = WAYS[how](x, n, known, 0)
        assert len(set(found.tolist())) == len(found) == wanted
        assert not np.isin(found, known).any()
        assert found.tolist() == WAYS[how](x, n, known, 0).tolist()


def test_more_labels_than_clusters_are_made(blobs: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("withheld.evaluate.choose.MOST_CLUSTERS", 4)
    assert len(set(typical(blobs[0], 50, NONE).tolist())) == 50


def test_equal_features_are_no_error() -> None:
    same = unit_features(np.ones((12, 4), np.float32))
    assert np.isfinite(same).all()
    assert len(typical(same, 3, NONE)) == 3
    assert _clusters(np.eye(3, dtype=np.float32), 3, 0).max() == 2


@pytest.fixture
def folder(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """60 digits, and ten times the first one again."""
    out = tmp_path / "photos"
    out.mkdir()
    for at in range(70):
        Image.fromarray(digits[0][max(at - 9, 0)].repeat(2, 0).repeat(2, 1)).save(out / f"={at}<b>.png")
    return out


def test_doubles_are_suggested_once_and_not_beside_a_labelled_one(tiny, folder: Path, tmp_path: Path) -> None:
    found = suggest(tiny, folder, 60, how="random")
    assert found.doubles >= 9
    first = [f"={at}<b>.png" for at in range(10)]
    assert len(set(found.names) & set(first)) == 1
    labels = tmp_path / "have.csv"
    labels.write_text(f"file,label\n{first[3]},zero\n{first[4]},\n")
    more = suggest(tiny, folder, 70, labels=labels)
    assert not set(more.names) & set(first)
    assert more.known == {first[3]: "zero"}
    assert any("only" in note for note in more.notes)


def test_the_csv_is_what_evaluate_takes(tiny, folder: Path, tmp_path: Path) -> None:
    found = suggest(tiny, folder, 20)
    path = write_labels_csv(tmp_path / "labels.csv", found)
    rows = path.read_text().splitlines()
    assert len(rows) == 21
    assert all(row.endswith(",") for row in rows[1:])
    filled = [rows[0], *(f"{row}{'even' if i % 2 else 'odd'}" for i, row in enumerate(rows[1:13])), *rows[13:]]
    path.write_text("\n".join(filled))
    labelled = open_labelled(folder, path, [1, 2], 2)
    assert labelled.classes == ["even", "odd"]
    assert sum(name in found.names for name in labelled.source.names) >= 6
    more = suggest(tiny, folder, 5, labels=path)
    assert len(more.known) == 12
    assert not set(more.names) & set(more.known)


def test_the_test_part_is_not_suggested(tiny, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    for at in range(30):
        part = tmp_path / ("test" if at < 10 else "train")
        part.mkdir(exist_ok=True)
        Image.fromarray(digits[0][at]).save(part / f"{at}.png")
    found = suggest(tiny, tmp_path, 30)
    assert len(found.names) == 20
    assert all(name.startswith("train/") for name in found.names)
    assert any("test part" in note for note in found.notes)


def test_a_sample_says_so_and_keeps_what_is_labelled(tiny, folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "have.csv"
    labels.write_text("file,label\n=69<b>.png,nine\n")
    found = suggest(tiny, folder, 5, labels=labels, most=12)
    assert any("12 of 70" in note for note in found.notes)
    assert found.known == {"=69<b>.png": "nine"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"n": 0}, "at least 1"), ({"how": "typicl"}, "typical"), ({"labels": "no.csv"}, "no labels file")],
)
def test_bad_settings_say_what_is_wrong(tiny, folder: Path, asked: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        suggest(tiny, folder, **asked)


def test_nothing_is_left_where_all_have_a_label(tiny, folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "all.csv"
    labels.write_text("file,label\n" + "".join(f"{path.name},{i % 2}\n" for i, path in enumerate(folder.iterdir())))
    with pytest.raises(InputError, match=r"all 70 items of .* have a label in .*all\.csv already"):
        suggest(tiny, folder, 5, labels=labels)
    for path in folder.iterdir():  # all but two copies of what has one
        if path.name not in ("=0<b>.png", "=1<b>.png", "=2<b>.png"):
            path.unlink()
    labels.write_text("file,label\n=0<b>.png,a\n=99.png,b\n")
    heard: list[dict] = []
    with pytest.raises(InputError, match=r"nearly equals what .*nothing is left to suggest"):
        suggest(tiny, folder, 5, labels=labels, listen=heard.append)
    assert any("1 of 2 rows of all.csv names nothing in the data" in event.get("text", "") for event in heard)


def test_search_by_name_and_by_file(tiny, folder: Path, tmp_path: Path) -> None:
    by_name = search(tiny, "=20<b>.png", folder, n=5)
    assert "=20<b>.png" not in by_name.names
    assert by_name.similarity == sorted(by_name.similarity, reverse=True)
    (tmp_path / "query.png").write_bytes((folder / "=20<b>.png").read_bytes())
    by_file = search(tiny, tmp_path / "query.png", folder, n=5)
    assert by_file.names[0] == "=20<b>.png"
    assert by_file.similarity[0] == pytest.approx(1, abs=1e-4)
    assert by_file.doubles[0]
    assert by_file.picture.startswith(b"\x89PNG")
    assert search(tiny, folder / "=20<b>.png", folder, n=5).names == by_name.names, "a file of the data is its item"
    with pytest.raises(InputError, match=r"neither a file nor the name.*did you mean '=\d+<b>\.png'"):
        search(tiny, "=99<b>.png", folder)


def test_sheets_show_images_as_they_are_and_not_as_the_encoder_takes_them(tiny, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (150, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    Image.fromarray(pixels[:20, :20]).save(tmp_path / "photos" / "small.png")
    found = suggest(tiny, tmp_path / "photos", 5)
    near = search(tiny, tmp_path / "photos" / "0.png", tmp_path / "photos", n=4)
    (tmp_path / "asked.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes())
    other = search(tiny, tmp_path / "asked.png", tmp_path / "photos", n=4)
    assert near.sheet[0].said == other.sheet[0].said == "query"
    for one in (*found.sheet, *near.sheet, *other.sheet):
        wanted = (100, 100) if one.name == "small.png" else (128, 64)
        assert Image.open(io.BytesIO(one.picture)).size == wanted, one.name


def test_numbers_of_few_items_are_said_to_mean_little(tiny, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for at, path in enumerate(sorted(folder.glob("*.png"))[:3]):
        Image.open(path).save(tmp_path / "few" / f"{at}.png")
    assert any("the numbers mean little" in note for note in search(tiny, "0.png", tmp_path / "few").notes)
    assert not any("mean little" in note for note in search(tiny, "=20<b>.png", folder).notes)


def test_a_clip_is_shown_as_three_of_its_frames() -> None:
    shades = np.arange(0, 200, 20, dtype=np.uint8)
    clip = Clip(np.broadcast_to(shades[:, None, None, None], (10, 3, 32, 32)).copy(), 25.0, "")
    one = shown("a", "1", clip)
    pixels = np.asarray(Image.open(io.BytesIO(one.picture)).convert("RGB"))
    assert one.wide
    assert pixels.shape[:2] == (96, 3 * 96 + 2 * 4)
    assert pixels[40, [40, 148, 280], 0].tolist() == [20, 100, 180]


TEXTS = [
    f"{kind} {what} number {at}"
    for at in range(6)
    for kind, what in (("a good", "film"), ("a dull", "book"), ("the old", "song"))
]


@pytest.fixture(scope="module")
def reader():
    """An untrained encoder of texts."""
    from withheld.data.tokenizer import train_tokenizer
    from withheld.networks.text_open import open_text_trunk
    from withheld.text_encoder import TextEncoder

    tokenizer = train_tokenizer("wordpiece", TEXTS * 9, 400, True, 32)
    trunk, _ = open_text_trunk("bert-tiny", vocabulary=len(tokenizer), length=32, seed=0)
    return TextEncoder(trunk, tokenizer, "reader").eval()


def test_texts_are_suggested_with_their_first_words_and_searched_by_a_text(reader, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join([*TEXTS, "A good film: number 0!"]) + "\n")
    found = suggest(reader, tmp_path / "texts.csv", 19)
    assert found.doubles == 1
    assert len(found.names) == 18
    assert any("opinions" in note and "--how random" in note for note in found.notes), "typical texts tell subjects"
    assert not any("opinions" in note for note in suggest(reader, tmp_path / "texts.csv", 9, how="random").notes)
    rows = write_labels_csv(tmp_path / "labels.csv", found).read_text().splitlines()
    assert rows[0] == "file,label,words"
    assert "a dull book number 3" in rows[1 + found.texts.index("a dull book number 3")]
    filled = [rows[0], *(row.replace(",,", ",yes," if i % 2 else ",no,") for i, row in enumerate(rows[1:9])), *rows[9:]]
    (tmp_path / "labels.csv").write_text("\n".join(filled))
    from withheld.evaluate.judged import JudgedTexts

    labelled = open_labelled(tmp_path / "texts.csv", str(tmp_path / "labels.csv"), [1], 1, JudgedTexts.open)
    source, heard = JudgedTexts.open(tmp_path / "texts.csv"), []
    source.told = "which column is taken"
    kind = JudgedTexts(reader)
    for _ in range(2):
        kind.decode(source, heard.append)
    assert [each["text"] for each in heard] == ["which column is taken"]
    assert labelled.classes == ["no", "yes"]
    near = search(reader, "the old song number 2", tmp_path / "texts.csv", n=3)
    assert near.texts[0] == "the old song number 2"
    assert near.doubles[0]
    assert (near.sheet[0].said, near.sheet[0].text, near.sheet[0].name) == ("query", "the old song number 2", "")
    assert len(search(reader, "a good film " * 50, tmp_path / "texts.csv", n=3).query) < 70, "a title, not a page"
    assert near.query == '"the old song number 2"', "what was typed is told from a name"
    assert near.similarity[0] == pytest.approx(1, abs=1e-3)
    with pytest.raises(InputError, match="empty"):
        search(reader, " ", tmp_path / "texts.csv")


def test_texts_of_signs_alone_are_no_doubles_of_each_other() -> None:
    texts = ["\U0001f600", "\U0001f621 ", "!!!", "A good film.", "\U0001f621", "a GOOD film"]
    assert _equal_texts(texts).tolist() == [[1, 4], [3, 5]]
    assert _doubles(["!!!", *texts]) == [False, False, True, False, True, True]


def test_no_more_are_chosen_than_there_are(tiny, folder: Path) -> None:
    heard: list[dict] = []
    suggest(tiny, folder, 1000, listen=heard.append)
    count = len(list(folder.rglob("*.png")))
    assert [event["text"] for event in heard if event["kind"] == "note"] == [f"choosing {count} of {count} items"]


def test_clips_of_a_fixed_camera_are_no_doubles_where_they_differ_at_another_moment() -> None:
    """The same pedestrian in the middle, another one at the end."""
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (1, 3, 48, 48), dtype=np.uint8), 10, axis=0)
    other = still.copy()
    other[8:, :, 8:40, 8:40] = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    clips = [SimpleNamespace(frames=frames) for frames in (still, other, still.copy())]
    assert twins_of_clips(clips).tolist() == [[0, 2]]
    assert _doubles(clips) == [False, True]
