"""Reads a causal language model in Hugging Face layout, or from one GGUF file. Never runs code that came with it, never unpickles."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distillery.api import reasons
from distillery.api.inputs import ROLES
from distillery_trainer.errors import StageError
from distillery_trainer.stores import open_source, safe_join

from .endings import end_ids, gguf_end_ids
from .weights import INDEX, WEIGHTS, is_adapter, remedy, shards

log = logging.getLogger(__name__)
_KEPT = ("*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.model", "merges.txt", "vocab.txt", "README.md")
_LIMIT = 400
#: What to do about a file that cannot be read, where it is one that a person can correct.
_REMEDIES = {"generation config": "correct or remove that setting in generation_config.json"}
Read = TypeVar("Read")


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine; `gguf` is the file's name where the URI named one, `weight_bytes` the size of the weights there."""

    folder: Path
    gguf: str | None
    uri: str
    role: str
    weight_bytes: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of every from_pretrained: local, data only."""
        return {"local_files_only": True, "trust_remote_code": False, **({"gguf_file": self.gguf} if self.gguf else {})}

    @property
    def license(self) -> str | None:
        """The licence that the model card's front matter names."""
        card = self.folder / "README.md"
        if not card.is_file():
            return None
        found = re.search(r"^license:\s*[\"']?([\w.\-]+)", card.read_text(errors="replace"), re.MULTILINE)
        return found.group(1) if found else None

    def error(self, reason: str, text: str) -> StageError:
        """A user's mistake about this model."""
        return StageError(reason, f"{ROLES[self.role].field}.uri {self.uri!r}: {text}")


def fetch_model(uri: str, role: str, work: Path, weights: bool = True, environment: Mapping[str, str] | None = None) -> ModelFiles:
    """Bring a model's files to `work`/models/`role` (links, where the store is a folder). Pickled weights are left where they are.

    Without `weights`, only configuration and tokenizer are brought; a GGUF file holds both and comes whole.
    """
    source, folder = open_source(uri, role, environment), work / "models" / role
    if folder.exists():
        shutil.rmtree(folder)
    entries = {entry.path: entry.size for entry in source.list()}
    files = ModelFiles(folder, uri.rsplit("/", 1)[1] if uri.endswith(".gguf") else None, uri, role)
    if not entries:
        raise files.error(reasons.NOT_FOUND, "there is no such file or folder, or it is empty; check the path")
    if files.gguf:
        source.download("", folder)
        return replace(files, weight_bytes=sum(entries.values()))
    for needed, found in (("config.json", "config.json" in entries), (WEIGHTS, WEIGHTS in entries or INDEX in entries)):
        if not found:
            raise files.error(reasons.MODEL_UNREADABLE, f"holds no {needed} (found {', '.join(list(entries)[:8])}): {remedy(entries)}")
    beside = [path for path in entries if is_adapter(path)]
    if beside:
        log.warning("%s: %s left out: the folder holds a model of its own, which would be changed by an adapter", uri, ", ".join(beside))
    for path in entries:
        if path not in beside and _kept(path):
            source.get(path, safe_join(folder, path))
    parts = [WEIGHTS] if WEIGHTS in entries else _shards(files, entries)
    for path in parts if weights else ():
        source.get(path, safe_join(folder, path))
    return replace(files, weight_bytes=sum(entries[path] for path in parts))


def _kept(path: str) -> bool:
    """Whether a file is configuration, tokenizer or model card."""
    return any(path.count("/") == pattern.count("/") and fnmatchcase(path, pattern) for pattern in _KEPT)


def _shards(files: ModelFiles, there: Collection[str]) -> list[str]:
    """The files that the weights are spread over. StageError where one is not there: transformers would find out after the download."""
    try:
        names = shards(files.folder / INDEX)
    except ValueError as error:
        raise files.error(reasons.MODEL_UNREADABLE, f"{INDEX} cannot be read ({error}): download or save the model again") from error
    missing = [name for name in names if name not in there]
    if missing:
        text = f"{INDEX} names {len(missing)} files that are not there, first {missing[0]}: copy them too, or download the model again"
        raise files.error(reasons.MODEL_UNREADABLE, text)
    return names


def fetch_tokenizer(uri: str, role: str, work: Path, environment: Mapping[str, str] | None = None) -> ModelFiles:
    """Bring the files of a tokenizer to `work`/models/`role`: the folder need not hold a model, but tokenizer.json it must."""
    source, folder = open_source(uri, role, environment), work / "models" / role
    if folder.exists():
        shutil.rmtree(folder)
    files, there = ModelFiles(folder, None, uri, role), [entry.path for entry in source.list()]
    if "tokenizer.json" not in there:
        found = f"found {', '.join(there[:8])}" if there else "there is no such folder, or it is empty"
        raise files.error(reasons.NOT_FOUND, f"holds no tokenizer.json ({found}): name the folder that save_pretrained wrote")
    for path in there:
        if _kept(path):
            source.get(path, safe_join(folder, path))
    return files


def traced_teacher(folder: Path) -> ModelFiles:
    """The teacher's configuration and tokenizer as the traces stage left them in `folder` (its teacher/ folder); no weights."""
    return ModelFiles(folder, None, str(folder), "traces")


