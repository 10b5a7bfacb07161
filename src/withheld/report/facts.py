"""What the page says in words and numbers: data, cost, settings, how to repeat it."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable
from typing import Any

from withheld.report.clean import one_line, shorten
from withheld.report.folder import Contents, mapping, number, texts
from withheld.wording import about, count, duration, plain, plural, short_count

Facts = list[tuple[str, str]]

SKIPPED_SHOWN = 40


def run_title(found: Contents) -> str:
    """Such as "mae on photos"."""
    method = one_line(found.run.get("method") or "")
    where = mapping(found.run.get("data")).get("location") or found.verdict.get("data") or ""
    data = shorten(str(where).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1], 40)
    if found.sweep and not method:
        swept = one_line(found.sweep.get("parameter") or "setting")
        return f"{one_line(found.sweep.get('method') or shorten(found.folder.resolve().name, 40))} by {swept}"
    return " on ".join(part for part in (method, data) if part) or shorten(found.folder.name or "a run", 60)


def data_facts(found: Contents) -> Facts:
    """What was learned from."""
    data = mapping(found.run.get("data"))
    size, channels = number(data.get("size")), number(data.get("channels"))
    shape, unigram = "", number(data.get("unigram_nats"))
    if size:
        shape = f"{plain(size)} \u00d7 {plain(size)} pixels" + (f", {plural(channels, 'channel')}" if channels else "")
    facts = [
        ("items", _counted(data.get("items"))),
        ("skipped", _counted(data.get("skipped", len(found.skipped) or None))),
        ("labels", _label_words(data)),
        ("read from", _said(data.get("location"))),
        ("as", _said(data.get("kind"))),
        ("columns", _column_words(texts(data.get("columns")))),
        ("clips", _counted(data.get("clips"))),
        ("frames at once", _frames_words(data)),
        ("seen at", shape),
        ("texts", _reckoned(data, "documents")),
        ("tokens", _reckoned(data, "tokens")),
        ("tokenizer", _tokenizer_words(data)),
        ("tokens at once", _counted(data.get("length")) if data.get("tokens") else ""),
        ("a model that only counts tokens", f"{unigram:.2f} nats a token" if unigram else ""),
        ("mean of the channels", _numbers(found.run.get("mean")) if _normalized(found) else ""),
        ("standard deviation", _numbers(found.run.get("std")) if _normalized(found) else ""),
        ("fingerprint", shorten(data.get("fingerprint") or "", 20)),
    ]
    return _present(facts)


def _column_words(names: list[str]) -> str:
    """How many, and the first of them."""
    told = ", ".join(shorten(name, 40) for name in names[:8])
    return f"{len(names):,}: {told}{', ...' if len(names) > 8 else ''}" if names else ""


def _frames_words(data: dict[str, Any]) -> str:
    """How clips were seen: "8, at 12 a second"."""
    frames, rate = number(data.get("frames")), number(data.get("rate"))
    return f"{plain(frames)}, {f'at {plain(rate)} a second' if rate else 'as they follow each other'}" if frames else ""


def _normalized(found: Contents) -> bool:
    """Whether mean and deviation are those of the data: not 0 and 1 for pixels as they are, nor what an encoder came with."""
    own = mapping(found.run.get("encoder")).get("pretrained") is not True
    return own and mapping(found.run.get("recipe")).get("normalize") is not False


def _reckoned(data: dict[str, Any], name: str) -> str:
    """Of a stream these are told from a sample."""
    told = _counted(data.get(name))
    return f"about {told}" if told and data.get("streamed") else told


def _label_words(data: dict[str, Any]) -> str:
    """Such as "15, of setosa, versicolor, virginica"."""
    known, classes = number(data.get("labelled")), texts(data.get("classes"))
    if known is None:
        return ""
    return f"{count(known)}, of {shorten(', '.join(one_line(name) for name in classes), 80)}"


def _tokenizer_words(data: dict[str, Any]) -> str:
    """Such as "wordpiece, 8,192 different"."""
    size = number(data.get("vocabulary"))
    return f"{_said(data.get('tokenizer'))}, {count(size)} different" if size else ""


def skipped_facts(found: Contents) -> dict[str, Any]:
    """Files that could not be read: reasons with counts, and the first files."""
    reasons: dict[str, int] = {}
    for entry in found.skipped:
        reason = shorten(entry.get("reason") or "no reason given", 160)
        reasons[reason] = reasons.get(reason, 0) + 1
    shown = [
        (one_line(entry.get("file", "")), shorten(entry.get("reason") or "", 160))
        for entry in found.skipped[:SKIPPED_SHOWN]
    ]
    by_count = sorted(reasons.items(), key=lambda item: -item[1])
    return {
        "total": len(found.skipped),
        "reasons": by_count[:12],
        "files": shown,
        "more": len(found.skipped) - len(shown),
    }


def cost_facts(found: Contents) -> Facts:
    """What it took."""
    run, last = found.run, found.log[-1] if found.log else {}
    done, batch = number(last.get("step")), number(run.get("batch_size"))
    steps = number(run.get("steps")) or number(last.get("steps"))
    items = number(mapping(run.get("data")).get("items"))
    passes = run.get("modality") == "table"
    seen = (done * items if passes and items else done * batch) if done and batch else None
    epochs = f" ({about(seen / items, 'time')} each)" if seen and items else ""
    speeds = sorted(value for entry in found.log if (value := number(entry.get("items_per_second"))) is not None)
    facts = [
        ("pretraining", _seconds(last.get("seconds"))),
        ("preparing the data", _seconds(mapping(run.get("data")).get("prepared_seconds"))),
        ("evaluation", _seconds(found.verdict.get("seconds"))),
        ("device", _said(run.get("device"))),
        ("steps", f"{count(done)} of {count(steps)}" if done and steps and done < steps else _counted(steps or done)),
        ("items seen", f"{count(seen)}{epochs}" if seen else ""),
        ("speed", f"{plain(speeds[len(speeds) // 2])} items a second (median)" if speeds else ""),
        ("encoder" if keeps_encoder(found) else "model", encoder_words(found)),
    ]
    return _present(facts)


def encoder_words(found: Contents) -> str:
    """Such as "vit-tiny, 5.5 M parameters, width 192, depth 12, patches of 8"."""
    encoder = mapping(found.run.get("encoder"))
    name, size = _said(encoder.get("name")), number(encoder.get("parameters"))
    parts = [name, f"{short_count(size)} parameters" if size else ""]
    parts += [
        f"{words} {plain(value)}"
        for words, key in (("width", "width"), ("depth", "depth"), ("patches of", "patch"))
        if (value := number(encoder.get(key)))
    ]
    return ", ".join(part for part in parts if part)


def settings_facts(found: Contents) -> Facts:
    """Every setting of the run, flat."""
    run = found.run
    plain_keys = (
        "method",
        "modality",
        "split",
        "seed",
        "steps",
        "batch_size",
        "shards",
        "minutes",
        "device",
        "started",
    )
    facts = [(key.replace("_", " "), _any(run.get(key))) for key in plain_keys]
    facts += [(one_line(key), _any(value)) for key, value in mapping(run.get("settings")).items()]
    facts += [
        (f"recipe: {one_line(key).replace('_', ' ')}", _any(value)) for key, value in mapping(run.get("recipe")).items()
    ]
    return _present(facts)


def version_facts(found: Contents) -> Facts:
    """Commit and versions."""
    versions = [(one_line(key), _any(value)) for key, value in mapping(found.run.get("versions")).items()]
    return _present(
        [("commit", re.sub(r"^([0-9a-f]{12})[0-9a-f]{28}", r"\1", _said(found.run.get("commit")))), *versions]
    )


def config_text(found: Contents) -> str:
    """The encoder's configuration as JSON."""
    config = mapping(mapping(found.run.get("encoder")).get("config"))
    return json.dumps(config, indent=2, ensure_ascii=True, sort_keys=True) if config else ""


