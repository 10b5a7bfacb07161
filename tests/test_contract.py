"""What every split and every method must keep; newcomers are discovered, there is no list to edit."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import itertools
import pkgutil
import tempfile

import numpy as np
import pytest
import torch

import withheld.splits
from gain_shape import best_atoms
from withheld.errors import InputError
from withheld.image_encoder import ImageEncoder
from withheld.learn.gradient import Loop, train
from withheld.learn.illness import Facts
from withheld.learn.watch import Patient, Watch
from withheld.modalities.image import augment_of
from withheld.networks.image import ImageTrunk
from withheld.networks.open import open_trunk
from withheld.networks.video import open_video_trunk
from withheld.run import constant, default_encoder, describe_methods, load_method, method_names
from withheld.types import CannotMerge, Moment, Pair, Recipe, Split, map_tensors

SIZE = 16


def all_splits() -> list[Split]:
    """One of every split class in withheld.splits, with its default settings."""
    found = []
    for module in pkgutil.iter_modules(withheld.splits.__path__):
        members = vars(importlib.import_module(f"withheld.splits.{module.name}")).values()
        found += [kind() for kind in members if inspect.isclass(kind) and issubclass(kind, Split) and kind is not Split]
    return sorted(set(found), key=repr)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return all(same(p, q) for p, q in zip(a, b, strict=True))


def near(a, b) -> bool:
    """The same but for rounding, of what was calculated back and forth."""
    return a.shape == b.shape and torch.allclose(a, b, atol=2e-4) if a.is_floating_point() else same(a, b)


def shapes(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return {k: shapes(v) for k, v in value.items()}


def hidden_values(split: Split, t: torch.Tensor) -> torch.Tensor:
    """Where in t the hidden values of this draw are: merging ones into a blank shows them."""
    torch.manual_seed(3)
    pair = split(t)
    torch.manual_seed(3)
    blank = split(torch.zeros_like(t))
    return split.merge(Pair(blank.x, torch.ones_like(pair.y))).bool()


def batch(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def texts(count: int = 6) -> dict[str, torch.Tensor]:
    """Tokens as blocks give them: two documents in each, words of two tokens."""
    item = torch.randint(5, 40, (count, 21), generator=torch.Generator().manual_seed(1))
    place = torch.arange(21).expand_as(item)
    return {"item": item, "document": (place > 12).long(), "word": place // 2 + (place > 12)}


def sentences(count: int = 6) -> dict[str, torch.Tensor]:
    """Tokens as sentences give them: padded."""
    item = torch.randint(5, 40, (count, 12), generator=torch.Generator().manual_seed(1))
    item[:, 0], mask = 2, torch.arange(12) < torch.arange(count)[:, None] % 6 + 7
    return {"item": item.masked_fill(~mask, 0), "mask": mask}


def clips(count: int = 6) -> torch.Tensor:
    """Smooth clips of six frames."""
    coarse = torch.randn(count, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(6, SIZE, SIZE), mode="trilinear").transpose(1, 2).contiguous()


def whole(split: Split):
    """Items of the kind that a split splits, with what it asks for besides."""
    module = type(split).__module__
    if "text" in module:
        return texts()
    t = clips() if "video" in module else batch()
    return {"item": t, "id": torch.arange(6)} if "id" in split.asks else t


def item_of(t):
    return t["item"] if isinstance(t, dict) else t


def test_some_splits_and_methods_are_found():
    assert len(all_splits()) >= 2
    assert {"mae", "predict_part"} <= set(method_names())


@pytest.mark.parametrize("split", all_splits(), ids=repr)
class TestSplit:
    def test_frozen_with_settings_in_its_repr(self, split):
        assert dataclasses.is_dataclass(split)
        for field in dataclasses.fields(split):
            assert f"{field.name}=" in repr(split)
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(split, field.name, None)

    def test_same_seed_same_pair_other_seed_same_shapes(self, split):
        split = split.fitted(whole(split))
        torch.manual_seed(5)
        one = split(whole(split))
        torch.manual_seed(5)
        again = split(whole(split))
        torch.manual_seed(6)
        other = split(whole(split))
        assert same(one, again)
        assert shapes(one.x) == shapes(other.x)
        assert shapes(one.y) == shapes(other.y)

    def test_no_randomness_but_torchs_global_generator(self, split):
        before = np.random.get_state()[1].copy()
        torch.manual_seed(5)
        split.fitted(whole(split))(whole(split))
        assert np.array_equal(before, np.random.get_state()[1])

    def test_t_is_left_alone(self, split):
        t = whole(split)
        split.fitted(t)(t)
        assert same(t, whole(split))

    def test_x_does_not_change_when_the_hidden_part_does(self, split):
        if not split.hides:
            pytest.skip("this split does not promise to hide")
        split = split.fitted(whole(split))
        t = whole(split)
        hidden = hidden_values(split, t)
        if hidden.all():  # what is hidden is no place of t: another y is merged in
            pair = split(t)
            changed = split(split.merge(Pair(pair.x, pair.y.flip(0))))
            assert near(changed.x, pair.x)
            assert not near(changed.y, pair.y)
            return
        assert 0 < hidden.float().mean() < 1
        torch.manual_seed(3)
        x = split(t).x
        torch.manual_seed(3)
        changed = split(torch.where(hidden, 100.0, t)).x
        assert same(x, changed)

    def test_merge_undoes_the_split(self, split):
        split = split.fitted(whole(split))
        pair = split(whole(split))
        try:
            merged = split.merge(pair)
        except CannotMerge:
            return
        t = whole(split)
        assert near(merged["item"], t["item"]) if isinstance(merged, dict) else near(merged, t)

    def test_full_is_deterministic_and_keeps_the_batch(self, split):
        t = whole(split) if "text" in type(split).__module__ else item_of(whole(split))
        assert same(split.full(t), split.full(t))
        assert len(split.full(t)) == len(t)


MODALITY = {method["name"]: method["modality"] for method in describe_methods()}
BY_GRADIENT = [name for name in method_names() if MODALITY[name] in ("image", "codes", "text", "video")]
BY_ALTERNATING = [name for name in method_names() if MODALITY[name] == "table"]


def first_of(name: str):
    """What a method's function takes first, small."""
    if MODALITY[name] == "codes":
        from withheld.networks.code_prior import CodeShape, CodeTrunk

        return CodeTrunk(CodeShape(2, 4, 16), width=32, layers=2, heads=2)
    if MODALITY[name] == "text":
        return text_trunk(name)
    if MODALITY[name] == "video":
        return open_video_trunk(default_encoder(name) or "vit-nano", size=SIZE, frames=6)[0]
    return open_trunk(default_encoder(name) or "vit-nano", size=SIZE, channels=3, patch=4)[0]


