"""How it is said that items could not be read."""

from __future__ import annotations

from withheld.data.broken import lost, notes_of


def line(name: str, reason: str) -> dict[str, str]:
    return {"file": name, "reason": reason}


def test_the_first_two_are_named_with_the_reason():
    lines = [line(f"{n}.txt", f"is bad\nin {n} ways") for n in range(3)]
    said = "could not be read and {} left out{} '0.txt' (is bad in 0 ways)"
    assert notes_of(lines[:1], "40 texts") == [f"1 of 40 texts {said.format('was', ':')}"]
    assert notes_of(lines[:2], "40 texts", "; more") == [
        f"2 of 40 texts {said.format('were', ':')}; '1.txt' (is bad in 1 ways)"
    ]
    assert notes_of(lines, "40 texts", "; more") == [
        f"3 of 40 texts {said.format('were', ', the first:')}; '1.txt' (is bad in 1 ways); more"
    ]
    assert notes_of([], "40 texts") == []


def test_what_was_mended_is_no_loss():
    lines = [line("a.txt", "kept, but cut short"), line("b.txt", "empty")]
    assert lost(lines) == lines[1:]
    assert notes_of(lines, "2 texts") == [
        "1 of 2 texts could not be read and was left out: 'b.txt' (empty)",
        "1 of 2 texts was kept: 'a.txt' (but cut short)",
    ]
