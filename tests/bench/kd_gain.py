"""Is there something to transfer? The arithmetic student with and without the teacher's distribution, in paired runs.

Both arms of a pair share rows, order of batches, initial weights, steps and schedule; they differ in the loss alone. Reported, never
asserted:  python tests/bench/kd_gain.py [--seeds 5] [--response 0.9 --temperature 1]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from distillery_trainer.models.head import Head
from distillery_trainer.objectives.kernel import distillation_loss
from distillery_trainer.objectives.terms import Weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "arithmetic"
ANSWER = re.compile(r"(\d)$")
HARD_LABEL = Weights(response=0.0, hard_label=1.0)
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T_QUANTILE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Recipe:
    """What both arms share; the numbers of examples/arithmetic/job.yaml."""

    steps: int
    batch: int
    learning_rate: float
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Batchable:
    """Rows of one length: ids [rows, length], of which the first `prompt` are the prompt."""

    ids: torch.Tensor
    prompt: int
    answers: list[str]


def encode(tokenizer: PreTrainedTokenizerBase, name: str) -> Batchable:
    """All rows of a file, rendered with the chat template. ValueError where their lengths differ: this bench does not pad."""
    rows = [json.loads(line) for line in (EXAMPLE / name).read_text().splitlines()]
    turns = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    heads = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False) for turn in turns]
    prompts = tokenizer(heads, add_special_tokens=False)["input_ids"]
    endings = [
        [*ids, tokenizer.eos_token_id] for ids in tokenizer([row["completion"] for row in rows], add_special_tokens=False)["input_ids"]
    ]
    if len({(len(prompt), len(ending)) for prompt, ending in zip(prompts, endings, strict=True)}) > 1:
        raise ValueError(f"{name}: rows differ in length; generate them with examples/arithmetic/generate.py")
    ids = torch.tensor([prompt + ending for prompt, ending in zip(prompts, endings, strict=True)])
    return Batchable(ids, len(prompts[0]), [row.get("answer", "") for row in rows])


def new_student(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """3 layers of width 128, random."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=128**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


@torch.no_grad()
def teacher_logits(teacher: PreTrainedModel, rows: Batchable) -> torch.Tensor:
    """Logits [rows, completion tokens, vocab] at the positions that predict the completion."""
    return torch.cat([teacher(ids[:, :-1]).logits[:, rows.prompt - 1 :] for ids in rows.ids.split(256)])


@torch.no_grad()
def accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Batchable) -> float:
    """Share of rows whose greedy answer is the exact truth."""
    model.eval()
    ids, cache, written = rows.ids[:, : rows.prompt], None, []
    for _ in range(rows.ids.shape[1] - rows.prompt):
        output = model(ids, past_key_values=cache, use_cache=True)
        cache, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
        written.append(ids)
    model.train()
    texts = tokenizer.batch_decode(torch.cat(written, dim=1), skip_special_tokens=True)
    right = [bool(found := ANSWER.search(text)) and found.group(1) == answer for text, answer in zip(texts, rows.answers, strict=True)]
    return sum(right) / len(right)


