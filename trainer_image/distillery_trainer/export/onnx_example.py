"""Answer one prompt greedily: python run.py FOLDER PROMPT (needs onnxruntime and tokenizers)."""

import json
import sys

import numpy as np
from onnxruntime import InferenceSession  # type: ignore[import-untyped]
from tokenizers import Tokenizer

folder, prompt = sys.argv[1:3]
session = InferenceSession(f"{folder}/model.onnx")
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
with open(f"{folder}/generation_config.json") as file:
    stops = np.atleast_1d(json.load(file)["eos_token_id"])
shapes = {entry.name: entry.shape for entry in session.get_inputs()}
cache = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in shapes.items() if "past" in name}
answer: list[int] = []
new, seen = tokenizer.encode(prompt).ids, 0
while len(answer) < 256 and (not answer or answer[-1] not in stops):
    positions = np.arange(seen, seen + len(new))[None]
    seen += len(new)
    feed = {"input_ids": np.array([new]), "attention_mask": np.ones((1, seen), np.int64), "position_ids": positions, **cache}
    logits, *present = session.run(None, {name: feed[name] for name in shapes})
    cache, new = dict(zip(cache, present, strict=True)), [int(logits[0, -1].argmax())]
    answer += new
sys.stdout.write(tokenizer.decode(answer) + "\n")