def text_trunk(name: str):
    from withheld.networks.text import Special
    from withheld.networks.text_open import open_text_trunk

    trunk, _ = open_text_trunk(default_encoder(name), vocabulary=40, length=32)
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    return trunk


def items_of(name: str, recipe: Recipe, count: int = 6, asks: tuple[str, ...] = ()):
    """Items as the loop would feed them: normalized images, pixels in 0..1, codes, blocks of tokens, or sentences."""
    if "id" in asks:
        return {"item": items_of(name, recipe, count), "id": torch.arange(count)}
    if MODALITY[name] == "text":
        return sentences(count) if constant(name, "ITEMS", "blocks") == "sentences" else texts(count)
    if MODALITY[name] == "codes":
        return torch.randint(16, (count, 20), generator=torch.Generator().manual_seed(1))
    if MODALITY[name] == "video":
        return clips(count)
    smooth = torch.nn.functional.interpolate(batch(count)[:, :, :4, :4], size=SIZE, mode="bilinear")
    return smooth if recipe.normalize else smooth.sigmoid()


@functools.cache
def needed(what: str) -> str:
    """What a method's setting without a default names: an encoder, kept on disk."""
    assert what in ("encoder", "encoder of texts")
    folder = tempfile.mkdtemp()
    if what == "encoder of texts":
        text_trunk("bert").model.save_pretrained(f"{folder}/encoder")
        return folder
    trunk = open_trunk("vit-nano", size=SIZE, channels=3, patch=4)[0]
    ImageEncoder(trunk, [0.5] * 3, [0.5] * 3).save(f"{folder}/encoder")
    return folder