def train_student(
    seed: int, recipe: Recipe, weights: Weights, rows: Batchable, targets: torch.Tensor, judge: tuple[PreTrainedTokenizerBase, Batchable]
) -> list[float]:
    """Accuracy after each quarter of the steps; `targets` are the teacher's logits."""
    student = new_student(targets.shape[-1], seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    order, waiting, curve = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long), []
    warmup = max(1, round(recipe.warmup_ratio * recipe.steps))
    for step in range(recipe.steps):
        rate = (step + 1) / warmup if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (recipe.steps - warmup))) / 2
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * rate
        if len(waiting) < recipe.batch:
            waiting = torch.cat([waiting, torch.randperm(len(rows.ids), generator=order)])
        picked, waiting = waiting[: recipe.batch], waiting[recipe.batch :]
        ids = rows.ids[picked]
        hidden = student.model(ids[:, :-1], use_cache=False).last_hidden_state[:, rows.prompt - 1 :].flatten(0, 1)
        flat = targets[picked].flatten(0, 1)
        reference = ids[:, rows.prompt :].flatten()
        teacher = lambda start, stop, flat=flat: flat[start:stop]  # noqa: E731
        loss = distillation_loss(hidden, Head(student.lm_head.weight), reference, teacher, weights, len(flat))
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % (recipe.steps // 4) == 0:
            curve.append(accuracy(student, *judge))
    return curve


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy [rows, tokens] in nats."""
    return torch.distributions.Categorical(logits=logits.double()).entropy()


def verdict(differences: list[float]) -> str:
    """Mean paired difference with its 95 % t-interval; a gain only where the interval excludes 0."""
    mean, n = statistics.mean(differences), len(differences)
    half = T_QUANTILE[n - 1] * statistics.stdev(differences) / math.sqrt(n)
    claim = "gain" if mean - half > 0 else "loss" if mean + half < 0 else "no difference"
    interval = f"[{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"
    return f"{n} paired seeds: {100 * mean:+.1f} points, 95 % interval {interval}: {claim}"


def options() -> argparse.Namespace:
    """The command line; defaults are the example's recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=2, help="the recipe was chosen on seeds 0 and 1; the claim rests on others")
    parser.add_argument("--rows", type=int, default=4000, help="use the first so many training rows")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--response", type=float, default=0.9, help="weight of response; hardLabel gets the rest")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--teacher", type=Path, default=EXAMPLE / "teacher")
    return parser.parse_args()


def report(pairs: list[tuple[float, float, float]], teacher: float) -> None:
    """Means over the pairs (hard labels, KD, best quarter of hard labels), retention and the two differences."""
    hard, kd, best = (statistics.mean(column) for column in zip(*pairs, strict=True))
    print(f"mean  {100 * hard:11.1f}   {100 * best:12.1f}   {100 * kd:6.1f}   KD retains {100 * kd / teacher:.1f} % of the teacher")
    if len(pairs) > 1:
        print(f"KD - hard labels, {verdict([kd - hard for hard, kd, _ in pairs])}")
        print(f"KD - best quarter of hard labels (picked on the held-out rows), {verdict([kd - best for _, kd, best in pairs])}")


def main() -> None:
    """Print one line for each pair, then the verdict."""
    chosen = options()
    tokenizer = AutoTokenizer.from_pretrained(chosen.teacher)
    teacher = AutoModelForCausalLM.from_pretrained(chosen.teacher, dtype=torch.float32)
    rows, judge = encode(tokenizer, "train.jsonl"), (tokenizer, encode(tokenizer, "evaluation.jsonl"))
    rows = Batchable(rows.ids[: chosen.rows], rows.prompt, rows.answers)
    targets = teacher_logits(teacher, rows)
    size, small = teacher.num_parameters(), new_student(targets.shape[-1], 0).num_parameters()
    score, unsure = accuracy(teacher, *judge), entropy(targets)
    print(
        f"{len(rows.ids)} rows, {len(judge[1].answers)} held out; teacher {size:,} parameters, student {small:,}: {size / small:.1f}x fewer"
    )
    print(
        f"teacher: accuracy {100 * score:.1f} %, entropy {unsure.mean():.3f} nats/token, {unsure[:, 0::2].mean():.3f} on digits", flush=True
    )
    recipe = Recipe(chosen.steps, chosen.batch, chosen.learning_rate)
    distil = Weights(chosen.response, 1 - chosen.response, chosen.temperature)
    print(f"{recipe}\n{distil}\nseed  hard labels   best quarter       KD   seconds", flush=True)
    pairs = []
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        started = time.monotonic()
        hard, kd = (train_student(seed, recipe, weights, rows, targets, judge) for weights in (HARD_LABEL, distil))
        pairs.append((hard[-1], kd[-1], max(hard)))
        took = time.monotonic() - started
        print(f"{seed:4}  {100 * hard[-1]:11.1f}   {100 * max(hard):12.1f}   {100 * kd[-1]:6.1f}   {took:7.0f}", flush=True)
    report(pairs, score)


if __name__ == "__main__":
    main()
