"""Worksheets of digit chains: rows for the student, exact truth for the evaluation.

`solve 7*8+4-9` is worked from left to right and only the last digit is kept: 7*8=56 gives 6, 6+4 gives 0,
0-9 gives 1, so the right working is `6,0,1` and the answer is 1.

The training rows are what a company would have in its files: workings keyed in by hand. Three in ten of the
digits are slips, mostly a miscount by one or two, sometimes any key, and whoever slips carries the wrong digit
on. Nobody marked which. The evaluation rows hold the exact truth.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Collection, Iterator
from pathlib import Path

HERE = Path(__file__).parent
OPERATORS = "+-*"
TERMS = 4
SLIP_RATE = 0.3
# A slip moves the digit by one (6 in 10), by two (2 in 10), or hits any key, the right one included (2 in 10).
SLIP_MOVES = ((-1, 0.3), (1, 0.3), (-2, 0.1), (2, 0.1))
TRAIN_ROWS, TRAIN_SEED = 2000, 11
EVALUATION_ROWS, EVALUATION_SEED = 600, 12


def last_digit(left: int, operator: str, right: int) -> int:
    """The last digit of `left operator right`; a negative result wraps, so 0-9 is 1."""
    value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return value % 10


def digit_chances() -> list[float]:
    """Chance that the written digit is the right one plus 0, 1, … 9 (mod 10): what a perfect teacher would say."""
    chances = [0.0] * 10
    chances[0] = 1 - SLIP_RATE
    for move, share in SLIP_MOVES:
        chances[move % 10] += SLIP_RATE * share
    any_key = SLIP_RATE * (1 - sum(share for _, share in SLIP_MOVES))
    return [chance + any_key / 10 for chance in chances]


def draw_prompt(rng: random.Random) -> tuple[list[int], list[str]]:
    """Digits and operators of one chain."""
    return [rng.randrange(10) for _ in range(TERMS)], [rng.choice(OPERATORS) for _ in range(TERMS - 1)]


def work_out(digits: list[int], operators: list[str], rng: random.Random | None = None) -> list[int]:
    """The digits of the working; with `rng` they are written by hand, slips carried on."""
    current, working = digits[0], []
    for operator, right in zip(operators, digits[1:], strict=True):
        current = last_digit(current, operator, right)
        if rng is not None:
            current = (current + rng.choices(range(10), digit_chances())[0]) % 10
        working.append(current)
    return working


def render_prompt(digits: list[int], operators: list[str]) -> str:
    """The question as the model reads it."""
    return f"solve {digits[0]}" + "".join(f"{operator}{digit}" for operator, digit in zip(operators, digits[1:], strict=True))


def worksheets(seed: int, without: Collection[str] = (), truth: bool = False) -> Iterator[dict[str, str]]:
    """Endless rows of one seed, no prompt twice and none of `without`; `truth` writes them without slips."""
    rng, seen = random.Random(seed), set(without)
    while True:
        digits, operators = draw_prompt(rng)
        working = ",".join(map(str, work_out(digits, operators, None if truth else rng)))
        prompt = render_prompt(digits, operators)
        if prompt not in seen:
            seen.add(prompt)
            yield {"prompt": prompt, "completion": working}


def evaluation_rows() -> list[dict[str, str]]:
    """Rows with the exact truth; their prompts are in no training set, the teacher's included."""
    rows = worksheets(EVALUATION_SEED, truth=True)
    return [{"id": f"eval-{i}", **(row := next(rows)), "answer": row["completion"][-1]} for i in range(EVALUATION_ROWS)]


def train_rows() -> list[dict[str, str]]:
    """Hand-written rows, slips included."""
    rows = worksheets(TRAIN_SEED, without={row["prompt"] for row in evaluation_rows()})
    return [{"id": f"train-{i}", **next(rows)} for i in range(TRAIN_ROWS)]


def main() -> None:
    """Write train.jsonl and evaluation.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to")
    output = parser.parse_args().output
    for name, rows in (("train.jsonl", train_rows()), ("evaluation.jsonl", evaluation_rows())):
        (output / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