def commands(found: Contents) -> list[tuple[str, str]]:
    """What to type to get the same again."""
    asked = [
        ("Pretrain", found.run.get("command")),
        ("Evaluate", found.verdict.get("command")),
        ("Evaluate on boxes", found.detection.get("command")),
        ("Sweep", found.sweep.get("command")),
    ]
    known = [(name, command) for name, command in asked if isinstance(command, str) and command.strip()]
    return [*known, ("Write this page", f"withheld report {quoted(found.folder)}")] if known else []


def keeps_encoder(found: Contents) -> bool:
    """Whether what is kept is an encoder; of rows and of codes it is a model."""
    return found.run.get("modality") not in ("table", "codes")


def can_be_judged(found: Contents) -> bool:
    """Whether a verdict is still to come: the run has an encoder and no scores."""
    judged = found.scores or found.verdict or found.detection or found.glue
    return bool(found.run and keeps_encoder(found) and not judged)


def evaluate_command(found: Contents) -> str:
    """What to type where nothing was evaluated yet."""
    return f"withheld evaluate {quoted(found.folder)} --data LABELLED"


def quoted(path: Any) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def status_words(found: Contents) -> str:
    """A sentence where the run did not simply finish."""
    state = one_line(found.status.get("state") or "")
    step, reason = number(found.status.get("step")), shorten(found.status.get("reason") or "", 300)
    at = f" at step {count(step)}" if step is not None else ""
    words = {
        "running": f"This run was still training{at} when the page was written.",
        "stopped": f"This run was stopped{at} before it was done.",
        "diverged": f"This run diverged{at}: its loss was no longer a finite number.",
        "failed": f"This run failed{at}.",
    }.get(state, "")
    resume = (
        " It can be resumed with --resume."
        if words and found.status.get("resumable") is True and state != "running"
        else ""
    )
    return " ".join(part for part in (words, f"Reason: {reason}." if words and reason else "") if part) + resume


