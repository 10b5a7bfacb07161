"""show, for texts: what a method hides of them, as colored words and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from withheld.screen import Screen, printable

LOOKED_THROUGH = 2000
"""Documents that the texts to draw are taken from, and a tokenizer is learned from where there is no run."""
HIDDEN = (255, 226, 138)


def show_text(
    screen: Screen, method: str, settings: dict[str, Any], data: str, folder: Path | None, output: Path, items: int,
    size: str | int, seed: int, device: str,
) -> None:  # fmt: skip
    """Prints and draws blocks of text with what is hidden and, of a run, what was told."""
    import numpy as np

    from withheld.data.text import open_texts
    from withheld.evaluate.word_sheet import draw_texts
    from withheld.evaluate.words import speaker, words_of
    from withheld.splits.text import WholeSentence

    source = open_texts(data)
    generator = np.random.default_rng(seed)
    source = source.subset(np.sort(generator.permutation(len(source))[:LOOKED_THROUGH]))
    made = _of_run(folder, method, source, device) if folder else _of_method(method, settings, source, size, seed)
    objective, tokenizer, blocks = made
    index = np.sort(generator.permutation(len(blocks))[:items])
    # sentences are drawn one by one: together they are padded
    groups = [[i] for i in index] if isinstance(objective.split, WholeSentence) else [index]
    drawn = [
        words_of(objective, blocks.batch(np.array(some), device), speaker(tokenizer), seed, folder is not None)
        for some in groups
    ]
    masked, texts = drawn[0][0], [text for _, some in drawn for text in some]
    for tokens in texts if screen.first else []:
        click.echo(_line(tokens, masked))  # with colors, which `Screen` would write out
    of = "z, a few numbers of the sentence, and from " if isinstance(objective.split, WholeSentence) else ""
    screen.say(objective.split.parts or _legend(masked, folder is not None, of))
    screen.result(str(draw_texts(repr(objective.split), texts, masked, output)))


def _of_run(folder: Path, method: str, source: Any, device: str) -> tuple[Any, Any, Any]:
    """Objective, tokenizer and blocks of a run."""
    from withheld.data.sentences import alone, parted_as, parted_by
    from withheld.data.tokenizer import continues
    from withheld.data.tokens import Blocks, prepare_tokens
    from withheld.errors import InputError
    from withheld.run import open_run
    from withheld.splits.text import WholeSentence

    run = open_run(folder)
    if run.settings["method"] != method:
        raise InputError(f"{folder} was trained with {run.settings['method']}, not {method}: name that method")
    encoder = run.encoder()
    overlap = int(encoder.trunk.causal)
    length = int(run.settings["data"]["length"])
    objective = run.objective().to(device)
    single = objective.split.parts or isinstance(objective.split, WholeSentence)
    how = parted_as(run.settings) if single else None
    tokens = prepare_tokens(source, encoder.tokenizer, parted=parted_by(how) if how else None)
    if how:
        return objective, encoder.tokenizer, alone(tokens, length, encoder.tokenizer)
    goes_on = continues(encoder.tokenizer)
    marks = None if not any(goes_on) else _array(goes_on)
    return objective, encoder.tokenizer, Blocks(tokens, length + overlap, overlap, marks)


def _of_method(method: str, settings: dict[str, Any], source: Any, size: str | int, seed: int) -> tuple[Any, Any, Any]:
    """Objective, tokenizer and blocks as `withheld pretrain` would make them of these texts."""
    import torch

    from withheld.asked import Asked
    from withheld.data.sentences import alone
    from withheld.modalities.text import Texts
    from withheld.run import load_method, split_settings
    from withheld.splits.text import WholeSentence

    texts = Texts(
        source, Asked(size=size, settings=settings, seed=seed), torch.device("cpu"), lambda kind, **event: None
    )
    trunk = texts.open(method)
    function = load_method(method)
    chosen, _ = split_settings(function, settings)
    objective, _ = function(trunk, **chosen)
    single = objective.split.parts or isinstance(objective.split, WholeSentence)
    items = alone(texts.tokens, texts.length, texts.tokenizer) if single else texts.blocks(texts.tokens)
    return objective.eval(), texts.tokenizer, items


def _array(values: list[bool]) -> Any:
    import numpy as np

    return np.array(values, bool)


def _line(tokens: list[dict[str, Any]], masked: bool) -> str:
    """A text on one line: marks say without colors what colors say in a terminal."""
    return "".join(_piece(token, masked) for token in tokens).strip()


def _piece(token: dict[str, Any], masked: bool) -> str:
    from withheld.evaluate.word_sheet import color_of

    text = printable(token["text"].replace("\n", "\u21b5"))
    if not token["asked"]:
        return text
    lead, word = text[: len(text) - len(text.lstrip())], text.lstrip()
    if token["p"] is not None:
        guess = f" {printable(token['guess'].strip())}?" if masked and "guess" in token else ""
        said = f"[{word} {token['p']:.2f}{guess}]" if masked else f"{word}"
        return lead + click.style(said, bg=color_of(token["p"]), fg="black")
    if not masked:
        return text
    shown = printable(token["shown"].strip())
    said = (
        f"[{word}]"
        if shown in ("[MASK]", "<mask>", "\u00b7")
        else f"[{word}=]"
        if shown == word
        else f"[{word}<{shown}]"
    )
    return lead + click.style(said, bg=HIDDEN, fg="black")


def _legend(masked: bool, told: bool, of: str = "") -> str:
    if not masked:
        seen = f"Every word is told from {of}those before it"
        return (
            f"{seen}; the color is the probability it was given, green for expected, red for not."
            if told
            else f"{seen}."
        )
    if told:
        return "[word p guess?]: hidden, the probability the model gave it, and what it thought of instead."
    return "[word]: hidden behind the mask; [word<other]: another stands there; [word=]: it stands there itself. All are asked for."
