"""DINO: from small views the prototypes that a slower self sees in the large ones."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.distillation import CenteredTeacher
from withheld.networks.image import ImageTrunk
from withheld.networks.projector import Prototypes, ViewProjector
from withheld.networks.teacher import Teacher
from withheld.objective import Objective
from withheld.splits.pairs import MultiCrop
from withheld.splits.views import View
from withheld.types import Recipe


def dino(
    trunk: ImageTrunk,
    *,
    momentum: float = 0.98,
    prototypes: int = 1024,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    temperature_end: float = 0.04,
    small: int = 4,
    crop: float = 0.4,
    small_crop: float = 0.1,
    side: int = 0,
    hidden: int = 512,
    bottleneck: int = 128,
    flip: bool = True,
    color: float = 0.5,
    grey: float = 0.2,
    blur: float = 0.0,
    solarize: float = 0.0,
) -> tuple[Objective, Recipe]:
    """Predicts from any view of an image how a running mean of the network sorts its large views into prototypes.

    (x, y): two large and some small views of an image; the two large ones.
    p(y|x): a categorical over prototypes, which follows what the teacher says of another view, centered and sharpened.
    Source: Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers, https://arxiv.org/abs/2104.14294
    Differs: 1024 prototypes (paper: 65536), head 512-128 (2048-256), momentum from 0.98 (0.996), 4 small views (8 or 10), for runs
        of some thousand steps; prototypes learn from the first step on; the loss is less the teacher's entropy, which has no
        gradient; features are the mean of the patch tokens; large views are made alike; hue in YIQ.

    Args:
        trunk: any backbone; a ViT sees small views at a block of its positions.
        momentum: share of the teacher's weights that stays in a step, at the start; it rises to 1.
        prototypes: how many there are.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's softmax, at the start.
        temperature_end: of the teacher's softmax after the first third of the run.
        small: views beside the two large ones.
        crop: smallest share of the area that a large view shows.
        small_crop: smallest share of the area that a small view shows; the largest is `crop`.
        side: of small views in pixels; 0 takes three fifths, a multiple of the patch.
        hidden: of the head's hidden layers.
        bottleneck: of the vector that is compared with prototypes.
        flip: whether every second view is mirrored.
        color: strength of the color changes, 0 to 1.25.
        grey: share of the views without color.
        blur: share of the views that are blurred.
        solarize: share of the second large views whose bright half is inverted.
    """
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum}: from 0 to below 1; 0.95 to 0.996 are usual, larger for longer runs")
    if min(student_temperature, teacher_temperature, temperature_end) <= 0:
        raise InputError(
            "temperatures must be above 0; the paper takes 0.1 for the student and 0.04 to 0.07 for the teacher"
        )
    changes = {"flip": flip, "color": color, "grey": grey, "blur": blur}
    large = View(trunk.size, scale=(crop, 1.0), **changes)
    split = MultiCrop(
        large,
        View(trunk.size, scale=(crop, 1.0), solarize=solarize, **changes),
        View(side or trunk.small_side, scale=(min(small_crop, crop), max(small_crop, crop)), **changes),
        small,
    )
    network = ViewProjector(trunk, Prototypes(trunk.width, hidden, bottleneck, prototypes))
    loss = CenteredTeacher(prototypes, student_temperature, (teacher_temperature, temperature_end))
    recipe = Recipe(base_learning_rate=1e-3, batch_size=128, weight_decay=0.04, warmup=0.1, clip=3.0, epochs=100)
    return Objective(split, network, loss, Teacher(network, momentum)), recipe
