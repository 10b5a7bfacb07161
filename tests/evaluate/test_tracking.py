"""Following masks: measures against their definitions, pointing against a naive loop, and the road."""

import json
import tracemalloc

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.morphology import disk as round_element

from withheld.cli import main
from withheld.data.davis import open_davis, read_mask
from withheld.data.tokenizer import train_tokenizer
from withheld.errors import InputError
from withheld.evaluate.tracking.davis import IDENTITY, UNTRAINED, evaluate_davis, follow, sentence
from withheld.evaluate.tracking.features import at_grid, places
from withheld.evaluate.tracking.measures import Followed, boundary, followed, outline, region
from withheld.evaluate.tracking.pictures import draw_tracked
from withheld.evaluate.tracking.propagate import Pointer, disk, full_size, on_grid, point, propagate
from withheld.evaluate.tracking.track import frames_of, track
from withheld.networks.text_open import open_text_trunk
from withheld.networks.video import open_video_trunk
from withheld.report import write
from withheld.text_encoder import TextEncoder
from withheld.video_encoder import VideoEncoder


def blobs(seed, height=90, width=120):
    return gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 5) > 0.02


class TestMeasures:
    def test_region_by_hand(self):
        a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
        a[:2], b[1:3] = True, True
        assert region(a, b) == pytest.approx(4 / 12)
        assert region(a, a) == 1
        assert region(~a & a, ~a & a) == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_boundary_is_the_benchmarks_with_its_dilation(self, seed):
        found, true = blobs(seed), blobs(seed + 50)
        reach = round_element(int(np.ceil(0.008 * np.hypot(*true.shape))))
        f, t = outline(found), outline(true)
        precision = (f & binary_dilation(t, reach)).sum() / f.sum()
        recall = (t & binary_dilation(f, reach)).sum() / t.sum()
        assert boundary(found, true) == pytest.approx(2 * precision * recall / (precision + recall))

    def test_boundary_of_hand_made_masks(self):
        square = np.zeros((200, 200), bool)
        square[50:150, 50:150] = True
        near, far = np.roll(square, 2, axis=1), np.roll(square, 30, axis=1)
        assert boundary(square, square) == 1
        assert boundary(near, square) == 1  # within 0.8 % of the diagonal, 2.3 pixels
        assert boundary(far, square) < 0.75
        assert boundary(np.zeros_like(square), square) == 0

    def test_summary_by_the_definition(self):
        true = np.repeat(blobs(1)[None], 12, axis=0)
        found = true.copy()
        found[8:] = False
        got = followed(found, true)  # frames 1 to 10 count; 1 to 7 are right
        assert got.j_mean == pytest.approx(0.7)
        assert got.j_recall == pytest.approx(0.7)
        quarters = np.round(np.linspace(1, 10, 5) + 1e-10).astype(int) - 1
        values = np.array([1.0] * 7 + [0.0] * 3)
        assert got.j_decay == pytest.approx(values[: quarters[1] + 1].mean() - values[quarters[3] :].mean())


