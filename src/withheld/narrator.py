"""Tells what the library reports (`listen=`) as lines and progress."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from withheld.screen import Screen, clock
from withheld.wording import about, percent, plural

STAGES = {
    "look": "looking at images",
    "prepare": "preparing",
    "step": "learning",
    "features": "reading features",
    "components": "comparing numbers of components",
    "row": "evaluating",
    "likelihood": "measuring",
    "proposals": "proposing regions",
    "regions": "learning from regions",
    "detect": "detecting",
    "follow": "following",
    "colorize": "coloring",
    "samples": "drawing samples",
    "tokens": "writing",
}
BRIEF = 3.0
"""Seconds; what takes less is not worth a line."""
LEARNS_FROM_FEW = ("distill", "patch_dictionary")
SAID = {"timing": "timing a few steps ...", "pictures": "drawing pictures ..."}


class Narrator:
    """Shows one progress at a time; everything else is a line."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.open = ExitStack()
        self.stage = ""
        self.update: Any = None
        self.floor: float | None = None
        self.vitals: dict[str, float] = {}
        self.health: dict[str, Any] = {}

    def __enter__(self) -> Narrator:
        return self

    def __exit__(self, *error: Any) -> None:
        self.open.close()

    def hear(self, event: dict[str, Any]) -> None:
        """Takes one event: {"kind": prepare, features, step, timing, plan, note, pictures, done, ...}."""
        kind = str(event.get("kind"))
        if kind == "step":
            self.vitals = event.get("vitals") or self.vitals
            self.health = event.get("health") or self.health
            told = (
                _pace(event, self.vitals.get("accuracy")) + words_known(self.vitals, self.floor) + in_short(self.health)
            )
            self._progress(kind)(event["step"], event["steps"], told, event.get("work"))
        elif "done" in event and "total" in event:
            self._progress(kind)(event["done"], event["total"], str(event.get("note", "")))
        else:
            self._close()
            if kind == "plan":
                self.floor, self.vitals, self.health = event["data"].get("unigram_nats"), {}, {}
            text = TEXTS[kind](event) if kind in TEXTS else event.get("text") or SAID.get(kind)
            if text:
                self.screen.say(text)
            if kind == "done" and event.get("seconds"):
                self.screen.detail(_where_time_went(event["seconds"]))

    def _progress(self, kind: str) -> Any:
        if kind != self.stage:
            self._close()
            self.stage = kind
            wait = 0.0 if kind == "step" else BRIEF
            self.update = self.open.enter_context(self.screen.progress(STAGES.get(kind, kind), wait))
        return self.update

    def _close(self) -> None:
        self.open.close()
        self.stage = ""


def plan(settings: dict[str, Any]) -> str:
    """What a run is going to do, in three lines; and a fourth where that is on too little."""
    from withheld.auto import too_little

    data, encoder = settings["data"], settings["encoder"]
    taught = bool(encoder.get("pretrained")) or settings.get("method") in LEARNS_FROM_FEW
    few = too_little(settings.get("modality", ""), data.get("clips", data["items"]), taught)
    patch = f", patch {encoder['patch']}" if encoder.get("patch") else ""
    start = (
        ", with the weights it has learned"
        if encoder.get("pretrained")
        else ", from scratch"
        if "pretrained" in encoder
        else ""
    )
    size = encoder["parameters"]
    numbers = f"{size / 1e6:.1f} M" if size >= 1e5 else f"{size:,}"
    apart = (
        f" ({data['held_out']:,} more {'is' if data['held_out'] == 1 else 'are'} held out to watch its health)"
        if data.get("held_out")
        else ""
    )
    return (
        f"data     {plural(data['items'], 'item')}{apart}{_shape_words(data)}\n"
        f"{'encoder' if 'pretrained' in encoder else 'model  '}  {encoder['name']}, {numbers} parameters{patch}{start}\n"
        f"run      {settings['title']}, {_length_words(settings)}, on {settings['device']}"
        + (f"\nnote     {few}" if few else "")
    )


