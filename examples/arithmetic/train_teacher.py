"""Train the teacher from nothing: a small Llama that has read far more worksheets than the student will.

It learns digit chains from right workings first, as from a textbook, then reads hand-written ones with their
slips (generate.py): so many that its distribution comes close to the chances with which a digit is written. The
right one stands out, and how sure it is of each is known. Minutes on two cores. The result is committed in
teacher/, so nobody has to run this; it is here so that everybody can:
python examples/arithmetic/train_teacher.py --output /tmp/teacher
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from generate import evaluation_rows, worksheets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SEED = 1
WARMUP = 30


@dataclass(frozen=True)
class Lesson:
    """Fresh rows of one kind, each read once; cosine schedule after a warm-up, from `learning_rate` to zero."""

    truth: bool
    steps: int
    batch: int
    learning_rate: float


LESSONS = (Lesson(truth=True, steps=300, batch=48, learning_rate=1.5e-3), Lesson(truth=False, steps=300, batch=96, learning_rate=6e-4))
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
# Byte-level BPE with four merges: the one word of every prompt becomes one token, each digit stays its own.
MERGES = [("s", "o"), ("so", "l"), ("sol", "v"), ("solv", "e")]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, four merges, five special tokens; the end-of-turn token is the EOS token."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(pair) for pair in MERGES]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=128)
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """5 layers of width 256: 3.8 M parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=128,
        # 1/sqrt(width): with the usual 0.02 so narrow a model idles for hundreds of steps before it attends to anything.
        initializer_range=0.0625,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, row: dict[str, str]) -> tuple[list[int], list[int]]:
    """Token ids of the prompt with the assistant's mark, and of the completion with the end of turn."""
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False)
    completion = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return tokenizer(prompt, add_special_tokens=False)["input_ids"], [*completion, tokenizer.eos_token_id]


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, lesson: Lesson) -> None:
    """Next-token loss on completions; every row has the same length, so there is no padding."""
    rows = worksheets(SEED, without={row["prompt"] for row in evaluation_rows()}, truth=lesson.truth)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(lesson.steps):
        rate = min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / lesson.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = lesson.learning_rate * rate
        pairs = [encode(tokenizer, next(rows)) for _ in range(lesson.batch)]
        ids = torch.tensor([prompt + completion for prompt, completion in pairs])
        first = len(pairs[0][0])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[:, first - 1 :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, first:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{lesson.steps}  loss {loss.item():.4f} nats/token", flush=True)


def exact_match(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of evaluation rows whose greedy working is the truth, token by token."""
    pairs = [encode(tokenizer, row) for row in evaluation_rows()]
    prompts, truth = (torch.tensor(part) for part in zip(*pairs, strict=True))
    model.eval()
    with torch.no_grad():
        written = model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=truth.shape[1], do_sample=False)
    return (written[:, prompts.shape[1] :] == truth).all(dim=1).float().mean().item()


def main() -> None:
    """Train, measure and save the teacher as a Hugging Face folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "teacher", help="folder to write to")
    output = parser.parse_args().output
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    for lesson in LESSONS:
        train(model, tokenizer, lesson)
    model = model.half().float()  # what is saved is what is measured
    print(json.dumps({"exactMatch": exact_match(model, tokenizer), "parameters": model.num_parameters()}))
    model.half().save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    main()