class TestPropagate:
    def test_pointing_is_a_naive_loop(self):
        torch.manual_seed(0)
        h, w, D, K, M = 4, 5, 6, 3, 2
        query = torch.nn.functional.normalize(torch.randn(h * w, D), dim=1)
        keys = torch.nn.functional.normalize(torch.randn(M, h * w, D), dim=2)
        labels = torch.rand(M, h * w, K)
        pointer = Pointer(near=3, radius=1.5, temperature=0.2)
        got = point(query, keys, labels, disk(h, w, pointer.radius), pointer)
        for i in range(h * w):
            scores = []
            for m in range(M):
                for j in range(h * w):
                    if (i // w - j // w) ** 2 + (i % w - j % w) ** 2 <= pointer.radius**2:
                        scores.append((float(query[i] @ keys[m, j]) / pointer.temperature, m, j))
            best = sorted(scores, reverse=True)[: pointer.near]
            weights = np.exp([s for s, _, _ in best])
            expected = (
                sum(weight * labels[m, j] for weight, (_, m, j) in zip(weights, best, strict=True)) / weights.sum()
            )
            torch.testing.assert_close(got[i], expected.float(), rtol=1e-4, atol=1e-5)

    def test_features_that_move_carry_the_mask_along(self):
        torch.manual_seed(0)
        texture = torch.randn(16, 12, 30)
        frames = [texture[:, :, 10 - t : 22 - t] for t in range(5)]  # all moves to the right
        ids = torch.zeros(12, 12)
        ids[3:7, 2:5] = 1
        masks = propagate(frames, on_grid(ids, 1, 12, 12), Pointer(near=1, radius=3))
        found = full_size(masks[-1], 12, 12)
        assert torch.equal(found[:, 4:], ids.roll(4, dims=1).long()[:, 4:])  # the rest came in at the edge

    def test_shares_of_cells(self):
        ids = torch.zeros(8, 8)
        ids[:, :2] = 1
        shares = on_grid(ids, 2, 2, 2)
        assert shares[1].tolist() == [[0.5, 0.0], [0.5, 0.0]]
        assert torch.equal(shares.sum(dim=0), torch.ones(2, 2))


def sequence(root, name="ball", frames=6, height=36, width=48, seed=0):
    """A bright textured disk that moves over a dark ground."""
    images, masks = root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    ground = np.random.default_rng(seed).integers(0, 90, (height, width, 3))
    rows, columns = np.indices((height, width))
    for t in range(frames):
        ball = (rows - 16) ** 2 + (columns - 12 - 3 * t) ** 2 < 64
        picture = np.where(ball[..., None], [230, 60 + 10 * (t % 2), 40], ground).astype(np.uint8)
        Image.fromarray(picture).save(images / f"{t:05d}.png")
        Image.fromarray((ball * 255).astype(np.uint8)).save(masks / f"{t:05d}.png")
    return root


def encoder(size=16):
    trunk, _ = open_video_trunk("resnet-dense", size=size, frames=2)
    return VideoEncoder(trunk, [0.2] * 3, [0.3] * 3).eval()


class TestDavis:
    def test_layout_is_read(self, tmp_path):
        found, notes = open_davis(sequence(tmp_path))
        assert [s.name for s in found] == ["ball"]
        assert notes == []
        ids, values = found[0].ids()
        assert ids.shape == (6, 36, 48)
        assert values == [255]
        assert found[0].images(20).shape == (6, 20, 20, 3)

    def test_what_is_wrong_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no folder JPEGImages"):
            open_davis(tmp_path)
        root = sequence(tmp_path)
        first = root / "Annotations" / "480p" / "ball" / "00000.png"
        Image.new("L", (48, 36)).save(first)
        with pytest.raises(InputError, match="marks nothing"):
            open_davis(root)[0][0].ids()
        Image.new("L", (20, 20), 255).save(first)
        with pytest.raises(InputError, match=r"00001\.png: the mask has \(36, 48\)"):
            open_davis(root)[0][0].ids()
        first.write_bytes(b"no picture")
        with pytest.raises(InputError, match="cannot be read"):
            read_mask(first)
        first.unlink()
        with pytest.raises(InputError, match="no mask of its first frame"):
            open_davis(root)

    def test_several_objects(self, tmp_path):
        picture = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8), mode="L")
        picture = picture.convert("P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        picture.putdata([0, 1, 2, 2])
        picture.save(tmp_path / "m.png")
        assert read_mask(tmp_path / "m.png").tolist() == [[0, 1], [2, 2]]

    def test_rows_are_measured_and_written(self, tmp_path):
        root = sequence(sequence(tmp_path / "d"), "other", seed=3)
        found = evaluate_davis(encoder(), root, results=tmp_path / "results.jsonl")
        assert {"pretrained", IDENTITY, UNTRAINED} <= set(found.rows)
        assert found.mean("pretrained") > found.mean(IDENTITY)
        assert "J&F" in found.sentence
        lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
        assert len(lines) == len(found.rows) + 2
        table = next(line for line in lines if line["kind"] == "measured")
        assert [row[0] for row in table["rows"]] == list(found.rows)
        assert all(len(row) == len(table["columns"]) + 1 for row in table["rows"])
        draw_tracked(found, root, tmp_path)
        write(tmp_path)
        page = (tmp_path / "report.html").read_text()
        assert "Masks followed, moving" in page
        assert "Following masks, %" in page
        assert sorted(path.name for path in (tmp_path / "tracked").iterdir()) == [
            f"{name}.mp4" for name in sorted(found.masks)
        ]
        assert len(list(frames_of(tmp_path / "tracked" / "other.mp4"))) == len(found.masks["other"])

    def test_a_sequence_that_does_not_fit_is_left_out_and_said(self, tmp_path):
        root = sequence(sequence(tmp_path / "d"), "other", seed=3)
        bad = root / "Annotations" / "480p" / "other" / "00002.png"
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(bad)
        found = evaluate_davis(encoder(), root)
        assert list(found.rows["pretrained"]) == ["ball"]
        assert any("other was left out" in note and str(bad) in note for note in found.notes)
        for name in ("ball", "other"):
            first = root / "Annotations" / "480p" / name / "00000.png"
            Image.fromarray(np.zeros((36, 48), np.uint8)).save(first)
        with pytest.raises(InputError, match="no sequence can be followed"):
            evaluate_davis(encoder(), root)

    def test_a_sequence_with_a_first_mask_only_is_left_out_and_said(self, tmp_path):
        """As in the test sets of DAVIS 2017, whose other masks are not published."""
        root = sequence(sequence(tmp_path / "d"), "other", seed=3)
        for path in sorted((root / "Annotations" / "480p" / "other").iterdir())[1:]:
            path.unlink()
        found = evaluate_davis(encoder(), root, results=tmp_path / "results.jsonl")
        assert list(found.rows["pretrained"]) == ["ball"]
        assert any("other was left out: no frame but the first" in note for note in found.notes)
        assert "NaN" not in (tmp_path / "results.jsonl").read_text()

    def test_the_sentence_is_sure_only_where_the_intervals_are(self):
        def rows(better):
            at = lambda value: Followed(value, 0, 0, value, 0, 0)  # noqa: E731
            names = [f"clip {i}" for i in range(len(better))]
            plain = {name: at(0.3) for name in names}
            return {
                "pretrained": {n: at(0.3 + b) for n, b in zip(names, better, strict=True)},
                IDENTITY: plain,
                UNTRAINED: plain,
            }

        assert sentence(rows([0.1, 0.12, 0.11])).startswith("Pretraining helps")
        assert sentence(rows([0.5, -0.3, 0.1])).startswith("Pretraining may help")
        assert sentence(rows([-0.1, -0.2, 0.1])).startswith("Pretraining does not help")
        few = sentence(rows([-0.4, 0.1]))  # two sequences: an interval of ± 318 points would be none
        assert few.startswith("So few sequences do not decide")
        assert "95 % CI" not in few

    def test_any_encoder_has_places(self):
        frames = np.zeros((3, 32, 32, 3), np.uint8)
        copy, side = at_grid(encoder(), cells=8)
        assert side == 64
        assert places(copy, np.zeros((2, 64, 64, 3), np.uint8))[0].shape[1:] == (8, 8)
        trunk, _ = open_video_trunk("videomae-nano", size=32, frames=4)
        copy, side = at_grid(VideoEncoder(trunk, [0.2] * 3, [0.3] * 3).eval())
        assert side == 32
        assert places(copy, frames)[0].shape == (128, 4, 4)


class TestTrack:
    def clip(self, tmp_path):
        root = sequence(tmp_path / "d")
        frames = open_davis(root)[0][0].images()
        with av.open(str(tmp_path / "clip.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.height, stream.width, stream.pix_fmt = 36, 48, "yuv420p"
            for image in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return (
            tmp_path / "clip.mp4",
            root / "Annotations" / "480p" / "ball" / "00000.png",
            root / "JPEGImages" / "480p" / "ball",
        )

    def test_a_clip_is_followed(self, tmp_path):
        clip, mask, folder = self.clip(tmp_path)
        saved = encoder().save(tmp_path / "e")
        found = CliRunner().invoke(
            main, ["track", str(saved), str(clip), "--mask", str(mask), "-o", str(tmp_path / "o.mp4")]
        )
        assert found.exit_code == 0, found.output
        assert "following 1 object through 6 frames" in found.output
        with av.open(str(tmp_path / "o.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 6
        heard = []
        track(saved, folder, mask, tmp_path / "masks", listen=heard.append)
        assert {(e["kind"], e["done"], e["total"]) for e in heard if "done" in e} >= {
            ("features", 6, 6),
            ("follow", 6, 6),
        }
        assert len(list((tmp_path / "masks").glob("*.png"))) == 6
        again = ["track", str(saved), str(clip), "--mask", str(mask), "-o", str(tmp_path / "o.mp4")]
        assert CliRunner().invoke(main, again).exit_code == 2

    def test_a_long_clip_is_not_held_in_full_size(self, tmp_path):
        count, height, width = 40, 400, 600
        frames = sequence(tmp_path, frames=count, height=height, width=width) / "JPEGImages" / "480p" / "ball"
        mask = tmp_path / "Annotations" / "480p" / "ball" / "00000.png"
        model = encoder()
        tracemalloc.start()
        try:
            track(model, frames, mask, tmp_path / "o.mp4")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < count * height * width * 3  # what the frames alone would take

    def test_what_is_written_is_what_was_followed(self, tmp_path):
        _, mask, folder = self.clip(tmp_path)
        model, first = encoder(), (read_mask(mask) > 0).astype(np.int64)
        track(model, folder, mask, tmp_path / "masks")
        copy, side = at_grid(model)
        squashed = [
            Image.open(path).resize((side, side), Image.Resampling.BILINEAR) for path in sorted(folder.iterdir())
        ]
        expected = follow(copy, np.stack([np.asarray(image) for image in squashed]), first)
        written = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "masks").iterdir())]
        np.testing.assert_array_equal(np.stack(written), 255 * expected.astype(int))
        assert expected.nbytes == expected.size  # a byte is enough for 255 objects

    def test_masks_that_do_not_fit_are_named(self, tmp_path):
        clip, mask, _ = self.clip(tmp_path)
        Image.new("L", (30, 30), 255).save(tmp_path / "m.png")
        with pytest.raises(InputError, match=r"30x30 pixels, the frames of .* 48x36"):
            track(encoder(), clip, tmp_path / "m.png", tmp_path / "o.mp4")
        Image.new("L", (48, 36), 0).save(tmp_path / "m.png")
        with pytest.raises(InputError, match="black everywhere"):
            track(encoder(), clip, tmp_path / "m.png", tmp_path / "o.mp4")
        with pytest.raises(InputError, match=r"\.mp4, \.mkv or \.gif"):
            track(encoder(), clip, mask, tmp_path / "o.jpg")
        tokenizer = train_tokenizer("wordpiece", ["a film of the sea"] * 50, 300, True, 16)
        trunk, _ = open_text_trunk("bert-tiny", vocabulary=len(tokenizer), length=16)
        words = TextEncoder(trunk, tokenizer, "words")
        with pytest.raises(InputError, match="encoder of texts sees no frames"):
            track(words, clip, mask, tmp_path / "o.mp4")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_painted_masks_of_any_color_with_soft_edges_are_one_object(tmp_path, mode):
    painted = np.zeros((8, 8, len(mode)), np.uint8)
    for rows, color in ((slice(1, 3), (255, 0, 0)), (slice(5, 7), (0, 0, 200))):
        painted[rows, 1:7, :3] = color
        painted[rows, 1:7, 3:] = 255
    painted[1, 1, :3] = (60, 0, 0)  # a soft edge
    if mode == "RGBA":
        painted[3:5, :, :3] = 255  # white, and transparent
    Image.fromarray(painted).save(tmp_path / "m.png")
    expected = np.zeros((8, 8), np.int64)
    expected[1:3, 1:7] = expected[5:7, 1:7] = 1
    expected[1, 1] = 0
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), expected)


def test_levels_of_grey_and_16_bit_numbers_are_objects(tmp_path):
    numbers = np.zeros((8, 8), np.uint8)
    numbers[1:4, 1:4], numbers[5:8, 5:8] = 85, 255
    Image.fromarray(numbers).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), numbers)  # the darker one was lost
    Image.fromarray(numbers.astype(np.uint16) * 20).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png"), numbers.astype(np.int64) * 20)
    soft = np.zeros((40, 40), np.uint8)
    soft[10:30, 10:30] = 255
    soft[10, 10:13] = 100
    Image.fromarray(soft).save(tmp_path / "soft.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "soft.png"), (soft > 127).astype(np.int64))
