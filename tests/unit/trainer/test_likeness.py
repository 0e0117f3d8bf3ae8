"""Which texts are the same to a reader, and which are not."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_trainer.data.likeness import normalized, words
from distillery_trainer.data.traces import TraceLine
from distillery_trainer.stages.curate import Contamination

LEFT = "one two three four five six"
RIGHT = "eight nine ten eleven twelve thirteen"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is 5\u00b2", "what is 52"),
        ("H\u2082O", "H2O"),
        ("5\u00bd", "51/2"),
        ("5\u00bd", "51\u20442"),
        ("\u2460", "1"),
        ("\u338f", "kg"),
        ("m\u00b2", "m2"),
        ("\U0001d431", "x"),
        ("Ma\u00dfe", "Masse"),
        ("-5", "5"),
        ("\u22125", "5"),
        ("x\ny", "x y"),
        ("if x:\n  y\nz", "if x:\n  y\n  z"),
        ("1 2\n3 4", "1 2 3 4"),
        ("a\x00b", "ab"),
        ("\u0130", "I"),
        ("\u2126", "O"),
        ([{"role": "user", "content": "a\nassistant: b"}], [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
        ("a", [{"role": "user", "content": "a"}]),
    ],
)
def test_what_differs_to_a_reader_is_never_joined(one: Any, other: Any) -> None:
    assert normalized(one) != normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is\u00a0it", "what  is it"),
        ("caf\u00e9", "cafe\u0301"),
        ("\uff15\uff12", "52"),
        ("\uff0d5", "-5"),
        ("\uff76\uff9e", "\u30ac"),
        ("\ufb01ve", "five"),
        ("a\u3000b", "a b"),
        ("a\r\nb", "a\nb"),
        ("a \n\n\n\nb\n", "a\n\nb"),
        ("\n  a\n    b", "a\n  b"),
        ("\ta", "a"),
        ("\ufeb1", "\u0633"),
        ([{"role": "user", "content": "a  b"}], [{"role": "user", "content": "a b"}]),
    ],
)
def test_what_is_the_same_to_a_reader_is_joined(one: Any, other: Any) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One, TWO; three!", ["one", "two", "three"]),
        ("3 + 4 * 5", ["3", "+", "4", "*", "5"]),
        ("-5 .5 5% $5 5\u00b2 5!", ["-5", ".5", "5%", "$5", "5\u00b2", "5!"]),
        ("is it 5? It is 5.", ["is", "it", "5", "it", "is", "5"]),
        ("C++ c# x! (a b)", ["c++", "c#", "x!", "(a", "b)"]),
        ("\u201cSo,\u201d she said \u2026 \u00bfqu\u00e9?", ["so", "she", "said", "qu\u00e9"]),
        ("STRASSE Stra\u00dfe", ["strasse", "stra\u00dfe"]),
        ("don't 'quoted' \"5\"", ["don't", "quoted", "5"]),
        ("f' of f, g'' and 'h' of f(x)' (dogs' 'x, y')", ["f'", "of", "f", "g''", "and", "h", "of", "f(x)'", "(dogs", "x", "y')"]),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert list(words([text])) == expected


@pytest.mark.parametrize(
    ("held", "train"), [("5\u00b2", "52"), ("-5", "5"), ("+", "-"), (".5", "5"), ("\u00bd", "1"), ("5!", "5"), ("f'", "f")]
)
def test_rows_that_differ_in_one_sign_are_no_contamination(held: str, train: str) -> None:
    """The same row is."""

    def row(name: str, middle: str) -> TraceLine:
        return TraceLine(id=name, prompt=f"{LEFT} {middle} {RIGHT}", completion="x")

    contamination = Contamination([row("h", held)], [])
    assert contamination.of(row("t", train)) is None
    assert contamination.of(row("t", held)) == "h"
    assert contamination.of(TraceLine(id="t", prompt=f"Say: {LEFT} {held} {RIGHT}.", completion="x")) == "h"