def build(name: str):
    torch.manual_seed(0)
    settings = {setting: needed(what) for setting, what in constant(name, "NEEDS", {}).items()}
    objective, recipe = load_method(name)(first_of(name), **settings)
    objective.fit_parts(items_of(name, recipe, 8, objective.split.asks))
    return objective, recipe


class Fallen(Exception):
    """The loss is half of what it was."""


class Eight:
    """Eight items, as the loop asks for them."""

    def __init__(self, t) -> None:
        self.t = t

    def __len__(self) -> int:
        return 8

    def batch(self, index, device):
        return map_tensors(lambda part: part[torch.from_numpy(index)].to(device), self.t)


# Methods whose loss, codes or statistics are those of all items of a step, with the networks that they take on a CPU.
AT_ONCE = {
    "arrow_of_time", "byol", "colorization", "dino", "distill", "distill_text", "exemplar", "frame_order", "lejepa", "lstm_lm",
    "next_frame", "patch_dictionary", "relative_position", "same_text", "simclr", "simcse", "track_color", "vicreg", "vq_vae2",
}  # fmt: skip


RATES = {"patch_dictionary": 4e-2}  # atoms begin as long as patches are


@pytest.mark.parametrize("name", method_names())
class TestDescription:
    def test_docstring_has_its_five_parts(self, name):
        doc = next(m for m in describe_methods() if m["name"] == name)["doc"]
        first = doc.split("\n", 1)[0]
        assert first.endswith(".")
        places = [doc.index(part) for part in ("(x, y):", "p(y|x):", "Source:", "Differs:")]
        assert places == sorted(places)
        assert "http" in doc

    def test_signature_is_the_configuration(self, name):
        function = load_method(name)
        first, *rest = inspect.signature(function).parameters.values()
        assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in rest)
        documented = inspect.getdoc(function)
        assert all(f"{p.name}:" in documented for p in (first, *rest))


