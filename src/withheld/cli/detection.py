"""detect, and what evaluate and finetune do with --boxes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from withheld.cli.aloud import judge_aloud
from withheld.cli.options import DATA, DETECTOR, device_option, talking
from withheld.cli.outputs import check_output, force_option
from withheld.errors import InputError
from withheld.narrator import Narrator
from withheld.screen import Screen
from withheld.wording import percent, plural

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class Shares(click.ParamType):
    """`10,50,100`: percentages."""

    name = "%,%,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            found = tuple(sorted({float(word) for word in value.split(",") if word.strip()}))
        except ValueError:
            found = ()
        if not found or not all(0 < share <= 100 for share in found):
            self.fail(f"{value!r} is not a list of percentages such as 10,50,100", param, ctx)
        return found


def box_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--boxes, --regions and --side: detection."""
    for option in (
        click.option("--side", type=click.IntRange(min=16), help="With --boxes: side of images, pixels.  [default: 2 x encoder]"),
        click.option("--regions", type=click.Choice(["align", "warped"]), default="align", show_default=True,
                     help="With --boxes: features from one map of the image, or of every region cut out."),
        click.option("--boxes", "--voc", "boxes", type=click.Path(path_type=Path), metavar="DIR",
                     help="Instead of --data: images with boxes, in the layout of PASCAL VOC (or XML beside the images), YOLO or "
                     "COCO; a data.yaml or .json may be named, too."),
    ):  # fmt: skip
        command = option(command)
    return command


def detection_aloud(screen: Screen, subject: str, boxes: Path, folder: Path, **options: Any) -> Any:
    """The verdict on detection with progress, table and closing sentence."""
    from withheld.evaluate.detection.verdict import detection_verdict

    return judge_aloud(
        screen, folder, partial(detection_verdict, subject, boxes, **options), partial(show_detection, screen)
    )


def show_detection(screen: Screen, found: Any) -> None:
    """mAP by row and number of images, the classes of the most images, then what there is to know."""
    counts = sorted({line["images"] for line in found.table})
    cells = {(line["row"], line["images"]): line for line in found.table}
    names = list(dict.fromkeys(line["row"] for line in found.table))
    heads = [plural(count, "image") for count in counts]
    rows = [[name, *(_shown(cells.get((name, count))) for count in counts)] for name in names]
    screen.table("mAP@0.5 in %, mean ± half the 95 % interval over seeds", ["", *heads], rows)
    classes = found.details.get("classes", [])
    some = [line for line in found.table if line["images"] == counts[-1]] if counts else []
    more = [
        name for name in ("mAP@0.5 (VOC07)", "COCO AP", "COCO AP75") if any(name in line["scores"] for line in some)
    ]
    body = [[line["row"], *(_percent(line["AP"].get(name)) for name in classes),
             *(_percent(line["scores"].get(name)) for name in more)] for line in some]  # fmt: skip
    screen.table(f"By class and by other measures, in %, {heads[-1] if heads else ''}", ["", *classes, *more], body)
    for note in [*found.notes, *(f"Left out: {row}" for row in found.left_out)]:
        screen.say(note)


def _shown(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    return percent(line["mean"], line["half"])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def finetune_detector_aloud(screen: Screen, encoder: str, boxes: Path, out: Path, **options: Any) -> None:
    """Makes a detector, and says what to do with it."""
    from withheld.evaluate.detection.finetune import finetune_detector

    with Narrator(screen) as narrator:
        model = finetune_detector(encoder, boxes, out, listen=narrator.hear, **options)
    screen.result(f"Model: {model}")
    screen.say("Find objects in other images:")
    screen.say(f"  withheld detect {shlex.quote(str(out))} photo.jpg -o found.png")


@click.command("detect")
@click.argument("model", type=DETECTOR)
@click.argument("data", metavar="IMAGES", type=DATA)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A picture; for a folder of images, a folder.",
)
@click.option(
    "--boxes",
    type=click.Path(path_type=Path),
    help="A .csv or .json of all boxes.  [default for a folder: boxes.csv in it]",
)
@click.option("--score", "least", type=click.FloatRange(0, 1), help="The least score that is shown.  [default: 0.5]")
@force_option
@device_option
@talking
def detect_command(
    model: Path,
    data: str,
    output: Path,
    boxes: Path | None,
    least: float | None,
    force: bool,
    device: str,
    screen: Screen,
) -> None:
    """Find objects in IMAGES (an image, or a folder of them) with MODEL, as `withheld finetune --boxes` makes it.

    MODEL may also be a run that was evaluated with --boxes, which keeps its best detector.

    \b
      withheld finetune runs/first --boxes VOC2007/ --out models/d
      withheld detect models/d photo.jpg -o found.png
      withheld detect models/d photos/ -o found/ --score 0.7
      withheld detect models/d photo.jpg -o found.png --boxes found.json
    """
    images = Path(data)
    folder = images.is_dir()
    boxes = boxes or (output / "boxes.csv" if folder else None)
    _check_outputs(output, boxes, folder, force)
    from withheld.evaluate.detection.finetune import detect_files, draw_file, rows_of, write_boxes

    rows: list[dict[str, Any]] = []
    drawn: set[Path] = set()
    count = 0
    with Narrator(screen) as narrator:
        for name, path, boxed, detector in detect_files(
            model, images, least=least, device=device, listen=narrator.hear
        ):
            target = output / Path(name).with_suffix(".png") if folder else output
            if target in drawn:  # a.jpg and a.png lie beside each other
                target = target.with_name(Path(name).name + ".png")
            drawn.add(target)
            draw_file(path, boxed, detector.classes, target)
            rows += rows_of(name, path, boxed, detector.classes)
            count += 1
    if not count:
        raise InputError(f"{data}: no image could be read, so nothing was written")
    if boxes is not None:
        write_boxes(boxes, rows)
        screen.say(f"Boxes: {boxes}")
    found = f"{plural(len(rows), 'object')} in {plural(count, 'image')}"
    asked = f"{detector.threshold if least is None else least:g}"
    screen.say(
        found if rows else f"{found}: none has a score of {asked} or more; a lower --score shows what is less sure"
    )
    screen.result(str(output))


def _check_outputs(output: Path, boxes: Path | None, folder: bool, force: bool) -> None:
    """Fails before the work instead of after it."""
    if folder and (output.is_file() or (output.suffix.lower() in PICTURES and not output.is_dir())):
        raise InputError(f"-o {output} is a file: for a folder of images name a folder")
    check_output(output, force, *(() if folder else PICTURES))
    if boxes is not None:
        check_output(boxes, force, ".csv", ".json")
