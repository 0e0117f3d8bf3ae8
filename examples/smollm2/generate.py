"""Prompts of two tasks that a small instruction-tuned model can do: the sentiment of a review, and the city named in a sentence.

The rows hold prompts and the true answers, no completions: the teacher writes those. Running this writes train.jsonl and evaluation.jsonl
again, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Collection
from pathlib import Path

HERE = Path(__file__).parent
TRAIN_ROWS, TRAIN_SEED = 300, 21
EVALUATION_ROWS, EVALUATION_SEED = 200, 22
MORE_SEED = 23

SENTIMENT = "Classify the sentiment of this review as positive or negative: {}"
SUBJECTS = (
    ("food", "soup", "breakfast", "cake", "coffee"),
    ("room", "hotel", "garden", "view", "beach"),
    ("film", "book", "concert", "play", "story"),
    ("waiter", "guide", "driver", "doctor", "teacher"),
    ("phone", "camera", "jacket", "bicycle", "lamp"),
)
WORDS = {
    "positive": (
        ("delicious", "excellent", "fresh and tasty"),
        ("beautiful", "lovely", "wonderful"),
        ("fantastic", "brilliant", "great fun"),
        ("kind", "friendly and helpful", "excellent"),
        ("great", "perfect", "excellent value"),
    ),
    "negative": (
        ("terrible", "disgusting", "cold and bad"),
        ("awful", "dirty", "ugly and horrible"),
        ("boring", "terrible", "a waste of time"),
        ("rude", "unfriendly and slow", "awful"),
        ("broken", "useless", "a waste of money"),
    ),
}
ENDINGS = {
    "positive": ("I loved it.", "I am very happy.", "I will come back.", "I recommend it to everyone.", "What a joy!"),
    "negative": ("I hated it.", "I am very disappointed.", "I will never come back.", "I want my money back.", "What a shame!"),
}

CITY = "Sentence: {}\nWhich city is named in the sentence? Answer with one word."
CITIES = (
    "Amsterdam", "Athens", "Bangkok", "Barcelona", "Beijing", "Berlin", "Boston", "Brussels", "Budapest", "Cairo", "Chicago", "Dublin",
    "Geneva", "Hamburg", "Helsinki", "Istanbul", "Lagos", "Lima", "Lisbon", "London", "Madrid", "Melbourne", "Miami", "Milan", "Moscow",
    "Mumbai", "Munich", "Nairobi", "Oslo", "Paris", "Prague", "Rome", "Seattle", "Seoul", "Stockholm", "Sydney", "Tokyo", "Toronto",
    "Vienna", "Warsaw",
)  # fmt: skip
SENTENCES = (
    "Our train to {} leaves at nine.",
    "{who} opened a small bakery in {} last spring.",
    "{who} studies medicine in {}.",
    "It rained all week in {}.",
    "The museum in {} is closed on Mondays.",
    "{who} moved to {} two years ago.",
    "The old bridge in {} was built by hand.",
    "{who} sent me a letter from {}.",
    "We spent our holiday in {} with friends.",
    "The meeting in {} begins after lunch.",
)
NAMES = ("Maria", "John", "Anna", "Peter", "My sister", "My uncle", "Her teacher", "Our neighbour")


def review(rng: random.Random, truth: str) -> str:
    """A prompt about a review whose sentiment is `truth`."""
    kind = rng.randrange(len(SUBJECTS))
    text = f"The {rng.choice(SUBJECTS[kind])} was {rng.choice(WORDS[truth][kind])}. {rng.choice(ENDINGS[truth])}"
    return SENTIMENT.format(text)


def sentence(rng: random.Random, truth: str) -> str:
    """A prompt about a sentence that names the city `truth`."""
    return CITY.format(rng.choice(SENTENCES).format(truth, who=rng.choice(NAMES)))


def rows(count: int, seed: int, name: str, without: Collection[str] = ()) -> list[dict[str, str]]:
    """As many rows of both tasks in turn, no prompt twice and none of `without`."""
    rng, seen, made = random.Random(seed), set(without), list[dict[str, str]]()
    while len(made) < count:
        if len(made) % 2:
            truth = rng.choice(CITIES)
            prompt = sentence(rng, truth)
        else:
            truth = ("positive", "negative")[len(made) // 2 % 2]
            prompt = review(rng, truth)
        if prompt not in seen:
            seen.add(prompt)
            made.append({"id": f"{name}-{len(made)}", "prompt": prompt, "answer": truth})
    return made


def main() -> None:
    """Write both files, or print further rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--more", type=int, metavar="N", help="print N further rows instead; no prompt of either file is among them")
    more = parser.parse_args().more
    held = rows(EVALUATION_ROWS, EVALUATION_SEED, "evaluation")
    train = rows(TRAIN_ROWS, TRAIN_SEED, "train", without={row["prompt"] for row in held})
    if more is not None:
        print(lines_of(rows(more, MORE_SEED, "more", without={row["prompt"] for row in (*held, *train)})), end="")
        return
    for name, made in (("train", train), ("evaluation", held)):
        (HERE / f"{name}.jsonl").write_text(lines_of(made))


def lines_of(made: list[dict[str, str]]) -> str:
    """As JSONL."""
    return "".join(json.dumps(row) + "\n" for row in made)


if __name__ == "__main__":
    main()