def notes(found: Contents) -> list[str]:
    """What the evaluation wants said: left out for time, near-duplicates, dropped label counts."""
    return [*texts(found.verdict.get("notes")), *(f"Left out: {name}" for name in texts(found.verdict.get("left_out")))]


def error_words(entry: dict[str, Any], uri: str = "") -> dict[str, Any]:
    """One confident mistake: which item, what it is, what was said, how surely, its thumbnail and its words if there are any."""

    def first(*keys: str) -> str:
        return next((_said(entry[key]) for key in keys if entry.get(key) not in (None, "")), "")

    sure = number(entry.get("probability"))
    return {
        "name": first("name", "file", "item"),
        "true": first("true", "label"),
        "predicted": first("predicted", "prediction"),
        "probability": "" if sure is None else f"{100 * sure:.0f} %",
        "uri": uri,
        "text": shorten(entry.get("text") or "", 300),
    }


def error_source(found: Contents) -> str:
    """Which row made the errors."""
    return one_line(found.verdict.get("errors_of") or "the best classifier on the pretrained encoder")


def confused_pairs(found: Contents, most: int = 8) -> list[dict[str, Any]]:
    """Which classes are taken for which most often, of the confusion matrix (true by predicted)."""
    names, rows = texts(found.verdict.get("classes")), found.verdict.get("confusion")
    if not isinstance(rows, list) or len(rows) != len(names):
        return []
    pairs = []
    for true, row in zip(names, rows, strict=True):
        times = [number(value) or 0 for value in row] if isinstance(row, list) and len(row) == len(names) else []
        for predicted, many in zip(names, times, strict=False):
            if many > 1 and predicted != true:
                pairs.append({"true": true, "predicted": predicted, "times": count(many), "total": count(sum(times))})
    return sorted(pairs, key=lambda pair: -float(pair["times"].replace(",", "")))[:most]


def _present(facts: Iterable[tuple[str, str]]) -> Facts:
    return [(name, value) for name, value in facts if value != ""]


def _said(value: Any) -> str:
    return one_line(value) if isinstance(value, str | int | float) else ""


def _counted(value: Any) -> str:
    found = number(value)
    return "" if found is None else count(found)


def _seconds(value: Any) -> str:
    found = number(value)
    return "" if found is None else duration(found)


def _numbers(values: Any) -> str:
    found = [number(value) for value in values] if isinstance(values, list) else []
    return ", ".join(plain(round(value, 4)) for value in found if value is not None)


def _any(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, float) and math.isfinite(value):
        return plain(value)
    if isinstance(value, str | int | float):
        return one_line(value)
    return shorten(json.dumps(value, ensure_ascii=True, default=str), 400)
