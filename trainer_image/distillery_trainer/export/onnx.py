"""A model in Hugging Face layout as one ONNX graph for ONNX Runtime: fp32, or int8 weights with activations quantized at run time.

The graph takes any batch, any number of new tokens and any length of cache, so it serves the prompt (an empty cache) and each token after
it. Inputs and outputs have the names that other ONNX tools know:

    input_ids, position_ids    int64 [batch, sequence]
    attention_mask             int64 [batch, past_sequence + sequence]
    past_key_values.N.key      float [batch, kv_heads, past_sequence, head_dim]   (and .value)
    logits                     float [batch, sequence, vocabulary]
    present.N.key              float [batch, kv_heads, past_sequence + sequence, head_dim]   (and .value)
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import cast

import onnx
import onnx_ir
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.exporters.configs import OnnxConfig
from transformers.exporters.exporter_onnx import OnnxExporter
from transformers.exporters.utils import decompose_for_generation

from distillery.api import reasons
from distillery_trainer.errors import StageError

FILE = "model.onnx"
#: What ONNX Runtime and its users need beside the graph.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template.jinja")
#: Protobuf holds 2 GiB; larger weights lie in a file of their own beside the graph.
_EMBED_BYTES = 3 << 29
_CACHE = re.compile(r"(?:input\.|output\.)?past_key_values\.layers\.(\d+)\.(key|value)s")


def write(model: Path, folder: Path, quantization: str) -> None:
    """Export the model in folder `model` to `folder`/model.onnx, with config and tokenizer. StageError if it cannot be traced."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        traced = Path(scratch) / FILE
        _trace(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train(False), traced)
        _rename(traced)
        if quantization == "int8":
            from .onnx_int8 import quantize

            traced = quantize(traced, Path(scratch) / "int8.onnx")
        _save(traced, folder / FILE)
    for pattern in COMPANIONS:
        for file in model.glob(pattern):
            shutil.copy(file, folder / file.name)


def _trace(model: PreTrainedModel, file: Path) -> None:
    """One graph for prompt and continuation, weights in a file beside it."""
    vocabulary = model.config.vocab_size
    ids = torch.arange(14).reshape(2, 7) % vocabulary
    # One row with padding: where none is seen while tracing, the mask is left out of the graph.
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    sample = {"input_ids": ids, "attention_mask": mask}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stage, inputs = decompose_for_generation(model, sample, multi_token_decode=True)["decode"]
            exporter = OnnxExporter()  # type: ignore[no-untyped-call]
            program, _ = exporter.export_program(cast(PreTrainedModel, stage), inputs, OnnxConfig(dynamic=True))
        except (RuntimeError, ValueError, TypeError, KeyError, torch.onnx.errors.OnnxExporterError) as error:
            raise StageError(
                reasons.UNSUPPORTED,
                f"format onnx: model type {model.config.model_type!r} cannot be traced ({str(error)[:300]}); use format safetensors",
            ) from error
    onnx_ir.save(program, file, external_data=f"{FILE}.data")


def _rename(file: Path) -> None:
    """Give inputs, outputs and dimensions their usual names, and drop what only the exporter's author reads (stack traces, paths)."""
    model = onnx.load(file, load_external_data=False)
    graph = model.graph
    names = {value.name: _usual(value.name) for value in [*graph.input, *graph.output]}
    for value in [*graph.input, *graph.output]:
        value.name = names[value.name]
        _name_dimensions(value)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.value_info[:], model.metadata_props[:], graph.metadata_props[:]
    onnx.save(model, file)


def _usual(name: str) -> str:
    cache = _CACHE.fullmatch(name)
    if cache is None:
        return name
    side = "present" if name.startswith("output.") else "past_key_values"
    return f"{side}.{cache[1]}.{cache[2]}"


def _name_dimensions(value: onnx.ValueInfoProto) -> None:
    past, both = "past_sequence", "past_sequence + sequence"
    plan = {"attention_mask": {0: "batch", 1: both}, "logits": {0: "batch", 1: "sequence"}}
    cache = {0: "batch", 2: past if value.name.startswith("past") else both}
    dimensions = plan.get(value.name, cache if "." in value.name else {0: "batch", 1: "sequence"})
    for index, dimension in enumerate(value.type.tensor_type.shape.dim):
        if index in dimensions:
            dimension.dim_param = dimensions[index]
        elif dimension.dim_param.isdigit():  # heads and their width, which the exporter writes as words
            dimension.dim_value = int(dimension.dim_param)


def _save(source: Path, target: Path) -> None:
    """One file where it can be, else graph and weights."""
    size = sum(file.stat().st_size for file in source.parent.glob(f"{source.name}*"))
    model = onnx.load(source)
    onnx.save(model, target, save_as_external_data=size > _EMBED_BYTES, location=f"{FILE}.data")