def _shape_words(data: dict[str, Any]) -> str:
    if "columns" in data:
        return f", {plural(len(data['columns']), 'column')}"
    if "tokens" in data:
        about = "about " if data.get("streamed") else ""
        of = f"{about}{plural(data['documents'], 'text')}, {plural(data['tokens'], 'token')}"
        floor = data.get("unigram_nats")
        known = f"; a model that only counts tokens has loss {floor:.2f}" if floor is not None else ""
        each = f"{data['length']} each{known}"
        if data.get("unit") == "sentence":
            one = {"documents": "text", "passages": "passage"}.get(data.get("sentences", ""), "sentence")
            each = f"one {one} each, {data['length']} tokens at most{known}"
        return f" of {of} ({data['tokenizer']}, {data['vocabulary']:,} different), {each}"
    if "frames" in data:
        rate = f" at {data['rate']:g} a second" if data["rate"] else ""
        return (
            f" from {plural(data['clips'], 'clip')}, {data['frames']} frames{rate} each, {data['size']}x{data['size']}"
        )
    if "size" not in data:
        return f", {data['length']} codes each" if "length" in data else ""
    side, stored = data["size"], data.get("stored", data["size"])
    kept = f", kept at {stored}x{stored} and cropped" if stored != side else ""
    return f", {plural(data['channels'], 'channel')}, {side}x{side}{kept}"


def _length_words(settings: dict[str, Any]) -> str:
    if settings.get("modality") == "table":
        return f"at most {plural(settings['steps'], 'pass', 'passes')}"
    epochs = settings["steps"] * settings["batch_size"] / max(1, settings["data"]["items"])
    pieces = f" in {settings['accumulate']} pieces" if settings.get("accumulate", 1) > 1 else ""
    return f"{plural(settings['steps'], 'step')} of {settings['batch_size']}{pieces} = {about(epochs, 'epoch')}"


def measured(score: dict[str, Any]) -> str:
    """One number of a verdict, as soon as it is there."""
    return f"{score['method']}, {score['labels_per_class']} per class: {percent(score['value'], score['spread'])} %"


def detected(line: dict[str, Any]) -> str:
    """One number of a verdict on detection."""
    return f"{line['row']}, {plural(line['images'], 'image')}, seed {line['seed']}: mAP@0.5 {100 * line['value']:.1f} %"


def in_short(health: dict[str, Any]) -> str:
    """For the line of progress: "  sick: collapse"; nothing while it cannot be told."""
    ill = [found for found in health.get("findings", []) if found["state"] == health.get("state")]
    if health.get("state") in ("warn", "sick"):
        return f"  {health['state']}: {', '.join(dict.fromkeys(found['illness'] for found in ill))}"
    return "  healthy" if health.get("state") == "ok" else ""


def finding(event: dict[str, Any]) -> str:
    """An illness, when it is first found."""
    mark = "SICK" if event["state"] == "sick" else "warning"
    return f"{mark} at step {event['step']}: {event['illness']}: {event['reason']}\n  cure: {event['cure']}"


TEXTS = {"plan": plan, "health": finding, "score": measured, "detection_score": detected}


def _pace(event: dict[str, Any], accuracy: float | None) -> str:
    pace = event.get("items_per_second")
    told = "" if accuracy is None else f"  {100 * accuracy:.1f} % right"
    return f"loss {event['loss']:.4f}{told}" + (f"  {about(pace, 'item')}/s" if pace else "")


def words_known(vitals: dict[str, float], floor: float | None) -> str:
    """Of a model of words: its held-out loss beside that of counting, how many it tells right, and the gap to training."""
    loss = vitals.get("masked_loss", vitals.get("held_out_loss"))
    if floor is None or loss is None or not {"masked_loss", "word_accuracy"} & set(vitals):
        return ""
    right = vitals.get("masked_accuracy", vitals.get("word_accuracy"))
    told = f", {100 * right:.0f} % right" if right is not None else ""
    gap = f", {vitals['gap']:+z.2f} to training" if "gap" in vitals else ""
    return f"  held out {loss:.2f} (counting {floor:.2f}{told}{gap})"


def _where_time_went(seconds: dict[str, float]) -> str:
    total = sum(seconds.values()) or 1.0
    parts = ", ".join(f"{name} {100 * spent / total:.0f} %" for name, spent in seconds.items())
    return f"{clock(total)} in steps: {parts}"