class NoDoubles(torch.overrides.TorchFunctionMode):
    """As on an Apple GPU: what is not on the CPU, or was not brought there, cannot be made double."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[torch.Tensor] = []

    def __torch_function__(self, function, types, given=(), named=None):
        if function is torch.Tensor.double and not any(given[0] is one for one in self.brought):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        found = function(*given, **(named or {}))
        if function is torch.Tensor.cpu:
            self.brought.append(found)
        return found


@pytest.mark.parametrize("name", BY_GRADIENT)
class TestObjective:
    def test_every_trainable_parameter_gets_a_gradient(self, name):
        objective, recipe = build(name)
        sum(objective(items_of(name, recipe, asks=objective.split.asks)).values()).backward()
        idle = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == []

    def test_terms_are_named_scalars(self, name):
        objective, recipe = build(name)
        for term, value in objective(items_of(name, recipe, asks=objective.split.asks)).items():
            assert isinstance(term, str)
            assert value.ndim == 0
            assert torch.isfinite(value)

    def test_the_network_names_its_trunk(self, name):
        objective, recipe = build(name)
        assert MODALITY[name] != "image" or isinstance(objective.network.trunk, ImageTrunk)
        assert isinstance(recipe, Recipe)

    def test_what_is_not_on_the_data_falls_by_half_on_eight_items(self, name):
        objective, recipe = build(name)
        objective.change = None
        losses = []
        items = Eight(items_of(name, recipe, 8, objective.split.asks))
        recipe = recipe.change(
            batch_size=8,
            base_learning_rate=32 * RATES.get(name, 2e-3),
            warmup=0.1,
            optimizer="adamw",
            schedule="cosine",
            order="shuffled",
        )
        least = entropy_of(name, items.t) + rank_of(name) + untold_of(name, objective, items.t)

        def hear(line):
            losses.append(line["loss"])
            if len(losses) > 10 and sum(losses[-10:]) / 10 - least < (losses[0] - least) / 2:
                raise Fallen

        with pytest.raises(Fallen):
            train(objective, items, recipe, steps=200, listen=hear)

    def test_a_batch_in_pieces_is_the_batch_or_is_refused(self, name, monkeypatch):
        """Loss and gradient of a step; what a network draws is held still: pieces draw their own."""
        found = []
        for pieces in (4,) if name in AT_ONCE else (1, 4):
            objective, recipe = build(name)
            recipe = recipe.change(batch_size=8, optimizer="sgd", order="shuffled")
            items = Eight(items_of(name, recipe, 8, objective.split.asks))
            if name != "sentence_vae":  # which speaks in single precision
                items.t = map_tensors(lambda t: t.double() if t.is_floating_point() else t, items.t)
                objective.double()
            objective.train()
            for part in objective.modules():
                if isinstance(part, torch.nn.Dropout):
                    part.p = 0.0
            if name in AT_ONCE:
                with pytest.raises(InputError, match=r"--accumulate 4: .* at once, since .*--batch-size"):
                    Loop(objective, items, recipe, steps=9, accumulate=pieces)
                return
            loop = Loop(objective, items, recipe, steps=9, accumulate=pieces)
            with monkeypatch.context() as still:
                still.setattr(torch, "randn", lambda *shape, **kwargs: torch.ones(*shape, **kwargs))
                still.setattr(torch, "randn_like", torch.ones_like)
                if name == "sentence_vae":  # hides words from its decoder
                    still.setattr(torch, "rand", torch.ones)
                numbers = loop._add_up(3, Moment(3, 9))[1]
            gradient = torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])
            found.append((torch.tensor(numbers).double(), gradient))
        for at_once, in_pieces in zip(*found, strict=True):
            assert at_once.norm() > 0
            assert (at_once - in_pieces).norm() <= 1e-6 * at_once.norm()

    def test_a_step_in_half_precision_is_the_step_but_for_rounding(self, name):
        """As on a GPU, where the loop computes in bfloat16."""
        objective, recipe = build(name)
        if any(isinstance(part, torch.nn.LSTM) for part in objective.modules()):
            pytest.skip("not every CPU has LSTMs in half precision")
        pair = objective.pair(items_of(name, recipe, 8, objective.split.asks))
        found = []
        for half in (False, True):
            torch.manual_seed(0)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = objective.total(objective(pair), Moment(0, 9))
            found.append(loss.item())
        assert found[1] == pytest.approx(found[0], rel=0.01)
        loss.backward()
        for part in objective.moving():
            part.after_step(Moment(0, 9))
        assert {t.dtype for t in objective.state_dict().values() if t.is_floating_point()} == {torch.float32}

    def test_vitals_change_nothing_and_find_a_fresh_model_well(self, name):
        objective, recipe = build(name)
        t = items_of(name, recipe, 8, objective.split.asks)
        before = map_tensors(torch.clone, dict(objective.state_dict()))
        facts = Facts(MODALITY[name], getattr(objective.trunk, "width", 0), 8, 8, normalized=recipe.normalize)
        line = {"step": 1, "steps": 100, "loss": 1.0, "vitals": {}}
        with NoDoubles():
            found = Watch(Patient(objective, t, True, {}), facts, [1]).hear(line)
        assert {each.illness for each in found if each.state == "sick"} == set()
        assert line["vitals"].get("targets_belong", 1.0) == 1.0
        assert same(before, dict(objective.state_dict()))
        assert objective.training

    def test_what_a_verdict_augments_with_is_the_methods_own_and_is_kept(self, name, tmp_path):
        if MODALITY[name] != "image":
            pytest.skip("the row from scratch with augmentations is of images")
        objective, recipe = build(name)
        objective.split = objective.split.in_units([0.4] * 3, [0.2] * 3)
        augment = augment_of(objective)
        encoder = ImageEncoder(objective.trunk, [0.4] * 3, [0.2] * 3, objective.split, augment=augment)
        encoder.save(tmp_path / "encoder")
        kept = ImageEncoder.opened(tmp_path / "encoder")
        assert kept.augment == encoder.fresh(0).augment == augment
        if augment is None:  # these change patches, or nothing
            assert "crop" not in inspect.signature(load_method(name)).parameters
            return
        assert augment.flip is inspect.signature(load_method(name)).parameters["flip"].default
        t = items_of(name, recipe)
        torch.manual_seed(0)
        changed = kept.augment(t)
        assert changed.shape == t.shape
        assert not torch.allclose(changed, t, atol=0.1)

    def test_predict_gives_what_y_is(self, name):
        objective, recipe = build(name)
        pair, prediction = objective.predict(items_of(name, recipe, asks=objective.split.asks))
        if (
            MODALITY[name] == "image" and isinstance(pair.y, torch.Tensor) and not pair.y.is_floating_point()
        ):  # answers to choose from: a logit for each
            assert pair.y.shape == prediction.shape[:-1]
        elif MODALITY[name] == "image":
            y = pair.y if hasattr(objective.target, "undo") else objective.aim(pair.y)
            assert (y.shape[0], y.shape[-1]) == (
                prediction.shape[0],
                prediction.shape[-1],
            )  # the number of views may differ


def entropy_of(name: str, t: torch.Tensor) -> float:
    """The least that the loss can be: grey pixels taken as Bernoulli means keep their entropy, nats."""
    if getattr(inspect.signature(load_method(name)).parameters.get("likelihood"), "default", None) != "bernoulli":
        return 0.0
    p = t.clamp(1e-6, 1 - 1e-6)
    return float(-(p * p.log() + (1 - p) * (1 - p).log()).sum() / len(t))


def untold_of(name: str, objective: torch.nn.Module, t: torch.Tensor) -> float:
    """What as many atoms as there are leave untold of these items by k-means, from where the atoms begin."""
    if name != "patch_dictionary":
        return 0.0
    model, side = objective.trunk.model, objective.split.side
    with torch.no_grad():
        patches = torch.nn.functional.unfold(t, side).transpose(1, 2).flatten(0, 1)
        return best_atoms(model.whitened(patches).double().numpy(), model.units.double().numpy())[1]


def rank_of(name: str) -> float:
    """The least of a loss that wants all of D dimensions uncorrelated: eight items have seven, so deviations s below 1 pay."""
    settings = inspect.signature(load_method(name)).parameters
    if "covariance" not in settings:
        return 0.0
    dimensions, variance, covariance = (settings[key].default for key in ("width", "variance", "covariance"))
    s = torch.linspace(0, 1, 1001)
    return float((variance * (1 - s) + 2 * covariance * (dimensions / 7 - 1) * s**4).min())


def rows(count: int = 60) -> torch.Tensor:
    """Two heaps in three columns, within 0..1."""
    generator = torch.Generator().manual_seed(1)
    at = torch.rand(count, 1, generator=generator).round() * 0.6 + 0.2
    return (at + 0.1 * torch.rand(count, 3, generator=generator)).double()


@pytest.mark.parametrize("name", BY_ALTERNATING)
class TestLatentModel:
    def test_sums_add_up_over_batches(self, name):
        model, _ = self.start(name)
        whole, parts = model.expect(rows()), [model.expect(part) for part in rows().split(7)]
        for key, value in whole.items():
            torch.testing.assert_close(sum(part[key] for part in parts), value, rtol=1e-6, atol=1e-6)
        assert float(whole["items"]) == len(rows())

    def test_the_bound_never_falls(self, name):
        model, _ = self.start(name)
        bounds = []
        for _ in range(20):
            sums = model.expect(rows())
            bounds.append(float(model.total(sums)))
            model.maximize(sums)
        assert min(b - a for a, b in itertools.pairwise(bounds)) > -1e-6 * abs(bounds[-1])
        assert bounds[-1] > bounds[0]

    def test_kept_and_loaded_it_says_the_same(self, name):
        model, _ = self.start(name)
        model.maximize(model.expect(rows()))
        other, _ = load_method(name)(3)
        other.load_state_dict(model.state_dict())
        assert float(other.expect(rows())["bound"]) == float(model.expect(rows())["bound"])

    def start(self, name):
        torch.manual_seed(0)
        model, recipe = load_method(name)(3)
        return model.fitted(rows()), recipe