def traced_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """The teacher's tokenizer as the traces stage left it; None where the traces are text of a teacher whose tokenizer is not known."""
    return read_tokenizer(traced_teacher(folder)) if (folder / "tokenizer.json").is_file() else None


def traced_ends(folder: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that the teacher's generation config ends an answer with, as far as it is known: a student with its tokenizer has them too."""
    return end_ids(read_generation(traced_teacher(folder)), tokenizer) if (folder / "config.json").is_file() else frozenset()


def traced_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase) -> int:
    """Size of the teacher's vocabulary: its configuration's, which may hold more ids than the tokenizer, where that is known."""
    if (folder / "config.json").is_file():
        return int(read_config(traced_teacher(folder)).vocab_size)
    return max(tokenizer.get_vocab().values()) + 1


def read_config(files: ModelFiles) -> PreTrainedConfig:
    """The model's configuration."""
    _require_precision(files)
    config: PreTrainedConfig = _reading(files, "configuration", lambda: AutoConfig.from_pretrained(files.folder, **files.options))
    if not hasattr(config, "vocab_size") or not hasattr(config, "hidden_size"):
        raise files.error(reasons.UNSUPPORTED, f"model type {config.model_type!r} is no text-only causal language model: use one")
    return config


def _require_precision(files: ModelFiles) -> None:
    """What config.json says that the weights are in: "auto" stands in some, and transformers looks for a torch.auto."""
    file = files.folder / "config.json"
    given = _reading(files, "configuration", lambda: json.loads(file.read_text())) if file.is_file() else {}
    for field in ("dtype", "torch_dtype"):
        told = given.get(field) if isinstance(given, dict) else None
        if isinstance(told, str) and not isinstance(getattr(torch, told.removeprefix("torch."), None), torch.dtype):
            text = f"{field} {told!r} of its config.json is no precision; write what the weights are saved in, for example bfloat16"
            raise files.error(reasons.MODEL_UNREADABLE, text)


def read_generation(files: ModelFiles) -> GenerationConfig:
    """How the model generates, and what ends its answers: generation_config.json, else what config.json says of it."""

    def read() -> GenerationConfig:
        if (files.folder / "generation_config.json").is_file():
            found = GenerationConfig.from_pretrained(files.folder, local_files_only=True)
        else:
            found = GenerationConfig.from_model_config(read_config(files))
        if files.gguf:
            found.eos_token_id = gguf_end_ids(files.folder / files.gguf) or found.eos_token_id
        end_ids(found)
        return found

    return _reading(files, "generation config", read)


def read_tokenizer(files: ModelFiles) -> PreTrainedTokenizerBase:
    """The model's tokenizer."""
    tokenizer: PreTrainedTokenizerBase = _reading(files, "tokenizer", lambda: AutoTokenizer.from_pretrained(files.folder, **files.options))
    if not tokenizer.is_fast:
        raise files.error(reasons.UNSUPPORTED, "its tokenizer has no tokenizer.json: save it again with a current transformers")
    return tokenizer


def read_model(files: ModelFiles, dtype: torch.dtype) -> PreTrainedModel:
    """The model in `dtype`, on the CPU, in evaluation mode. Every weight must be in the files: none is made up."""
    # Else transformers keeps the layers of a GGUF file quantized: slow, and nothing that could be copied into a student.
    whole = {"quantization_config": GgufConfig(dequantize=True)} if files.gguf else {}
    loaded: Any = _reading(
        files,
        "weights",
        lambda: AutoModelForCausalLM.from_pretrained(
            files.folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **files.options, **whole
        ),
    )
    model: PreTrainedModel = loaded[0]
    for name, there, wanted in sorted(loaded[1]["mismatched_keys"])[:1]:
        text = f"{name} is {list(there)} in the files and {list(wanted)} by config.json: they are of different models"
        raise files.error(reasons.MODEL_UNREADABLE, f"{text}; download or save both again")
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        text = f"{len(missing)} weights are missing, first {missing[0]}: the files do not fit config.json; download or save them again"
        head = ", or set tie_word_embeddings to true in config.json if the embedding is the output head"
        raise files.error(reasons.MODEL_UNREADABLE, text + (head if missing == ["lm_head.weight"] else ""))
    settle_ties(model)
    if files.gguf:
        model.generation_config = read_generation(files)
    model.train(False)
    return model


def settle_ties(model: PreTrainedModel) -> None:
    """Let the configuration say whether the output head is the embedding, as it is in this model.

    Files may hold a head of its own beside a config.json that says tied: transformers then goes by the files, and whoever made something
    of the configuration alone (a copy, an export) would lose the head.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    embedding: Any = model.get_input_embeddings()
    if head is None or embedding is None or head.weight.shape != embedding.weight.shape:
        return
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = head.weight is embedding.weight


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _reading(files: ModelFiles, what: str, read: Callable[[], Read]) -> Read:
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:
        # transformers, tokenizers, safetensors and gguf each raise types of their own, down to bare Exception.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        if "allocate memory" in str(error) or "OutOfMemory" in type(error).__name__:
            raise
        text = " ".join(str(error).split())[:_LIMIT]
        remedy = _REMEDIES.get(what, "check that the folder is complete and that this version of transformers knows the architecture")
        raise files.error(reasons.MODEL_UNREADABLE, f"the {what} cannot be read ({type(error).__name__}: {text}); {remedy}") from error
